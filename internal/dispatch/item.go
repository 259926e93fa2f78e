package dispatch

import (
	"context"
	"time"

	"github.com/b24events/b24events/event"
)

// Key names a portal of an application.
type Key struct{ ClientID, MemberID string }

// Item is a piece of work: a delivery on its way to its handler. The front sets the exported fields
// before it passes the item on. After that they belong to the dispatcher, and the front reads them
// in its methods only.
type Item struct {
	// Delivery may be nil if the front finds it when the item is handled. Only the front uses it
	// then.
	Delivery *event.Delivery
	// Values are what the handler finds in its context, nil for nothing. The end of that context has
	// no effect.
	Values context.Context //nolint:containedctx // it travels with the delivery
	// Lane keeps items of a portal in order. The zero Entity is no lane.
	Lane event.Entity
	// Merge allows merging. Waiting items of one lane may be merged if they have the same text here.
	// If it is empty, the item is not merged.
	Merge string
	// Cost is the room that the item takes. Enqueue bounds it by the size of the room. Add and Do
	// ignore it, because they need no room.
	Cost int64
	// Attempts is how many attempts were begun. It grows with each. A front sets how many an earlier
	// process began.
	Attempts int
	// MaxAttempts is how many attempts a failing item has; 0 means [Config].MaxAttempts.
	MaxAttempts int
	// Merged is how many other items were merged into this one.
	Merged int
	// Arrived is when the item came, for the front's own figures.
	Arrived time.Time
	// Began is when the present attempt began.
	Began time.Time
	// Due is when the item may start, zero for at once. It waits in its lane until then.
	Due time.Time
	// Fired is when the event happened, in seconds since 1970; 0 if that is unknown. If it is 0,
	// Enqueue and Add take it from the delivery.
	Fired int64
	// Front is for the front's own use.
	Front any

	portal   *Portal
	lane     *lane
	admitted chan struct{} // closed when admitting ends; nil unless somebody waits
	inLane   link[Item]
	inQueue  link[Item] // of the items of the portal that wait for room, or of the running ones
	holds    int64      // room

	// Urgent items go to the application events of their portal: they have one lane, room and
	// workers of their own. Lane is not used.
	Urgent bool
	// Parked is passed on to the handler.
	Parked bool

	admitting       bool    // it waits for room
	refusal         refusal // why it was not admitted
	reported        bool    // the front has it back, or is about to
	place           place   // where the running item is counted
	overdue         bool    // it has run for SlowAfter
	portalIsRemoved bool    // the portal removed the application while the item ran
}

// noteFired sets Fired from the delivery.
func (it *Item) noteFired() {
	if it.Fired == 0 && it.Delivery != nil && !it.Delivery.Time.IsZero() {
		it.Fired = it.Delivery.Time.Unix()
	}
}

// refusal is why an item was not admitted.
type refusal uint8

const (
	refusalNone refusal = iota
	refusalFull
	refusalClosed
)

// err returns the error of a refusal.
func (r refusal) err() error {
	switch r {
	case refusalFull:
		return ErrFull
	case refusalClosed:
		return ErrClosed
	default:
		return nil
	}
}

// lane keeps the items of one object in order: first in, first out, one at a time. It exists while
// it has items. The lock of the dispatcher guards it, as it guards Portal and all lists.
type lane struct {
	portal *Portal
	key    event.Entity // zero: it is not in the portal's map
	urgent bool
	state  laneState
	items  list[Item] // waiting, resting or admitting
	timer  *time.Timer

	inPortal, inReady link[lane]
}

type laneState uint8

const (
	laneIdle    laneState = iota // its first item waits for room, or there is none
	laneReady                    // its first item waits for a worker
	laneRunning                  // an item of it runs, and is not among its items
	laneResting                  // its first item waits for its next attempt
)

// first returns the first item of the lane, nil if there is none.
func (l *lane) first() *Item { return l.items.first() }

// push adds an item to the end of the lane.
func (l *lane) push(it *Item) {
	it.lane = l
	l.items.push(&it.inLane, it)
}
