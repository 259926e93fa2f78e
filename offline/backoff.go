package offline

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff yields waits that double from shortest to longest, each less a random part up to a half,
// so that many consumers do not call in step.
type backoff struct {
	shortest, longest time.Duration
	last              time.Duration // before the random part; 0 at first
}

func (b *backoff) next() time.Duration {
	switch {
	case b.last == 0:
		b.last = b.shortest
	case b.last > b.longest/2:
		b.last = b.longest
	default:
		b.last *= 2
	}
	return b.last - rand.N(b.last/2+1) //nolint:gosec // spreads load, guards nothing
}

func (b *backoff) reset() { b.last = 0 }

// sleep waits for d, and reports false if the context ended first. A message in wake, which may
// be nil, ends the wait early.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-timer.C:
	}
	return ctx.Err() == nil
}
