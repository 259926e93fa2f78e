package timing_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/timing"
)

func TestSleep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		require.NoError(t, timing.Sleep(t.Context(), time.Minute))
		require.Equal(t, time.Minute, time.Since(start))
		require.NoError(t, timing.Sleep(t.Context(), 0))
		require.NoError(t, timing.Sleep(t.Context(), -time.Second))
		require.Equal(t, time.Minute, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, timing.Sleep(ctx, time.Minute), context.DeadlineExceeded)
		require.Equal(t, time.Minute+time.Second, time.Since(start))
		require.ErrorIs(t, timing.Sleep(ctx, 0), context.DeadlineExceeded)
		require.Equal(t, time.Minute+time.Second, time.Since(start))
	})
}

func TestAwait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		signal := make(chan struct{})
		require.False(t, timing.Await(signal, time.Second))
		time.AfterFunc(time.Second, func() { close(signal) })
		require.True(t, timing.Await(signal, time.Minute))
	})
}

func TestRandom(t *testing.T) {
	t.Parallel()
	for range 1000 {
		d := timing.Jitter(time.Second)
		require.True(t, 750*time.Millisecond <= d && d < 1250*time.Millisecond, d)
		d = timing.Below(time.Second)
		require.True(t, 0 <= d && d < time.Second, d)
	}
	require.Zero(t, timing.Below(0))
	require.Zero(t, timing.Below(-1))
	require.Zero(t, timing.Jitter(0))
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	b := timing.Backoff{First: time.Second, Longest: 5 * time.Minute, Factor: 4}
	for attempts, longest := range map[int]time.Duration{
		-1: 0, 0: 0, 1: time.Second, 2: 4 * time.Second, 3: 16 * time.Second, 5: 256 * time.Second, 6: 5 * time.Minute, 1 << 30: 5 * time.Minute,
	} {
		for range 100 {
			d := b.After(attempts)
			require.True(t, longest/2 <= d && d <= longest, "%d: %s", attempts, d)
		}
	}
	short := timing.Backoff{First: time.Minute, Longest: time.Second, Factor: 2}.After(1)
	require.LessOrEqual(t, short, time.Second)
}
