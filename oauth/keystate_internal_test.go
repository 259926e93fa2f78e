package oauth

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestStatesOfManyFailingPortals checks that their states are dropped in time, and that not every
// use of a key searches all states.
func TestStatesOfManyFailingPortals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ks keyStates
		for i := range maxIdleStates + 100 {
			s := ks.use(Key{MemberID: strconv.Itoa(i)})
			ks.backOff(s, "r", ErrTemporary, false, time.Time{})
			ks.release(s)
		}
		require.Len(t, ks.states, maxIdleStates+100, "all are held")
		first := ks.sweptAt
		require.False(t, first.IsZero())
		elapse(sweepPause / 2)
		ks.release(ks.use(Key{MemberID: "healthy"}))
		require.Equal(t, first, ks.sweptAt)
		elapse(maxBackoff + finalAfter)
		ks.release(ks.use(Key{MemberID: "healthy"}))
		require.Empty(t, ks.states)
	})
}

// elapse lets the bubble's time pass.
func elapse(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the bubble's clock
}
