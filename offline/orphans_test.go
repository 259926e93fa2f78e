package offline_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
)

func TestCrashAfterReserving(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1, 2, 3)
	abandoned, err := f.queue().Reserve(t.Context(), 50) // and the process is gone
	require.NoError(t, err)
	require.Len(t, abandoned.Records, 3)
	f.change("UPDATE", 2, 4)

	var seen journal
	c := f.drain(seen.HandleEvent, offline.WithWorkers(1))
	require.ElementsMatch(t, []string{"UPDATE 1", "UPDATE 2", "UPDATE 2", "UPDATE 3", "UPDATE 4"}, seen.entries(),
		"the later change of the same object is not swallowed")
	require.Empty(t, f.OfflineRows())
	require.EqualValues(t, 3, c.Stats().Recovered)
	require.EqualValues(t, 2, c.Stats().Reserved)
	require.EqualValues(t, 5, c.Stats().Cleared)
}

func TestManyAbandonedReservations(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	q := f.queue()
	f.change("UPDATE", upTo(180)...)
	for range 20 {
		_, err := q.Reserve(t.Context(), 1)
		require.NoError(t, err)
	}
	for range 2 {
		_, err := q.Reserve(t.Context(), 80)
		require.NoError(t, err)
	}
	f.change("DELETE", upTo(100)...)
	f.ResetRecords()
	var seen journal
	c := f.drain(seen.HandleEvent, offline.WithBatchSize(50))
	require.Len(t, seen.entries(), 280)
	require.Empty(t, f.OfflineRows())
	require.EqualValues(t, 180, c.Stats().Recovered)
	require.EqualValues(t, 100, c.Stats().Reserved)
	require.LessOrEqual(t, f.Requests().REST, 10, "the search does not read the whole queue")
}

func TestLookForAbandonedRecordsCostsOneRequest(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", upTo(300)...)
	var seen journal
	f.drain(seen.HandleEvent, offline.WithBatchSize(300))
	require.Equal(t, 3, f.CallCount("event.offline.list"), "one for parked records, and one that measures the backlog")
	require.Equal(t, 4, f.Requests().REST, "reservations of 50, 100, 150 and none")
}

func TestCrashBeforeClearing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1, 2)
	dead := tap{Caller: f.api, before: func(method string, _ map[string]any) error {
		if method == "event.offline.clear" {
			return refusal{code: "invalid_token"} // the process handled its records, and gets no further
		}
		return nil
	}}
	var first journal
	var ce event.CallError
	require.ErrorAs(t, newConsumer(t, dead, first.HandleEvent).Run(t.Context()), &ce)
	require.Equal(t, "invalid_token", ce.ErrorCode())
	require.Len(t, first.entries(), 2)
	require.Len(t, f.OfflineRows(), 2)
	require.NotEmpty(t, f.OfflineRows()[0].ProcessID)

	var second journal
	f.drain(second.HandleEvent)
	require.ElementsMatch(t, first.entries(), second.entries(), "at least once")
	require.Empty(t, f.OfflineRows())
}

func TestHandledRecordsAreNotHandledAgainByTheSameConsumer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1, 2, 3)
	var seen journal
	c := newConsumer(t, f.api, func(ctx context.Context, d *event.Delivery) error {
		f.app.SetActive(false) // the portal refuses every call from here
		if dealID(t, d) == 1 {
			return errors.Join(seen.HandleEvent(ctx, d), final(errHandler))
		}
		return seen.HandleEvent(ctx, d)
	})
	var ce event.CallError
	require.ErrorAs(t, c.Drain(t.Context()), &ce)
	require.Equal(t, "APPLICATION_NOT_FOUND", ce.ErrorCode())
	require.Len(t, f.OfflineRows(), 3)
	require.EqualValues(t, 3, c.Stats().Abandoned)

	f.app.SetActive(true)
	require.NoError(t, c.Drain(t.Context()))
	require.ElementsMatch(t, []string{"UPDATE 1", "UPDATE 2", "UPDATE 3"}, seen.entries(), "each once")
	rows := f.OfflineRows()
	require.Len(t, rows, 1)
	require.True(t, rows[0].Error, "what was given up is parked")
	require.EqualValues(t, 2, c.Stats().Cleared)
	require.EqualValues(t, 1, c.Stats().Parked)
}

func TestPassingFaults(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	tests := []struct {
		name, method string
		fault        eventtest.Fault
		recovered    uint64
	}{
		{
			name:   "reservation over the limit",
			method: "event.offline.get",
			fault:  eventtest.Fail(503, "QUERY_LIMIT_EXCEEDED", "Too many requests"),
		},
		{name: "reservation refused by a proxy", method: "batch", fault: eventtest.HTML(502)},
		{name: "reservation reset", method: "batch", fault: eventtest.Reset()},
		{name: "answer of the reservation lost", method: "batch", fault: eventtest.LoseAnswer(), recovered: 3},
		{name: "clearing over the limit", method: "event.offline.clear", fault: eventtest.Fail(503, "QUERY_LIMIT_EXCEEDED", "Too many requests")},
		{name: "clearing broken", method: "event.offline.clear", fault: eventtest.Fail(500, "ERROR_CORE", "SQL query error!")},
		{name: "list broken", method: "event.offline.list", fault: eventtest.Fail(500, "INTERNAL_SERVER_ERROR", "Internal server error")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.change("UPDATE", 1, 2, 3)
			f.Once(tt.method, tt.fault)
			var seen journal
			c := f.drain(seen.HandleEvent)
			require.ElementsMatch(t, []string{"UPDATE 1", "UPDATE 2", "UPDATE 3"}, seen.entries(), "each once")
			require.Empty(t, f.OfflineRows())
			require.Equal(t, tt.recovered, c.Stats().Recovered)
		})
	}
}

