package histogram

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBuckets(t *testing.T) {
	t.Parallel()
	for i := range buckets - 1 {
		top := upperBound(i)
		require.Equal(t, i, bucketOf(top-1), "just below the bound of bucket %d", i)
		require.Equal(t, i+1, bucketOf(top), "at the bound of bucket %d", i)
	}
	require.Equal(t, 0, bucketOf(0))
	require.Equal(t, buckets-1, bucketOf(math.MaxInt64))
	require.Equal(t, buckets-1, bucketOf(79*time.Hour))
	require.Less(t, bucketOf(76*time.Hour), buckets)
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	seed := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test repeats itself
	var h Histogram
	var all []time.Duration
	var sum time.Duration
	for range 10_000 {
		d := time.Duration(math.Exp(seed.Float64()*30) * 1000) // from a microsecond to months
		if d > 78*time.Hour {
			d = 77 * time.Hour
		}
		h.Record(d)
		all = append(all, d)
		sum += d
	}
	slices.Sort(all)
	l := h.Snapshot()
	require.EqualValues(t, len(all), l.Count())
	require.Equal(t, sum, l.Sum())
	for _, q := range []float64{0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1} {
		exact := all[max(int(math.Ceil(q*float64(len(all)))), 1)-1]
		require.GreaterOrEqual(t, l.Quantile(q), exact, "%v", q)
		require.LessOrEqual(t, l.Quantile(q), exact+exact/8+2*time.Microsecond, "%v", q)
	}
	require.Equal(t, l.Quantile(0), l.Quantile(-1))
	require.Equal(t, l.Quantile(1), l.Quantile(2))
	require.Zero(t, l.Quantile(math.NaN()))
}

func TestEmptySnapshot(t *testing.T) {
	t.Parallel()
	var zero Snapshot
	require.Zero(t, zero.Count())
	require.Zero(t, zero.Quantile(0.5))
	var h Histogram
	require.Zero(t, h.Snapshot().Quantile(0.5))
	h.Record(-time.Second)
	require.Equal(t, 1024*time.Nanosecond, h.Snapshot().Quantile(1))
	require.Zero(t, h.Snapshot().Sum())
}

func TestSnapshotJSON(t *testing.T) {
	t.Parallel()
	var h Histogram
	h.Record(2 * time.Second)
	text, err := json.Marshal(h.Snapshot())
	require.NoError(t, err)
	var got map[string]float64
	require.NoError(t, json.Unmarshal(text, &got))
	require.InDelta(t, 1, got["count"], 0)
	require.InDelta(t, 2, got["sum"], 0)
	require.InDelta(t, 2, got["p99"], 0.25)
}

func TestHistogramCountsFromManySides(t *testing.T) {
	t.Parallel()
	var h Histogram
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				h.Record(time.Duration(i) * time.Millisecond)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 8000, h.Snapshot().Count())
}

func TestByName(t *testing.T) {
	t.Parallel()
	var b ByName
	require.Empty(t, b.Snapshots())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				b.Record([]string{"a", "b"}[i%2], time.Second)
			}
		})
	}
	wg.Wait()
	all := b.Snapshots()
	require.Len(t, all, 2)
	require.EqualValues(t, 400, all["a"].Count())
	require.Equal(t, 400*time.Second, all["b"].Sum())
}
