package eventtest

import (
	"strconv"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/phpform"
)

// kv, text and number shorten the building of answers.
func kv(key string, v phpform.Value) phpform.Entry { return phpform.Entry{Key: key, Value: v} }

func text(key, s string) phpform.Entry { return kv(key, phpform.Text(s)) }

func number(key string, n int64) phpform.Entry { return kv(key, phpform.Int(n)) }

// digits is a number as the database layer gives it, a string.
func digits(key string, n int64) phpform.Entry { return text(key, strconv.FormatInt(n, 10)) }

// float is a number with a fraction, where it has one.
func float(key string, f float64) phpform.Entry {
	return kv(key, phpform.NumberText(strconv.FormatFloat(f, 'f', -1, 64)))
}

// null is PHP's null.
func null() phpform.Value { return phpform.Value{} }

func texts(list []string) phpform.Value {
	items := make([]phpform.Value, len(list))
	for i, s := range list {
		items[i] = phpform.Text(s)
	}
	return phpform.List(items...)
}

// treeOf turns what users pass as payloads or fields into a tree. Maps come in the order of their
// keys, structs in that of their fields.
func treeOf(v any) (phpform.Value, error) {
	if tree, ok := v.(phpform.Value); ok {
		return tree, nil
	}
	data, err := event.NewData(v)
	if err != nil {
		return phpform.Value{}, err
	}
	return phpform.DecodeJSON(data.JSON(), formLimits()) // whose order is that of the data
}

// dataOf makes a record of a tree. What cannot be one, such as a body of absurd depth, becomes
// nothing.
func dataOf(v phpform.Value) event.Data {
	d, err := event.ParseData(v.AppendJSON(nil))
	if err != nil {
		return event.Data{}
	}
	return d
}
