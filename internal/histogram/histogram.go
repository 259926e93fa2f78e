// Package histogram counts durations.
package histogram

import (
	"encoding/json"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Histogram counts durations in buckets that widen with the duration: eight to each doubling, so
// that a quantile is right to within an eighth. Recording is two atomic additions. The zero value
// is ready to use, and safe for concurrent use.
type Histogram struct {
	counts [buckets]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

const (
	unitBits = 10 // the first buckets are 2^10 ns wide, about a microsecond
	stepBits = 3  // eight buckets to a doubling
	steps    = 1 << stepBits
	maxBits  = 38 // durations of 2^(38+10) ns, about 78 hours, and more share the last bucket
	buckets  = (maxBits - stepBits + 1) * steps
)

// Record counts a duration. A negative one counts as 0.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(d)].Add(1)
	h.sum.Add(int64(d))
}

// bucketOf places a duration: linearly below steps units, then by its highest bit and the three
// bits after it.
func bucketOf(d time.Duration) int {
	units := min(uint64(d)>>unitBits, 1<<maxBits-1) //nolint:gosec // durations are not negative here
	if units < steps {
		return int(units)
	}
	shift := bits.Len64(units) - stepBits - 1
	return shift*steps + int(units>>shift) //nolint:gosec // units>>shift is 8 to 15
}

// upperBound is the smallest duration that is too long for the bucket.
func upperBound(bucket int) time.Duration {
	if bucket < steps {
		return time.Duration(bucket+1) << unitBits
	}
	shift := bucket/steps - 1
	return time.Duration(bucket%steps+steps+1) << (shift + unitBits)
}

// Snapshot returns what was recorded so far.
func (h *Histogram) Snapshot() Snapshot {
	var l Snapshot
	last := -1
	counts := make([]uint64, buckets)
	for i := range h.counts {
		if n := h.counts[i].Load(); n > 0 {
			counts[i], last = n, i
			l.count += n
		}
	}
	l.counts = counts[:last+1]
	l.sum = time.Duration(h.sum.Load())
	return l
}

// Snapshot is what a Histogram held at one time. It is immutable. The zero value has no
// observations.
type Snapshot struct {
	counts []uint64
	count  uint64
	sum    time.Duration
}

// Count returns the number of observations.
func (l Snapshot) Count() uint64 { return l.count }

// Sum returns the total of all observations, to the nanosecond.
func (l Snapshot) Sum() time.Duration { return l.sum }

// Quantile returns a duration that the share q of the observations did not exceed, for example 0.99
// for the 99th percentile. It is at most an eighth (or a microsecond) too high and never too low,
// up to 78 hours. It is 0 without observations. q is clamped to 0…1.
func (l Snapshot) Quantile(q float64) time.Duration {
	if l.count == 0 || math.IsNaN(q) {
		return 0
	}
	rank := uint64(math.Ceil(min(max(q, 0), 1) * float64(l.count)))
	rank = max(rank, 1)
	for i, n := range l.counts {
		if n >= rank {
			return upperBound(i)
		}
		rank -= n
	}
	return upperBound(len(l.counts) - 1)
}

// MarshalJSON gives the count, the sum and the usual quantiles, in seconds.
func (l Snapshot) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Count uint64  `json:"count"`
		Sum   float64 `json:"sum"`
		P50   float64 `json:"p50"`
		P90   float64 `json:"p90"`
		P99   float64 `json:"p99"`
	}{l.count, l.sum.Seconds(), l.Quantile(0.5).Seconds(), l.Quantile(0.9).Seconds(), l.Quantile(0.99).Seconds()})
}

// ByName counts durations by name. It never forgets a name, so its caller bounds the names. The
// zero value is ready to use, and safe for concurrent use.
type ByName struct{ histograms sync.Map } // *Histogram by string

// Record counts a duration under a name.
func (b *ByName) Record(name string, d time.Duration) {
	h, ok := b.histograms.Load(name)
	if !ok {
		h, _ = b.histograms.LoadOrStore(name, new(Histogram))
	}
	h.(*Histogram).Record(d) //nolint:forcetypeassert // nothing else is stored
}

// Snapshots returns what was recorded so far, by name.
func (b *ByName) Snapshots() map[string]Snapshot {
	all := make(map[string]Snapshot)
	b.histograms.Range(func(name, h any) bool {
		all[name.(string)] = h.(*Histogram).Snapshot() //nolint:forcetypeassert // nothing else is stored
		return true
	})
	return all
}
