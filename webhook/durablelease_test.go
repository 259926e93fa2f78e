package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// member returns the ID of a portal.
func memberOf(n int) string { return fmt.Sprintf("%032x", n) }

// dealOf is the body of a change of a deal of a portal.
func dealOf(n, id, ts int) string {
	return body("ONCRMDEALUPDATE", fields{
		"data[FIELDS][ID]": strconv.Itoa(id), "ts": strconv.Itoa(ts), "auth[member_id]": memberOf(n),
	})
}

// process is one of several that share a store.
type process struct {
	*webhook.Handler

	store *webhooktest.MemoryStore
}

// watch checks the order and the exclusiveness of handlers of all processes.
type watch struct {
	t       *testing.T
	mu      sync.Mutex
	running map[string]int
	last    map[string]int64
	done    map[string]int
	over    int // handlers of one object that overlapped
	then    func(ctx context.Context, d *event.Delivery) error
}

func newWatch(t *testing.T) *watch {
	t.Helper()
	return &watch{t: t, running: make(map[string]int), last: make(map[string]int64), done: make(map[string]int)}
}

func (w *watch) HandleEvent(ctx context.Context, d *event.Delivery) error {
	lane := d.MemberID() + "/" + d.Entity().ID
	w.mu.Lock()
	w.running[lane]++
	if w.running[lane] > 1 {
		w.over++
	}
	ts := d.Time.Unix()
	// A delivery may be handled again, but never before an earlier one was.
	if ts > w.last[lane]+1 {
		w.t.Errorf("%s: %d after %d", lane, ts, w.last[lane])
	}
	w.last[lane] = max(w.last[lane], ts)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.running[lane]--
	}()
	if w.then != nil {
		if err := w.then(ctx, d); err != nil {
			return err
		}
	} else {
		<-time.After(20 * time.Millisecond)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done[fmt.Sprint(lane, "/", ts)]++
	return nil
}

func (w *watch) handled() (n, again int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, times := range w.done {
		n++
		again += times - 1
	}
	return n, again
}

const partitions = 8

// cluster starts processes that share a store.
func cluster(t *testing.T, n int, w *watch, opts ...webhook.Option) (*webhooktest.MemoryStore, []process) {
	t.Helper()
	s := newStore(t, webhooktest.WithPartitions(partitions))
	all := make([]process, n)
	for i := range all {
		store := s.Open()
		all[i] = process{newHandler(t, w, append(opts, webhook.WithStore(store))...), store}
	}
	return s, all
}

func worked(all []process) (n int, each []int) {
	for _, p := range all {
		k := p.Stats().Store.Partitions
		n += k
		each = append(each, k)
	}
	return n, each
}

func TestPartitionsAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		s, all := cluster(t, 3, w)
		<-time.After(30 * time.Second)
		n, each := worked(all)
		require.Equal(t, partitions, n)
		for _, k := range each {
			require.GreaterOrEqual(t, k, 2, "%v", each)
		}
		const portals, changes = 20, 30
		for i := range portals * changes {
			require.Equal(t, http.StatusOK, post(all[i%3], dealOf(i%portals, 1, i/portals+1)))
		}
		require.NoError(t, all[0].Idle(t.Context()))
		n, again := w.handled()
		require.Equal(t, portals*changes, n)
		require.Zero(t, again)
		require.Zero(t, w.over)
		require.Zero(t, pending(t, s))
		for _, p := range all {
			require.NoError(t, p.Shutdown(t.Context()))
		}
		held, err := s.Held(t.Context(), "")
		require.NoError(t, err)
		require.Empty(t, held, "the leases are given back")
	})
}

// dead cuts a process off its store.
func dead(p process) {
	p.store.SetFaults(func(context.Context, webhooktest.Call) webhooktest.Fault { return webhooktest.Fault{Err: errBoom} })
}

func TestPartitionsOfADeadProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		s, all := cluster(t, 3, w)
		<-time.After(30 * time.Second)
		const portals, changes = 20, 10
		sent := 0
		for ts := range changes {
			if ts == 5 {
				dead(all[2])
			}
			for n := range portals {
				if post(all[n%2], dealOf(n, 1, ts+1)) == http.StatusOK {
					sent++
				}
			}
		}
		require.Equal(t, portals*changes, sent)
		start := time.Now()
		require.NoError(t, all[0].Idle(t.Context()))
		require.Less(t, time.Since(start), 12*time.Second)
		n, _ := w.handled()
		require.Equal(t, sent, n)
		require.Zero(t, w.over, "a process that is cut off stops before another begins")
		require.Zero(t, pending(t, s))
		k, each := worked(all[:2])
		require.Equal(t, partitions, k, "%v", each)
		require.Error(t, all[2].Health())
		for _, p := range all {
			stop(p.Handler)
		}
		<-time.After(time.Minute)
	})
}

func TestProcessesComeAndGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		s := newStore(t, webhooktest.WithPartitions(partitions))
		receiver := newHandler(t, w, webhook.WithStore(s.Open()), webhook.WithReceiveOnly())
		var workers []*webhook.Handler
		start := func() { workers = append(workers, newHandler(t, w, webhook.WithStore(s.Open()))) }
		start()
		sent := 0
		for ts := range 120 {
			for n := range 10 {
				require.Equal(t, http.StatusOK, post(receiver, dealOf(n, 1, ts+1)))
				sent++
			}
			switch ts {
			case 10, 40:
				start()
			case 70, 100:
				require.NoError(t, workers[0].Shutdown(t.Context()))
				workers = workers[1:]
			}
			<-time.After(500 * time.Millisecond)
		}
		require.NoError(t, receiver.Idle(t.Context()))
		n, again := w.handled()
		require.Equal(t, sent, n)
		require.Zero(t, again, "a partition that is handed over repeats nothing")
		require.Zero(t, w.over)
		for _, h := range append(workers, receiver) {
			require.NoError(t, h.Shutdown(t.Context()))
		}
	})
}

// TestStuckHandlerKeepsItsPortalOnly hands partitions over while a handler does not end.
func TestStuckHandlerKeepsItsPortalOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		release := make(chan struct{})
		w.then = func(_ context.Context, d *event.Delivery) error {
			if d.Entity().ID == "99" {
				<-release
			}
			return nil
		}
		s := newStore(t, webhooktest.WithPartitions(2))
		first := newHandler(t, w, webhook.WithStore(s.Open()))
		<-time.After(10 * time.Second)
		for n := range 10 {
			require.Equal(t, http.StatusOK, post(first, dealOf(n, 99, 1)))
		}
		<-time.After(time.Second)
		second := newHandler(t, w, webhook.WithStore(s.Open()))
		<-time.After(time.Minute)
		for n := range 10 {
			require.Equal(t, http.StatusOK, post(second, dealOf(n, 1, 1)))
		}
		<-time.After(30 * time.Second)
		n, _ := w.handled()
		require.Equal(t, 10, n, "other objects are handled meanwhile")
		close(release)
		require.NoError(t, second.Idle(t.Context()))
		n, _ = w.handled()
		require.Equal(t, 20, n)
		require.NoError(t, first.Shutdown(t.Context()))
		require.NoError(t, second.Shutdown(t.Context()))
	})
}

