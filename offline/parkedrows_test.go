package offline_test

import (
	"context"
	"errors"
	"reflect"
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

// rowsOf counts the rows of a deal in the queue.
func (f *fixture) rowsOf(id string) (n int) {
	for _, r := range f.OfflineRows() {
		if r.Data.Get("FIELDS", "ID").Text() == id {
			n++
		}
	}
	return n
}

// A deal fails for a day and changes every ten minutes. Each change adds a row, since a parked row
// that was read again takes no merges.
func TestParkedRowsOfAnObjectDoNotPileUp(t *testing.T) {
	t.Parallel()
	const (
		changes = 6 // in an hour
		passes  = 7 // over parked records in an hour, at most
		rows    = 3 // one that waits or is worked on, and a parked one before and after it was read again
	)
	mostRows, mostCalls := 0, int64(0)
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var calls atomic.Int64
		stop := background(t, newConsumer(t, f.api, func(context.Context, *event.Delivery) error {
			calls.Add(1)
			return errHandler
		}, offline.WithMaxAttempts(1)))
		for range 24 {
			calls.Store(0)
			for range changes {
				f.change("UPDATE", 1)
				<-time.After(time.Hour / changes)
				mostRows = max(mostRows, f.rowsOf("1"))
			}
			mostCalls = max(mostCalls, calls.Load())
		}
		stop()
	})
	expect(t, mostRows <= rows, "the queue holds %d rows of one object", mostRows)
	expect(t, mostCalls <= changes+passes, "%d calls of the handler in an hour for one object", mostCalls)
}

// The same for a handler that hangs: its passes must not take longer and longer.
func TestParkedRowsOfAHangingObjectDelayNoOthers(t *testing.T) {
	t.Parallel()
	const others = 12 * 12
	var worst time.Duration
	var handled int
	synctest.Test(t, func(t *testing.T) {
		f, w := newFixture(t), newWaits()
		c := newConsumer(t, f.api, func(ctx context.Context, d *event.Delivery) error {
			id := dealID(t, d)
			if id == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			w.handled(id)
			return nil
		})
		stop := background(t, c)
		for i := range others {
			f.change("UPDATE", 1)
			w.changed(2 + i)
			f.change("UPDATE", 2+i)
			c.Wake()
			<-time.After(5 * time.Minute)
		}
		stop()
		worst, handled = w.result()
	})
	expect(t, worst <= soon, "another object waited for %s", worst)
	expect(t, handled == others, "%d of %d other objects were handled", handled, others)
}

// A parked record of the spool waits for another record of its object, which asked for a late
// retry. Passes go by in the meantime; each of them must see that the record waits already.
func TestParkedRecordOfTheSpoolWaitsOnce(t *testing.T) {
	t.Parallel()
	var calls int64
	synctest.Test(t, func(t *testing.T) {
		f := withoutReservations(t)
		var updates, additions atomic.Int64
		stop := background(t, newConsumer(t, f.api, func(_ context.Context, d *event.Delivery) error {
			switch {
			case d.Name == "ONCRMDEALUPDATE" && updates.Add(1) == 1:
				return event.ErrUnhandled // parked at once
			case d.Name == "ONCRMDEALADD" && additions.Add(1) == 1:
				return event.Retry(errHandler, time.Hour)
			}
			return nil
		}, offline.WithSpool(t.TempDir()), offline.WithMaxAttempts(2), offline.WithParkedInterval(2*time.Minute), offline.WithInterval(time.Second, time.Second)))
		f.change("UPDATE", 1)
		<-time.After(500 * time.Millisecond)
		f.change("ADD", 1)
		<-time.After(2 * time.Hour)
		stop()
		calls = updates.Load()
	})
	expect(t, calls == 2, "the handler was called %d times", calls)
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

// A record that cannot be read has no delivery that would name its portal.
func TestParkedRecordsOfAFleetNameTheirPortal(t *testing.T) {
	t.Parallel()
	var portals []string
	var want string
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		want = w.ids[1]
		w.all[want].AddEvent("ON ODD", "")
		require.NoError(t, w.api.Portal(want).Call(t.Context(), "event.bind", map[string]any{"event": "ON ODD", "event_type": "offline"}, nil))
		require.NoError(t, w.all[want].Raise("ON ODD", nil, 0))
		var mu sync.Mutex
		f := w.fleet(offline.WithHooks(offline.Hooks{Parked: func(_ context.Context, r offline.Record, _ error) {
			mu.Lock()
			defer mu.Unlock()
			// By its name, so that this compiles while there is no such field.
			if id := reflect.ValueOf(r).FieldByName("MemberID"); id.IsValid() {
				portals = append(portals, id.String())
			}
		}}))
		w.add(f, w.ids...)
		stop := running(t, f)
		<-time.After(time.Minute)
		stop()
	})
	expect(t, len(portals) == 1 && portals[0] == want, "the hook named the portals %v", portals)
}

// Two consumers of one queue without a lease: one looks whether a record is still its own before it
// parks it, the other finishes the record, and the object changes before the first one parks.
// event.offline.error then deletes the row of that change and marks nothing.
func TestParkingWithoutALeaseLosesNoChange(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1)
	var mu sync.Mutex
	version, seen, attempts := 1, 0, 0
	second := newConsumer(t, f.api, func(context.Context, *event.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		seen = version
		return nil
	})
	var once sync.Once
	first := newConsumer(t, tap{Caller: f.api, before: func(method string, _ map[string]any) error {
		if method == "event.offline.error" {
			once.Do(func() {
				require.NoError(t, second.Drain(t.Context()))
				f.change("UPDATE", 1)
				mu.Lock()
				defer mu.Unlock()
				version++
			})
		}
		return nil
	}}, func(context.Context, *event.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		if attempts++; attempts == 1 {
			return errHandler
		}
		seen = version // it is called once more, because the row is gone that it parked
		return nil
	}, offline.WithMaxAttempts(1))
	require.NoError(t, first.Drain(t.Context()))
	require.NoError(t, second.Drain(t.Context()))
	expect(t, seen == version, "version %d was handled last, and %d is the present one", seen, version)
}

// The portal goes away while a record waits to be parked, dropped or cleared. Someone should know.
func TestSilenceIsNoticedWhileARecordWaits(t *testing.T) {
	t.Parallel()
	for name, result := range map[string]error{"cleared": nil, "parked": errHandler, "dropped": event.Drop(errHandler)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var silences []offline.Stall
			var began time.Time
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.change("UPDATE", 1)
				ctx, stop := context.WithTimeout(t.Context(), 24*time.Hour)
				defer stop()
				c := newConsumer(t, f.api, func(context.Context, *event.Delivery) error {
					began = time.Now()
					f.net.Break(f.Domain(), errors.New("no route"))
					return result
				}, offline.WithMaxAttempts(1), offline.WithStallAlert(5*time.Minute, 0), offline.WithHooks(offline.Hooks{
					Stalled: func(_ context.Context, s offline.Stall) {
						silences = append(silences, s)
						require.Less(t, time.Since(began), 10*time.Minute)
					},
				}))
				require.Error(t, c.Drain(ctx))
			})
			expect(t, len(silences) == 1, "a day without the portal, and %d silences were reported", len(silences))
		})
	}
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
