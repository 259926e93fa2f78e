package event

import (
	"fmt"
	"reflect"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/values"
)

// rules reads and writes payloads. It caches what the tags of the types say.
var rules = values.New(map[reflect.Type]values.Special{
	reflect.TypeFor[Data](): {Decode: decodeData, Encode: encodeData},
	// The text encoding of a Secret is redacted; the wire needs the secret itself.
	reflect.TypeFor[Secret](): {Encode: encodeSecret},
})

// decodeData returns a part of a payload as Data, which belongs to the delivery of the payload.
func decodeData(owner, target any, v phpform.Value) {
	of, _ := owner.(*Delivery)
	if data, ok := target.(*Data); ok {
		*data = of.data(v)
	}
}

func encodeData(source any) phpform.Value {
	data, _ := source.(Data)
	return data.v
}

func encodeSecret(source any) phpform.Value {
	secret, _ := source.(Secret)
	return phpform.Text(string(secret))
}

// decodeInto fills dst, a non-nil pointer, from v. The Data that it makes belongs to the delivery
// of. The error is a [DecodeError] for the first value that does not fit; the others are decoded.
func decodeInto(of *Delivery, v phpform.Value, dst any) error {
	misfits, err := decodeLenient(of, v, dst)
	if err != nil {
		return err
	}
	if len(misfits) == 0 {
		return nil
	}
	err = mismatch(misfits[0].Path, misfits[0].Want)
	if of != nil && of.Kind == KindEvent {
		return of.named(err, nil)
	}
	return err
}

// decodeLenient fills dst, a non-nil pointer, with those parts of v that fit. An error is a bug in
// the program.
func decodeLenient(of *Delivery, v phpform.Value, dst any) ([]Misfit, error) {
	report, err := rules.Decode(v, of, dst)
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	return misfitsOf(&report, "data"), nil
}

// decode fills payload, a pointer to a payload of the event, with those parts of the delivery's
// data that fit. If the event is about the state or the deletion of an object, the data must have
// the object's ID, and it must fit. Other events, such as a message, are worth handling without an
// ID.
func (d *Delivery) decode(payload any, info *Info) ([]Misfit, error) {
	misfits, err := decodeLenient(d, d.Data.v, payload)
	if err != nil || info == nil || !info.Coalescable && !info.Deletion || len(info.entity) == 0 {
		return misfits, d.named(err, info)
	}
	for i := range misfits {
		if m := &misfits[i]; m.namesOneOf(info.entity) {
			return misfits, d.named(mismatch(m.Path, m.Want), info)
		}
	}
	typeID := ""
	if d.Name != info.Name {
		_, typeID = find(d.Name)
	}
	if firstObject(info.entity, d.Data.v, typeID) == (Entity{}) {
		return misfits, d.named(mismatch(info.entity[0].where(), "present"), info)
	}
	return misfits, nil
}

// strict turns the first misfit, if there is one, into an error.
func (d *Delivery) strict(misfits []Misfit, err error, info *Info) error {
	if len(misfits) > 0 {
		return d.named(mismatch(misfits[0].Path, misfits[0].Want), info)
	}
	return err
}

func mismatch(path, want string) error { return &DecodeError{Path: path, Want: want} }
