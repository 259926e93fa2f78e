package webhook

import (
	"context"
	"net/http"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/timing"
	"github.com/b24events/b24events/internal/typednil"
)

// unitBytes is how much memory a delivery may hold for one place in the queue.
const unitBytes = 8 << 10

// newItem returns the item of a verified delivery for the dispatcher.
func newItem(cfg *config, d *event.Delivery, arrived time.Time) *dispatch.Item {
	it := &dispatch.Item{Delivery: d, Cost: 1 + (d.Size()-1)/unitBytes, Arrived: arrived}
	if isLifecycle(d) {
		it.Urgent = true
		return it
	}
	it.Lane = d.Lane()
	if cfg.coalesce[d.Name] {
		it.Merge = mergeKey(d, it.Lane)
	}
	return it
}

// keyOf returns the portal that a delivery is queued for.
func keyOf(d *event.Delivery) dispatch.Key {
	return dispatch.Key{ClientID: d.Proof.ClientID, MemberID: d.MemberID()}
}

// mergeKey returns a text that two deliveries of a lane share if they can be merged: they have the
// same name and are about the same object. It is empty if d cannot be merged.
func mergeKey(d *event.Delivery, lane event.Entity) string {
	key, ok := d.CoalesceKey()
	switch {
	case !ok:
		return ""
	case key == lane:
		return d.Name
	default: // a lane of several objects
		return d.Name + " " + key.Kind + " " + key.ID
	}
}

// giveValues sets the values of an item to what the function of WithContext returns for the
// request. It calls ended if that function ends the goroutine.
func (h *Handler) giveValues(it *dispatch.Item, r *http.Request, ended func()) error {
	if len(h.cfg.contexts) == 0 && len(h.cfg.saved) == 0 {
		return nil
	}
	return guardGoexit(func() error {
		ctx := context.Background()
		for _, f := range h.cfg.contexts {
			if values := f(ctx, r); !typednil.Is(values) {
				ctx, it.Values = values, values //nolint:fatcontext // each option adds to it
			}
		}
		if saved := h.saveContext(r, it.Delivery); saved != nil {
			it.Values = h.restoreValues(ctx, it.Delivery, saved)
		}
		return nil
	}, ended)
}

const (
	// firstWait is about how long a delivery waits for its second attempt. Each further wait is
	// four times as long, up to maxWait.
	firstWait = time.Second
	maxWait   = 5 * time.Minute
	// maxRetryAfter is the longest wait that a handler gets with event.Retry, because the delivery
	// holds a place in memory meanwhile.
	maxRetryAfter = time.Hour
)

// retryWaits returns the waits between the attempts of a delivery.
func retryWaits() timing.Backoff {
	return timing.Backoff{First: firstWait, Longest: maxWait, Factor: 4}
}
