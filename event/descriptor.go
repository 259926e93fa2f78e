package event

import (
	"iter"
	"reflect"
	"strconv"
	"strings"
)

// Descriptor ties the wire name of an event to its payload type and to what the documentation says of it. The catalogue
// holds one for every documented event; [Define] makes one for any other.
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

// Decode returns the delivery's payload. It returns a [DecodeError] where a value does not fit. It does not compare names, so that one
// descriptor can read the deliveries of events with the same shape.
func (e Descriptor[T]) Decode(d *Delivery) (T, error) {
	var payload T
	err := d.decode(&payload)
	return payload, err
}

// Define makes a descriptor for an event that the catalogue does not have, or for a documented one with a payload type of the
// caller's own. T is usually a struct; the package documentation states how its fields are found. Define panics on an empty name.
func Define[T any](name string) Descriptor[T] {
	name = strings.ToUpper(strings.TrimSpace(name))
	if name == "" {
		panic("event: Define with an empty name")
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

// Info is what the catalogue knows of an event. Its slices belong to the catalogue: do not change them.
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
	Coalescable bool
	Unbound     bool // applications do not call event.bind for it: the platform sets up its handler, or it is polled
	// PlatformBound marks an event whose handler the platform binds by itself, for the installer's
	// URL. Such a row stands in event.get beside the application's own. [API.Plan] and
	// [API.UnbindAll] never unbind one. ONAPPINSTALL is PlatformBound without being Unbound: for an
	// application without pages the platform binds it, one with pages has to.
	PlatformBound bool
	NoQueue       bool     // it cannot be bound to the offline queue
	Remarks       []string // sentences of the documentation that whoever binds the event should know

	entity      []object // what the event is about; the first whose ID is there
	lane        []object // what orders the events; empty if the entity does
	chatMessage string   // path to the chat message that stands in for an object with the ID 0
	payload     reflect.Type
}

// PayloadType returns the Go type of the payload, nil where the event is not in the catalogue.
func (i Info) PayloadType() reflect.Type { return i.payload }

// Payload decodes the delivery into a new value of the event's payload type. It is for tools; handlers use [On].
func (i Info) Payload(d *Delivery) (any, error) {
	if i.payload == nil {
		return nil, ErrUnknown
	}
	p := reflect.New(i.payload)
	if err := d.decode(p.Interface()); err != nil {
		return nil, err
	}
	return p.Elem().Interface(), nil
}

// Lookup finds an event of the catalogue by its wire name, without regard to case. Run-time names such as ONCRMDYNAMICITEMADD_147
// are found through their template.
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
