package offline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/b24events/b24events/event"
)

// measureInterval is how often the backlog is measured, by a call that joins others. Where the last reservation held all there was, none
// is needed.
const measureInterval = 30 * time.Second

// Hooks are functions that a consumer calls as it works, for metrics and alarms. Those that are nil are left out. They delay the work
// for as long as they take, so they should be quick; Handled and Parked must be safe for concurrent use. They must not change what they
// are given.
type Hooks struct {
	// Handled is called when a handler has finished a record, successfully, with the time from the change on the portal until then. The portal tells
	// the time of a change to the second and by its own clock; lag is never negative, and 0 where the record tells no time.
	Handled func(ctx context.Context, d *event.Delivery, lag time.Duration)
	// Parked is called when a record is given up, with the reason. Where err is that of r.Err, r has no Delivery.
	Parked func(ctx context.Context, r Record, err error)
	// Measured is called with what the queue holds, about every 30 seconds while the queue is asked at least as often.
	Measured func(ctx context.Context, b Backlog)
	// Silence is called when a silence has lasted for as long as [WithSilence] says, and once more when it is over.
	Silence func(ctx context.Context, s Silence)
}

// Backlog is what a queue holds.
type Backlog struct {
	MemberID string // of the portal

	At      time.Time // when it was measured; zero where it was not yet
	Waiting int       // records that nobody has reserved, without parked ones
	Oldest  time.Time // last change of the record among them that has waited longest, by the portal's clock; zero where none waits
	Parked  int       // parked records, by the last pass over them and what was done since
}

// Silence is a time without something that should be heard.
type Silence struct {
	MemberID string // of the portal
	Kind     SilenceKind
	Since    time.Time // when it was heard last, or first missed
	Over     bool      // it is heard again
}

// SilenceKind tells what is not heard.
type SilenceKind string

// The kinds of silence.
const (
	// NoAnswer: no call was answered without an error, while calls were made.
	NoAnswer SilenceKind = "no answer"
	// NoRecord: the portal answers, and has no records. The binding may be gone, or the application not be installed completely.
	NoRecord SilenceKind = "no record"
)

// WithHooks sets functions that the consumer calls as it works.
func WithHooks(h Hooks) Option {
	return consumerOption("WithHooks", func(c *config) error {
		c.hooks = h
		return nil
	})
}

// WithSilence sets after how long a silence is reported: noAnswer for calls that fail, [DefaultNoAnswer] by default, and noRecord for a
// queue without records, which by default is never. 0 is never. A silence is logged as an error and told to [Hooks], once, and its
// end too. For noRecord take a time in which people certainly change something, weekends included.
func WithSilence(noAnswer, noRecord time.Duration) Option {
	return consumerOption("WithSilence", func(c *config) error {
		if noAnswer < 0 || noRecord < 0 {
			return errors.New("offline: WithSilence wants durations of 0 or more")
		}
		c.noAnswer, c.noRecord = noAnswer, noRecord
		return nil
	})
}

// alarm watches for one kind of silence.
type alarm struct {
	heard  time.Time
	silent time.Time // when the silence was first noticed; zero where there is none
	rang   bool
}

// hear notes that the silence is over, or has not begun.
func (e *engine) hear(ctx context.Context, a *alarm, kind SilenceKind) {
	s := Silence{MemberID: e.memberID, Kind: kind, Since: a.since(), Over: true}
	rang := a.rang
	*a = alarm{heard: time.Now()}
	if rang {
		e.cfg.logger.LogAttrs(ctx, slog.LevelInfo, "offline queue: the silence is over", slog.String(keyKind, string(kind)), slog.Time(keySince, s.Since))
		e.tell(ctx, s)
	}
}

// listen notes a silence, and reports it where it has lasted too long.
func (e *engine) listen(ctx context.Context, a *alarm, kind SilenceKind, limit time.Duration) {
	now := time.Now()
	a.silent = cmp.Or(a.silent, now)
	if limit == 0 || a.rang || now.Sub(a.silent) < limit {
		return
	}
	a.rang = true
	s := Silence{MemberID: e.memberID, Kind: kind, Since: a.since()}
	e.cfg.logger.LogAttrs(ctx, slog.LevelError, "offline queue: silence", slog.String(keyKind, string(kind)), slog.Time(keySince, s.Since))
	e.tell(ctx, s)
}

func (a *alarm) since() time.Time { return cmp.Or(a.heard, a.silent) }

func (e *engine) tell(ctx context.Context, s Silence) {
	if e.cfg.hooks.Silence != nil {
		e.cfg.hooks.Silence(ctx, s)
	}
}

// measurement is a call that measures what waits in the queue.
func (e *engine) measurement(ctx context.Context) call {
	params := map[string]any{"filter": map[string]any{"=ERROR": 0, "=PROCESS_ID": ""}, "order": map[string]any{"TIMESTAMP_X": "ASC"}}
	return call{method: methodList, params: params, done: func(doc json.RawMessage, total int, err error) error {
		var page []Record
		if err == nil {
			page, err = readPage(doc)
		}
		if err != nil {
			return err
		}
		var oldest time.Time
		if len(page) > 0 {
			oldest = page[0].time()
		}
		e.measured(ctx, max(total, len(page)), oldest)
		return nil
	}}
}

// measured notes what waits.
func (e *engine) measured(ctx context.Context, waiting int, oldest time.Time) {
	now := time.Now()
	var b Backlog
	e.meter.count(func(s *Stats) {
		s.Backlog.MemberID, s.Backlog.At, s.Backlog.Waiting, s.Backlog.Oldest = e.memberID, now, waiting, oldest
		b = s.Backlog
	})
	if now.Before(e.measureAt) {
		return
	}
	e.measureAt = now.Add(measureInterval)
	if e.cfg.hooks.Measured != nil {
		e.cfg.hooks.Measured(ctx, b)
	}
}

// countParked takes in how many parked records there are, or how many more.
func (e *engine) countParked(n int, more bool) {
	e.meter.count(func(s *Stats) {
		if more {
			n += s.Backlog.Parked
		}
		s.Backlog.Parked = max(0, n)
	})
}
