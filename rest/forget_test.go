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

func TestDeskIsEmptyAfterwards(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, err := newPortals(nil)
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

func synctestSleep(t *testing.T, d time.Duration) {
	t.Helper()
	require.NoError(t, pause(t.Context(), d))
}
