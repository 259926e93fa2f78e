package offline_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
)

// soon is how long a record may wait if its handler and the portal do well.
const soon = 10 * time.Second

// waits keeps how long changes of deals waited for their handler.
type waits struct {
	mu    sync.Mutex
	since map[int]time.Time
	worst time.Duration
	n     int // changes that were handled
}

func newWaits() *waits { return &waits{since: make(map[int]time.Time)} }

// changed notes a change, unless an earlier one still waits.
func (w *waits) changed(id int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, open := w.since[id]; !open {
		w.since[id] = time.Now()
	}
}

// handled notes that a handler has ended.
func (w *waits) handled(id int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at, open := w.since[id]; open {
		w.worst = max(w.worst, time.Since(at))
		w.n++
		delete(w.since, id)
	}
}

// result returns the longest wait so far, of changes that still wait too, and how many were
// handled. Call it inside of the bubble, since it looks at the clock.
func (w *waits) result() (worst time.Duration, handled int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	worst = w.worst
	for _, at := range w.since {
		worst = max(worst, time.Since(at))
	}
	return worst, w.n
}

// background runs a consumer until the function is called that it returns.
func background(t *testing.T, c *offline.Consumer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		require.NoError(t, <-ended)
	}
}

// One customer's system hangs, and there are 49 workers for the others.
func TestHandlerThatHangsDelaysOnlyItsObject(t *testing.T) {
	t.Parallel()
	const others = 120
	var worst time.Duration
	var handled int
	synctest.Test(t, func(t *testing.T) {
		f, w := newFixture(t), newWaits()
		stop := background(t, newConsumer(t, f.api, func(ctx context.Context, d *event.Delivery) error {
			id := dealID(t, d)
			if id == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			w.handled(id)
			return nil
		}))
		f.change("UPDATE", 1)
		for i := range others {
			w.changed(2 + i)
			f.change("UPDATE", 2+i)
			<-time.After(5 * time.Second)
		}
		<-time.After(soon)
		stop()
		worst, handled = w.result()
	})
	expect(t, worst <= soon, "another object waited for %s", worst)
	expect(t, handled == others, "%d of %d other objects were handled", handled, others)
}

// One record in a hundred takes long. The rest must not wait for them: whichever order the records
// have, workers that are never idle need no longer than their share and the longest record.
func TestSlowRecordsDoNotSlowTheDrain(t *testing.T) {
	t.Parallel()
	for _, slowest := range []time.Duration{2 * time.Second, 20 * time.Second} {
		t.Run(slowest.String(), func(t *testing.T) {
			t.Parallel()
			const records, workers, usual = 5000, 50, 100 * time.Millisecond
			var took time.Duration
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.change("UPDATE", upTo(records)...)
				began := time.Now()
				f.drain(func(ctx context.Context, d *event.Delivery) error {
					if dealID(t, d)%100 == 1 {
						return during(ctx, slowest)
					}
					return during(ctx, usual)
				}, offline.WithWorkers(workers))
				took = time.Since(began)
			})
			share := (records*99/100*usual + records/100*slowest) / workers
			t.Logf("%d records, of which one in a hundred takes %s: %s; the workers' share is %s", records, slowest, took, share)
			expect(t, took <= share+slowest+soon/2, "the drain took %s, and the workers' share is %s", took, share)
		})
	}
}

// Records that wait for a retry hold neither a worker nor a place that others need.
func TestManyWaitingRetriesDoNotBlockOtherObjects(t *testing.T) {
	t.Parallel()
	const retrying = 1000
	var worst time.Duration
	var handled int
	synctest.Test(t, func(t *testing.T) {
		f, w := newFixture(t), newWaits()
		f.change("UPDATE", upTo(retrying)...)
		c := newConsumer(t, f.api, func(_ context.Context, d *event.Delivery) error {
			id := dealID(t, d)
			if id <= retrying {
				return event.Retry(errHandler, time.Hour)
			}
			w.handled(id)
			return nil
		})
		stop := background(t, c)
		<-time.After(time.Minute)
		w.changed(retrying + 1)
		f.change("UPDATE", retrying+1)
		c.Wake()
		<-time.After(10 * time.Minute)
		stop()
		worst, handled = w.result()
	})
	expect(t, handled == 1, "the change of another object was not handled within %s", worst)
	expect(t, worst <= soon, "the change of another object waited for %s", worst)
}

// The documentation of event.Drop: the delivery is not tried again.
func TestDropEndsARecordForGood(t *testing.T) {
	t.Parallel()
	var calls, reported atomic.Int64
	var states []string
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", 1)
		ctx, stop := context.WithTimeout(t.Context(), 24*time.Hour)
		defer stop()
		hooks := finalHooks(func(_ context.Context, r offline.Record, err error) {
			if r.Delivery.Entity().ID == "1" && err != nil {
				reported.Add(1)
			}
		})
		require.NoError(t, newConsumer(t, f.api, func(context.Context, *event.Delivery) error {
			calls.Add(1)
			return event.Drop(errHandler)
		}, offline.WithHooks(hooks)).Run(ctx))
		states = f.states()
	})
	expect(t, calls.Load() == 1, "the handler was called %d times", calls.Load())
	expect(t, len(states) == 0, "the queue still holds %v", states)
	expect(t, reported.Load() == 1, "a hook reported the record %d times", reported.Load())
}

