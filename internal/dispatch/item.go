package dispatch

import (
	"context"
	"time"

	"github.com/b24events/b24events/event"
)

// Key names a portal of an application.
type Key struct{ ClientID, MemberID string }

// Item is a piece of work: a delivery on its way to its handler. The exported fields are the
// front's to set before it passes the item on. After that the dispatcher has them; a front reads
// them in its methods only.
type Item struct {
	// Delivery may be nil if the front gets it when the item is handled. Only fronts use it then.
	Delivery *event.Delivery
	// Values are what the handler finds in its context, nil for nothing. Its end is not looked at.
	Values context.Context //nolint:containedctx // it travels with the delivery
	// Lane keeps items of a portal in order. The zero Entity is no lane.
	Lane event.Entity
	// Merge names what items may be merged with: waiting ones of the same lane with the same text.
	// Empty for none.
	Merge string
	// Cost is the room that the item takes, and Enqueue bounds it by the size of the room. It means
	// nothing to Add and Do, which need no room.
	Cost int64
	// Attempts is how many attempts were begun. It grows with each. A front sets what an earlier
	// process began.
	Attempts int
	// MaxAttempts is when a failing item is given up; 0 means [Config].MaxAttempts.
	MaxAttempts int
	// Merged is how many others were merged into this one.
	Merged int
	// Arrived is when the item came, for the front's own figures.
	Arrived time.Time
	// Began is when the present attempt began.
	Began time.Time
	// Due is before when the item does not start, zero for at once. It waits in its lane until then.
	Due time.Time
	// Fired is when the event happened, in seconds since 1970; 0 if that is unknown. Enqueue and Add
	// take it from the delivery if it is 0.
	Fired int64
	// Front is the front's own.
	Front any

	portal         *Portal
	lane           *lane
	prev, next     *Item         // in its lane
	admitted       chan struct{} // closed when admitting ends; nil unless somebody waits
	laterA, earlyA *Item         // among the items of the portal that wait for room
	laterR, earlyR *Item         // among the running items
	holds          int64         // room

	// Urgent items go to the application events of their portal: they have one lane, room and
	// workers of their own. Lane is not used.
	Urgent bool
	// Parked is for the handler to read.
	Parked bool

	admitting       bool    // it waits for room
	refusal         refusal // why it was not admitted
	running         bool    // it is among the running items
	reported        bool    // the front gets it or has it back
	place           place   // what the running item is counted among
	overdue         bool    // it has run for SlowAfter
	portalIsRemoved bool    // while it ran
}

// noteFired sets Fired.
func (it *Item) noteFired() {
	if it.Fired == 0 && it.Delivery != nil && !it.Delivery.Time.IsZero() {
		it.Fired = it.Delivery.Time.Unix()
	}
}

// refusal is why an item was not admitted.
type refusal uint8

const (
	notRefused refusal = iota
	refusedFull
	refusedClosed
)

// err returns the error of a refusal.
func (r refusal) err() error {
	switch r {
	case refusedFull:
		return ErrFull
	case refusedClosed:
		return ErrClosed
	default:
		return nil
	}
}

// lane is the order of one object: first in, first out, one at a time. It exists while it has
// items. The lock of the dispatcher guards it, as it does Portal and all lists.
type lane struct {
	portal     *Portal
	key        event.Entity // zero: it is not in the portal's map
	urgent     bool
	state      laneState
	head, tail *Item // waiting, resting or admitting
	timer      *time.Timer
	next       *lane // among the portal's ready lanes

	earlier, later *lane // among all lanes of the portal
}

type laneState uint8

const (
	laneIdle    laneState = iota // its first item waits for room, or there is none
	laneReady                    // its first item waits for a worker
	laneRunning                  // an item of it runs; that one is not in the lane
	laneResting                  // its first item waits for its next attempt
)

func (l *lane) push(it *Item) {
	it.lane, it.prev, it.next = l, l.tail, nil
	if l.tail == nil {
		l.head = it
	} else {
		l.tail.next = it
	}
	l.tail = it
}

func (l *lane) pushFront(it *Item) {
	it.prev, it.next = nil, l.head
	if l.head == nil {
		l.tail = it
	} else {
		l.head.prev = it
	}
	l.head = it
}

// remove takes an item out of the lane.
func (l *lane) remove(it *Item) {
	if it.prev == nil {
		l.head = it.next
	} else {
		it.prev.next = it.next
	}
	if it.next == nil {
		l.tail = it.prev
	} else {
		it.next.prev = it.prev
	}
	it.prev, it.next = nil, nil
}

// replace puts an item in the place of another.
func (l *lane) replace(old, it *Item) {
	it.lane, it.prev, it.next = l, old.prev, old.next
	if it.prev == nil {
		l.head = it
	} else {
		it.prev.next = it
	}
	if it.next == nil {
		l.tail = it
	} else {
		it.next.prev = it
	}
	old.prev, old.next = nil, nil
}

// laneList is lanes in the order in which they became ready.
type laneList struct {
	head, tail *lane
	n          int
}

func (ls *laneList) push(l *lane) {
	if ls.tail == nil {
		ls.head = l
	} else {
		ls.tail.next = l
	}
	ls.tail = l
	ls.n++
}

func (ls *laneList) pop() *lane {
	l := ls.head
	ls.head = l.next
	if ls.head == nil {
		ls.tail = nil
	}
	l.next = nil
	ls.n--
	return l
}

// admissions is the items of a portal that wait for room, in order.
type admissions struct{ head, tail *Item }

func (a *admissions) push(it *Item) {
	it.earlyA, it.laterA = a.tail, nil
	if a.tail == nil {
		a.head = it
	} else {
		a.tail.laterA = it
	}
	a.tail = it
}

func (a *admissions) remove(it *Item) {
	if it.earlyA == nil {
		a.head = it.laterA
	} else {
		it.earlyA.laterA = it.laterA
	}
	if it.laterA == nil {
		a.tail = it.earlyA
	} else {
		it.laterA.earlyA = it.earlyA
	}
	it.earlyA, it.laterA = nil, nil
}

// runningList is the items that run, those first that began first.
type runningList struct {
	head, tail *Item
	n          int
}

func (r *runningList) push(it *Item) {
	it.running, it.earlyR, it.laterR = true, r.tail, nil
	if r.tail == nil {
		r.head = it
	} else {
		r.tail.laterR = it
	}
	r.tail = it
	r.n++
}

// remove takes an item out of the list, if it is in it.
func (r *runningList) remove(it *Item) {
	if !it.running {
		return
	}
	if it.earlyR == nil {
		r.head = it.laterR
	} else {
		it.earlyR.laterR = it.laterR
	}
	if it.laterR == nil {
		r.tail = it.earlyR
	} else {
		it.laterR.earlyR = it.earlyR
	}
	it.running, it.earlyR, it.laterR = false, nil, nil
	r.n--
}
