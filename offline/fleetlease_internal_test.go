package offline

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

// The end of a lease goes by the wall clock: the other one stands still while the machine sleeps, and the leases run out meanwhile.
func TestLeasesRunOutWhileTheMachineSleeps(t *testing.T) {
	t.Parallel()
	nobody := func(string) event.Caller { return nil }
	h := event.HandlerFunc(func(context.Context, *event.Delivery) error { return nil })
	f, err := NewFleet(nobody, h, WithLeaser(NewMemoryLeaser()), WithClientID("app.1"))
	require.NoError(t, err)
	k := &keeper{fleet: f, leaser: f.cfg.leaser, ttl: f.cfg.leaseTTL, prefix: "p/", ctx: t.Context()}
	check := func() {
		for i := range f.shards {
			require.True(t, f.shards[i].held)
			require.Equal(t, f.shards[i].until.Round(0), f.shards[i].until, "with the clock that stands still")
		}
	}
	k.take(shards, nil)
	check()
	k.prolong(false)
	check()
	k.forget()
}
