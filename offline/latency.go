package offline

import (
	"time"

	"github.com/b24events/b24events/internal/histogram"
)

// Latency is a snapshot of how long something took since the Fleet was made. It is immutable. The
// zero Latency has no observations.
type Latency struct{ snapshot histogram.Snapshot }

// Count returns the number of observations.
func (l Latency) Count() uint64 { return l.snapshot.Count() }

// Sum returns the total of all observations, to the nanosecond.
func (l Latency) Sum() time.Duration { return l.snapshot.Sum() }

// Quantile returns a duration that the share q of the observations did not exceed, for example 0.99
// for the 99th percentile. It is at most an eighth (or a microsecond) too high and never too low,
// up to 78 hours. It is 0 without observations. q is clamped to 0…1.
func (l Latency) Quantile(q float64) time.Duration { return l.snapshot.Quantile(q) }

// MarshalJSON gives the count, the sum and the usual quantiles, in seconds.
func (l Latency) MarshalJSON() ([]byte, error) { return l.snapshot.MarshalJSON() }