// finalHooks returns hooks that call f for records that end with an error: Dropped if there is such
// a hook, and Parked.
func finalHooks(f func(ctx context.Context, r offline.Record, err error)) offline.Hooks {
	h := offline.Hooks{Parked: f}
	if dropped := reflect.ValueOf(&h).Elem().FieldByName("Dropped"); dropped.IsValid() {
		dropped.Set(reflect.ValueOf(f))
	}
	return h
}

// runtime.Goexit ends the goroutine of a handler: testify's FailNow does that, for one. The record
// must not wait for a restart.
func TestRecordIsTriedAgainAfterGoexit(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]eventtest.Option{"reserved": nil, "spooled": {eventtest.WithoutExtendedOffline()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			var s offline.Stats
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, opts...)
				f.change("UPDATE", 1)
				ctx, stop := context.WithTimeout(t.Context(), 15*time.Minute)
				defer stop()
				c := newConsumer(t, f.api, func(context.Context, *event.Delivery) error {
					if calls.Add(1) == 1 {
						goexit()
					}
					return nil
				}, offline.WithSpool(t.TempDir()))
				require.NoError(t, c.Run(ctx))
				s = c.Stats()
			})
			expect(t, calls.Load() == 2, "the handler was called %d times", calls.Load())
			expect(t, s.Handled == 1, "%+v", s)
		})
	}
}

// TestErrorsThatPanicAreFailures: a handler that returns a nil *url.Error as an error is a common
// mistake. Its record is parked, and the consumer goes on.
func TestErrorsThatPanicAreFailures(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"nil pointer": (*url.Error)(nil),
		"joined":      errors.Join(event.ErrUnhandled, (*url.Error)(nil)),
		"retried":     event.Retry((*url.Error)(nil), 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.change("ADD", 1, 2)
			c := f.drain(func(_ context.Context, d *event.Delivery) error {
				if d.Entity().ID == "1" {
					return err
				}
				return nil
			})
			require.EqualValues(t, 1, c.Stats().Handled)
			require.Len(t, f.OfflineRows(), 1)
		})
	}
}

func TestPaceOfAttempts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		err   error
		waits []time.Duration
	}{
		{"by default", errHandler, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}},
		{"at the handler's wish", event.Retry(errHandler, time.Minute), []time.Duration{time.Minute, time.Minute, time.Minute, time.Minute}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.change("UPDATE", 1)
				start := time.Now()
				var at []time.Duration
				c := f.drain(func(context.Context, *event.Delivery) error {
					at = append(at, time.Since(start))
					return tt.err
				})
				require.Len(t, at, offline.DefaultMaxAttempts)
				requireWaits(t, at, tt.waits...)
				require.EqualValues(t, 1, c.Stats().Parked)
				require.EqualValues(t, 4, c.Stats().Retried)
			})
		})
	}
}

func TestHandlerTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", 1)
		var took []time.Duration
		c := f.drain(func(ctx context.Context, _ *event.Delivery) error {
			start := time.Now()
			<-ctx.Done()
			took = append(took, time.Since(start))
			return ctx.Err()
		}, offline.WithHandlerTimeout(20*time.Second), offline.WithMaxAttempts(2))
		require.Equal(t, []time.Duration{20 * time.Second, 20 * time.Second}, took, "a time-out is tried again")
		require.EqualValues(t, 1, c.Stats().Parked)
	})
}

func goexit() { runtime.Goexit() }

func TestGoexitInAHandlerParksItsRecord(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1, 2)
	var seen journal
	c := newConsumer(t, f.api, func(ctx context.Context, d *event.Delivery) error {
		if dealID(t, d) == 1 {
			// What t.FailNow does in a handler of a user's test.
			goexit()
		}
		return seen.HandleEvent(ctx, d)
	})
	require.NoError(t, c.Drain(t.Context()))
	require.Equal(t, []string{"UPDATE 2"}, seen.entries())
	require.Equal(t, []string{"parked"}, f.states())
	require.Zero(t, c.Stats().Abandoned)
}

// Records whose handlers fail wait for their next attempt without holding up others, but for those
// of the same object.
func TestRetriesHoldOnlyTheirObjectUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("ADD", 1)
		f.change("UPDATE", 1, 2)
		start := time.Now()
		at := make(map[string]time.Duration)
		var mu sync.Mutex
		time.AfterFunc(20*time.Second, func() { f.change("DELETE", 1) })
		time.AfterFunc(25*time.Second, func() { f.change("UPDATE", 3) })
		ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
		defer stop()
		c := newConsumer(t, f.api, func(_ context.Context, d *event.Delivery) error {
			mu.Lock()
			defer mu.Unlock()
			if name(d) == "ADD 1" && time.Since(start) < time.Minute {
				return event.Retry(errHandler, time.Minute)
			}
			at[name(d)] = time.Since(start)
			return nil
		}, offline.WithInterval(time.Second, time.Second))
		require.NoError(t, c.Run(ctx))
		require.Zero(t, at["UPDATE 2"])
		require.InDelta(t, 25.5, at["UPDATE 3"].Seconds(), 1)
		for _, held := range []string{"ADD 1", "UPDATE 1", "DELETE 1"} {
			require.InDelta(t, 60, at[held].Seconds(), 1, held)
		}
		require.Empty(t, f.OfflineRows())
	})
}

