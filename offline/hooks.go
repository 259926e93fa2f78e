package offline

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

// Hooks are functions that a consumer or a fleet calls as it works, for metrics and alarms. Those
// that are nil are left out. They hold up the work for as long as they take, so they should return
// soon. All must be safe for concurrent use: handlers of several objects, and a fleet's portals,
// end at the same time. They must not change what they are given. A panic in one is logged and
// changes nothing else.
type Hooks struct {
	// Handled is called when a handler has finished a record successfully, with the time from the
	// change on the portal until then. The portal states the time of a change to the second and by
	// its own clock. lag is never negative, and 0 if the record states no time.
	Handled func(ctx context.Context, d *event.Delivery, lag time.Duration)
	// Parked is called when a record is about to be parked for the first time, with the reason. If
	// the record could not be read, err is r.Err, and r has no Delivery. Attempts with parked
	// records that fail again are not reported.
	Parked func(ctx context.Context, r Record, err error)
	// Dropped is called when a handler dropped a record with [event.Drop], which ends it for good:
	// the record is cleared. It is also called for a record that failed to the end and is gone from
	// the queue; see "What can be lost" in the package documentation.
	Dropped func(ctx context.Context, r Record, err error)
	// Measured is called with what the queue holds, about every 30 seconds while the queue is asked
	// at least as often.
	Measured func(ctx context.Context, b Backlog)
	// Stalled is called when a silence has lasted for as long as [WithStallAlert] says, and once more
	// when it is over.
	Stalled func(ctx context.Context, s Stall)
}

// Stall is a time without something that should happen.
type Stall struct {
	MemberID string // of the portal
	Kind     StallKind
	Since    time.Time // when it happened last, or was first missed
	Over     bool      // it happens again
}

// StallKind says what does not happen.
type StallKind string

// The kinds of silence.
const (
	// StallNoResponse: every call fails, while calls are made.
	StallNoResponse StallKind = "no response"
	// StallNoRecord: the portal responds and has no records. The binding may be gone, or the
	// application not be installed completely.
	StallNoRecord StallKind = "no record"
	// StallNoList: event.offline.list fails, while other calls may work. The records that an earlier
	// process left reserved, parked records, and the parking of records wait for it.
	StallNoList StallKind = "no list"
	// StallNoDisk: the spool cannot be written. No more records are taken from the portal.
	StallNoDisk StallKind = "no disk"
)

// stallWatch watches for one kind of silence.
type stallWatch struct {
	lastSeen    time.Time
	missedSince time.Time // when the silence was first noticed; zero if there is none
	reported    bool
}

// noteActivity notes that a silence is over, or has not begun.
func (e *engine) noteActivity(ctx context.Context, a *stallWatch, kind StallKind) {
	s := Stall{MemberID: e.memberID, Kind: kind, Since: a.begin(), Over: true}
	rang := a.reported
	*a = stallWatch{lastSeen: time.Now()}
	if rang {
		e.log(ctx, slog.LevelInfo, "offline queue: the silence is over",
			slog.String(keyKind, string(kind)), slog.Time(keySince, s.Since))
		e.reportStall(ctx, s)
	}
}

// noteStall notes a silence, and reports it if it has lasted too long.
func (e *engine) noteStall(ctx context.Context, a *stallWatch, kind StallKind, limit time.Duration) {
	now := time.Now()
	a.missedSince = cmp.Or(a.missedSince, now)
	if limit == 0 || a.reported || now.Sub(a.missedSince) < limit {
		return
	}
	a.reported = true
	s := Stall{MemberID: e.memberID, Kind: kind, Since: a.begin()}
	e.log(ctx, slog.LevelError, "offline queue: silence",
		slog.String(keyKind, string(kind)), slog.Time(keySince, s.Since))
	e.reportStall(ctx, s)
}

func (a *stallWatch) begin() time.Time { return cmp.Or(a.lastSeen, a.missedSince) }

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
		e.log(ctx, slog.LevelError, "offline queue: a hook panicked", slog.String("hook", name), errorAttr(nil, err))
	}
}
