package dispatch

import (
	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/errtree"
)

// IsGone reports whether a handler's error says that the object is gone, so that there is nothing
// left to do. It returns false if the handler asks for another attempt, or if something else failed
// too.
func IsGone(err error) bool { return isFinal(err, errtree.Is(event.ErrGone)) }

// isFinal reports whether an error asks for no other attempt and matches in every branch.
func isFinal(err error, match func(error) bool) bool {
	outcome, _ := event.OutcomeOf(err)
	return outcome == event.OutcomeDropped && errtree.Every(err, match)
}

// IsUnfetchable reports whether a handler's error says that the platform has no method for the
// object, for example for a comment of the new task card. Package event marks these errors.
func IsUnfetchable(err error) bool {
	return isFinal(err, func(err error) bool {
		e, ok := err.(interface{ Unfetchable() bool })
		return ok && e.Unfetchable()
	})
}

// IsDropped reports whether the handler itself dropped the item, with event.Drop in every branch
// of its error. A later version of the program may correct what caused other permanent errors.
func IsDropped(err error) bool {
	return isFinal(err, func(err error) bool {
		e, ok := err.(interface{ Dropped() bool })
		return ok && e.Dropped()
	})
}
