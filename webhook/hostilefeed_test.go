//go:build !race

package webhook_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// TestHostileWaitingIsFlushedAfterARemoval: records of an object wait for a handler of an earlier
// tenure, and a removal drops all of them. Then the handler ends. Later records of the object wait
// for ever, because nothing flushes the empty list.
func TestHostileWaitingIsFlushedAfterARemoval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var rests atomic.Bool
		rests.Store(true)
		var mu sync.Mutex
		handled := make(map[string]int)
		handler := do(func(ctx context.Context, d *event.Delivery) error {
			switch {
			case d.Name == "ONAPPUNINSTALL":
				event.ReportRemoval(ctx, d)
				return nil
			case d.Entity().ID == "2" && rests.Load():
				return event.Retry(errBoom, time.Hour) // so that the portal stays in memory
			case d.Entity().ID == "1" && d.Time.Unix() == 1:
				<-release
			}
			mu.Lock()
			defer mu.Unlock()
			handled[fmt.Sprint(d.Entity().ID, "/", d.Time.Unix())]++
			return nil
		})
		const portals = 6
		s := newStore(t, webhooktest.WithPartitions(2))
		one := newHandler(t, handler, webhook.WithStore(s.Open()))
		<-time.After(10 * time.Second)
		post6 := func(b func(n int) string) {
			for n := range portals {
				require.Equal(t, http.StatusOK, post(one, b(n)))
			}
			<-time.After(time.Second)
		}
		post6(func(n int) string { return dealOf(n, 1, 1) })
		two := newHandler(t, handler, webhook.WithStore(s.Open()))
		<-time.After(time.Minute) // one has its partitions back
		post6(func(n int) string { return dealOf(n, 1, 2) })
		post6(func(n int) string { return dealOf(n, 2, 500) })
		post6(func(n int) string { return body("ONAPPUNINSTALL", fields{"ts": "10", "auth[member_id]": memberOf(n)}) })
		close(release)
		<-time.After(10 * time.Second)
		post6(func(n int) string { return dealOf(n, 1, 600) }) // it was installed again
		<-time.After(30 * time.Minute)
		mu.Lock()
		n := handled["1/600"]
		mu.Unlock()
		if n < portals {
			t.Errorf("half an hour later %d of %d deliveries are handled, %d are pending; Health: %v", n, portals, pending(t, s), one.Health())
		}
		rests.Store(false)
		stop(one)
		stop(two)
		<-time.After(time.Hour)
	})
}

// TestHostileLatencyBehindABacklog: one portal is down and has a backlog of more than twice what
// may be in memory. A feed that has passed so many records stops for up to 30 seconds. All other
// portals wait with it, although there is room for them.
func TestHostileLatencyBehindABacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		sent := make(map[int64]time.Time)
		var worst time.Duration
		n := 0
		h := newHandler(t, do(func(_ context.Context, d *event.Delivery) error {
			if d.MemberID() == memberOf(1) {
				return event.Retry(errBoom, time.Hour)
			}
			mu.Lock()
			defer mu.Unlock()
			worst = max(worst, time.Since(sent[d.Time.Unix()]))
			n++
			return nil
		}), webhook.WithStore(newStore(t)), webhook.WithQueueSize(1)) // 20 records
		synctest.Wait()
		for i := range 300 {
			require.Equal(t, http.StatusOK, post(h, dealOf(1, i+1, 1)))
		}
		<-time.After(time.Minute)
		for i := range 100 {
			mu.Lock()
			sent[int64(i+1)] = time.Now()
			mu.Unlock()
			require.Equal(t, http.StatusOK, post(h, dealOf(2, 1, i+1)))
			<-time.After(3 * time.Second)
		}
		<-time.After(2 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if n < 100 || worst > 5*time.Second {
			t.Errorf("%d of 100 deliveries of a portal that is well were handled, one of them %v after it had come; Health: %v",
				n, worst, h.Health())
		}
		stop(h)
	})
}

// flappyStore is a store whose leases belong to another owner for a moment, now and then.
type flappyStore struct {
	*webhooktest.MemoryStore

	lose atomic.Bool
}

func (s *flappyStore) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	held, err := s.MemoryStore.Acquire(ctx, owner, ttl, names...)
	if s.lose.CompareAndSwap(true, false) {
		held = nil
	}
	return held, err
}

