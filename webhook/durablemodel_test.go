package webhook_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/longtest"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// modelRuns is how many schedules TestStoreModel tries, and modelSeed the first of them.
var (
	modelRuns = flag.Int("store.model.runs", 0, "random schedules of TestStoreModel, instead of the usual number")
	modelSeed = flag.Uint64("store.model.seed", 1, "seed of the first schedule of TestStoreModel")
)

// TestStoreModel runs processes that share a store which fails, stalls and lies, with handlers that
// fail, panic and hang, and with processes that die, stop and start. It checks:
//
//   - A delivery with the response 200 is handled, parked, or dropped by its handler.
//   - Deliveries of an object are handled in order. One may be handled again, and never before an
//     earlier one was handled or parked.
//   - Handlers of an object do not overlap, except behind a process that was cut off from the
//     store.
//   - In the end nothing is pending, in memory or charged, and no goroutine is left.
func TestStoreModel(t *testing.T) {
	t.Parallel()
	runs := cmp.Or(*modelRuns, longtest.Times(50, 500))
	for i := range runs {
		seed := *modelSeed + uint64(i)
		if t.Failed() {
			return
		}
		synctest.Test(t, func(t *testing.T) { newStoreModel(t, seed).run() })
	}
}

type storeModel struct {
	t      *testing.T
	seed   uint64
	rand   *rand.Rand // of the schedule only
	parts  int
	data   *webhooktest.MemoryStore
	procs  []*modelProcess
	merges bool

	mu       sync.Mutex
	chance   *rand.Rand          // of faults and handlers
	accepted map[string][]int    // lane: versions that were answered 200, in order
	maybe    map[string]bool     // lane/version: answered 503 by the store, may be there all the same
	ended    map[string]int      // lane/version: times handled, dropped by the handler, or merged
	gaveUp   map[string]bool     // lane/version: a process gave it up, and is to park it
	running  map[string]*attempt // lane
	faulty   bool
	sent     map[string]int // lane: versions sent
	last     map[string]chan struct{}
}

type attempt struct {
	proc  *modelProcess
	ctx   context.Context //nolint:containedctx // to see what has become of it
	began time.Time
}

type modelProcess struct {
	m     *storeModel
	n     int
	store *webhooktest.MemoryStore
	h     *webhook.Handler
	dead  bool          // cut off from the store; guarded by m.mu
	since time.Time     // when it died
	cut   chan struct{} // closed when it dies
}

func newStoreModel(t *testing.T, seed uint64) *storeModel {
	t.Helper()
	m := &storeModel{
		t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), chance: rand.New(rand.NewPCG(seed, 2)), //nolint:gosec // a schedule
		accepted: make(map[string][]int), maybe: make(map[string]bool), ended: make(map[string]int), gaveUp: make(map[string]bool),
		running: make(map[string]*attempt), sent: make(map[string]int), last: make(map[string]chan struct{}),
	}
	m.parts = []int{1, 1, 4}[m.rand.IntN(3)]
	m.merges = m.rand.IntN(3) == 0
	m.faulty = m.rand.IntN(4) > 0
	m.data = newStore(t, webhooktest.WithPartitions(m.parts))
	return m
}

func (m *storeModel) start() {
	p := &modelProcess{m: m, n: len(m.procs), store: m.data.Open(), cut: make(chan struct{})}
	p.store.SetFaults(p.fault)
	opts := []webhook.Option{
		silent(), webhook.WithStore(p.store), webhook.WithMaxAttempts(3), webhook.WithWorkers(1 + m.rand.IntN(8)),
		webhook.WithQueueSize(1 + m.rand.IntN(20)), webhook.WithHandlerTimeout(20 * time.Second),
	}
	if m.merges {
		opts = append(opts, webhook.WithCoalescing(event.OnCrmDealUpdate))
	}
	h, err := webhook.NewHandler(anyPortal(), p, opts...)
	require.NoError(m.t, err)
	p.h = h
	m.procs = append(m.procs, p)
}

