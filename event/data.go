package event

import (
	"fmt"
	"log/slog"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/redact"
)

// Data is the data section of a body, without loss, as a tree of scalars and PHP arrays. The zero
// Data is a missing section. Data is immutable and safe for concurrent use.
//
// Bots send live tokens in data. Printing Data, logging it and encoding it to JSON therefore redact
// the values under token keys, and every token of the delivery that Data belongs to, also inside
// texts. [Data.Value], [Data.Text] and [Data.Decode] return what arrived. Because Data remembers
// its delivery, compare the [Data.JSON] of two values, not the values.
//
// encoding/gob returns an error for Data.
type Data struct {
	v  phpform.Value
	of *Delivery // whose tokens v may hold; nil if it belongs to no delivery
}

// data returns a part of the delivery's body as Data.
func (d *Delivery) data(v phpform.Value) Data {
	if v.Kind() == phpform.Null {
		return Data{}
	}
	return Data{v: v, of: d}
}

// NewData builds Data from a payload struct, by the tags that [Data.Decode] reads, or from nested
// maps, slices and scalars. [Data.Decode] reads the same value back. It writes maps in the order of
// their keys, keeps the order of a [json.RawMessage], and leaves out zero fields. It returns an
// error for values that no Bitrix24 body can carry, such as channels, and for times outside the
// years 0 to 9999.
func NewData(v any) (Data, error) {
	pv, err := valueOf(v)
	if err != nil {
		return Data{}, err
	}
	return Data{v: pv}, nil
}

// ParseData reads Data from a JSON value, such as EVENT_DATA of an offline record. It returns
// [ErrMalformed] or [ErrTooLarge].
func ParseData(doc []byte) (Data, error) {
	v, err := phpform.DecodeJSON(doc, phpform.Limits{})
	if err != nil {
		return Data{}, bodyError(err)
	}
	return Data{v: v}, nil
}

// IsZero reports whether there is nothing: no section, null, false, an empty string or an empty
// array, all of which Bitrix24 sends for "empty".
func (d Data) IsZero() bool {
	switch d.v.Kind() {
	case phpform.Null:
		return true
	case phpform.Array:
		return d.v.Empty()
	case phpform.String, phpform.Bool:
		return d.v.Scalar() == ""
	default:
		return false
	}
}

// Get returns the element at a path of keys, such as Get("FIELDS", "ID"), or the zero Data if there
// is none. It prefers the exact key to one that differs in case.
func (d Data) Get(path ...string) Data {
	v := d.v
	for _, key := range path {
		v, _ = v.GetFold(key)
	}
	if v.Kind() == phpform.Null {
		return Data{}
	}
	if d.of == nil && len(path) > 0 {
		d.of = &Delivery{Data: d} // keep the keys: they show what is secret
	}
	return Data{v: v, of: d.of}
}

// Text returns a scalar as text: "1" for true, "" for false, null and arrays.
func (d Data) Text() string { return d.v.Scalar() }

// Value returns the tree: nil, bool, string, json.Number, []any for arrays whose keys run 0..n-1,
// map[string]any for others. The tree is the caller's own.
func (d Data) Value() any { return d.v.Any() }

// JSON returns the tree as JSON in the order of arrival. It holds tokens in clear, so keep it where
// you would keep them. [ParseData] reads it back.
func (d Data) JSON() []byte { return d.v.AppendJSON(nil) }

// Decode fills dst, a non-nil pointer, by the rules for payloads in the package documentation. If
// values do not fit, it returns a [DecodeError] for the first of them and decodes the others. Any
// other error is a bug in the program: dst is not a pointer, or no data can fill its type.
func (d Data) Decode(dst any) error { return decodeInto(d.of, d.v, dst) }

// secrets returns what must not be printed of d.
func (d Data) secrets() *redact.Set {
	s := redact.New()
	if d.of != nil {
		s = d.of.secrets()
	}
	s.AddTree(d.v)
	return s
}

// MarshalJSON encodes the tree without secrets.
func (d Data) MarshalJSON() ([]byte, error) {
	return redact.EscapeJSON(d.secrets().Tree(d.v).AppendJSON(nil)), nil
}

// Format prints the redacted JSON under every verb.
func (d Data) Format(f fmt.State, _ rune) {
	text, err := d.MarshalJSON()
	if err != nil {
		text = []byte(redact.Mark)
	}
	_, _ = f.Write(text)
}

// LogValue prints only whether there is data; payloads do not belong in logs.
func (d Data) LogValue() slog.Value {
	if d.IsZero() {
		return slog.StringValue("empty")
	}
	return slog.StringValue(redact.Mark)
}

// UnmarshalJSON reads Data from a JSON value, without loss: numbers keep their digits and objects
// their order. Data can therefore be a field of a struct that encoding/json reads, and the result
// of a call. It returns [ErrMalformed], or [ErrTooLarge] if the value nests too deep. It does not
// reverse [Data.MarshalJSON], which removes secrets; [Data.JSON] writes everything.
func (d *Data) UnmarshalJSON(doc []byte) error {
	v, err := phpform.DecodeJSON(doc, phpform.Limits{Bytes: len(doc) + 1, Keys: len(doc) + 1})
	if err != nil {
		return bodyError(err)
	}
	*d = (*Delivery)(nil).data(v)
	return nil
}

// valueOf returns the tree that decodes to v, a payload struct or nested maps, slices and scalars.
func valueOf(v any) (phpform.Value, error) {
	tree, err := rules.Encode(v)
	if err != nil {
		return phpform.Value{}, fmt.Errorf("event: %w", err)
	}
	return tree, nil
}