// TestHostileOrderUnderLostLeases loses the lease again and again, in real time, while handlers of
// many objects end at about the time at which the next feed passes their records.
func TestHostileOrderUnderLostLeases(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	s := &flappyStore{MemoryStore: newStore(t, webhooktest.WithPartitions(2))}
	const lanes, changes = 300, 12
	var mu sync.Mutex
	last := make(map[string]int64)
	wrong := 0
	h := newHandler(t, do(func(ctx context.Context, d *event.Delivery) error {
		timer := time.NewTimer(time.Duration(20+rand.IntN(40)) * time.Millisecond) //nolint:gosec // a test
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			<-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond) //nolint:gosec // a test
			return context.Cause(ctx)
		}
		mu.Lock()
		defer mu.Unlock()
		if lane, ts := d.Entity().ID, d.Time.Unix(); ts > last[lane]+1 {
			wrong++
		} else {
			last[lane] = max(last[lane], ts)
		}
		return nil
	}), webhook.WithStore(s), webhook.WithLeaseTTL(time.Second), webhook.WithWorkers(300), webhook.WithPortalWorkers(300))
	require.Eventually(t, func() bool { return h.Stats().Store.Partitions == 2 }, 20*time.Second, 10*time.Millisecond)
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(150 * time.Millisecond):
				s.lose.Store(true)
			}
		}
	}()
	for ts := range changes {
		for lane := range lanes {
			require.Equal(t, http.StatusOK, post(h, dealOf(1, lane+1, ts+1)))
		}
	}
	<-time.After(4 * time.Second)
	close(ended)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, h.Idle(ctx))
	mu.Lock()
	defer mu.Unlock()
	if wrong > 0 {
		t.Errorf("%d deliveries were handled before an earlier one of their object", wrong)
	}
	for lane, ts := range last {
		if ts != changes && wrong == 0 {
			t.Errorf("%s: the last is %d", lane, ts)
		}
	}
}

// TestHostileManyTokens: a portal sends a body that is full of tokens. Looking for each of them in
// each text takes the square of its size.
func TestHostileManyTokens(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(body("ONIMBOTMESSAGEADD", nil))
	for i := range 6000 {
		fmt.Fprintf(&b, "&a%d[auth_id]=tokentoken%08d", i, i)
	}
	for i := range 7000 {
		b.WriteString("&data[" + strconv.Itoa(i) + "]=some text of a message")
	}
	require.Less(t, b.Len(), 1<<20)
	var took [2]time.Duration
	for i, opts := range [][]webhook.Option{nil, {webhook.WithStore(newStore(t))}} {
		h := newHandler(t, nothing(), opts...)
		start := time.Now()
		status := post(h, b.String())
		took[i] = time.Since(start)
		if status != http.StatusOK {
			t.Skipf("refused with %d", status)
		}
	}
	if took[1] > 10*took[0]+500*time.Millisecond {
		t.Errorf("a body of %d KiB takes %v with a store, and %v without", b.Len()>>10, took[1], took[0])
	}
}

// TestHostileBacklogOfASlowStore: a store yields a thousand records a second. The feed restarts
// each second, or ten times a second, for what was left, and first reads what is already in memory.
func TestHostileBacklogOfASlowStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 20_000
		s := newStore(t)
		source := newStore(t)
		receiver := newHandler(t, nothing(), webhook.WithStore(source), webhook.WithReceiveOnly())
		require.Equal(t, http.StatusOK, post(receiver, body("ONX", nil)))
		recs, err := source.Load(t.Context(), 0, []string{"1"})
		require.NoError(t, err)
		all := make([]*webhook.Record, 0, n)
		for range n {
			rec := *recs[0]
			rec.ID = ""
			all = append(all, &rec)
		}
		require.NoError(t, s.Commit(t.Context(), all, nil))
		var read atomic.Int64
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpFeed {
				read.Add(1)
				<-time.After(time.Millisecond)
			}
			return webhooktest.Fault{}
		})
		start := time.Now()
		h := newHandler(t, do(func(context.Context, *event.Delivery) error { <-time.After(20 * time.Millisecond); return nil }),
			webhook.WithStore(s), webhook.WithQueueSize(100))
		require.NoError(t, h.Idle(t.Context()))
		if took := time.Since(start); took > time.Minute || read.Load() > 3*n {
			t.Errorf("%d records that the store yields in 20 s and the handlers take 17 s for took %v; %d were read", n, took, read.Load())
		}
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestHostilePortalBehindABacklogOfASlowStore: one portal is down and has a backlog that the store
// takes 30 s to yield. Now and then one of its deliveries is given up.
func TestHostilePortalBehindABacklogOfASlowStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var worst time.Duration
		sent := make(map[int64]time.Time)
		n := 0
		s := newStore(t)
		h := newHandler(t, do(func(_ context.Context, d *event.Delivery) error {
			if d.MemberID() == memberOf(1) {
				<-time.After(10 * time.Second)
				return permanentError{}
			}
			mu.Lock()
			defer mu.Unlock()
			worst = max(worst, time.Since(sent[d.Time.Unix()]))
			n++
			return nil
		}), webhook.WithStore(s), webhook.WithQueueSize(5), webhook.WithWorkers(8)) // 100 records
		synctest.Wait()
		for i := range 3000 {
			require.Equal(t, http.StatusOK, post(h, dealOf(1, i+1, 1)))
		}
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpFeed {
				<-time.After(10 * time.Millisecond)
			}
			return webhooktest.Fault{}
		})
		<-time.After(time.Minute)
		for i := range 60 {
			mu.Lock()
			sent[int64(i+1)] = time.Now()
			mu.Unlock()
			require.Equal(t, http.StatusOK, post(h, dealOf(2, 1, i+1)))
			<-time.After(10 * time.Second)
		}
		mu.Lock()
		defer mu.Unlock()
		if n < 50 || worst > 2*time.Minute {
			t.Errorf("%d of 60 deliveries of a portal that is well were handled in ten minutes, the slowest after %v; Health: %v",
				n, worst, h.Health())
		}
		stop(h)
	})
}

