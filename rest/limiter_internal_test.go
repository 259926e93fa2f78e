package rest

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The limiter forgets a portal that it need not remember. Nothing outside shows this, so the test
// looks inside.
func TestIdlePortalsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(DefaultRate, DefaultBurst)
		for i := range 5000 {
			require.NoError(t, l.wait(t.Context(), &turn{host: strconv.Itoa(i), method: "profile"}))
		}
		l.recordRefusal("refused")
		require.Len(t, l.lines, 5001)

		synctestSleep(t, sweepEvery)
		require.NoError(t, l.wait(t.Context(), &turn{host: "a", method: "profile"}))
		require.Len(t, l.lines, 2, "the portal of the call, and the strike of the refused one")

		synctestSleep(t, 3*time.Minute)
		require.NoError(t, l.wait(t.Context(), &turn{host: "a", method: "profile"}))
		require.Len(t, l.lines, 1)
	})
}

func synctestSleep(t *testing.T, d time.Duration) {
	t.Helper()
	require.NoError(t, pause(t.Context(), d))
}

// TestPlaceOfOneThatLeavesLate: the turn of a call comes, and its caller has just left. The next
// one has the place.
func TestPlaceOfOneThatLeavesLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1, 1)
		start := time.Now()
		require.NoError(t, l.wait(t.Context(), &turn{host: "a"}))
		w, err := l.enqueue(t.Context(), &turn{host: "a"})
		require.NoError(t, err)
		synctestSleep(t, time.Second)
		<-w.ready
		l.withdraw("a", w)
		require.NoError(t, l.wait(t.Context(), &turn{host: "a"}))
		require.Equal(t, time.Second, time.Since(start), "the place was given back")

		// After a refusal nothing is given back: the bucket is a new one.
		w, err = l.enqueue(t.Context(), &turn{host: "a"})
		require.NoError(t, err)
		synctestSleep(t, time.Second)
		<-w.ready
		until := l.recordRefusal("a")
		l.withdraw("a", w)
		require.NoError(t, l.wait(t.Context(), &turn{host: "a"}))
		require.Equal(t, until.Add(time.Second), time.Now(), "the bucket is full when the pause ends")

		// A request that has drained is not given back either.
		w, err = l.enqueue(t.Context(), &turn{host: "a"})
		require.NoError(t, err)
		synctestSleep(t, 2500*time.Millisecond)
		require.NoError(t, l.wait(t.Context(), &turn{host: "a"}))
		at := time.Now()
		l.withdraw("a", w)
		require.NoError(t, l.wait(t.Context(), &turn{host: "a"}))
		require.Equal(t, time.Second, time.Since(at))
	})
}

// TestPlaceGoesToTheNextAtOnce: a call leaves after its turn came. The next call in the line is
// sent at that moment.
func TestPlaceGoesToTheNextAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1, 1)
		start := time.Now()
		require.NoError(t, l.wait(t.Context(), &turn{host: "a"}))
		leaves, err := l.enqueue(t.Context(), &turn{host: "a"})
		require.NoError(t, err)
		next, err := l.enqueue(t.Context(), &turn{host: "a"})
		require.NoError(t, err)
		synctestSleep(t, 1250*time.Millisecond)
		<-leaves.ready
		l.withdraw("a", leaves)
		<-next.ready
		require.Equal(t, 1250*time.Millisecond, time.Since(start))
	})
}

// TestPlaceThatHasPartlyDrained: only the part of a place that has not drained is given back.
// Otherwise the bucket would hold too little.
func TestPlaceThatHasPartlyDrained(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1, 2)
		start := time.Now()
		leaves := &turn{host: "a"}
		require.NoError(t, l.wait(t.Context(), leaves))
		synctestSleep(t, 600*time.Millisecond)
		require.NoError(t, l.wait(t.Context(), &turn{host: "a"})) // the bucket drains at 2 s, 0.4 s of that for the first
		l.giveBack(leaves)
		require.NoError(t, l.wait(t.Context(), &turn{host: "a"}))
		require.Equal(t, 600*time.Millisecond, time.Since(start))
		require.NoError(t, l.wait(t.Context(), &turn{host: "a"}))
		require.Equal(t, 1600*time.Millisecond, time.Since(start))
	})
}

// TestLeaveGivesBackOnce: the part that drained meanwhile is not given back a second time.
func TestLeaveGivesBackOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1000, 1)
		ctx := t.Context()
		require.NoError(t, l.wait(ctx, &turn{host: "a"}))
		w, err := l.enqueue(ctx, &turn{host: "a"})
		require.NoError(t, err)
		<-w.ready // and its goroutine does not run for a while: granted at 1 ms
		<-time.After(5 * time.Millisecond)
		require.NoError(t, l.wait(ctx, &turn{host: "a"})) // at 6 ms
		l.withdraw("a", w)                                // its place had drained by 2 ms
		start := time.Now()
		require.NoError(t, l.wait(ctx, &turn{host: "a"}))
		require.Equal(t, time.Millisecond, time.Since(start), "two within one gap are more than the portal allows")
	})
}

// TestTurnOfACallThatHasEnded: the turn of a call has come and its context has ended, before its
// goroutine sees either. It is not sent.
func TestTurnOfACallThatHasEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1, 1)
		start := time.Now()
		for range 20 { // which of two a select sees is left to chance
			require.NoError(t, l.wait(t.Context(), &turn{host: "a"}))
			ctx, cancel := context.WithCancel(t.Context())
			ends := &turn{host: "a", placed: func(due func() time.Time) {
				synctestSleep(t, time.Until(due()))
				cancel()
			}}
			require.ErrorIs(t, l.wait(ctx, ends), context.Canceled)
			require.ErrorIs(t, l.wait(ctx, &turn{host: "a"}), context.Canceled, "it had ended before")
		}
		require.Equal(t, 20*time.Second, time.Since(start), "each gave its place back")
	})
}

// TestSlowBucketsAreRemembered: a portal whose bucket drains for minutes is not forgotten before.
func TestSlowBucketsAreRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(0.005, 1) // one in 200 seconds
		start := time.Now()
		require.NoError(t, l.wait(t.Context(), &turn{host: "a"}))
		synctestSleep(t, 90*time.Second)
		require.NoError(t, l.wait(t.Context(), &turn{host: "b"}))
		require.NoError(t, l.wait(t.Context(), &turn{host: "a"}))
		require.Equal(t, 200*time.Second, time.Since(start))
	})
}

// TestStrikes: refusals in a row make longer pauses, and a minute without one makes them short
// again.
func TestStrikes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(DefaultRate, DefaultBurst)
		for _, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 16 * time.Second} {
			pause := time.Until(l.recordRefusal("a"))
			require.GreaterOrEqual(t, pause, want*3/4)
			require.LessOrEqual(t, pause, want*5/4)
			synctestSleep(t, pause)
		}
		synctestSleep(t, strikesKept+time.Second)
		require.LessOrEqual(t, time.Until(l.recordRefusal("a")), 1250*time.Millisecond)
	})
}
