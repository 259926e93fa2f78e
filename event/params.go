package event

import (
	"bytes"
	"encoding/json"
	"iter"
	"strings"
)

// Params are the parameters of a REST call in the order in which they are sent. The order matters
// for a few methods, such as task.commentitem.get, which take their arguments by position.
//
// The clients of package rest send them in this order. An adapter for another library can range
// over [Params.All], or encode Params to JSON, which keeps the order too.
type Params []Param

// Param is one parameter of a REST call. Value is a scalar, a slice, a map, or Params for a
// parameter that nests others, such as FILTER.
type Param struct {
	Name  string
	Value any
}

// All yields the names and values in order.
func (p Params) All() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for _, one := range p {
			if !yield(one.Name, one.Value) {
				return
			}
		}
	}
}

// MarshalJSON encodes the parameters as an object whose members keep their order.
func (p Params) MarshalJSON() ([]byte, error) {
	b := bytes.NewBufferString("{")
	for i, one := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(one.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(one.Value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// add appends a parameter. Its name may nest once, as in FILTER[ID]. Parameters of one group stay
// together.
func (p Params) add(name string, value any) Params {
	group, inner, nested := strings.Cut(strings.TrimSuffix(name, "]"), "[")
	if !nested {
		return append(p, Param{Name: name, Value: value})
	}
	for i := range p {
		if members, ok := p[i].Value.(Params); ok && p[i].Name == group {
			members = append(members, Param{Name: inner, Value: value})
			p[i].Value = members
			return p
		}
	}
	return append(p, Param{Name: group, Value: Params{{Name: inner, Value: value}}})
}