func TestShutdownLeavesTheRestInTheStore(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		patience time.Duration
		ignores  bool // the handler ignores its context
		left     int  // of the error
		pending  int
		takes    time.Duration
	}{
		"in time":                   {10 * time.Second, false, 0, 16, 5 * time.Second},
		"not in time":               {time.Second, false, 4, 20, time.Second},
		"a handler that never ends": {time.Second, true, 4, 20, time.Second + webhook.ShutdownGrace},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				release := make(chan struct{})
				calls := 0
				var mu sync.Mutex
				h := newHandler(t, event.HandlerFunc(func(ctx context.Context, _ *event.Delivery) error {
					mu.Lock()
					calls++
					mu.Unlock()
					if test.ignores {
						<-release
						return nil
					}
					select {
					case <-time.After(5 * time.Second):
						return nil
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				}), webhook.WithStore(s), webhook.WithWorkers(4), webhook.WithPortalWorkers(4), webhook.WithOnDropped(func(*event.Delivery, error) {
					t.Error("nothing is lost")
				}))
				for i := range 20 {
					require.Equal(t, http.StatusOK, post(h, deal(i+1, 1)))
				}
				synctest.Wait()
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), test.patience)
				defer cancel()
				err := h.Shutdown(ctx)
				require.LessOrEqual(t, time.Since(start), test.takes+webhook.ShutdownGrace)
				require.LessOrEqual(t, time.Since(start), test.patience+webhook.ShutdownGrace)
				var cut *webhook.ShutdownError
				if test.left > 0 {
					require.ErrorAs(t, err, &cut)
					require.Equal(t, test.left, cut.Left)
				} else {
					require.NoError(t, err)
				}
				require.Equal(t, 4, calls)
				require.Equal(t, test.pending, pending(t, s))
				require.Equal(t, http.StatusServiceUnavailable, post(h, deal(1, 1)))
				require.Equal(t, err, h.Shutdown(t.Context()), "all calls return the same")
				close(release)
				<-time.After(time.Minute)
			})
		})
	}
}

func TestRemovalEmptiesTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		gate := make(chan struct{})
		var dropped []string
		var mu sync.Mutex
		h := newHandler(t, event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
			if d.Name == "ONAPPUNINSTALL" {
				event.ReportRemoval(ctx, d)
				return nil
			}
			<-gate
			return nil
		}), webhook.WithStore(s), webhook.WithQueueSize(8), webhook.WithWorkers(2), webhook.WithOnDropped(func(d *event.Delivery, err error) {
			mu.Lock()
			defer mu.Unlock()
			require.ErrorIs(t, err, webhook.ErrRemoved)
			dropped = append(dropped, d.Entity().ID)
		}))
		for i := range 50 {
			require.Equal(t, http.StatusOK, post(h, deal(i+1, 1)))
		}
		synctest.Wait()
		require.Equal(t, http.StatusOK, post(h, body("ONAPPUNINSTALL", nil)))
		<-time.After(time.Second)
		close(gate)
		require.NoError(t, h.Idle(t.Context()))
		stats := h.Stats()
		require.EqualValues(t, 50, stats.Removed+stats.Handled-1)
		require.GreaterOrEqual(t, stats.Removed, uint64(48))
		require.Len(t, dropped, int(stats.Removed), "those that were put aside are reported, too") //nolint:gosec // few
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

func TestStormOfOneObjectInTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		calls, merged := 0, 0
		h := newHandler(t, event.HandlerFunc(func(ctx context.Context, _ *event.Delivery) error {
			calls++
			merged += event.AttemptOf(ctx).Merged
			<-time.After(time.Second)
			return nil
		}), webhook.WithStore(s), webhook.WithCoalescing(event.OnCrmDealUpdate))
		synctest.Wait()
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpCommit {
				<-time.After(time.Millisecond)
			}
			return webhooktest.Fault{}
		})
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() { require.Equal(t, http.StatusOK, post(h, deal(7, i+1))) })
		}
		all.Wait()
		require.NoError(t, h.Idle(t.Context()))
		require.Equal(t, 2, calls)
		require.Equal(t, 998, merged)
		require.EqualValues(t, 998, h.Stats().Coalesced)
		require.Zero(t, pending(t, s))
		require.Less(t, h.Stats().Store.Commits, uint64(10), "what comes during a commit is in the next one")
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

var errExit, errCrash = errors.New("exit"), errors.New("panic")

// txStore is a store with transactions that handlers can use.
type txStore struct {
	*webhooktest.MemoryStore

	finish func(id string, err error) error
}

type txKey struct{}

func (s *txStore) Attempt(ctx context.Context, _ int, id string) (context.Context, func(error) error) {
	return context.WithValue(ctx, txKey{}, id), func(err error) error { return s.finish(id, err) }
}

