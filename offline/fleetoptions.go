package offline

import (
	"errors"
	"fmt"
)

// minTurns is the fewest that can be divided among the kinds of portals.
const minTurns = 4

// fleetDefaults are the defaults of [NewFleet].
func fleetDefaults() config {
	cfg := consumerDefaults()
	cfg.fleet = true
	cfg.minInterval, cfg.maxInterval = DefaultFleetMinInterval, DefaultFleetMaxInterval
	cfg.turns, cfg.handlers = DefaultTurns, DefaultHandlers
	return cfg
}

// fleetOption is an option of NewFleet only.
func fleetOption(name string, set func(*config) error) Option {
	return func(c *config) error {
		if !c.fleet {
			return fmt.Errorf("offline: %s is an option of NewFleet only", name)
		}
		return set(c)
	}
}

// WithTurns bounds how many turns of a fleet are under way at the same time, and so how many
// requests it makes, [DefaultTurns] by default and four or more. A turn is a request or two and
// waits for no handler. A quarter of the turns is kept for portals that respond slowly, an eighth
// for those that fail. With portals that respond within a third of a second, n turns look at some
// 3n queues a second.
func WithTurns(n int) Option {
	return fleetOption("WithTurns", func(c *config) error {
		if n < minTurns {
			return errors.New("offline: WithTurns wants 4 or more, as some are kept for portals that are slow or fail")
		}
		c.turns = n
		return nil
	})
}

// WithHandlers bounds how many handlers of a fleet run at the same time, [DefaultHandlers] by
// default and four or more. Slow portals share half of them; see [Fleet]. Handlers that have run
// for five seconds come on top, up to twice this number, and 256 at least. [WithWorkers] bounds the
// handlers of one portal.
func WithHandlers(n int) Option {
	return fleetOption("WithHandlers", func(c *config) error {
		if n < minTurns {
			return errors.New("offline: WithHandlers wants 4 or more, as some are kept for portals that are slow or fail")
		}
		c.handlers = n
		return nil
	})
}

// WithOnRefused sets a function that a fleet calls when a portal begins to refuse for good: its
// token was revoked, its plan lacks a feature, or there is no caller for it. err is what
// [Consumer.Run] would return. The portal is tried again every half hour. Call [Fleet.Remove] to
// stop that, or [Fleet.Add] to try it sooner. The function holds up a turn, so it should return
// soon.
func WithOnRefused(f func(memberID string, err error)) Option {
	return fleetOption("WithOnRefused", func(c *config) error {
		if f == nil {
			return errors.New("offline: WithOnRefused with a nil function; leave the option out to have refusals logged only")
		}
		c.onRefused = f
		return nil
	})
}
