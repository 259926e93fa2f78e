package offline

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// hold is a consumer's lease of its queue.
type hold struct {
	leaser Leaser
	name   string
	owner  string
	ttl    time.Duration
	until  atomic.Pointer[time.Time] // when it ends; nil before it was held
}

func newHold(cfg *config) *hold {
	id := identity{clientID: cfg.clientID, memberID: cfg.memberID, connector: cfg.connector}
	return &hold{leaser: cfg.leaser, name: id.leaseName(), owner: rand.Text(), ttl: cfg.leaseTTL}
}

// step is how often the lease is prolonged, how long that may take, and how early a lease counts as lost that could not be: the handlers
// need time to end.
func (h *hold) step() time.Duration { return h.ttl / 3 }

// remaining is how long the lease lasts: by the wall clock, which goes on while the machine sleeps, and by the monotonic one, which nobody sets back.
func (h *hold) remaining() time.Duration {
	until := h.until.Load()
	if until == nil {
		return 0
	}
	return min(time.Until(*until), time.Until(until.Round(0)))
}

// acquire takes or prolongs the lease, and reports whether it is held now.
func (h *hold) acquire(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, h.step())
	defer cancel()
	began := time.Now()
	names, err := h.leaser.Acquire(ctx, h.owner, h.ttl, h.name)
	if err != nil || !slices.Contains(names, h.name) {
		return false, err
	}
	until := began.Add(h.ttl)
	h.until.Store(&until)
	return true, nil
}

// release gives the lease back, so that another owner need not wait for its end.
func (h *hold) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.step())
	defer cancel()
	return h.leaser.Release(ctx, h.owner, h.name)
}

// keep prolongs the lease until done is closed, or until it is lost, which it tells by lose.
func (h *hold) keep(ctx context.Context, done <-chan struct{}, lose func()) {
	tick := time.NewTicker(h.step())
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		held, err := h.acquire(ctx)
		if (err == nil && !held) || h.remaining() <= h.step() {
			lose()
			return
		}
	}
}

// leased works the queue while the lease is held, and waits for it otherwise.
func (c *Consumer) leased(ctx context.Context, drain bool) error {
	h := newHold(c.cfg)
	waiting := false
	for {
		held, err := h.acquire(ctx)
		switch {
		case held:
			waiting = false
			if err := c.holding(ctx, h, drain); !errors.Is(err, ErrLeaseLost) {
				return err
			}
			c.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "offline queue: the lease was lost; going on when it is back")
		case ctx.Err() != nil:
		case err != nil:
			c.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "offline queue: the leaser failed, trying again",
				errorAttr(nil, err), slog.Duration(keyWait, h.step()))
		case drain:
			return ErrLeaseHeld
		case !waiting:
			waiting = true
			c.cfg.logger.LogAttrs(ctx, slog.LevelInfo, "offline queue: another process works the queue; waiting for its lease")
		}
		if !sleep(ctx, h.step(), nil) {
			return ctx.Err()
		}
	}
}

// holding works the queue under a lease, which it gives back at the end. It returns ErrLeaseLost where the lease went before.
func (c *Consumer) holding(ctx context.Context, h *hold, drain bool) error {
	working, end := context.WithCancelCause(ctx)
	defer end(nil)
	unleased := make(chan struct{})
	lose := sync.OnceFunc(func() {
		end(ErrLeaseLost)
		close(unleased)
	})
	c.engine.unleased = unleased
	done := make(chan struct{})
	var keeping sync.WaitGroup
	keeping.Go(func() { h.keep(context.WithoutCancel(ctx), done, lose) }) // also while the consumer stops
	err := c.stint(working, drain, func() {
		if h.remaining() <= 0 { // the machine slept
			lose()
		}
	})
	close(done)
	keeping.Wait()
	if errors.Is(context.Cause(working), ErrLeaseLost) && !permanent(err) && ctx.Err() == nil {
		return ErrLeaseLost
	}
	if failure := h.release(ctx); failure != nil {
		c.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "offline queue: the lease could not be given back and runs out by itself",
			errorAttr(nil, failure))
	}
	return err
}
