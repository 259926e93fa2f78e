package offline_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"strings"
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

// refuses is a handler that gives records up while its object is broken, and keeps what it saw.
type refuses struct {
	journal

	mu     sync.Mutex
	broken map[string]bool // by the object's id
}

func (r *refuses) HandleEvent(ctx context.Context, d *event.Delivery) error {
	_ = r.journal.HandleEvent(ctx, d)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken[d.Entity().ID] {
		return final(errHandler)
	}
	return nil
}

func (r *refuses) set(broken bool, ids ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken == nil {
		r.broken = make(map[string]bool)
	}
	for _, id := range ids {
		r.broken[id] = broken
	}
}

// states returns the rows of the queue as "waiting", "reserved", "parked" or "parked, reserved".
func (f *fixture) states() []string {
	var states []string
	for _, r := range f.OfflineRows() {
		state := "waiting"
		switch {
		case r.Error && r.ProcessID != "":
			state = "parked, reserved"
		case r.Error:
			state = "parked"
		case r.ProcessID != "":
			state = "reserved"
		}
		states = append(states, state)
	}
	return states
}

// newParked is a portal whose queue holds the update of a deal that h has given up.
func newParked(t *testing.T) (f *fixture, h *refuses) {
	t.Helper()
	f, h = newFixture(t), new(refuses)
	f.change("UPDATE", 1)
	h.set(true, "1")
	f.drain(h.HandleEvent)
	return f, h
}

// PROTOCOL 2.9: a parked record is read with error=1, which reserves it, and cannot be parked
// again. One that fails again stays in that reservation, where the next pass finds it.
func TestParkedRecordsAreTriedAtEachStartAndClearedOnSuccess(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1, 2)
	var h refuses
	h.set(true, "1")
	c := f.drain(h.HandleEvent)
	require.Equal(t, []string{"parked"}, f.states())
	require.EqualValues(t, 1, c.Stats().Parked)

	for range 3 { // each by a new process
		c = f.drain(h.HandleEvent)
		require.Equal(t, []string{"parked, reserved"}, f.states())
		require.EqualValues(t, 1, c.Stats().Unparked)
		require.Zero(t, c.Stats().Parked)
	}
	require.Equal(t, 1, f.CallCount("event.offline.error"))

	h.set(false, "1")
	f.drain(h.HandleEvent)
	require.Empty(t, f.states())
	require.Len(t, h.entries(), 6)
}

func TestParkedRecordsAreTriedOnTheirSchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", 1)
		start := time.Now()
		var at []time.Duration
		ctx, stop := context.WithTimeout(t.Context(), 26*time.Minute)
		defer stop()
		c := newConsumer(t, f.api, func(context.Context, *event.Delivery) error {
			at = append(at, time.Since(start))
			return errHandler
		}, offline.WithParkedInterval(5*time.Minute), offline.WithInterval(time.Second, 10*time.Second), offline.WithMaxAttempts(2))
		require.NoError(t, c.Run(ctx))
		require.Len(t, at, 7, "twice, and then once in five minutes")
		for i := 2; i < 7; i++ {
			require.InDelta(t, 5*(i-1), at[i].Minutes(), 1)
		}
		require.Equal(t, []string{"parked, reserved"}, f.states())
		require.Equal(t, 1, c.Stats().Backlog.Parked)
	})
}

// The second trap, PROTOCOL 3.2: a change of a parked object is merged into the parked row, where
// no ordinary reservation sees it.
func TestChangesThatMergeIntoAParkedRecordAreNotMissed(t *testing.T) {
	t.Parallel()
	f, h := newParked(t)
	h.set(false, "1")

	f.change("UPDATE", 1, 1, 1)
	require.Equal(t, []string{"parked"}, f.states(), "nothing waits")
	f.drain(h.HandleEvent)
	require.Equal(t, []string{"UPDATE 1", "UPDATE 1"}, h.entries())
	require.Empty(t, f.states())
}

