package event

import (
	"slices"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/values"
)

// Extra returns what arrived in the envelope of an event but has no field in Delivery or Auth:
// unknown keys of the first level, unknown keys of the auth block (under auth), and known keys
// whose value has the wrong shape, such as a user_id that is not a number. It returns the zero Data
// if there is nothing like that, and for a body that is not an event: the Data of that holds
// everything.
//
// None of it is proven: an address or a portal there is the sender's claim, even after
// [Delivery.SetProof]. Like Data, it is redacted when it is printed.
func (d *Delivery) Extra() Data {
	root := d.body.root()
	switch {
	case d.Kind != KindEvent || root.Empty():
		return Data{}
	case d.body.extraOnly:
		return d.data(root)
	}
	var entries []phpform.Entry
	switch {
	case d.body.isRecord:
		entries = extraOfRecord(root)
	case d.body.isPolled:
		entries = extraOfPolled(root)
	default:
		entries = extraOfEvent(root)
	}
	if len(entries) == 0 {
		return Data{}
	}
	return d.data(phpform.Map(entries...))
}

func extraOfEvent(root phpform.Value) []phpform.Entry {
	var top envelope
	top.read(root)
	fits := func(field int, v phpform.Value) bool {
		switch field {
		case topHandler, topEventID:
			_, from, ok := top.handler()
			return ok && from == field || values.IsEmpty(v)
		case topTime:
			_, ok := top.time()
			return ok
		case topAuth:
			return values.IsEmpty(v)
		default:
			return true
		}
	}
	entries := extraEntries(root, topNames[:], top[:], fits)
	block := top[topAuth].v
	if block.Kind() != phpform.Array || values.IsEmpty(block) {
		return entries
	}
	var picks [authFields]pick
	pickFields(block, authNames[:], picks[:])
	var a Auth
	inside := extraEntries(block, authNames[:], picks[:], a.set)
	for i := range entries {
		if field, _ := fieldOf(entries[i].Key, topNames[:]); field != topAuth || entries[i].Value != block {
			continue
		}
		if entries[i].Value = phpform.Map(inside...); len(inside) == 0 {
			entries = slices.Delete(entries, i, i+1)
		}
		break
	}
	return entries
}

func extraOfRecord(root phpform.Value) []phpform.Entry {
	var row [rowFields]pick
	pickFields(root, rowNames[:], row[:])
	var d Delivery
	return extraEntries(root, rowNames[:], row[:], func(field int, v phpform.Value) bool {
		return d.setRow(field, v) && (field != rowAdditional || values.IsEmpty(v) || onlyUser(v))
	})
}

func extraOfPolled(root phpform.Value) []phpform.Entry {
	var fields [polledFields]pick
	pickFields(root, polledNames[:], fields[:])
	var d Delivery
	return extraEntries(root, polledNames[:], fields[:], d.setPolled)
}

// onlyUser reports whether EVENT_ADDITIONAL holds nothing but the user.
func onlyUser(v phpform.Value) bool {
	_, ok := v.GetFold("user_id")
	return ok && v.Len() == 1
}

// extraEntries returns the entries of an array that were assigned to no field, and those that do
// not fit.
func extraEntries(from phpform.Value, names []string, picks []pick, fits func(field int, v phpform.Value) bool) []phpform.Entry {
	var entries []phpform.Entry
	place := 0
	for key, v := range from.All() {
		place++
		field, _ := fieldOf(key, names)
		if field < 0 || picks[field].place != place || !fits(field, v) {
			entries = append(entries, phpform.Entry{Key: key, Value: v})
		}
	}
	return entries
}
