package offline_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
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

// The first trap of PROTOCOL 2.9: parking deletes the newer record of the same change, so the
// parked one has to stand for it.
func TestParkingDeletesTheNewerRecordAndTheParkedOneStandsForIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1)
	var h refuses
	h.set(true, "1")
	changed := false
	f.drain(func(ctx context.Context, d *event.Delivery) error {
		if !changed {
			changed = true
			f.change("UPDATE", 1) // a second row, as the first one is reserved
		}
		return h.HandleEvent(ctx, d)
	})
	require.Equal(t, []string{"parked"}, f.states(), "the newer row is gone")
	h.set(false, "1")
	f.drain(h.HandleEvent)
	require.Equal(t, []string{"UPDATE 1", "UPDATE 1"}, h.entries(), "its change reached the handler all the same")
	require.Empty(t, f.states())
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

// The batch with the reservation of parked records runs, and its answer is lost, or cannot be read,
// so that it is made again call by call. What it had reserved must not wait for the next pass: it
// is found by list, where it is parked and reserved.
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
