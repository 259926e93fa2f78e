package webhook

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
	var h histogram
	var all []time.Duration
	var sum time.Duration
	for range 10_000 {
		d := time.Duration(math.Exp(seed.Float64()*30) * 1000) // from a microsecond to months
		if d > 78*time.Hour {
			d = 77 * time.Hour
		}
		h.record(d)
		all = append(all, d)
		sum += d
	}
	slices.Sort(all)
	l := h.snapshot()
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

func TestEmptyLatency(t *testing.T) {
	t.Parallel()
	var zero Latency
	require.Zero(t, zero.Count())
	require.Zero(t, zero.Quantile(0.5))
	var h histogram
	require.Zero(t, h.snapshot().Quantile(0.5))
	h.record(-time.Second)
	require.Equal(t, 1024*time.Nanosecond, h.snapshot().Quantile(1))
	require.Zero(t, h.snapshot().Sum())
}

func TestLatencyJSON(t *testing.T) {
	t.Parallel()
	var h histogram
	h.record(2 * time.Second)
	text, err := json.Marshal(Stats{Ack: h.snapshot(), Rejected: map[Reason]uint64{ReasonMethod: 1}})
	require.NoError(t, err)
	var got struct {
		Ack      map[string]float64 `json:"ack"`
		Rejected map[string]int     `json:"rejected"`
	}
	require.NoError(t, json.Unmarshal(text, &got))
	require.InDelta(t, 1, got.Ack["count"], 0)
	require.InDelta(t, 2, got.Ack["sum"], 0)
	require.InDelta(t, 2, got.Ack["p99"], 0.25)
	require.Equal(t, 1, got.Rejected["method"])
}

func TestHistogramCountsFromManySides(t *testing.T) {
	t.Parallel()
	var h histogram
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				h.record(time.Duration(i) * time.Millisecond)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 8000, h.snapshot().Count())
}
