package offline_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
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
		return event.Drop(ctx.Err()) // whatever it says now is not its verdict on the record
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

func TestDrainTellsThatItWasStopped(t *testing.T) {
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