// fault returns what goes wrong with a call of the store.
func (p *modelProcess) fault(ctx context.Context, c webhooktest.Call) webhooktest.Fault {
	m := p.m
	m.mu.Lock()
	if p.dead {
		m.mu.Unlock()
		return webhooktest.Fault{Err: errBoom}
	}
	lease := c.Op == webhooktest.OpAcquire || c.Op == webhooktest.OpHeld || c.Op == webhooktest.OpRelease
	if !m.faulty || lease && m.chance.IntN(20) > 0 || m.chance.IntN(6) > 0 {
		m.mu.Unlock()
		return webhooktest.Fault{}
	}
	f := webhooktest.Fault{Err: errBoom}
	wait := time.Duration(0)
	switch m.chance.IntN(5) {
	case 0: // it does nothing and says so
	case 1: // it does a part of it
		if c.Op == webhooktest.OpCommit {
			f.Added, f.Marked = m.chance.IntN(len(c.Add)+1), m.chance.IntN(len(c.Marks)+1)
		}
	case 2: // it does all of it and says that it did not
		f.Added, f.Marked = len(c.Add), len(c.Marks)
	case 3: // it is slow
		f, wait = webhooktest.Fault{}, time.Duration(m.chance.IntN(8000))*time.Millisecond
	case 4: // it is slow and fails
		wait = time.Duration(m.chance.IntN(8000)) * time.Millisecond
	}
	if lease {
		wait /= 8
	}
	m.mu.Unlock()
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-p.cut:
			return webhooktest.Fault{Err: errBoom}
		}
	}
	return f
}

