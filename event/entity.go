package event

import (
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// Entity returns the object that the delivery is about, such as {crm.deal 42}. For a message it is
// the message, not its chat. All events of an object return the same Entity, so a deletion deletes
// exactly that. An ID of 0 names no object.
//
// It returns the zero Entity for events that the catalogue does not know, or that are about no
// object. For events about the application itself, the ID is empty. A few deliveries can be about
// several objects: messages for a connector to carry. Entity returns the first of them, and
// [Delivery.Entities] returns all.
//
// Use [Delivery.Lane] for the order of deliveries and [Delivery.CoalesceKey] to merge them.
func (d *Delivery) Entity() Entity {
	info, typeID := find(d.Name)
	if info == nil {
		return Entity{}
	}
	return firstObject(info.entity, d.Data.v, typeID)
}

// Entities returns every object that the delivery is about. The first is that of [Delivery.Entity].
// It returns nothing if there is none.
func (d *Delivery) Entities() []Entity {
	info, typeID := find(d.Name)
	if info == nil {
		return nil
	}
	for _, o := range info.entity {
		if all := o.all(d.Data.v, typeID); len(all) > 0 {
			return all
		}
	}
	return nil
}

// Lane returns the lane of the delivery: deliveries of one lane are handled in order, one after the
// other. It is the object, or what the object belongs to, such as the chat of a message. The zero
// Entity means that the order does not matter.
//
// Lanes are unique only within a portal; combine the Lane with [Delivery.MemberID].
func (d *Delivery) Lane() Entity {
	info, typeID := find(d.Name)
	switch {
	case info == nil:
		return Entity{}
	case len(info.lane) > 0:
		return firstObject(info.lane, d.Data.v, typeID)
	default:
		return firstObject(info.entity, d.Data.v, typeID)
	}
}

// CoalesceKey returns the key by which deliveries of one event can be merged: the newest stands for
// all of them, because the handler reads the current state of the object anyway. It returns false
// for events of which each one counts: messages, reactions, participants, signatures, pressed
// buttons, everything about the application, and every event that the catalogue does not know.
//
// Merge only deliveries with the same portal, the same Name and the same key. They have the same
// [Delivery.Lane].
func (d *Delivery) CoalesceKey() (key Entity, ok bool) {
	info, typeID := find(d.Name)
	if info == nil || !info.Coalescable {
		return Entity{}, false
	}
	key = firstObject(info.entity, d.Data.v, typeID)
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

// firstObject returns the first candidate whose ID is in data.
func firstObject(candidates []object, data phpform.Value, typeID string) Entity {
	for i := range candidates {
		if e, ok := candidates[i].first(data, typeID); ok {
			return e
		}
	}
	return Entity{}
}

// first returns the object that data names. typeID is the one in the name of the event. The last
// part of an ID is never 0.
func (o *object) first(data phpform.Value, typeID string) (Entity, bool) {
	switch len(o.id) {
	case 0:
		return Entity{Kind: o.kind}, true
	case 1:
		id := o.id[0].find(data, typeID)
		return Entity{Kind: o.kind, ID: id}, id != "" && id != "0"
	}
	parts := make([]string, len(o.id))
	for i, p := range o.id {
		if parts[i] = p.find(data, typeID); parts[i] == "" {
			return Entity{}, false
		}
	}
	return Entity{Kind: o.kind, ID: strings.Join(parts, ":")}, parts[len(parts)-1] != "0"
}

// all returns every object that data names. Only paths into lists lead to several.
func (o *object) all(data phpform.Value, typeID string) []Entity {
	if len(o.id) != 1 {
		if e, ok := o.first(data, typeID); ok {
			return []Entity{e}
		}
		return nil
	}
	var all []Entity
	for _, id := range o.id[0].findAll(data, typeID) {
		all = append(all, Entity{Kind: o.kind, ID: id})
	}
	return all
}

// Entity names an object of a portal: see [Delivery.Entity], [Delivery.Lane] and
// [Delivery.CoalesceKey].
type Entity struct {
	Kind string `json:"kind"` // REST-style name, such as crm.deal; empty if the event names no object
	ID   string `json:"id"`
}

// where returns the path of the object's ID, as errors name it.
func (o *object) where() string {
	if len(o.id) == 0 || len(o.id[0]) == 0 || o.id[0][0].typeID {
		return "data"
	}
	return strings.Join(append([]string{"data"}, o.id[0][0].keys...), ".")
}
