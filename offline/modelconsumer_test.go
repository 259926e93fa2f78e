package offline_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/offline"
)

// newConsumer makes the process a consumer's, and returns what runs it.
func (p *modelProcess) newConsumer(r *rand.Rand) func(context.Context) error {
	opts := append(optionsAs[offline.ConsumerOption](p.world.t, p.options(r)), p.world.identity(0)...)
	c, err := offline.NewConsumer(modelCaller{process: p}, p, opts...)
	require.NoError(p.world.t, err)
	p.consumer = c
	return c.Run
}

// modelConsumers are the configurations of consumers.
func modelConsumers() []modelConfig {
	base := modelDefaults("base")
	leased := base.with(func(c *modelConfig) {
		c.name, c.leased, c.processes, c.runs = "leased", true, [2]int{2, 2}, 30
		c.actions.stop, c.actions.store = 2, 2
		c.handlers.slow, c.handlers.slowest = 50, 25*time.Second // longer than a lease
	})
	spool := base.with(func(c *modelConfig) {
		c.name, c.spooled, c.runs = "spool", true, 20
		c.actions.plan = 1
		c.handlers.goexit = 0
	})
	ignored := base.with(func(c *modelConfig) { c.name, c.ignored, c.runs = "ignored", true, 20 })
	// Handlers of one object do badly, and everything else is fine.
	oneBad := base.with(func(c *modelConfig) {
		c.name, c.oneBad, c.objects, c.runs = "slow", true, [2]int{3, 5}, 10
		c.calls, c.parking, c.actions = modelCalls{}, modelCalls{}, modelActions{change: 10, wake: 1, pause: 2}
		c.handlers = modelHandlers{retry: 1, retryLong: 1, hang: 3, linger: 3, slow: 50, slowest: 15 * time.Second}
		c.batchSize, c.workers, c.maxInterval = [2]int{10, 50}, [2]int{3, 10}, [2]time.Duration{time.Second, 5 * time.Second}
		c.prompt = 15 * time.Second
	})
	return []modelConfig{
		base,
		base.with(func(c *modelConfig) { c.name, c.racing, c.once, c.runs = "racing", true, false, 20 }),
		base.with(func(c *modelConfig) {
			c.name, c.ordered, c.polite, c.calls.late, c.runs = "ordered", true, true, 0, 30
			c.handlers.goexit, c.handlers.retry, c.handlers.fail = 0, 3, 3
		}),
		leased,
		leased.with(func(c *modelConfig) { c.name, c.actions.storeStuck, c.runs = "leased-stuck-store", 2, 10 }),
		spool,
		spool.with(func(c *modelConfig) { c.name, c.handlers.goexit, c.runs = "spool-exiting-handlers", 2, 5 }),
		ignored,
		spool.with(func(c *modelConfig) {
			c.name, c.ignored, c.runs = "spool-ignored", true, 10
			// Much is parked by one plan, taken by the other, and left by a process that dies.
			c.handlers.drop, c.handlers.fail, c.maxAttempts, c.parkedInterval[1] = 0, 6, [2]int{1, 1}, 2*time.Minute
			c.objects, c.actions.plan, c.actions.kill, c.actions.rest, c.steps = [2]int{1, 1}, 3, 3, 2, 80
		}),
		base.with(func(c *modelConfig) {
			c.name, c.processes, c.once, c.alone, c.runs = "two-unleased", [2]int{2, 2}, false, false, 15
			// Much is parked, late, while the other process works on it.
			c.handlers.drop, c.handlers.fail, c.maxAttempts, c.parking.fail = 0, 5, [2]int{1, 1}, 80
			c.objects, c.actions.change, c.actions.stop, c.steps = [2]int{1, 1}, 20, 5, 80
		}),
		oneBad,
		oneBad.with(func(c *modelConfig) {
			c.name, c.actions.list, c.oneBad, c.handlers, c.runs = "list-fails", 2, false, modelHandlers{succeed: 1}, 10
		}),
		oneBad.with(func(c *modelConfig) {
			c.name, c.parked, c.prompt, c.runs = "parked", true, 0, 4
			c.kinds, c.handlers = []string{"UPDATE"}, modelHandlers{fail: 1}
			c.maxAttempts, c.parkedInterval = [2]int{1, 1}, [2]time.Duration{time.Minute, time.Minute}
			c.maxInterval, c.actions.pause, c.actions.rest = [2]time.Duration{20 * time.Second, 30 * time.Second}, 4, 2
		}),
	}
}

func TestModelConsumer(t *testing.T) {
	t.Parallel()
	for _, c := range modelConsumers() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.check(t)
		})
	}
}