// Once a pass has reserved the parked record, a change of the object is a new record, PROTOCOL 3.2.
func TestParkedAndNewerRecordOfAnObjectComeInOrder(t *testing.T) {
	t.Parallel()
	f, h := newParked(t)
	f.drain(h.HandleEvent) // reserves the parked one
	f.change("UPDATE", 1)
	f.change("DELETE", 1)
	require.Equal(t, []string{"parked, reserved", "waiting", "waiting"}, f.states())

	h.set(false, "1")
	c := f.drain(h.HandleEvent)
	require.Equal(t, []string{"UPDATE 1", "UPDATE 1", "DELETE 1"}, h.entries()[2:], "the parked one first, one after the other")
	require.Empty(t, f.states())
	require.EqualValues(t, 3, c.Stats().Cleared)
}

// A parked record must not stand in the way of new ones.
func TestParkedRecordDoesNotHoldItsObjectUp(t *testing.T) {
	t.Parallel()
	f, h := newParked(t)
	f.drain(h.HandleEvent)
	f.change("ADD", 1, 2)
	f.drain(func(ctx context.Context, d *event.Delivery) error {
		if d.Name == "ONCRMDEALADD" {
			return nil
		}
		return h.HandleEvent(ctx, d)
	})
	require.Equal(t, []string{"parked, reserved"}, f.states())
}

func TestManyParkedRecords(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", upTo(230)...)
	all := make([]string, 230)
	for i := range all {
		all[i] = strconv.Itoa(i + 1)
	}
	var h refuses
	h.set(true, all...)
	f.drain(h.HandleEvent)
	require.Len(t, f.states(), 230)
	f.drain(h.HandleEvent) // reserves them, in several reservations
	require.Equal(t, slices.Repeat([]string{"parked, reserved"}, 230), f.states())
	f.ResetRecords()
	c := f.drain(h.HandleEvent)
	require.EqualValues(t, 230, c.Stats().Unparked, "each once")
	require.LessOrEqual(t, f.Requests().REST, 4)
	h.set(false, all...)
	f.drain(h.HandleEvent)
	require.Empty(t, f.states())
	require.Len(t, h.entries(), 4*230)
}

// The batch with the reservation of parked records runs, and its response is lost, or cannot be
// read, so that it is made again call by call. What it had reserved must not wait for the next
// pass: it is found by list, where it is parked and reserved.
func TestNoAnswerToTheReservationOfParkedRecords(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]eventtest.Fault{
		"lost":       eventtest.LoseAnswer(),
		"unreadable": eventtest.Rewrite(func([]byte) []byte { return []byte(`{"result":[]}`) }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, h := newParked(t)
			h.set(false, "1")
			gets := 0
			c := newConsumer(t, tap{Caller: f.api, before: func(method string, params map[string]any) error {
				if method == "event.offline.get" && params["error"] != nil {
					if gets++; gets == 1 {
						f.Once("batch", fault)
					}
				}
				return nil
			}}, h.HandleEvent)
			require.NoError(t, c.Drain(t.Context()))
			require.Empty(t, f.states(), "found by list, where it is parked and reserved")
			require.Len(t, h.entries(), 2)
		})
	}
}

// TestUnhandledRecordsWaitForANewerProgram is a deployment that adds an event: the old program
// still works the queue when the first record of the new event comes.
func TestUnhandledRecordsWaitForANewerProgram(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("DELETE", 1, 2)
	f.change("UPDATE", 3)
	var log bytes.Buffer
	var parked []error
	older, newer := event.NewMux(), event.NewMux()
	var updates, deletions journal
	older.Handle("ONCRMDEALUPDATE", event.HandlerFunc(updates.HandleEvent))
	newer.Handle("ONCRMDEALUPDATE", event.HandlerFunc(updates.HandleEvent))
	newer.Handle("ONCRMDEALDELETE", event.HandlerFunc(deletions.HandleEvent))

	c := f.drain(older.HandleEvent, offline.WithLogger(slog.New(slog.NewTextHandler(&log, nil))),
		offline.WithWorkers(1), offline.WithHooks(offline.Hooks{Parked: func(_ context.Context, _ offline.Record, err error) {
			parked = append(parked, err)
		}}))
	s := c.Stats()
	require.EqualValues(t, 1, s.Handled)
	require.EqualValues(t, 2, s.Unhandled)
	require.EqualValues(t, 2, s.Parked)
	require.EqualValues(t, 1, s.Cleared)
	require.Equal(t, 1, strings.Count(log.String(), "no handler takes this event"), log.String())
	require.Len(t, parked, 2)
	require.ErrorIs(t, parked[0], event.ErrUnhandled)
	require.Equal(t, []string{"parked", "parked"}, f.states())

	c = f.drain(older.HandleEvent)
	require.Zero(t, c.Stats().Unhandled, "they were counted when they were parked")

	c = f.drain(newer.HandleEvent)
	require.EqualValues(t, 2, c.Stats().Handled)
	require.Empty(t, f.states())
	require.Len(t, deletions.entries(), 2)
	require.Len(t, updates.entries(), 1)
}

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
	if testing.Short() {
		t.Skip("it takes seconds")
	}
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
			// By its name, so that this compiles without the field.
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

