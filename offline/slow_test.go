package offline_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/offline"
)

// soon is how long a record may wait though its handler, and the portal, do well.
const soon = 10 * time.Second

// waits keeps how long changes of deals waited for their handler.
type waits struct {
	mu    sync.Mutex
	since map[int]time.Time
	worst time.Duration
	n     int // changes that were handled
}

func newWaits() *waits { return &waits{since: make(map[int]time.Time)} }

// changed notes a change, unless an earlier one still waits.
func (w *waits) changed(id int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, open := w.since[id]; !open {
		w.since[id] = time.Now()
	}
}

// handled notes that a handler has ended.
func (w *waits) handled(id int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at, open := w.since[id]; open {
		w.worst = max(w.worst, time.Since(at))
		w.n++
		delete(w.since, id)
	}
}

// result returns the longest wait so far, of changes that still wait too, and how many were
// handled. Call it inside of the bubble, since it looks at the clock.
func (w *waits) result() (worst time.Duration, handled int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	worst = w.worst
	for _, at := range w.since {
		worst = max(worst, time.Since(at))
	}
	return worst, w.n
}

// background runs a consumer until the function is called that it returns.
func background(t *testing.T, c *offline.Consumer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		require.NoError(t, <-ended)
	}
}

// One customer's system hangs, and there are 49 workers for the others.
func TestHandlerThatHangsDelaysOnlyItsObject(t *testing.T) {
	t.Parallel()
	const others = 120
	var worst time.Duration
	var handled int
	synctest.Test(t, func(t *testing.T) {
		f, w := newFixture(t), newWaits()
		stop := background(t, newConsumer(t, f.api, func(ctx context.Context, d *event.Delivery) error {
			id := dealID(t, d)
			if id == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			w.handled(id)
			return nil
		}))
		f.change("UPDATE", 1)
		for i := range others {
			w.changed(2 + i)
			f.change("UPDATE", 2+i)
			<-time.After(5 * time.Second)
		}
		<-time.After(soon)
		stop()
		worst, handled = w.result()
	})
	expect(t, worst <= soon, "another object waited for %s", worst)
	expect(t, handled == others, "%d of %d other objects were handled", handled, others)
}

// One record in a hundred takes long. The rest must not wait for them: whatever the order of the
// records, workers that are never idle need no longer than their share and the longest record.
func TestSlowRecordsDoNotSlowTheDrain(t *testing.T) {
	t.Parallel()
	for _, slowest := range []time.Duration{2 * time.Second, 20 * time.Second} {
		t.Run(slowest.String(), func(t *testing.T) {
			t.Parallel()
			const records, workers, usual = 5000, 50, 100 * time.Millisecond
			var took time.Duration
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.change("UPDATE", upTo(records)...)
				began := time.Now()
				f.drain(func(ctx context.Context, d *event.Delivery) error {
					if dealID(t, d)%100 == 1 {
						return during(ctx, slowest)
					}
					return during(ctx, usual)
				}, offline.WithWorkers(workers))
				took = time.Since(began)
			})
			share := (records*99/100*usual + records/100*slowest) / workers
			t.Logf("%d records, of which one in a hundred takes %s: %s; the workers' share is %s", records, slowest, took, share)
			expect(t, took <= share+slowest+soon/2, "the drain took %s, and the workers' share is %s", took, share)
		})
	}
}

// Records that wait for a retry hold neither a worker nor a place that others need.
func TestManyWaitingRetriesDoNotBlockOtherObjects(t *testing.T) {
	t.Parallel()
	const retrying = 1000
	var worst time.Duration
	var handled int
	synctest.Test(t, func(t *testing.T) {
		f, w := newFixture(t), newWaits()
		f.change("UPDATE", upTo(retrying)...)
		c := newConsumer(t, f.api, func(_ context.Context, d *event.Delivery) error {
			id := dealID(t, d)
			if id <= retrying {
				return event.Retry(errHandler, time.Hour)
			}
			w.handled(id)
			return nil
		})
		stop := background(t, c)
		<-time.After(time.Minute)
		w.changed(retrying + 1)
		f.change("UPDATE", retrying+1)
		c.Wake()
		<-time.After(10 * time.Minute)
		stop()
		worst, handled = w.result()
	})
	expect(t, handled == 1, "the change of another object was not handled within %s", worst)
	expect(t, worst <= soon, "the change of another object waited for %s", worst)
}
