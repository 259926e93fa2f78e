package event

import (
	"iter"
	"reflect"
	"strconv"
	"strings"
)

// Descriptor ties the wire name of an event to its payload type and to what the documentation says
// of it. The catalogue holds one for every documented event; [Define] makes one for any other.
type Descriptor[T any] struct {
	name string
	info *Info // nil for the events of the catalogue, which are looked up by their name
}

// Name returns the wire name in upper case.
func (e Descriptor[T]) Name() string { return e.name }

// Info returns what is known of the event besides its payload type.
func (e Descriptor[T]) Info() Info {
	if e.info != nil {
		return *e.info
	}
	info, _ := Lookup(e.name)
	return info
}

// known returns what is known of the event, nil if that is nothing.
func (e Descriptor[T]) known() *Info {
	if e.info != nil {
		return e.info
	}
	info, _ := find(e.name)
	return info
}

// Decode returns the delivery's payload. If a value does not fit its field, or the data lack the ID
// of the object that the event is about, the error is a [DecodeError] for the first of them; the
// payload then holds what fits. Decode does not compare names, so that one descriptor can read the
// deliveries of events with the same shape.
func (e Descriptor[T]) Decode(d *Delivery) (T, error) {
	payload, misfits, err := e.DecodeLenient(d)
	return payload, d.strict(misfits, err)
}

// DecodeLenient returns the delivery's payload as handlers of [On] get it: a value that does not
// fit leaves its field zero and is among the misfits. The error is a [DecodeError] if the data lack
// the ID of the object that the event is about, or if that ID does not fit its field. Misfits are
// listed as by [Delivery.Misfits].
func (e Descriptor[T]) DecodeLenient(d *Delivery) (T, []Misfit, error) {
	var payload T
	misfits, err := d.decode(&payload, e.known())
	return payload, misfits, err
}

// Define makes a descriptor for an event that the catalogue does not have, or for a documented one
// with a payload type of the caller's own. T is usually a struct; the package documentation states
// how its fields are found. Define panics on an empty name, and if no data can ever fill a T: it
// has a channel among its fields, for example, or a b24 tag with an unknown option.
func Define[T any](name string) Descriptor[T] {
	name = strings.ToUpper(strings.TrimSpace(name))
	if name == "" {
		panic("event: Define with an empty name")
	}
	if err := rules.Check(reflect.TypeFor[T]()); err != nil {
		panic("event: Define of " + name + ": " + err.Error())
	}
	info, ok := Lookup(name)
	if !ok {
		info = Info{Name: name}
	}
	info.payload = reflect.TypeFor[T]()
	return Descriptor[T]{name: name, info: &info}
}

// documented makes the descriptor of an event of the catalogue.
func documented[T any](name string) Descriptor[T] { return Descriptor[T]{name: name} }

// ofType makes a descriptor for one smart process out of the name of a template without its number.
func ofType[T any](base string, entityTypeID int) Descriptor[T] {
	if entityTypeID <= 0 {
		panic("event: " + base + "… needs a positive entityTypeId, not " + strconv.Itoa(entityTypeID))
	}
	return documented[T](base + strconv.Itoa(entityTypeID))
}

// Info is what the catalogue knows of an event. Its slices belong to the catalogue: do not change
// them.
type Info struct {
	Name  string // wire name in upper case; for a template ends in _{TYPEID}
	Title string // what happened, in words
	Scope string // the application permission that the event needs, such as crm; "basic" needs none
	Doc   string // address of the event's page in the official documentation

	// Fetch lists the REST methods that return the changed object, in order of preference. The
	// function [Fetch] calls the first unless [WithMethod] names another. It is empty if none is
	// documented or the object is gone.
	Fetch []FetchMethod

	Deletion bool // the event means that its object is gone; see [ErrGone]
	// Coalescable reports whether the newest of several deliveries about one object can stand for
	// all: see [Delivery.CoalesceKey].
	Coalescable    bool
	AutoSubscribed bool // applications do not call event.bind for it: the platform sets up its handler, or it is polled
	// PlatformBound marks an event whose handler the platform binds by itself, for the installer's
	// URL. Such a row stands in event.get beside the application's own. [API.Plan] and [API.UnbindAll]
	// never unbind one. ONAPPINSTALL is PlatformBound without being AutoSubscribed: for an application
	// without pages the platform binds it, one with pages has to.
	PlatformBound bool
	Offline       bool     // it can be bound to the offline queue
	Remarks       []string // sentences of the documentation that whoever binds the event should know

	entity      []object // what the event is about; the first whose ID is there
	lane        []object // what orders the events; empty if the entity does
	chatMessage string   // path to the chat message that stands in for an object with the ID 0
	payload     reflect.Type
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

// Lookup finds an event of the catalogue by its wire name, without regard to case. Run-time names
// such as ONCRMDYNAMICITEMADD_147 are found through their template.
func Lookup(name string) (Info, bool) {
	found, _ := find(name)
	if found == nil {
		return Info{}, false
	}
	info := *found
	if strings.HasSuffix(info.Name, typeID) && !strings.HasSuffix(name, typeID) {
		info.Name = strings.ToUpper(name)
	}
	return info, true
}

// Catalog yields every entry of the catalogue in the order of the documentation, newer pages last.
func Catalog() iter.Seq[Info] {
	return func(yield func(Info) bool) {
		for i := range table().events {
			if !yield(table().events[i]) {
				return
			}
		}
	}
}
