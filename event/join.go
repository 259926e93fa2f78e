package event

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Join returns a handler that runs all of hs in order, whether or not earlier ones fail, and joins their errors. The delivery is
// tried again, by all of them, unless every error was made by [Drop].
func Join(hs ...Handler) Handler {
	for _, h := range hs {
		if isNilHandler(h) {
			panic("event: Join with a nil handler")
		}
	}
	hs = slices.Clone(hs)
	return HandlerFunc(func(ctx context.Context, d *Delivery) error {
		var errs []error
		for _, h := range hs {
			if err := h.HandleEvent(ctx, d); err != nil {
				errs = append(errs, err)
			}
		}
		return joinOutcomes(errs)
	})
}

// joinOutcomes joins errors into one with a single outcome: the longest retry that any of them asks for, a drop only where all do.
func joinOutcomes(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	joined := &outcomeError{err: errors.Join(errs...), kind: Dropped}
	var longest time.Duration
	for _, err := range errs {
		kind, after := OutcomeOf(err)
		switch {
		case kind == Retried:
			joined.kind = Retried
			longest = max(longest, after)
		case kind == Default && joined.kind == Dropped:
			joined.kind = Default
		}
	}
	joined.after = longest
	return joined
}
