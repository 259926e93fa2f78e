package offline

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/logattr"
)

// Hooks are functions that a consumer or a fleet calls as it works, for metrics and alarms. Each
// may be nil. The work waits for them, so they should return soon. All must be safe for concurrent
// use, because handlers of several objects and portals end at the same time. They must not change
// their arguments. A panic in one is logged and changes nothing else.
type Hooks struct {
	// Handled is called when a handler has finished a record successfully. lag is the time from the
	// change on the portal until then. The portal states the time of a change to the second and by
	// its own clock. lag is never negative, and 0 if the record states no time.
	Handled func(ctx context.Context, d *event.Delivery, lag time.Duration)
	// Parked is called when a record is about to be parked for the first time. err is the reason. If
	// the record could not be read, err is r.Err, and r has no Delivery. Parked is not called again
	// when an attempt with a parked record fails.
	Parked func(ctx context.Context, r Record, err error)
	// Dropped is called when a handler dropped a record with [event.Drop], which ends it for good:
	// the record is cleared. It is also called for a record that failed to the end and is gone from
	// the queue; see "What can be lost" in the package documentation.
	Dropped func(ctx context.Context, r Record, err error)
	// Measured is called with what the queue holds, about every 30 seconds while the queue is asked
	// at least as often.
	Measured func(ctx context.Context, b Backlog)
	// Stalled is called when a stall has lasted for as long as [WithStallAlert] says, and once more
	// when it is over.
	Stalled func(ctx context.Context, s Stall)
}

// RequestInfo describes the requests of one turn: usually one, a second one if records are parked.
type RequestInfo struct {
	MemberID string // of the portal
	Requests int    // that were made; 0 if nothing had to be sent
	Records  int    // that were reserved, or taken over from an earlier run
	Err      error  // of the first that failed
	Took     time.Duration
}

// WithContext sets a function that makes the context of the requests of a turn, before the first of
// them. The caller of the queue and the observers of [WithObserver] get what it returns. Handlers
// find its values in their contexts if the requests brought their records, so that a trace can link
// them. It must return a context that is derived from ctx. If it panics or returns nil, the
// requests have ctx. Functions of several of these options run one after the other.
func WithContext(f func(ctx context.Context, memberID string) context.Context) WorkOption {
	return workOption(func(c *config) error {
		if f == nil {
			return misconfigured("WithContext with a nil function")
		}
		c.contexts = append(c.contexts, f)
		return nil
	})
}

// WithObserver sets a function that is called after the requests of each turn, with the context of
// the requests. It is for metrics and traces: do not label metrics by the portal, of which there
// may be thousands. The work on the portal waits for it. It must be safe for concurrent use. A
// panic in it is logged. A second observer is called after the first.
func WithObserver(f func(ctx context.Context, info RequestInfo)) WorkOption {
	return workOption(func(c *config) error {
		if f == nil {
			return misconfigured("WithObserver with a nil function")
		}
		c.observers = append(c.observers, f)
		return nil
	})
}

// Stall reports that something that should happen has not happened for too long, or happens again.
type Stall struct {
	MemberID string // of the portal
	Kind     StallKind
	Since    time.Time // when it happened last, or was first missed if it never happened
	Over     bool      // it happens again
}

// StallKind says what does not happen.
type StallKind string

// The kinds of stalls.
const (
	// StallNoResponse means that every call fails.
	StallNoResponse StallKind = "no response"
	// StallNoRecord means that the portal responds and has no records. The binding may be gone, or
	// the application may not be installed completely.
	StallNoRecord StallKind = "no record"
	// StallNoList means that event.offline.list fails, while other calls may succeed. The records
	// that an earlier process left reserved, parked records, and the parking of records wait for it.
	StallNoList StallKind = "no list"
	// StallNoDisk means that the spool cannot be written. No more records are taken from the portal.
	StallNoDisk StallKind = "no disk"
)

// stallWatch watches for one kind of stall.
type stallWatch struct {
	lastSeen    time.Time
	missedSince time.Time // when it was first missed; zero if it is not
	reported    bool
}

// noteActivity notes that what a stallWatch watches for has happened. It reports the end of a
// stall.
func (e *engine) noteActivity(ctx context.Context, w *stallWatch, kind StallKind) {
	s := Stall{MemberID: e.memberID, Kind: kind, Since: w.since(), Over: true}
	reported := w.reported
	*w = stallWatch{lastSeen: time.Now()}
	if reported {
		e.log(ctx, slog.LevelInfo, "offline queue: the stall is over",
			slog.String(keyKind, string(kind)), slog.Time(keySince, s.Since))
		e.reportStall(ctx, s)
	}
}

// noteStall notes that what a stallWatch watches for has not happened. It reports a stall that has
// lasted for limit, once.
func (e *engine) noteStall(ctx context.Context, w *stallWatch, kind StallKind, limit time.Duration) {
	now := time.Now()
	w.missedSince = cmp.Or(w.missedSince, now)
	if limit == 0 || w.reported || now.Sub(w.missedSince) < limit {
		return
	}
	w.reported = true
	s := Stall{MemberID: e.memberID, Kind: kind, Since: w.since()}
	e.log(ctx, slog.LevelError, "offline queue: stalled",
		slog.String(keyKind, string(kind)), slog.Time(keySince, s.Since))
	e.reportStall(ctx, s)
}

// since returns when it happened last, or when it was first missed.
func (w *stallWatch) since() time.Time { return cmp.Or(w.lastSeen, w.missedSince) }

func (e *engine) reportStall(ctx context.Context, s Stall) {
	if hook := e.cfg.hooks.Stalled; hook != nil {
		e.callHook(ctx, "Stalled", func() { hook(ctx, s) })
	}
}

// callRecordHook calls a hook about a record, if there is one.
func (e *engine) callRecordHook(ctx context.Context, name string, hook func(context.Context, Record, error), r Record, err error) {
	if hook != nil {
		e.callHook(ctx, name, func() { hook(ctx, r, err) })
	}
}

// callHook calls a hook, and logs a panic in it.
func (e *engine) callHook(ctx context.Context, name string, hook func()) {
	if err := dispatch.Guard(func() error { hook(); return nil }); err != nil {
		e.log(ctx, slog.LevelError, "offline queue: a hook panicked", slog.String("hook", name), logattr.Error(nil, err))
	}
}
