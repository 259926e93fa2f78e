package webhook

import (
	"context"
	"fmt"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/typednil"
)

// Archive gives people access to the deliveries in a [Store] that are not pending: those that were
// given up, and those that were handled and are kept. It works beside a running [Handler], and from
// another process if the store can be opened there. It is safe for concurrent use. Make one with
// [NewArchive].
type Archive struct {
	store    Store
	envelope envelope
}

// NewArchive returns the archive of a store. The keys are those of [WithEncryptionKey]. Without
// them, encrypted deliveries are listed as unreadable, but can be replayed and discarded. It
// returns an error that matches [ErrConfig] if the store is nil or a key has the wrong length.
func NewArchive(s Store, keys ...[]byte) (*Archive, error) {
	if typednil.Is(s) {
		return nil, misconfigured("nil store")
	}
	a := &Archive{store: s}
	for _, key := range keys {
		k, err := newKey(key)
		if err != nil {
			return nil, err
		}
		a.envelope.keys = append(a.envelope.keys, k)
	}
	return a, nil
}

// Format keeps fmt from printing what the Archive holds.
func (a *Archive) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("webhook.Archive")) }

// Archived is a delivery in an [Archive].
type Archived struct {
	ID       string // for [Archive.Replay] and [Archive.Discard]
	State    State  // StateParked or StateDone
	Event    string // wire name
	MemberID string // the portal
	Received time.Time
	Settled  time.Time // when it was parked or handled
	Attempts int       // failed attempts
	Err      string    // why it was parked, without secrets
	// Delivery is nil if it cannot be read; Unreadable says why.
	Delivery   *event.Delivery
	Unreadable error
}

// Parked returns up to limit deliveries that were given up, oldest first, starting behind the one
// with the ID after, or from the beginning if after is empty. If it returns fewer than limit, there
// are no more. It returns the error of the store, which fails if after is no longer archived.
func (a *Archive) Parked(ctx context.Context, after string, limit int) ([]Archived, error) {
	return a.list(ctx, StateParked, after, limit)
}

// Kept is [Archive.Parked] for deliveries that were handled, if the store keeps those.
func (a *Archive) Kept(ctx context.Context, after string, limit int) ([]Archived, error) {
	return a.list(ctx, StateDone, after, limit)
}

func (a *Archive) list(ctx context.Context, state State, after string, limit int) ([]Archived, error) {
	recs, err := a.store.List(ctx, state, after, limit)
	if err != nil {
		return nil, archiveError("list", err)
	}
	all := make([]Archived, 0, len(recs))
	for _, rec := range recs {
		one := Archived{
			ID: rec.ID, State: state, Event: rec.Name, MemberID: rec.MemberID, Received: rec.Received, Settled: rec.Settled,
			Attempts: rec.Attempts, Err: rec.Err,
		}
		one.Delivery, _, one.Unreadable = a.envelope.open(rec)
		all = append(all, one)
	}
	return all, nil
}

// Replay puts archived deliveries back to be handled, behind all that wait for their objects, with
// all attempts ahead. It returns how many, and skips those that are no longer archived. The error
// is the store's.
func (a *Archive) Replay(ctx context.Context, ids ...string) (int, error) {
	n, err := a.store.Replay(ctx, ids...)
	return n, archiveError("replay", err)
}

// Discard deletes archived deliveries for good. It returns how many, and skips those that are no
// longer archived. The error is the store's.
func (a *Archive) Discard(ctx context.Context, ids ...string) (int, error) {
	n, err := a.store.Discard(ctx, ids...)
	return n, archiveError("discard", err)
}

// Depth returns what the store holds. It queries the store, so call it no more often than you
// scrape metrics. The error is the store's.
func (a *Archive) Depth(ctx context.Context) (Depth, error) {
	d, err := a.store.Depth(ctx)
	return d, archiveError("depth", err)
}

// archiveError returns an error of the store with the name of the operation, nil for none.
func archiveError(operation string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("webhook: %s: %w", operation, err)
}