// Rows that are cleared while the front of the queue is read move those behind them up.
func TestAbandonedRecordBehindThoseThatAreBeingCleared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", upTo(300)...)
		due := time.Now().Add(6 * time.Minute)
		var seen journal
		c := newConsumer(t, f.api, func(ctx context.Context, d *event.Delivery) error {
			if wait := time.Until(due); wait > 0 {
				return event.Retry(errHandler, wait)
			}
			return seen.HandleEvent(ctx, d)
		}, offline.WithInterval(time.Hour, time.Hour))
		time.AfterFunc(time.Minute, func() {
			held := f.OfflineRows()[0].ProcessID
			require.NotEmpty(t, held)
			for {
				f.change("DELETE", 301)
				abandoned, err := f.queue().Reserve(t.Context(), 1)
				require.NoError(t, err)
				if abandoned.ProcessID < held { // and so behind fifty others
					break
				}
				require.NoError(t, f.queue().Clear(t.Context(), abandoned.ProcessID, abandoned.Records[0].MessageID))
			}
		})
		time.AfterFunc(6*time.Minute-time.Second, func() { // the look has begun when the records are due
			require.NoError(t, f.ChangeQuirks(func(m *eventtest.Quirks) { m.Latency = 2 * time.Second }))
			c.Wake()
		})
		require.NoError(t, c.Drain(t.Context()))
		require.Contains(t, seen.entries(), "DELETE 301")
		require.Empty(t, f.states())
	})
}

// Looking for orphans asks for no more than workers can take, however many there are.
func TestOrphansAreReadAsWorkersNeedThem(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", upTo(3000)...)
		for range 6 {
			_, err := f.queue().Reserve(t.Context(), 500)
			require.NoError(t, err)
		}
		c := newConsumer(t, tap{Caller: f.api, whole: func(string, map[string]any) {
			time.Sleep(100 * time.Millisecond) //nolint:forbidigo // in fake time
		}}, func(context.Context, *event.Delivery) error {
			time.Sleep(200 * time.Millisecond) //nolint:forbidigo // in fake time
			return nil
		})
		start := time.Now()
		requireDrains(t, c)
		require.Less(t, time.Since(start), 20*time.Second)
		require.Less(t, c.Stats().Requests, uint64(20))
		require.Empty(t, f.states())
	})
}

// sweeps returns how often abandoned records were looked for.
func (f *fixture) sweeps() int {
	n := 0
	for _, c := range f.Calls() {
		if c.Method == "event.offline.list" && c.Params.Get("order", "PROCESS_ID").Text() != "" {
			n++
		}
	}
	return n
}

func TestAbandonedRecordsAreLookedForNowAndThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var seen journal
		c := newConsumer(t, f.api, seen.HandleEvent)
		time.AfterFunc(time.Minute, func() { // a process that should not be there reserves, and dies
			f.change("UPDATE", 1)
			_, err := f.queue().Reserve(t.Context(), 50)
			require.NoError(t, err)
			f.ResetRecords()
		})
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		require.NoError(t, c.Run(ctx))
		require.Equal(t, []string{"UPDATE 1"}, seen.entries())
		require.InDelta(t, 11, f.sweeps(), 1)
		require.Equal(t, len(f.times(time.Now(), "event.offline.get")), f.Requests().REST, "no look costs a request")
	})
}

func TestReservationIsLookedForOnlyIfItMayHaveBeenMade(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, method string
		fault        eventtest.Fault
		sweeps       int
	}{
		{"over the limit", "batch", eventtest.Fail(503, "query_limit_exceeded", "Too many requests"), 1},
		{
			"blocked for a while",
			"event.offline.get",
			eventtest.Fail(429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit."),
			1,
		},
		{"limit page of a front end", "batch", eventtest.HTML(429), 1},
		{"busy page of a front end", "batch", eventtest.HTML(503), 2}, // it does not say when to come again
		{"reset", "batch", eventtest.Reset(), 2},
		{"answer lost", "batch", eventtest.LoseAnswer(), 2},
		{"answer cut", "batch", eventtest.CutAnswer(), 2},
		{"broken database", "event.offline.get", eventtest.Fail(500, "ERROR_CORE", "SQL query error!"), 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.change("UPDATE", upTo(60)...)
				armed := false
				var seen journal
				f.drain(func(ctx context.Context, d *event.Delivery) error {
					if !armed {
						armed = true
						f.Once(tt.method, tt.fault) // of the second reservation
					}
					return seen.HandleEvent(ctx, d)
				}, offline.WithWorkers(1))
				require.Len(t, seen.entries(), 60)
				require.Equal(t, tt.sweeps, f.sweeps())
				require.Empty(t, f.OfflineRows())
			})
		})
	}
}
