package webhook

import (
	"context"
	"fmt"
	"time"

	"github.com/b24events/b24events/event"
)

// ErrNoStore means that a method needs [WithStore].
const ErrNoStore Error = "webhook: the Handler has no store; see WithStore"

// Archived is a delivery that is parked, or that was handled and is kept.
type Archived struct {
	ID       string // for [Handler.Replay] and [Handler.Discard]
	State    State  // StateParked or StateDone
	Event    string // wire name
	MemberID string // the portal
	Received time.Time
	Settled  time.Time // when it was parked or handled
	Attempts int       // that failed
	Err      string    // why it was parked, without secrets
	// Delivery is nil if it cannot be read: see Unreadable.
	Delivery *event.Delivery
	// Unreadable says why Delivery is nil.
	Unreadable error
}

// Parked returns up to limit deliveries that were given up, oldest first, that follow the one with
// the ID after; from the beginning if after is empty. Fewer than limit mean that there are no more.
// It returns [ErrNoStore], or the error of the store.
func (h *Handler) Parked(ctx context.Context, after string, limit int) ([]Archived, error) {
	return h.archived(ctx, StateParked, after, limit)
}

// Kept is [Handler.Parked] for deliveries that were handled and that the store keeps for a while.
func (h *Handler) Kept(ctx context.Context, after string, limit int) ([]Archived, error) {
	return h.archived(ctx, StateDone, after, limit)
}

func (h *Handler) archived(ctx context.Context, state State, after string, limit int) ([]Archived, error) {
	if h.durable == nil {
		return nil, ErrNoStore
	}
	recs, err := h.durable.store.List(ctx, state, after, limit)
	if err != nil {
		return nil, fmt.Errorf("webhook: list: %w", err)
	}
	all := make([]Archived, 0, len(recs))
	for _, rec := range recs {
		a := Archived{
			ID: rec.ID, State: state, Event: rec.Name, MemberID: rec.MemberID, Received: rec.Received, Settled: rec.Settled,
			Attempts: rec.Attempts, Err: rec.Err,
		}
		a.Delivery, a.Unreadable = h.durable.envelope.open(rec.Data)
		all = append(all, a)
	}
	return all, nil
}

// Replay puts archived deliveries back to be handled, behind all that wait for their objects, with
// all attempts ahead. It returns how many; those that are not archived any more are skipped. It
// returns [ErrNoStore], or the error of the store.
func (h *Handler) Replay(ctx context.Context, ids ...string) (int, error) {
	if h.durable == nil {
		return 0, ErrNoStore
	}
	n, err := h.durable.store.Replay(ctx, ids...)
	if err != nil {
		return n, fmt.Errorf("webhook: replay: %w", err)
	}
	return n, nil
}

// Discard deletes archived deliveries for good. It returns how many; those that are not archived
// any more are skipped. It returns [ErrNoStore], or the error of the store.
func (h *Handler) Discard(ctx context.Context, ids ...string) (int, error) {
	if h.durable == nil {
		return 0, ErrNoStore
	}
	n, err := h.durable.store.Discard(ctx, ids...)
	if err != nil {
		return n, fmt.Errorf("webhook: discard: %w", err)
	}
	return n, nil
}

// Depth returns what the store holds. It asks the store, so do not call it more often than metrics
// are scraped. It returns [ErrNoStore], or the error of the store.
func (h *Handler) Depth(ctx context.Context) (Depth, error) {
	if h.durable == nil {
		return Depth{}, ErrNoStore
	}
	d, err := h.durable.store.Depth(ctx)
	if err != nil {
		return d, fmt.Errorf("webhook: depth: %w", err)
	}
	return d, nil
}

// Health returns nil if the Handler can accept deliveries and work them. Otherwise it returns
// [ErrShutdown], or an error that matches [ErrNotStored] if the last commit of the store failed or
// is slow, or the error of a feed. A failure counts for ten seconds if nothing is committed after it.
// It asks nobody and returns at once, so a health check of a load balancer can call it.
func (h *Handler) Health() error {
	if h.intake.Err() != nil {
		return ErrShutdown
	}
	if h.durable == nil {
		return nil
	}
	return h.durable.health()
}
