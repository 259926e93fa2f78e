package rest

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What is kept for each portal goes when it is no longer needed. Nothing outside shows it, so this looks inside.
func TestIdlePortalsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(DefaultRate, DefaultBurst)
		for i := range 5000 {
			require.NoError(t, l.wait(t.Context(), &turn{host: strconv.Itoa(i), method: "profile"}))
		}
		l.refuse("refused")
		require.Len(t, l.lines, 5001)

		synctestSleep(t, sweepEvery)
		require.NoError(t, l.wait(t.Context(), &turn{host: "a", method: "profile"}))
		require.Len(t, l.lines, 2, "the portal of the call, and the strike of the refused one")

		synctestSleep(t, 3*time.Minute)
		require.NoError(t, l.wait(t.Context(), &turn{host: "a", method: "profile"}))
		require.Len(t, l.lines, 1)
	})
}

func TestPausesAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPauses()
		for i := range 1000 {
			p.note("a", strconv.Itoa(i), Time{Operating: notable, OperatingResetAt: time.Now().Add(time.Minute)})
			p.note("b", strconv.Itoa(i), Time{Operating: notable - 1, OperatingResetAt: time.Now().Add(time.Minute)})
		}
		p.block("c", "d", time.Time{})
		require.Len(t, p.methods, 1001)
		synctestSleep(t, 2*time.Minute)
		p.block("c", "e", time.Time{})
		require.Len(t, p.methods, 1)
	})
}

// TestPausesThatGoOnAreRemembered: what is forgotten now and then is what has passed, and neither a
// pause nor a reset to come.
func TestPausesThatGoOnAreRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPauses()
		until := time.Now().Add(5 * time.Minute)
		p.block("a", "paused", until)
		p.note("a", "counted", Time{Operating: notable, OperatingResetAt: until})
		synctestSleep(t, 2*time.Minute)
		p.block("a", "other", time.Time{})
		require.True(t, until.Equal(p.until("a", "paused")))
		require.True(t, until.Equal(p.block("a", "counted", time.Time{})))
	})
}

func TestDeskIsEmptyAfterwards(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, err := newClients(nil, true)
		require.NoError(t, err)
		p.hook = &hook{endpoint: "ftp://example/", host: "example", secret: "x"} // nothing can be sent
		c := &Coalescer{client: &Client{portals: p}, desk: p.desk}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		_, err = c.Do(ctx, "profile", nil)
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, p.desk.open)
		_, err = c.Do(t.Context(), "profile", nil)
		require.ErrorIs(t, err, ErrBadEndpoint)
		require.Empty(t, p.desk.open)
	})
}

// TestCallerLeavesOnce: a caller is told that its turn comes too late, and its context ends at that
// moment. The other one stays.
func TestCallerLeavesOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, g, r := hostileJoin(t, time.Minute)
		c := p.Portal("a")
		other, err := c.newCall("crm.contact.add", nil)
		require.NoError(t, err)
		_, _, err = p.desk.join(t.Context(), c, other)
		require.NoError(t, err)
		g.placed(func() time.Time { return time.Now().Add(time.Hour) })
		require.Len(t, r.late, 1)
		g.leave(r)
		require.Equal(t, 1, g.callers)
		require.True(t, g.depart(&call{}), "there is a call to be sent")
	})
}

func synctestSleep(t *testing.T, d time.Duration) {
	t.Helper()
	require.NoError(t, pause(t.Context(), d))
}

// TestPlaceOfOneThatLeavesLate: the turn of a call comes, and its caller has just left. The next one has the place.
func TestPlaceOfOneThatLeavesLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1, 1)
		start := time.Now()
		require.NoError(t, l.wait(t.Context(), &turn{host: "a"}))
		w, err := l.enter(t.Context(), &turn{host: "a"})
		require.NoError(t, err)
		synctestSleep(t, time.Second)
		<-w.ready
		l.leave("a", w)
		require.NoError(t, l.wait(t.Context(), &turn{host: "a"}))
		require.Equal(t, time.Second, time.Since(start), "the place was given back")

		// After a refusal there is nothing to give back: the bucket is another one.
		w, err = l.enter(t.Context(), &turn{host: "a"})
		require.NoError(t, err)
		synctestSleep(t, time.Second)
		<-w.ready
		until := l.refuse("a")
		l.leave("a", w)
		require.NoError(t, l.wait(t.Context(), &turn{host: "a"}))
		require.Equal(t, until.Add(time.Second), time.Now(), "the bucket is full when the pause ends")

		// One that has drained is not given back either.
		w, err = l.enter(t.Context(), &turn{host: "a"})
		require.NoError(t, err)
		synctestSleep(t, 2500*time.Millisecond)
		require.NoError(t, l.wait(t.Context(), &turn{host: "a"}))
		at := time.Now()
		l.leave("a", w)
		require.NoError(t, l.wait(t.Context(), &turn{host: "a"}))
		require.Equal(t, time.Second, time.Since(at))
	})
}

// TestPlaceGoesToTheNextAtOnce: a call leaves after its turn came. The one that waits behind it
// goes at that moment.
func TestPlaceGoesToTheNextAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1, 1)
		start := time.Now()
		require.NoError(t, l.wait(t.Context(), &turn{host: "a"}))
		leaves, err := l.enter(t.Context(), &turn{host: "a"})
		require.NoError(t, err)
		next, err := l.enter(t.Context(), &turn{host: "a"})
		require.NoError(t, err)
		synctestSleep(t, 1250*time.Millisecond)
		<-leaves.ready
		l.leave("a", leaves)
		<-next.ready
		require.Equal(t, 1250*time.Millisecond, time.Since(start))
	})
}

// TestPlaceThatHasPartlyDrained: only what has not drained of a place is given back, or the bucket
// would hold too few.
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

// TestStrikes: refusals in a row make longer pauses, and a minute without one makes them short again.
func TestStrikes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(DefaultRate, DefaultBurst)
		for _, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 16 * time.Second} {
			pause := time.Until(l.refuse("a"))
			require.GreaterOrEqual(t, pause, want*3/4)
			require.LessOrEqual(t, pause, want*5/4)
			synctestSleep(t, pause)
		}
		synctestSleep(t, strikesKept+time.Second)
		require.LessOrEqual(t, time.Until(l.refuse("a")), 1250*time.Millisecond)
	})
}