// TestGuardCountersNeverFall: a mark of counters that a process could not store before it lost the
// partition is dropped, however late it is tried again. (A mark that fails rests for up to 30 s.)
func TestGuardCountersNeverFall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		data := newStore(t, webhooktest.WithPartitions(2))
		one, two := data.Open(), data.Open()
		fail := do(func(context.Context, *event.Delivery) error { return event.Retry(errBoom, 20*time.Second) })
		var cut atomic.Bool
		one.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if cut.Load() || c.Op == webhooktest.OpCommit && len(c.Marks) > 0 {
				return webhooktest.Fault{Err: errBoom}
			}
			return webhooktest.Fault{}
		})
		first := newHandler(t, fail, webhook.WithStore(one), webhook.WithMaxAttempts(1000))
		<-time.After(10 * time.Second)
		require.Equal(t, http.StatusOK, post(first, dealUpdate(1))) // fails once; the mark cannot be stored
		<-time.After(time.Second)
		cut.Store(true)
		second := newHandler(t, fail, webhook.WithStore(two), webhook.WithMaxAttempts(1000))
		<-time.After(2 * time.Minute) // it has tried several times
		one.SetFaults(nil)            // the first reaches the store again
		most := 0
		for range 1200 {
			for part := range 2 {
				recs, err := data.Load(t.Context(), part, []string{"1"})
				require.NoError(t, err)
				for _, rec := range recs {
					require.GreaterOrEqual(t, rec.Attempts, most, "a late mark replaced a newer one")
					most = rec.Attempts
				}
			}
			<-time.After(100 * time.Millisecond)
		}
		require.Greater(t, most, 5)
		stop(first)
		stop(second)
	})
}

// contestedStore is a store whose leases belong to another owner for a moment, now and then.
type contestedStore struct {
	*webhooktest.MemoryStore

	lose atomic.Bool
}

func (s *contestedStore) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	held, err := s.MemoryStore.Acquire(ctx, owner, ttl, names...)
	if s.lose.CompareAndSwap(true, false) {
		held = nil
	}
	return held, err
}

// TestHostileOrderOnABusyMachine: cut takes a record off its portal, releases the lock, and removes
// the record from memory. In between the next feed passes the record, which it knows, and the next
// one of the object, which no handler seems to hold up any more. On a busy machine there are
// milliseconds in between.
func TestHostileOrderOnABusyMachine(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	const rounds, lanes, changes = 2, 300, 12
	ended := make(chan struct{})
	defer close(ended)
	for range 4 * runtime.GOMAXPROCS(0) {
		go func() {
			for n := 0; ; n++ {
				select {
				case <-ended:
					return
				default:
				}
			}
		}()
	}
	s := &contestedStore{MemoryStore: newStore(t, webhooktest.WithPartitions(2))}
	var mu sync.Mutex
	last := make(map[string]int64)
	wrong := 0
	h := newHandler(t, do(func(ctx context.Context, d *event.Delivery) error {
		timer := time.NewTimer(time.Duration(20+rand.IntN(40)) * time.Millisecond) //nolint:gosec // a test
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			<-time.After(time.Duration(rand.IntN(20_000)) * time.Microsecond) //nolint:gosec // a test
			return context.Cause(ctx)
		}
		mu.Lock()
		defer mu.Unlock()
		lane, ts := d.MemberID()+d.Entity().ID, d.Time.Unix()
		if ts > last[lane]+1 {
			wrong++
		}
		last[lane] = max(last[lane], ts)
		return nil
	}), webhook.WithStore(s), webhook.WithLeaseTTL(time.Second), webhook.WithWorkers(lanes), webhook.WithPortalWorkers(lanes),
		webhook.WithEnqueueTimeout(10*time.Second))
	require.Eventually(t, func() bool { return h.Stats().Store.Partitions == 2 }, 20*time.Second, 10*time.Millisecond)
	for round := range rounds {
		for ts := range changes {
			for lane := range lanes {
				require.Equal(t, http.StatusOK, post(h, dealOf(round, lane+1, ts+1)))
			}
			s.lose.Store(true)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		require.NoError(t, h.Idle(ctx))
		cancel()
	}
	mu.Lock()
	defer mu.Unlock()
	if wrong > 0 {
		t.Errorf("%d deliveries were handled before an earlier one of their object", wrong)
	}
}