// joined is the outcome of handlers that share a record.
func joined(errs ...error) func(int) error {
	hs := make([]event.Handler, len(errs))
	for i, err := range errs {
		hs[i] = event.HandlerFunc(func(context.Context, *event.Delivery) error { return err })
	}
	h := event.Join(hs...)
	return func(int) error { return h.HandleEvent(context.Background(), &event.Delivery{}) }
}

func TestConsumerOutcomes(t *testing.T) {
	t.Parallel()
	gone := fmt.Errorf("copy: %w", event.ErrGone)
	soon := func(err error) error { return event.Retry(err, time.Millisecond) }
	comment, err := event.Parse(
		"",
		[]byte("event=ONTASKCOMMENTADD&data[FIELDS_AFTER][ID]=0&data[FIELDS_AFTER][MESSAGE_ID]=48760&data[FIELDS_AFTER][TASK_ID]=7"),
	)
	require.NoError(t, err)
	_, _, newCard := comment.FetchCall()
	require.ErrorIs(t, newCard, event.ErrUnknown)
	tests := []struct {
		name     string
		outcome  func(attempt int) error
		attempts int
		parked   bool
	}{
		{name: "done", outcome: func(int) error { return nil }, attempts: 1},
		{name: "retried until done", outcome: func(n int) error {
			if n < 3 {
				return soon(errHandler)
			}
			return nil
		}, attempts: 3},
		{name: "retried until parked", outcome: func(int) error { return soon(errHandler) }, attempts: 3, parked: true},
		{name: "dropped", outcome: func(int) error { return final(errHandler) }, attempts: 1, parked: true},
		{name: "unreadable payload", outcome: func(int) error { return fmt.Errorf("x: %w", event.ErrMalformed) }, attempts: 1, parked: true},
		{name: "gone", outcome: func(int) error { return fmt.Errorf("x: %w", event.ErrGone) }, attempts: 1},
		{
			name:     "no method in the catalogue",
			outcome:  func(int) error { return fmt.Errorf("x: %w", event.ErrUnknown) },
			attempts: 1,
			parked:   true,
		},
		{name: "a comment of the new task card", outcome: func(int) error { return fmt.Errorf("x: %w", newCard) }, attempts: 1},
		{name: "perhaps not visible", outcome: func(int) error { return fmt.Errorf("x: %w", event.ErrNotVisible) }, attempts: 1, parked: true},
		{name: "gone, marked as final", outcome: func(int) error { return event.Drop(event.ErrGone) }, attempts: 1},
		{name: "gone for each of several", outcome: joined(gone, fmt.Errorf("x: %w", gone)), attempts: 1},
		{name: "not there yet", outcome: func(n int) error {
			if n < 3 {
				return soon(event.ErrGone)
			}
			return nil
		}, attempts: 3},
		{name: "gone for one of several, another failed", outcome: func(n int) error {
			if n < 2 {
				return joined(soon(errHandler), gone)(n)
			}
			return nil
		}, attempts: 2},
		{name: "gone for one of several, another dropped", outcome: joined(final(errHandler), gone), attempts: 1, parked: true},
		{name: "gone besides an error of the handler's own", outcome: func(n int) error {
			if n < 2 {
				return fmt.Errorf("x: %w", errors.Join(errHandler, gone))
			}
			return nil
		}, attempts: 2},
		{name: "panic", outcome: func(int) error { panic("boom") }, attempts: 1, parked: true},
		{name: "panic with an error", outcome: func(int) error { panic(soon(errHandler)) }, attempts: 1, parked: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.change("UPDATE", 1, 2)
			attempts := 0
			c := f.drain(func(_ context.Context, d *event.Delivery) error {
				if dealID(t, d) == 2 {
					return nil
				}
				attempts++ // one record, so one attempt at a time
				return tt.outcome(attempts)
			}, offline.WithMaxAttempts(3))
			require.Equal(t, tt.attempts, attempts)
			s := c.Stats()
			require.EqualValues(t, tt.attempts-1, s.Retried)
			require.Zero(t, s.Abandoned)
			rows := f.OfflineRows()
			if !tt.parked {
				require.Empty(t, rows)
				require.EqualValues(t, 2, s.Cleared)
				return
			}
			require.Len(t, rows, 1, "the other record is done")
			require.True(t, rows[0].Error)
			require.Empty(t, rows[0].ProcessID)
			require.EqualValues(t, 1, s.Parked)
			require.EqualValues(t, 1, s.Handled)
			require.EqualValues(t, 1, s.Cleared)
		})
	}
}
