package offline_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/offline"
)

// newFleet makes the process a fleet's, and returns what runs it.
func (p *modelProcess) newFleet(r *rand.Rand) func(context.Context) error {
	w := p.world
	handlers := 4 + r.IntN(6)
	if w.cfg.prompt > 0 {
		handlers += 40 // so that records wait for others of their portal, or for nothing
	}
	opts := append(optionsAs[offline.FleetOption](w.t, p.options(r)), offline.WithTurns(4), offline.WithHandlers(handlers), w.clientID())
	f, err := offline.NewFleet(func(memberID string) event.Caller { return modelCaller{process: p, portal: w.number[memberID]} }, p, opts...)
	require.NoError(w.t, err)
	p.fleet = f
	for _, portal := range w.portals {
		require.NoError(w.t, f.Add(portal.MemberID()))
	}
	return f.Run
}

// modelFleets are the configurations of fleets.
func modelFleets() []modelConfig {
	base := modelDefaults("base").with(func(c *modelConfig) {
		c.fleets, c.leased, c.portals, c.processes, c.objects, c.runs = true, true, 2, [2]int{2, 4}, [2]int{1, 2}, 6
		c.actions = modelActions{change: 11, kill: 1, stop: 2, store: 2, item: 1, wake: 1, remove: 1, pause: 1, rest: 1}
		// Handlers and grace periods longer than a lease.
		c.handlers.slow, c.handlers.slowest, c.grace, c.timeout = 50, 40*time.Second, time.Minute, time.Minute
		c.once = false // a portal that comes back is begun anew
	})
	alone := base.with(func(c *modelConfig) {
		c.name, c.leased, c.processes, c.actions.store, c.once, c.runs = "alone", false, [2]int{1, 1}, 0, true, 10
	})
	oneBad := alone.with(func(c *modelConfig) {
		c.name, c.oneBad, c.objects, c.runs = "slow", true, [2]int{3, 4}, 4
		c.calls, c.parking, c.actions = modelCalls{}, modelCalls{}, modelActions{change: 10, wake: 1, pause: 2}
		c.handlers = modelHandlers{retry: 1, retryLong: 1, hang: 3, linger: 3, slow: 50, slowest: 15 * time.Second}
		c.batchSize, c.workers, c.maxInterval = [2]int{10, 50}, [2]int{3, 10}, [2]time.Duration{time.Second, 5 * time.Second}
		c.prompt = 15 * time.Second
	})
	return []modelConfig{
		base,
		base.with(func(c *modelConfig) { c.name, c.actions.storeStuck, c.runs = "stuck-store", 2, 3 }),
		base.with(func(c *modelConfig) { c.name, c.ignored, c.runs = "ignored", true, 3 }),
		alone,
		alone.with(func(c *modelConfig) {
			c.name, c.spooled, c.actions.plan, c.handlers.goexit, c.runs = "spool", true, 1, 0, 8
		}),
		oneBad,
		oneBad.with(func(c *modelConfig) {
			c.name, c.actions.list, c.oneBad, c.handlers, c.runs = "list-fails", 2, false, modelHandlers{succeed: 1}, 5
		}),
		oneBad.with(func(c *modelConfig) {
			c.name, c.parked, c.prompt, c.runs = "parked", true, 0, 3
			c.kinds, c.handlers = []string{"UPDATE"}, modelHandlers{fail: 1}
			c.maxAttempts, c.parkedInterval = [2]int{1, 1}, [2]time.Duration{time.Minute, time.Minute}
			c.maxInterval, c.actions.pause, c.actions.rest = [2]time.Duration{20 * time.Second, 30 * time.Second}, 4, 2
		}),
	}
}

func TestModelFleet(t *testing.T) {
	t.Parallel()
	for _, c := range modelFleets() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.check(t)
		})
	}
}
