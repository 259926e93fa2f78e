package eventtest

import (
	"strconv"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/phpform"
)

// kv, text and number build the entries of arrays.
func kv(key string, v phpform.Value) phpform.Entry { return phpform.Entry{Key: key, Value: v} }

func text(key, s string) phpform.Entry { return kv(key, phpform.Text(s)) }

func number(key string, n int64) phpform.Entry { return kv(key, phpform.Int(n)) }

// digits returns an integer as a string, as the database layer does.
func digits(key string, n int64) phpform.Entry { return text(key, strconv.FormatInt(n, 10)) }

// float returns a number with its fraction.
func float(key string, f float64) phpform.Entry {
	return kv(key, phpform.NumberText(strconv.FormatFloat(f, 'f', -1, 64)))
}

// null returns PHP's null.
func null() phpform.Value { return phpform.Value{} }

// texts returns a list of texts.
func texts(list []string) phpform.Value {
	items := make([]phpform.Value, len(list))
	for i, s := range list {
		items[i] = phpform.Text(s)
	}
	return phpform.List(items...)
}

// treeOf converts payloads or fields that users pass to a tree. Maps are ordered by key, structs by
// field.
func treeOf(v any) (phpform.Value, error) {
	if tree, ok := v.(phpform.Value); ok {
		return tree, nil
	}
	data, err := event.NewData(v)
	if err != nil {
		return phpform.Value{}, err
	}
	return phpform.DecodeJSON(data.JSON(), formLimits()) // keeps the order
}

// dataOf converts a tree to data for records. A tree that cannot be data, for example because it is
// too deep, becomes empty.
func dataOf(v phpform.Value) event.Data {
	d, err := event.ParseData(v.AppendJSON(nil))
	if err != nil {
		return event.Data{}
	}
	return d
}
