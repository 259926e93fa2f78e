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

func TestStopInTheMiddleOfABatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1, 2, 3)
	ctx, stop := context.WithCancel(t.Context())
	var seen journal
	var inside error
	c := newConsumer(t, f.api, func(ctx context.Context, d *event.Delivery) error {
		stop()
		inside = ctx.Err()
		return seen.HandleEvent(ctx, d)
	}, offline.WithWorkers(1))
	require.NoError(t, c.Run(ctx))
	require.NoError(t, inside, "the handler under way keeps its context")
	require.Equal(t, []string{"UPDATE 1"}, seen.entries(), "no other was started")
	rows := f.OfflineRows()
	require.Len(t, rows, 2, "what was handled is cleared, after the context ended")
	for _, r := range rows {
		require.NotEmpty(t, r.ProcessID)
		require.False(t, r.Error)
	}
	require.EqualValues(t, 2, c.Stats().Abandoned)

	f.drain(seen.HandleEvent, offline.WithWorkers(1))
	require.Equal(t, []string{"UPDATE 1", "UPDATE 2", "UPDATE 3"}, seen.entries())
	require.Empty(t, f.OfflineRows())
}

func TestStopEndsHandlersAfterTheGracePeriod(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1, 2)
	ctx, stop := context.WithCancel(t.Context())
	var cause error
	c := newConsumer(t, f.api, func(ctx context.Context, _ *event.Delivery) error {
		stop()
		<-ctx.Done()
		cause = context.Cause(ctx)
		return event.Drop(ctx.Err()) // its error does not count now
	}, offline.WithWorkers(1), offline.WithGrace(0))
	require.NoError(t, c.Run(ctx))
	require.ErrorIs(t, cause, offline.ErrStopped)
	rows := f.OfflineRows()
	require.Len(t, rows, 2)
	require.False(t, rows[0].Error, "it is left, not parked")
	require.NotEmpty(t, rows[0].ProcessID)
}

func TestStopLeavesRecordsThatWaitForARetry(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1)
	ctx, stop := context.WithCancel(t.Context())
	c := newConsumer(t, f.api, func(context.Context, *event.Delivery) error {
		stop()
		return event.Retry(errHandler, time.Hour)
	})
	require.NoError(t, c.Run(ctx))
	rows := f.OfflineRows()
	require.Len(t, rows, 1)
	require.NotEmpty(t, rows[0].ProcessID)
	require.False(t, rows[0].Error)
	require.EqualValues(t, 1, c.Stats().Abandoned)
}

func TestStopKeepsLaterRecordsOfAnObjectBehind(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("ADD", 1)
	f.change("UPDATE", 1)
	ctx, stop := context.WithCancel(t.Context())
	var seen journal
	c := newConsumer(t, f.api, func(ctx context.Context, d *event.Delivery) error {
		stop()
		return errors.Join(seen.HandleEvent(ctx, d), errHandler)
	})
	require.NoError(t, c.Run(ctx))
	require.Equal(t, []string{"ADD 1"}, seen.entries())
	require.Len(t, f.OfflineRows(), 2)
}

func TestDrainReportsThatItWasStopped(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1, 2)
	reason := errors.New("deployment")
	ctx, stop := context.WithCancelCause(t.Context())
	c := newConsumer(t, f.api, func(context.Context, *event.Delivery) error {
		stop(reason)
		return nil
	}, offline.WithWorkers(1))
	require.ErrorIs(t, c.Drain(ctx), reason)
	require.Len(t, f.OfflineRows(), 1)

	require.ErrorIs(t, c.Drain(ctx), reason, "nothing is done under a context that has ended")
	require.NoError(t, c.Run(ctx))
	require.Len(t, f.OfflineRows(), 1)
}

func TestStopGivesHandlersTheirGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", 1, 2)
		start := time.Now()
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
		defer stop()
		var ended time.Duration
		c := newConsumer(t, f.api, func(ctx context.Context, d *event.Delivery) error {
			if dealID(t, d) == 1 {
				time.Sleep(8 * time.Second) //nolint:forbidigo // ends within the grace period
				return nil
			}
			<-ctx.Done()
			ended = time.Since(start)
			return ctx.Err()
		}, offline.WithGrace(7*time.Second))
		require.NoError(t, c.Run(ctx))
		require.Equal(t, 10*time.Second, ended)
		require.EqualValues(t, 1, c.Stats().Cleared)
		require.EqualValues(t, 1, c.Stats().Abandoned)
		require.Equal(t, []string{"reserved"}, f.states())
	})
}

func TestStopDoesNotClearForever(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", 1)
		f.Always("event.offline.clear", eventtest.Fail(500, "ERROR_CORE", "SQL query error!"))
		start := time.Now()
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
		defer stop()
		c := newConsumer(t, f.api, new(journal).HandleEvent)
		require.NoError(t, c.Run(ctx))
		require.LessOrEqual(t, time.Since(start), 41*time.Second)
		require.Len(t, f.times(start, "event.offline.get"), 2, "nothing new is reserved while records cannot be cleared")
		require.EqualValues(t, 1, c.Stats().Abandoned)

		f.Heal()
		require.NoError(t, c.Drain(t.Context()))
		require.EqualValues(t, 1, c.Stats().Handled, "the handler is not called again")
		require.EqualValues(t, 1, c.Stats().Cleared)
		require.Empty(t, f.OfflineRows())
	})
}

func TestStopClearsByItself(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1, 2)
	ctx, stop := context.WithCancel(t.Context())
	r := &requests{Caller: f.api}
	c := newConsumer(t, r, func(context.Context, *event.Delivery) error {
		stop()
		return nil
	}, offline.WithWorkers(1))
	require.NoError(t, c.Run(ctx))
	require.Equal(t, []string{"batch: list list get", "clear"}, r.made)
	require.Equal(t, []string{"reserved"}, f.states())
}