// HandleEvent is the handler of a process.
func (p *modelProcess) HandleEvent(ctx context.Context, d *event.Delivery) error {
	m := p.m
	lane, version := d.MemberID()+"/"+d.Entity().ID, int(d.Time.Unix())
	m.mu.Lock()
	if p.dead { // a process that is gone handles nothing: its work does not count
		m.mu.Unlock()
		<-ctx.Done()
		return context.Cause(ctx)
	}
	m.beginLocked(ctx, p, lane, version)
	what := m.chance.IntN(20)
	took := time.Duration(m.chance.IntN(300)) * time.Millisecond
	if m.chance.IntN(40) == 0 {
		took = time.Duration(m.chance.IntN(15)) * time.Second
	}
	m.mu.Unlock()
	timer := time.NewTimer(took)
	defer timer.Stop()
	var err error
	select {
	case <-timer.C:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-p.cut:
		err = errBoom
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running[lane] != nil && m.running[lane].proc == p {
		delete(m.running, lane)
	}
	if a := event.AttemptOf(ctx); err == nil && (what < 2 && a.Number >= a.Max || what == 2) {
		m.gaveUp[fmt.Sprint(lane, " ", version)] = true
	}
	switch {
	case err != nil:
		return err
	case what == 0:
		return errBoom
	case what == 1:
		return event.Retry(errBoom, time.Duration(m.chance.IntN(60))*time.Second)
	case what == 2:
		panic("boom")
	case what == 3:
		m.endedLocked(lane, version)
		return event.Drop(errBoom)
	}
	m.endedLocked(lane, version)
	return nil
}

func (m *storeModel) endedLocked(lane string, version int) {
	m.ended[fmt.Sprint(lane, " ", version)]++
}

// beginLocked checks that an attempt may begin. m.mu is held.
func (m *storeModel) beginLocked(ctx context.Context, p *modelProcess, lane string, version int) {
	if other := m.running[lane]; other != nil && !other.proc.dead {
		m.failLocked("%s: handlers of processes %d and %d overlap: the first began %v ago, its context: %v; the second: %v",
			lane, other.proc.n, p.n, time.Since(other.began), context.Cause(other.ctx), context.Cause(ctx)) //nolint:contextcheck // of the other
	}
	m.running[lane] = &attempt{p, ctx, time.Now()}
	if m.merges {
		return // what was merged away is handled by another
	}
	for _, v := range m.accepted[lane] {
		if key := fmt.Sprint(lane, " ", v); v < version && m.ended[key] == 0 && !m.gaveUp[key] && !m.parked(ctx, lane, v) {
			m.failLocked("%s: %d begins, and %d was neither handled nor parked", lane, version, v)
		}
	}
}

// parked reports whether a version is in the archive.
func (m *storeModel) parked(ctx context.Context, lane string, version int) bool {
	recs, err := m.data.List(context.WithoutCancel(ctx), webhook.StateParked, "", 1000)
	require.NoError(m.t, err)
	for _, rec := range recs {
		if modelKey(rec) == fmt.Sprint(lane, " ", version) {
			return true
		}
	}
	return false
}

// modelKey names the lane and the version of a record.
func modelKey(rec *webhook.Record) string {
	d, err := event.ParseStored(rec.Data[6:])
	if err != nil {
		return ""
	}
	return fmt.Sprint(d.MemberID(), "/", d.Entity().ID, " ", d.Time.Unix())
}

func (m *storeModel) failLocked(format string, args ...any) {
	m.t.Errorf("seed %d: %s", m.seed, fmt.Sprintf(format, args...))
}

// alive returns a process that is not dead, nil for none.
func (m *storeModel) alive() *modelProcess {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []*modelProcess
	for _, p := range m.procs {
		if !p.dead && p.h != nil {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[m.rand.IntN(len(all))]
}

// kill cuts a process off from the store and the world.
func (m *storeModel) kill(p *modelProcess) {
	m.mu.Lock()
	p.dead, p.since = true, time.Now()
	close(p.cut)
	m.mu.Unlock()
	h := p.h
	p.h = nil
	stop(h)
}

func (m *storeModel) run() {
	t := m.t
	m.start()
	if m.parts > 1 {
		for range m.rand.IntN(3) {
			m.start()
		}
	}
	var sending sync.WaitGroup
	for range 20 + m.rand.IntN(60) {
		switch what := m.rand.IntN(30); {
		case what < 20:
			p := m.alive()
			if p == nil {
				m.start()
				continue
			}
			for range 1 + m.rand.IntN(8) {
				m.send(p, &sending)
			}
		case what < 26:
			<-time.After(time.Duration(m.rand.IntN(4000)) * time.Millisecond)
		case what == 26 && m.parts > 1 && len(m.procs) < 6:
			m.start()
		case what == 27:
			sending.Wait()
			if p := m.alive(); p != nil {
				m.kill(p)
				if m.parts == 1 || m.alive() == nil {
					m.start()
				}
			}
		case what == 28:
			sending.Wait()
			if p := m.alive(); p != nil {
				h := p.h
				p.h = nil
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(m.rand.IntN(10_000))*time.Millisecond)
				_ = h.Shutdown(ctx)
				cancel()
				m.mu.Lock() // its handlers may go on and do not count any more
				p.dead = true
				m.mu.Unlock()
				if m.parts == 1 || m.alive() == nil {
					m.start()
				}
			}
		case what == 29:
			m.mu.Lock()
			m.faulty = !m.faulty
			m.mu.Unlock()
		}
	}
	sending.Wait()
	m.mu.Lock()
	m.faulty = false
	m.mu.Unlock()
	if m.alive() == nil {
		m.start()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	err := m.alive().h.Idle(ctx)
	cancel()
	if err != nil {
		depth, _ := m.data.Depth(t.Context())
		t.Errorf("seed %d: it does not become idle: %v; %+v", m.seed, err, depth)
	}
	m.check()
	for _, p := range m.procs {
		if p.h == nil {
			continue
		}
		<-time.After(time.Minute)
		stats := p.h.Stats().Store
		if stats.InMemory != 0 || stats.Places != 0 {
			t.Errorf("seed %d: process %d has %d records in memory and %d places charged", m.seed, p.n, stats.InMemory, stats.Places)
		}
		if err := p.h.Health(); err != nil {
			t.Errorf("seed %d: process %d is not well: %v", m.seed, p.n, err)
		}
		require.NoError(t, p.h.Shutdown(t.Context()))
	}
	<-time.After(time.Minute) // what hangs ends
}

// send posts a change of an object.
func (m *storeModel) send(p *modelProcess, sending *sync.WaitGroup) {
	portal, object := m.rand.IntN(3), 1+m.rand.IntN(3)
	lane := fmt.Sprint(memberOf(portal), "/", object)
	m.mu.Lock()
	m.sent[lane]++
	version := m.sent[lane]
	m.mu.Unlock()
	b := dealOf(portal, object, version)
	before := m.last[lane]
	done := make(chan struct{})
	m.last[lane] = done
	h := p.h
	sending.Go(func() {
		defer close(done)
		if before != nil { // what is sent before the last was answered has no order
			<-before
		}
		status := post(h, b)
		m.mu.Lock()
		defer m.mu.Unlock()
		switch status {
		case http.StatusOK:
			m.accepted[lane] = append(m.accepted[lane], version)
		case http.StatusServiceUnavailable:
		default:
			m.failLocked("answered %d", status)
		}
	})
}

// check looks for lost deliveries.
func (m *storeModel) check() {
	archived := make(map[string]bool)
	recs, err := m.data.List(context.Background(), webhook.StateParked, "", 100_000)
	require.NoError(m.t, err)
	for _, rec := range recs {
		archived[modelKey(rec)] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for lane, versions := range m.accepted {
		for _, v := range versions {
			key := fmt.Sprint(lane, " ", v)
			covered := m.ended[key] > 0 || archived[key]
			for later := v + 1; m.merges && !covered && later <= m.sent[lane]; later++ { // it stands for this one
				key := fmt.Sprint(lane, " ", later)
				covered = m.ended[key] > 0 || archived[key]
			}
			if !covered {
				m.failLocked("%s was answered 200 and is neither handled nor parked", key)
			}
		}
	}
}