// A batch whose response cannot be read is made again as single calls. What these reserve is tried
// as well.
func TestParkedRecordsThatASingleCallReservedAreTried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, h := newFixture(t), new(refuses)
		for _, id := range upTo(120) {
			f.change("UPDATE", id)
			h.set(true, strconv.Itoa(id))
		}
		f.drain(h.HandleEvent)
		require.Len(t, f.states(), 120)
		for _, id := range upTo(120) {
			h.set(false, strconv.Itoa(id))
		}
		f.change("UPDATE", 500) // its ack makes a batch with the reservation of parked records
		reserving, spoiled := false, false
		c := newConsumer(t, tap{Caller: f.api, before: func(method string, params map[string]any) error {
			reserving = reserving || (method == "event.offline.get" && params["error"] != nil)
			return nil
		}, after: func(method string, answer json.RawMessage) json.RawMessage {
			if method == "batch" && reserving && !spoiled {
				spoiled = true
				return json.RawMessage(`{}`)
			}
			return answer
		}}, h.HandleEvent)
		requireDrains(t, c)
		require.True(t, spoiled)
		require.Empty(t, f.states())
	})
}

// A hook that panics leaves a record and the older rows of its change for later, and nothing of
// them stays in work.
func TestHookThatPanicsForSeveralParkedRows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, h := newParked(t)
		reserve := func() {
			_, err := f.queue().ReserveParked(t.Context(), 10) // so that the next change is a row of its own
			require.NoError(t, err)
		}
		reserve()
		f.change("UPDATE", 1)
		f.drain(h.HandleEvent)
		reserve()
		require.Equal(t, []string{"parked, reserved", "parked, reserved"}, f.states())

		h.set(false, "1")
		var once sync.Once
		c := newConsumer(t, f.api, h.HandleEvent, offline.WithHooks(offline.Hooks{
			Handled: func(context.Context, *event.Delivery, time.Duration) { once.Do(func() { panic("hook") }) },
		}))
		requireDrains(t, c)
		requireDrains(t, c)
		require.Empty(t, f.states())
	})
}

// Parked records that are taken along to the spool are taken as workers need them.
func TestParkedRecordsAreTakenAsWorkersNeedThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, h := newFixture(t), new(refuses)
		for _, id := range upTo(1000) {
			f.change("UPDATE", id)
			h.set(true, strconv.Itoa(id))
		}
		f.drain(h.HandleEvent)
		require.NoError(t, f.ChangeQuirks(func(m *eventtest.Quirks) { m.NoExtendedOffline = true }))
		var mu sync.Mutex
		var most uint64
		var c *offline.Consumer
		c = newConsumer(t, f.api, func(context.Context, *event.Delivery) error {
			time.Sleep(time.Second) //nolint:forbidigo // in fake time
			s := c.Stats()
			mu.Lock()
			defer mu.Unlock()
			most = max(most, s.Spooled-s.Handled)
			return nil
		}, offline.WithSpool(t.TempDir()))
		requireDrains(t, c)
		require.Empty(t, f.states())
		require.EqualValues(t, 1000, c.Stats().Handled)
		require.Less(t, most, uint64(500))
	})
}