func TestTransactor(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		handler []error // of each attempt
		finish  []error // what finish makes of it; nil for the same
		calls   int
		parked  bool
	}{
		"success":                   {[]error{nil}, nil, 1, false},
		"a failure, then success":   {[]error{errBoom, nil}, nil, 2, false},
		"a commit that fails":       {[]error{nil, nil}, []error{errBoom, nil}, 2, false},
		"settled by another":        {[]error{nil}, []error{fmt.Errorf("tx: %w", webhook.ErrSettled)}, 1, false},
		"a permanent error":         {[]error{permanentError{}}, nil, 1, true},
		"a handler that panics":     {[]error{errCrash}, nil, 1, true},
		"a handler that never ends": {[]error{errExit}, nil, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				calls, finished := 0, 0
				s := &txStore{MemoryStore: newStore(t)}
				s.finish = func(id string, err error) error {
					require.NotEmpty(t, id)
					finished++
					if test.finish != nil {
						return test.finish[finished-1]
					}
					return err
				}
				h := newHandler(t, event.HandlerFunc(func(ctx context.Context, _ *event.Delivery) error {
					calls++
					require.NotNil(t, ctx.Value(txKey{}))
					switch err := test.handler[calls-1]; {
					case errors.Is(err, errExit):
						runtime.Goexit()
						return nil
					case errors.Is(err, errCrash):
						panic("boom")
					default:
						return err
					}
				}), webhook.WithStore(s))
				require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
				require.NoError(t, h.Idle(t.Context()))
				require.Equal(t, test.calls, calls)
				require.Equal(t, calls, finished, "finish is called once for each attempt")
				parked, err := archive(t, s).Parked(t.Context(), "", 10)
				require.NoError(t, err)
				require.Equal(t, test.parked, len(parked) == 1)
				require.NoError(t, h.Shutdown(t.Context()))
			})
		})
	}
}

func TestStoreOptions(t *testing.T) {
	t.Parallel()
	one, many := newStore(t), newStore(t, webhooktest.WithPartitions(4))
	noLeaser := struct{ webhook.Store }{many}
	handler := event.HandlerFunc(func(context.Context, *event.Delivery) error { return nil })
	for name, opts := range map[string][]webhook.Option{
		"nil store":                {webhook.WithStore(nil)},
		"typed nil store":          {webhook.WithStore((*webhooktest.MemoryStore)(nil))},
		"with a queue":             {webhook.WithStore(one), webhook.WithQueue(queueFunc(func(context.Context, *event.Delivery) error { return nil }))},
		"with sync":                {webhook.WithStore(one), webhook.WithSync()},
		"with values of requests":  {webhook.WithStore(one), webhook.WithContext(func(ctx context.Context, _ *http.Request) context.Context { return ctx })},
		"no time":                  {webhook.WithStore(one), webhook.WithEnqueueTimeout(0)},
		"no leaser":                {webhook.WithStore(noLeaser)},
		"nil leaser":               {webhook.WithStore(many), webhook.WithLeaser("a", nil)},
		"leases without a name":    {webhook.WithStore(many), webhook.WithLeaser("", many)},
		"a name with a space":      {webhook.WithStore(many), webhook.WithLeaser("a b", many)},
		"a short lease":            {webhook.WithStore(many), webhook.WithLeaseTTL(time.Millisecond)},
		"a short key":              {webhook.WithStore(one), webhook.WithEncryptionKey(make([]byte, 16))},
		"a key without a store":    {webhook.WithEncryptionKey(make([]byte, 32))},
		"a lease without a store":  {webhook.WithLeaseTTL(time.Minute)},
		"a leaser without a store": {webhook.WithLeaser("a", many)},
		"receiving only, nowhere":  {webhook.WithReceiveOnly()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := webhook.NewHandler(anyPortal(), handler, opts...)
			require.ErrorIs(t, err, webhook.ErrConfig)
		})
	}
}
