package oauth

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/internal/histogram"
)

// Stats is a snapshot of what a [Portals] has done since it was made. Each number is exact. They
// are read one after the other, so they may not add up exactly while work is under way.
type Stats struct {
	Installed uint64 `json:"installed"` // installations that were verified and stored, repeated ones included, copies not
	Refused   uint64 `json:"refused"`   // claims of an installation that were refused: an ErrUnverified
	Users     uint64 `json:"users"`     // tokens of users that were verified and stored
	Removed   uint64 `json:"removed"`   // installations that were deleted, because a removal was confirmed or by Forget

	Renewed uint64 `json:"renewed"` // tokens that were renewed
	Adopted uint64 `json:"adopted"` // renewals that found tokens which another caller or process had renewed
	Failed  uint64 `json:"failed"`  // renewals that failed, without those that had to wait after a failure
	// Reauthorize counts the failed renewals after which the portal, or the user, must be authorized
	// again: an [ErrReauthorize].
	Reauthorize uint64 `json:"reauthorize"`

	Unsaved     int       `json:"unsaved"`               // portals and users whose tokens are in memory now, because the store failed
	Took        Latency   `json:"took"`                  // renewals that were renewed or failed
	LastRenewed time.Time `json:"last_renewed,omitzero"` // when a token was last renewed; zero before the first
}

// Latency is a snapshot of how long renewals took since the [Portals] was made. It is immutable.
// The zero Latency has no observations.
type Latency struct{ snapshot histogram.Snapshot }

// Count returns the number of observations.
func (l Latency) Count() uint64 { return l.snapshot.Count() }

// Sum returns the total of all observations, to the nanosecond.
func (l Latency) Sum() time.Duration { return l.snapshot.Sum() }

// Quantile returns a duration that the share q of the observations did not exceed, for example 0.99
// for the 99th percentile. It is at most an eighth (or a microsecond) too high and never too low,
// up to 78 hours. It is 0 without observations. q is clamped to 0…1.
func (l Latency) Quantile(q float64) time.Duration { return l.snapshot.Quantile(q) }

// MarshalJSON writes the count, the sum and the usual quantiles, in seconds.
func (l Latency) MarshalJSON() ([]byte, error) { return l.snapshot.MarshalJSON() }

// RenewalInfo describes one renewal that has ended. All callers that wait for the same tokens share
// it.
type RenewalInfo struct {
	MemberID string // of the portal
	UserID   int64  // whose tokens they are; 0 for the application's own
	Adopted  bool   // another caller or process had renewed the tokens
	Code     string // error code of the OAuth server; empty if there is none
	Err      error  // why it failed
	Took     time.Duration
}

// WithObserver sets a function that is called after each renewal, with a context that has the
// values of the first caller's. It is for metrics and traces: do not label metrics by the portal,
// of which there may be thousands. It is not called if a failure a moment ago made the renewal
// fail. The callers wait for the function, so it must return soon. It must be safe for concurrent
// use. A panic in it is logged. A second observer is called after the first.
func WithObserver(f func(ctx context.Context, info RenewalInfo)) Option {
	return func(cfg *config) error {
		if f == nil {
			return configError("WithObserver", "the function is nil")
		}
		cfg.observers = append(cfg.observers, f)
		return nil
	}
}

// meter counts what a Portals does.
type meter struct {
	observers                                                              []func(context.Context, RenewalInfo)
	installed, refused, users, removed, renewed, adopted, failed, finished atomic.Uint64
	lastRenewed                                                            atomic.Int64 // Unix nanoseconds; 0 before the first
	took                                                                   histogram.Histogram
}

// Stats returns what was done so far. It is cheap enough for each scrape of a metrics endpoint.
func (p *Portals) Stats() Stats {
	m := &p.meter
	s := Stats{
		Installed: m.installed.Load(), Refused: m.refused.Load(), Users: m.users.Load(), Removed: m.removed.Load(),
		Renewed: m.renewed.Load(), Adopted: m.adopted.Load(), Failed: m.failed.Load(), Reauthorize: m.finished.Load(),
		Unsaved: len(p.keys.pendingKeys()), Took: Latency{m.took.Snapshot()},
	}
	if at := m.lastRenewed.Load(); at != 0 {
		s.LastRenewed = time.Unix(0, at)
	}
	return s
}

// renewal is a renewal under way.
type renewal struct {
	began     time.Time
	adopted   bool
	postponed bool // a failure a moment ago made it fail
}

// renewalEnded counts a renewal, and calls the observers.
func (p *Portals) renewalEnded(ctx context.Context, key Key, r renewal, err error) {
	if r.postponed {
		return
	}
	m := &p.meter
	info := RenewalInfo{MemberID: key.MemberID, UserID: key.UserID, Adopted: r.adopted, Err: err, Took: time.Since(r.began)}
	var e *Error
	if errors.As(err, &e) {
		info.Code = e.Code
	}
	switch {
	case r.adopted:
		m.adopted.Add(1)
	case err != nil:
		m.failed.Add(1)
		if errors.Is(err, ErrReauthorize) {
			m.finished.Add(1)
		}
	default:
		m.renewed.Add(1)
		m.lastRenewed.Store(time.Now().UnixNano())
	}
	if !r.adopted {
		m.took.Record(info.Took)
	}
	for _, f := range m.observers {
		p.callObserver(ctx, func() { f(ctx, info) })
	}
}

// callObserver calls an observer, and logs a panic in it.
func (p *Portals) callObserver(ctx context.Context, call func()) {
	defer func() {
		if v := recover(); v != nil {
			p.log.LogAttrs(ctx, slog.LevelError, "an observer of bitrix24 renewals panicked", slog.String(keyPanic, panicType(v)))
		}
	}()
	call()
}
