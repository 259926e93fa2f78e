package dispatch_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

// front is a Front that records its calls.
type front struct {
	handle func(ctx context.Context, it *dispatch.Item) error
	report func(it *dispatch.Item, o dispatch.Outcome) // nil for nothing

	mu       sync.Mutex
	finished map[dispatch.Outcome]int
}

func (f *front) Handle(ctx context.Context, it *dispatch.Item) error { return f.handle(ctx, it) }

func (f *front) Retrying(*dispatch.Item, error, time.Duration) {}

func (f *front) Finished(it *dispatch.Item, o dispatch.Outcome, _ error) {
	if f.report != nil {
		f.report(it, o)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.finished == nil {
		f.finished = make(map[dispatch.Outcome]int)
	}
	f.finished[o]++
}

func config(f dispatch.Front, workers int) dispatch.Config {
	return dispatch.Config{
		Workers: workers, Limit: max(1, workers/2), SlowShare: max(1, workers/2), Urgent: max(1, workers/4),
		Size: 2000, UrgentSize: 200, Front: f, Timeout: time.Minute, TimedOut: errors.New("timeout"), Closed: dispatch.ErrClosed,
		MaxAttempts: 5, Backoff: func(n int) time.Duration { return time.Second << (2 * (n - 1)) }, Grace: 2 * time.Second,
		Logger: slog.New(slog.DiscardHandler),
	}
}

func item(object int) *dispatch.Item {
	return &dispatch.Item{
		Delivery: &event.Delivery{}, Lane: event.Entity{Kind: "k", ID: strconv.Itoa(object)}, Cost: 1, Arrived: time.Now(),
	}
}

// TestStorm is a portal's storm, with another portal's item and the portal's own urgent one behind
// it.
func TestStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		waits := make(map[string]time.Duration)
		var mu sync.Mutex
		f := &front{handle: func(_ context.Context, it *dispatch.Item) error {
			mu.Lock()
			if name, ok := it.Front.(string); ok {
				waits[name] = time.Since(start)
			}
			mu.Unlock()
			<-time.After(100 * time.Millisecond)
			return nil
		}}
		d := dispatch.New(config(f, 8))
		for i := range 1500 {
			require.NoError(t, d.Enqueue(dispatch.Key{MemberID: "a"}, item(i), 0))
		}
		other, urgent := item(1), item(1)
		other.Front, urgent.Front, urgent.Urgent = "other", "urgent", true
		require.NoError(t, d.Enqueue(dispatch.Key{MemberID: "b"}, other, 0))
		require.NoError(t, d.Enqueue(dispatch.Key{MemberID: "a"}, urgent, 0))
		require.NoError(t, d.Idle(t.Context()))
		require.Zero(t, waits["other"])
		require.Zero(t, waits["urgent"])
		require.Equal(t, 1502, f.finished[dispatch.OutcomeDone])
		require.NoError(t, d.Shutdown(t.Context()))
	})
}

func BenchmarkEnqueue(b *testing.B) {
	f := &front{handle: func(context.Context, *dispatch.Item) error { return nil }}
	d := dispatch.New(config(f, 8))
	b.ReportAllocs()
	for i := range b.N {
		it := item(i & 1023)
		if err := d.Enqueue(dispatch.Key{MemberID: "a"}, it, time.Second); err != nil {
			b.Fatal(err)
		}
	}
	_ = d.Idle(b.Context())
}

// BenchmarkEnqueuePortals is like BenchmarkEnqueue, with an item for each of many portals in turn,
// from several goroutines.
func BenchmarkEnqueuePortals(b *testing.B) {
	f := &front{handle: func(context.Context, *dispatch.Item) error { return nil }}
	d := dispatch.New(config(f, 8))
	keys := make([]dispatch.Key, 1024)
	for i := range keys {
		keys[i].MemberID = strconv.Itoa(i)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if err := d.Enqueue(keys[i&1023], item(i&1023), time.Minute); err != nil {
				b.Error(err)
			}
		}
	})
	_ = d.Idle(b.Context())
}

// BenchmarkWaitingForRoom is the end of an item while a thousand portals wait for room.
func BenchmarkWaitingForRoom(b *testing.B) {
	f := &front{handle: func(context.Context, *dispatch.Item) error { return nil }}
	cfg := config(f, 8)
	cfg.Size = 100
	d := dispatch.New(cfg)
	b.ReportAllocs()
	var wg sync.WaitGroup
	for p := range 1000 {
		wg.Go(func() {
			for i := range b.N/1000 + 1 {
				if err := d.Enqueue(dispatch.Key{MemberID: strconv.Itoa(p)}, item(i), time.Hour); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	_ = d.Idle(b.Context())
}
