package dispatch_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

var errBoom = errors.New("boom")

// call is what a recorder notes of an attempt or a report.
type call struct {
	name string
	at   time.Duration
	n    int // attempt
}

// recorder is a front that notes everything, under the names of the items. It is used in a bubble.
type recorder struct {
	began   time.Time
	handler func(ctx context.Context, it *dispatch.Item) error // nil: every call takes a second
	retries func(it *dispatch.Item, wait time.Duration)        // nil for nothing
	report  func(it *dispatch.Item, o dispatch.Outcome)        // nil for nothing

	mu       sync.Mutex
	calls    []call
	waits    []time.Duration
	finished map[string][]dispatch.Outcome
	errs     map[string]error
	merged   map[string]int
	most     int // that ran at a time
	now      int
}

func newRecorder(handler func(ctx context.Context, it *dispatch.Item) error) *recorder {
	return &recorder{
		began: time.Now(), handler: handler, finished: make(map[string][]dispatch.Outcome), errs: make(map[string]error),
		merged: make(map[string]int),
	}
}

func name(it *dispatch.Item) string {
	s, _ := it.Front.(string)
	return s
}

func (r *recorder) Handle(ctx context.Context, it *dispatch.Item) error {
	r.mu.Lock()
	r.calls = append(r.calls, call{name: name(it), at: time.Since(r.began), n: event.AttemptOf(ctx).Number})
	r.now++
	r.most = max(r.most, r.now)
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.now--
	}()
	if r.handler == nil {
		<-time.After(time.Second)
		return nil
	}
	return r.handler(ctx, it)
}

func (r *recorder) Retrying(it *dispatch.Item, _ error, wait time.Duration) {
	r.mu.Lock()
	r.waits = append(r.waits, wait)
	r.mu.Unlock()
	if r.retries != nil {
		r.retries(it, wait)
	}
}

func (r *recorder) Finished(it *dispatch.Item, o dispatch.Outcome, err error) {
	r.mu.Lock()
	r.finished[name(it)] = append(r.finished[name(it)], o)
	r.errs[name(it)] = err
	r.merged[name(it)] = it.Merged
	r.mu.Unlock()
	if r.report != nil {
		r.report(it, o)
	}
}

// names returns the names of the calls, in order.
func (r *recorder) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, c := range r.calls {
		names = append(names, c.name)
	}
	return names
}

// times returns when the calls of an item began.
func (r *recorder) times(name string) []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var times []time.Duration
	for _, c := range r.calls {
		if c.name == name {
			times = append(times, c.at)
		}
	}
	return times
}

// outcome returns the only outcome of an item.
func (r *recorder) outcome(t *testing.T, name string) dispatch.Outcome {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Len(t, r.finished[name], 1, name)
	return r.finished[name][0]
}

// setup is a configuration of one worker and much room, with the backoff 1, 4, 16 … seconds.
func setup(f dispatch.Front) dispatch.Config {
	return dispatch.Config{
		Workers: 1, Limit: 1, SlowShare: 1, Urgent: 1, Front: f, Timeout: time.Minute, TimedOut: errors.New("timeout"),
		Closed: errClosed, MaxAttempts: 3, Grace: 2 * time.Second, Logger: slog.New(slog.DiscardHandler),
		Backoff: func(n int) time.Duration { return time.Second << (2 * (n - 1)) },
	}
}

var errClosed = errors.New("closed")

func portal(name string) dispatch.Key { return dispatch.Key{ClientID: "app", MemberID: name} }

// named returns an item of an object; none for an empty text.
func named(name, object string) *dispatch.Item {
	it := &dispatch.Item{Delivery: &event.Delivery{}, Cost: 1, Arrived: time.Now(), Front: name}
	if object != "" {
		it.Lane = event.Entity{Kind: "object", ID: object}
	}
	return it
}

// accountsAddUp checks that every accepted item has one outcome.
func accountsAddUp(t *testing.T, d *dispatch.Dispatcher) {
	t.Helper()
	c := d.Counts()
	var sum uint64
	for _, n := range c.Outcomes {
		sum += n
	}
	require.Equal(t, c.Accepted, sum)
	require.Equal(t, dispatch.Depth{}, d.Depth())
}
