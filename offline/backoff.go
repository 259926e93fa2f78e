package offline

import (
	"time"

	"github.com/b24events/b24events/internal/timing"
)

// backoff yields waits that double from shortest to longest, each less a random part up to a half,
// so that many consumers do not call in step.
type backoff struct {
	shortest, longest time.Duration
	failures          int // in a row
}

func (b *backoff) next() time.Duration {
	b.failures++
	return timing.Backoff{First: b.shortest, Longest: b.longest, Factor: 2}.After(b.failures)
}

func (b *backoff) reset() { b.failures = 0 }
