package event

import (
	"iter"
	"reflect"
	"strconv"
	"strings"
)

// Descriptor links the wire name of an event to its payload type and to what the documentation says
// about it. The catalogue holds one for every documented event; [Define] makes one for any other.
type Descriptor[T any] struct {
	name string
	info *Info // nil for the events of the catalogue, which are looked up by their name
}

// Name returns the wire name in upper case.
func (e Descriptor[T]) Name() string { return e.name }

// Info returns what is known about the event besides its payload type.
func (e Descriptor[T]) Info() Info {
	if e.info != nil {
		return *e.info
	}
	info, _ := Lookup(e.name)
	return info
}

// known returns what is known about the event, or nil.
func (e Descriptor[T]) known() *Info {
	if e.info != nil {
		return e.info
	}
	info, _ := find(e.name)
	return info
}

// Decode returns the delivery's payload. If a value does not fit its field, or the data lacks the
// ID of the object that the event is about, the error is a [DecodeError] for the first such value;
// the payload then holds what fits. Decode does not compare names, so one descriptor can read the
// deliveries of other events with the same shape.
func (e Descriptor[T]) Decode(d *Delivery) (T, error) {
	payload, misfits, err := e.DecodeLenient(d)
	return payload, d.strict(misfits, err, e.known())
}

// DecodeLenient returns the delivery's payload as handlers of [On] receive it: a value that does
// not fit leaves its field zero and is one of the misfits. The error is a [DecodeError] if the data
// lacks the ID of the object that the event is about, or if that ID does not fit its field. It
// lists misfits as [Delivery.Misfits] does.
func (e Descriptor[T]) DecodeLenient(d *Delivery) (T, []Misfit, error) {
	var payload T
	misfits, err := d.decode(&payload, e.known())
	return payload, misfits, err
}

// Define returns a descriptor for an event that the catalogue does not have, or for a documented
// one with your own payload type. T is usually a struct; the package documentation says how its
// fields are found. Like the registration of a handler, Define panics if the program is wrong: on
// an empty name, and if no data can ever fill a T, for example because it has a channel field or a
// b24 tag with an unknown option.
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

// documented returns the descriptor of an event of the catalogue.
func documented[T any](name string) Descriptor[T] { return Descriptor[T]{name: name} }

// ofType returns a descriptor for one smart process. base is the name of a template without its
// type ID.
func ofType[T any](base string, entityTypeID int) Descriptor[T] {
	if entityTypeID <= 0 {
		panic("event: " + base + "… needs a positive entityTypeId, not " + strconv.Itoa(entityTypeID))
	}
	return documented[T](base + strconv.Itoa(entityTypeID))
}

// Info is what the catalogue knows about an event. Its slices belong to the catalogue: do not
// change them.
type Info struct {
	Name  string // wire name in upper case; for a template ends in _{TYPEID}
	Title string // what happened, in plain words
	Scope string // the application permission that the event needs, such as crm; "basic" needs none
	Doc   string // address of the event's page in the official documentation

	// Fetch lists the REST methods that return the changed object, in order of preference. The
	// function [Fetch] calls the first one unless [WithMethod] selects another. The list is empty if
	// no method is documented or if the object is gone.
	Fetch []FetchMethod

	Deletion bool // the event means that its object is gone; see [ErrGone]
	// Coalescable reports whether the newest of several deliveries about one object can stand for all
	// of them: see [Delivery.CoalesceKey].
	Coalescable    bool
	AutoSubscribed bool // applications do not bind it: the platform does, or they poll it
	// PlatformBound marks an event that the platform binds by itself, to the installer's URL.
	// event.get lists such a binding with the application's own ones. [API.Plan] and [API.UnbindAll]
	// never remove it. ONAPPINSTALL is PlatformBound but not AutoSubscribed: the platform binds it for
	// an application without pages, and an application with pages has to bind it.
	PlatformBound bool
	Offline       bool     // it can be bound to the offline queue
	Remarks       []string // what to know before binding the event, in sentences

	entity      []object // what the event is about; the first one whose ID is in the data counts
	lane        []object // what orders the events; empty if it is the entity
	chatMessage string   // path to the chat message that replaces an object with the ID 0
	payload     reflect.Type
}

// PayloadType returns the Go type of the payload, or nil if the event is not in the catalogue.
func (i Info) PayloadType() reflect.Type { return i.payload }

// Payload decodes the delivery into a new value of the event's payload type. It is for tools;
// handlers use [On]. It returns the errors of [Descriptor.Decode], and the payload then holds what
// fits. If the event is not in the catalogue, it returns [ErrUnknown] and no payload.
func (i Info) Payload(d *Delivery) (any, error) {
	if i.payload == nil {
		return nil, ErrUnknown
	}
	p := reflect.New(i.payload)
	misfits, err := d.decode(p.Interface(), &i)
	return p.Elem().Interface(), d.strict(misfits, err, &i)
}

// Lookup finds an event of the catalogue by its wire name. It ignores case. It finds names of smart
// processes, such as ONCRMDYNAMICITEMADD_147, through their template.
func Lookup(name string) (Info, bool) {
	found, _ := find(name)
	if found == nil {
		return Info{}, false
	}
	info := *found
	if strings.HasSuffix(info.Name, typeIDMark) && !strings.HasSuffix(name, typeIDMark) {
		info.Name = strings.ToUpper(name)
	}
	return info, true
}

// OtherEvents is what [MetricLabel] returns for events that the catalogue does not have.
const OtherEvents = "other"

// MetricLabel returns the name under which metrics may count an event. That is its wire name in the
// catalogue, the name of the template for an event of a smart process, and [OtherEvents] for any
// other text. So the catalogue bounds the number of labels, even if strangers invent names.
func MetricLabel(name string) string {
	found, _ := find(name)
	if found == nil {
		return OtherEvents
	}
	return found.Name
}

// Catalog yields every entry of the catalogue in the order of the documentation. Newer pages come
// last.
func Catalog() iter.Seq[Info] {
	return func(yield func(Info) bool) {
		for i := range table().events {
			if !yield(table().events[i]) {
				return
			}
		}
	}
}
