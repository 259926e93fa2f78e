package event

import (
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// Entity names the object that the delivery is about, such as {crm.deal 42}: the message, not its
// chat. All events of one object name it alike, so this is what a deletion deletes. An ID of 0
// names nothing.
//
// It is the zero Entity for events that the catalogue does not know, or that are about no object.
// For events about the application itself its ID is empty. A few deliveries, of messages that a
// connector must carry, can be about several objects: Entity is the first of them,
// [Delivery.Entities] are all.
//
// Use [Delivery.Lane] for the order of deliveries and [Delivery.CoalesceKey] to merge them.
func (d *Delivery) Entity() Entity {
	info, number := find(d.Name)
	if info == nil {
		return Entity{}
	}
	return firstObject(info.entity, d.Data.v, number)
}

// Entities returns every object that the delivery is about, the first being [Delivery.Entity]. It
// is empty if there is none.
func (d *Delivery) Entities() []Entity {
	info, number := find(d.Name)
	if info == nil {
		return nil
	}
	for _, o := range info.entity {
		if all := o.all(d.Data.v, number); len(all) > 0 {
			return all
		}
	}
	return nil
}

// Lane names what the delivery must be handled in order with: one delivery of a lane after the
// other. It is the object, or what the object belongs to, such as the chat of a message. The zero
// Entity means that the order does not matter.
//
// A portal has lanes of its own; join the Lane with [Delivery.MemberID].
func (d *Delivery) Lane() Entity {
	info, number := find(d.Name)
	switch {
	case info == nil:
		return Entity{}
	case len(info.lane) > 0:
		return firstObject(info.lane, d.Data.v, number)
	default:
		return firstObject(info.entity, d.Data.v, number)
	}
}

// CoalesceKey names the object for which the newest of several deliveries of one event can stand
// for all, because the handler reads the object's present state anyway. It reports false for events
// that are facts of their own: messages, reactions, participants, signatures, pressed buttons,
// everything about the application, and every event that the catalogue does not know.
//
// Merge only deliveries with the same portal, the same Name and the same key. They share their
// [Delivery.Lane].
func (d *Delivery) CoalesceKey() (key Entity, ok bool) {
	info, number := find(d.Name)
	if info == nil || !info.Coalescable {
		return Entity{}, false
	}
	key = firstObject(info.entity, d.Data.v, number)
	return key, key != Entity{}
}

// object says where an event names an object: its kind, and the paths in data that make up the ID.
type object struct {
	kind string
	id   []path // joined with ":"; none for the one object of its kind
}

func objectAt(kind string, id ...string) object {
	o := object{kind: kind, id: make([]path, len(id))}
	for i, text := range id {
		o.id[i] = parsePath(text)
	}
	return o
}

// firstObject returns the first of the candidates whose ID is in data.
func firstObject(candidates []object, data phpform.Value, number string) Entity {
	for i := range candidates {
		if e, ok := candidates[i].first(data, number); ok {
			return e
		}
	}
	return Entity{}
}

// first returns the object that data names. number is that in the name of the event. The last part
// of an ID is never 0.
func (o *object) first(data phpform.Value, number string) (Entity, bool) {
	switch len(o.id) {
	case 0:
		return Entity{Kind: o.kind}, true
	case 1:
		id := o.id[0].find(data, number)
		return Entity{Kind: o.kind, ID: id}, id != "" && id != "0"
	}
	parts := make([]string, len(o.id))
	for i, p := range o.id {
		if parts[i] = p.find(data, number); parts[i] == "" {
			return Entity{}, false
		}
	}
	return Entity{Kind: o.kind, ID: strings.Join(parts, ":")}, parts[len(parts)-1] != "0"
}

// all returns every object that data names. Only paths into lists lead to several.
func (o *object) all(data phpform.Value, number string) []Entity {
	if len(o.id) != 1 {
		if e, ok := o.first(data, number); ok {
			return []Entity{e}
		}
		return nil
	}
	var all []Entity
	for _, id := range o.id[0].findAll(data, number) {
		all = append(all, Entity{Kind: o.kind, ID: id})
	}
	return all
}

// Entity names an object of a portal: see [Delivery.Entity], [Delivery.Lane] and
// [Delivery.CoalesceKey].
type Entity struct {
	Kind string `json:"kind"` // REST-style name, such as crm.deal; empty where the event names no object
	ID   string `json:"id"`
}

// where returns the first place of the object's ID, as errors name it.
func (o *object) where() string {
	if len(o.id) == 0 || len(o.id[0]) == 0 || o.id[0][0].number {
		return "data"
	}
	return strings.Join(append([]string{"data"}, o.id[0][0].keys...), ".")
}
