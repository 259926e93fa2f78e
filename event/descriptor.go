package event

import (
	"iter"
	"reflect"
	"strings"
)

// Descriptor ties the wire name of an event to its payload type and to what the documentation says of it. The catalogue
// holds one for every documented event; [Define] makes one for any other.
type Descriptor[T any] struct {
	info *Info
}

// Name returns the wire name in upper case.
func (e Descriptor[T]) Name() string { return e.Info().Name }

// Info returns what is known of the event besides its payload type.
func (e Descriptor[T]) Info() Info {
	if e.info == nil {
		return Info{}
	}
	return *e.info
}

// Decode returns the delivery's payload. If a value does not fit its field, or the data lack the ID
// of the object that the event is about, the error is a [DecodeError] for the first of them; the
// payload then holds what fits. Decode does not compare names, so that one descriptor can read the
// deliveries of events with the same shape.
func (e Descriptor[T]) Decode(d *Delivery) (T, error) {
	payload, misfits, err := e.DecodeLenient(d)
	return payload, d.strict(misfits, err)
}

// DecodeLenient returns the delivery's payload as handlers of [On] get it: a value that does not fit
// leaves its field zero and is among the misfits. The error is a [DecodeError] if the data lack the
// ID of the object that the event is about, or if that ID does not fit its field. Misfits are listed
// as by [Delivery.Misfits].
func (e Descriptor[T]) DecodeLenient(d *Delivery) (T, []Misfit, error) {
	var payload T
	misfits, err := d.decode(&payload, e.info)
	return payload, misfits, err
}

// Define makes a descriptor for an event that the catalogue does not have, or for a documented one with a payload type of the
// caller's own. T is usually a struct; the package documentation states how its fields are found. Define panics on an empty name,
// and if no data can ever fill a T: it has a channel among its fields, for example, or a b24 tag with an unknown option.
func Define[T any](name string) Descriptor[T] {
	name = strings.ToUpper(strings.TrimSpace(name))
	if name == "" {
		panic("event: Define with an empty name")
	}
	if err := rules.Check(reflect.TypeFor[T]()); err != nil {
		panic("event: Define of " + name + ": " + err.Error())
	}
	info := Info{Name: name}
	if known, ok := Lookup(name); ok {
		info = known
	}
	return describe[T](info)
}

// describe completes an entry of the catalogue with its payload type.
func describe[T any](info Info) Descriptor[T] {
	info.payload = reflect.TypeFor[T]()
	return Descriptor[T]{info: &info}
}

// Info is what the catalogue knows of an event.
type Info struct {
	Name        string // wire name in upper case; for a template ends in _{TYPEID}
	Title       string // what happened, in words
	Scope       string // the application permission that the event needs, such as crm; "basic" needs none
	Doc         string // address of the event's page in the official documentation
	FetchMethod string // REST method that returns the changed object; empty where none is documented or the object is gone
	Deletion    bool   // the event tells that its object is gone; see ErrGone
	Unbound     bool   // applications never call event.bind for it: the platform sets up its handler
	// PlatformBound marks an event whose handler the platform binds by itself, for the installer's
	// URL. Such a row stands in event.get beside the application's own. [API.Plan] and
	// [API.UnbindAll] never unbind one. ONAPPINSTALL is PlatformBound without being Unbound: for an
	// application without pages the platform binds it, one with pages has to.
	PlatformBound bool
	NoQueue       bool // it cannot be bound to the offline queue

	fetchParams []param  // how FetchMethod's parameters stand in data, in the documentation's order
	entityKind  string   // such as crm.deal
	entityID    []string // paths in data, alternatives separated by |, that make up the id; several are joined with ":"
	payload     reflect.Type
}

// param is a parameter of a fetch method. Name may be nested, as in FILTER[ID].
type param struct {
	name    string
	path    string // below data, alternatives separated by |, such as FIELDS.ID; empty for a literal
	literal string
}

// PayloadType returns the Go type of the payload, nil where the event is not in the catalogue.
func (i Info) PayloadType() reflect.Type { return i.payload }

// Payload decodes the delivery into a new value of the event's payload type. It is for tools;
// handlers use [On]. Its errors are those of [Descriptor.Decode], and as there the payload holds
// what fits. It returns [ErrUnknown] and no payload if the event is not in the catalogue.
func (i Info) Payload(d *Delivery) (any, error) {
	if i.payload == nil {
		return nil, ErrUnknown
	}
	p := reflect.New(i.payload)
	misfits, err := d.decode(p.Interface(), &i)
	return p.Elem().Interface(), d.strict(misfits, err)
}

// Lookup finds an event of the catalogue by its wire name, without regard to case. Run-time names such as ONCRMDYNAMICITEMADD_147
// are found through their template.
func Lookup(name string) (Info, bool) { return lookup(name) }

// Catalog yields every entry of the catalogue in the order of the documentation, newer pages last:
// 205 events and 3 name templates.
func Catalog() iter.Seq[Info] { return catalog() }
