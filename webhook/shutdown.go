package webhook

import (
	"context"
	"errors"
	"time"

	"github.com/b24events/b24events/internal/dispatch"
)

// ShutdownGrace is how long [Handler.Shutdown] may still take after its context ended. Handlers
// have three quarters of it to return after their contexts have ended. The rest is for reporting
// the deliveries whose handlers did not.
const ShutdownGrace = 2 * time.Second

// Shutdown stops the Handler without losing what it accepted. Call it after http.Server.Shutdown.
// It refuses new deliveries with 503 and waits until all accepted ones are handled. The contexts of
// handlers stay alive meanwhile. Deliveries that wait for their next attempt get it at once;
// further retries wait as usual.
//
// If ctx ends first, Shutdown ends the contexts of running handlers with the cause [ErrShutdown],
// and returns within [ShutdownGrace]. Deliveries that are not handled by then go to the function of
// [WithOnDropped], and Shutdown returns a [ShutdownError] with their number, which matches
// [ErrShutdown]. If that function is slow, the last reports come after Shutdown has returned.
// Shutdown returns nil if nothing was lost.
//
// With [WithStore] nothing is lost. Shutdown waits for the handlers that run. Deliveries that wait
// stay in the store. If handlers do not end in time, their deliveries stay there too, and the
// ShutdownError has their number. Then Shutdown stores the last marks and releases the leases.
// Close the store after it.
//
// All calls return the same, and the first context that ends, ends the wait for all. A handler must
// not call Shutdown, because it would wait for itself.
func (h *Handler) Shutdown(ctx context.Context) error {
	h.closeIntake(ErrShutdown)
	if h.durable != nil {
		h.durable.stopFeeds(ctx)
	}
	err := h.dispatcher.Shutdown(ctx)
	if h.durable != nil {
		h.durable.close(ctx)
	}
	var cut *dispatch.CutError
	if errors.As(err, &cut) {
		if h.durable != nil { // what waits is in the store
			cut.Left -= cut.Waiting
		}
		if cut.Left == 0 {
			return nil
		}
		return &ShutdownError{Left: cut.Left, Cause: cut.Cause}
	}
	return err
}

// Idle waits until the Handler has nothing to do: no delivery waits for a worker or for its next
// attempt, and none is being handled or reported. It is for tests that post an event and then check
// what its handler did. If ctx ends first, it returns the cause of that. A handler must not call
// it, because it would wait for itself.
//
// With [WithStore] it waits until nothing is pending in the store, for this or any other process.
func (h *Handler) Idle(ctx context.Context) error {
	if h.durable != nil {
		return h.durable.idle(ctx)
	}
	return h.dispatcher.Idle(ctx)
}
