package event

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"

	"github.com/b24events/b24events/internal/errtree"
	"github.com/b24events/b24events/internal/typednil"
)

// Join returns a handler that runs each of hs in order. It runs all of them, even if one fails,
// panics or calls runtime.Goexit. It joins their errors; a panic becomes a [PanicError].
// [OutcomeOf] returns the outcome of the joined error. A retry runs all of them again.
//
// It ignores an [ErrUnhandled], for example of a [Mux], unless all handlers return it. Join panics
// on a nil handler.
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

// run reports the error of each handler. The others run deferred, so that they run whatever the
// first one does.
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
