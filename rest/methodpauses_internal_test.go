package rest

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPausesAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newMethodPauses()
		for i := range 1000 {
			p.recordUsage("a", strconv.Itoa(i), Time{Operating: minOperating, OperatingResetAt: time.Now().Add(time.Minute)})
			p.recordUsage("b", strconv.Itoa(i), Time{Operating: minOperating - 1, OperatingResetAt: time.Now().Add(time.Minute)})
		}
		p.block("c", "d", time.Time{})
		require.Len(t, p.methods, 1001)
		synctestSleep(t, 2*time.Minute)
		p.block("c", "e", time.Time{})
		require.Len(t, p.methods, 1)
	})
}

// TestPausesThatGoOnAreRemembered: only entries whose times have passed are forgotten, not a pause
// or a reset in the future.
func TestPausesThatGoOnAreRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newMethodPauses()
		until := time.Now().Add(5 * time.Minute)
		p.block("a", "paused", until)
		p.recordUsage("a", "counted", Time{Operating: minOperating, OperatingResetAt: until})
		synctestSleep(t, 2*time.Minute)
		p.block("a", "other", time.Time{})
		require.True(t, until.Equal(p.until("a", "paused")))
		require.True(t, until.Equal(p.block("a", "counted", time.Time{})))
	})
}
