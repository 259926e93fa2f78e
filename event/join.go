package event

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"

	"github.com/b24events/b24events/internal/errtree"
	"github.com/b24events/b24events/internal/typednil"
)

// Join returns a handler that runs each of hs, in order and independent of the others: after one
// that failed, panicked or called runtime.Goexit, the next one runs. It joins their errors, a panic
// as a [PanicError]; [OutcomeOf] says what they ask for together. A retry runs all of them again.
//
// A handler that returns [ErrUnhandled], as a [Mux] does, does not count unless all do so.
func Join(hs ...Handler) Handler {
	for _, h := range hs {
		if typednil.Is(h) {
			panic("event: Join with a nil handler")
		}
	}
	return joined(slices.Clone(hs))
}

type joined []Handler

// HandleEvent runs all handlers.
func (j joined) HandleEvent(ctx context.Context, d *Delivery) error {
	var failed []error
	unhandled := 0
	j.run(ctx, d, func(err error) {
		switch {
		case err == nil:
		case errtree.Every(err, errtree.Is(ErrUnhandled)):
			unhandled++
		default:
			failed = append(failed, err)
		}
	})
	if unhandled == len(j) {
		return ErrUnhandled
	}
	return errors.Join(failed...)
}

// run reports the error of each handler. The rest runs deferred, so that nothing that the first
// handler does keeps it from running.
func (j joined) run(ctx context.Context, d *Delivery, report func(error)) {
	if len(j) == 0 {
		return
	}
	defer j[1:].run(ctx, d, report)
	defer func() {
		if v := recover(); v != nil {
			report(NewPanicError(v, debug.Stack()))
		}
	}()
	report(j[0].HandleEvent(ctx, d))
}
