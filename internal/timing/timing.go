// Package timing waits, and spreads load so that what failed together does not come back together.
package timing

import (
	"context"
	"math/rand/v2"
	"time"
)

// Sleep waits for d. It returns ctx.Err() if ctx ends first, or has ended already.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Await waits for a signal, and reports whether it came within d.
func Await(signal <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-signal:
		return true
	case <-timer.C:
		return false
	}
}

// Jitter returns a random duration from three to five quarters of d.
func Jitter(d time.Duration) time.Duration {
	return d*3/4 + Below(d/2)
}

// Below returns a random duration from 0 up to, but not including, d; 0 if d is not positive.
func Below(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d) //nolint:gosec // it spreads load; nothing secret depends on it
}

// Backoff computes waits that grow by a factor from First to Longest.
type Backoff struct {
	First   time.Duration
	Longest time.Duration
	Factor  int
}

// After returns the wait after a number of failed attempts: 0 after none, First after one, then
// Factor times as long after each further one, Longest at most. A random part of up to a half is
// taken off.
func (b Backoff) After(attempts int) time.Duration {
	if attempts <= 0 {
		return 0
	}
	d := min(b.First, b.Longest)
	for range attempts - 1 {
		if d > b.Longest/time.Duration(b.Factor) {
			d = b.Longest
			break
		}
		d *= time.Duration(b.Factor)
	}
	return d - Below(d/2+1)
}
