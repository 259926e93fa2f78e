package offline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	encoding "github.com/b24events/b24events/internal/params"
	"github.com/b24events/b24events/offline"
)

// A simulation of many portals: the real Fleet on a bubble's clock, and portals that are models. A
// model keeps the rows of an offline queue, which it reserves, lists and clears, single or in a
// batch; merges changes of one object that waits; responds after the time that a portal takes; and
// lets 2 requests a second through after a burst of 50, the fetching of objects included, which
// handlers join 50 at a time as rest.Coalescer does. It simplifies: there are no tokens, no HTTP,
// no parked records, one event for each object, and responses take a random time that does not
// depend on the load of the portal or of the network.

// simLoad is what the portals of a simulation do. Shares are of all portals.
type simLoad struct {
	portals                         int
	turns                           int           // of the fleet
	length                          time.Duration // changes happen for so long
	wakes                           float64       // of the ONOFFLINEEVENT notices, so many arrive
	classes                         []simClass
	imports                         int // portals with an import in the middle of the time
	objects                         int // changed in each import, within a minute
	hanging, erring, refusing, slow int // portals
}

// simClass is portals of which each has a change in so long, on average.
type simClass struct {
	share float64
	every time.Duration
}

const (
	simRate  = 2.0 // requests a second
	simBurst = 50.0
)

type mood int

const (
	healthy mood = iota
	hanging
	erring
	refusing
	slow
)

type sim struct {
	load    simLoad
	fleet   *offline.Fleet
	portals map[string]*simPortal
	order   []*simPortal

	requests atomic.Int64

	mu    sync.Mutex
	calm  []time.Duration // lags of portals without an import
	storm []time.Duration
}

type simRow struct {
	id      int64
	object  int
	changed time.Time
	process int // 0 while unreserved
}

type simPortal struct {
	sim  *sim
	id   string
	mood mood

	mu        sync.Mutex
	importing bool
	level     float64 // of the bucket
	leaked    time.Time
	rows      []simRow
	waiting   map[int]time.Time // objects with a change that was not handled, since when
	lastRow   int64
	lastBatch int
	noticed   time.Time
	requests  int
	join      *simJoin
}

// simJoin is a batch of fetches that gathers.
type simJoin struct {
	n    int
	done chan struct{}
	err  error
}

func newSim(load simLoad) *sim {
	s := &sim{load: load, portals: make(map[string]*simPortal, load.portals)}
	moods := []struct {
		mood mood
		n    int
	}{{hanging, load.hanging}, {erring, load.erring}, {refusing, load.refusing}, {slow, load.slow}}
	for i := range load.portals {
		p := &simPortal{sim: s, id: fmt.Sprintf("%032x", i)}
		s.portals[p.id] = p
		s.order = append(s.order, p)
	}
	at := load.portals
	for _, m := range moods {
		for range m.n {
			at--
			s.order[at].mood = m.mood
		}
	}
	rest := s.order[load.imports:] // portals with an import are healthy
	//nolint:gosec // a simulation
	rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	return s
}

// caller is what the fleet calls portals with.
func (s *sim) caller(memberID string) event.Caller {
	if p := s.portals[memberID]; p != nil {
		return p
	}
	return nil
}

// HandleEvent fetches the object, and is done with the changes that were made before.
func (s *sim) HandleEvent(ctx context.Context, d *event.Delivery) error {
	p := s.portals[d.MemberID()]
	object, err := strconv.Atoi(d.Entity().ID)
	if p == nil || err != nil {
		return event.Drop(errors.New("a record of no portal"))
	}
	if err := p.fetch(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	since, open := p.waiting[object]
	delete(p.waiting, object)
	importing := p.importing
	p.mu.Unlock()
	if open {
		s.mu.Lock()
		defer s.mu.Unlock()
		if lag := time.Since(since); importing {
			s.storm = append(s.storm, lag)
		} else {
			s.calm = append(s.calm, lag)
		}
	}
	return nil
}

// fetch joins up to 50 fetches within 20 ms into one request.
func (p *simPortal) fetch(ctx context.Context) error {
	p.mu.Lock()
	j := p.join
	if j == nil {
		j = &simJoin{done: make(chan struct{})}
		p.join = j
		time.AfterFunc(20*time.Millisecond, func() { p.send(j) }) //nolint:contextcheck // a joined request outlives who made it
	}
	j.n++
	if j.n == 50 {
		p.join = nil
	}
	p.mu.Unlock()
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send makes the request of a join.
func (p *simPortal) send(j *simJoin) {
	p.mu.Lock()
	if p.join == j {
		p.join = nil
	}
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	j.err = p.request(ctx)
	close(j.done)
}

// request waits until the portal's limit allows a request, as rest.Limiter does, and for the
// answer.
func (p *simPortal) request(ctx context.Context) error {
	p.sim.requests.Add(1)
	p.mu.Lock()
	p.requests++
	now := time.Now()
	p.level = max(0, p.level-simRate*now.Sub(p.leaked).Seconds()) + 1
	p.leaked = now
	wait := time.Duration(max(0, p.level-simBurst) / simRate * float64(time.Second))
	mood := p.mood
	p.mu.Unlock()
	// The median is 150 ms; one in a hundred takes more than half a second, one in a thousand more
	// than one.
	latency := time.Duration(150 * math.Exp(0.6*rand.NormFloat64()) * float64(time.Millisecond)) //nolint:gosec // a simulation
	switch mood {
	case hanging:
		<-ctx.Done()
		return ctx.Err()
	case slow:
		latency *= 40
	case healthy, erring, refusing:
	}
	select {
	case <-time.After(wait + latency):
	case <-ctx.Done():
		return ctx.Err()
	}
	switch mood {
	case erring:
		return refusal{code: "INTERNAL_SERVER_ERROR"}
	case refusing:
		return refusal{code: "ACCESS_DENIED"}
	case healthy, hanging, slow:
	}
	return nil
}

// Call is the method of an event.Caller.
func (p *simPortal) Call(ctx context.Context, method string, params, result any) error {
	if err := p.request(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m, _ := params.(map[string]any)
	var doc []byte
	if method == "batch" {
		cmd, _ := m["cmd"].(map[string]any)
		doc = append(doc, `{"result_error":[],"result_next":[],"result_time":[],"result_total":[],"result":{`...)
		names := make([]string, 0, len(cmd))
		for name := range cmd {
			names = append(names, name)
		}
		slices.Sort(names)
		for i, name := range names {
			if i > 0 {
				doc = append(doc, ',')
			}
			command, _ := cmd[name].(string)
			method, query, _ := strings.Cut(command, "?")
			doc = append(strconv.AppendQuote(doc, name), ':')
			doc = p.run(doc, method, query)
		}
		doc = append(doc, "}}"...)
	} else {
		form, err := encoding.Encode(m, nil)
		if err != nil {
			return err
		}
		doc = p.run(nil, method, form.Text)
	}
	if raw, ok := result.(*json.RawMessage); ok {
		*raw = doc
		return nil
	}
	return json.Unmarshal(doc, result)
}

// run runs a method and appends its result to doc.
func (p *simPortal) run(doc []byte, method, query string) []byte {
	one := make(map[string]string)
	var messages []string
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(key, "message_id") {
			messages = append(messages, value)
		} else {
			one[key] = value
		}
	}
	switch method {
	case "event.offline.get":
		limit, _ := strconv.Atoi(one["limit"])
		if one["error"] == "1" {
			limit = 0
		}
		p.lastBatch++
		doc = append(doc, `{"process_id":"p`...)
		doc = append(strconv.AppendInt(doc, int64(p.lastBatch), 10), `","events":[`...)
		first := true
		for i := range p.rows {
			if limit == 0 {
				break
			}
			if r := &p.rows[i]; r.process == 0 {
				r.process = p.lastBatch
				doc = appendRow(doc, r, first)
				first = false
				limit--
			}
		}
		return append(doc, "]}"...)
	case "event.offline.clear":
		process, _ := strconv.Atoi(strings.TrimPrefix(one["process_id"], "p"))
		gone := make(map[int]bool, len(messages))
		for _, m := range messages {
			object, _ := strconv.ParseInt(m, 16, 64)
			gone[int(object)] = true
		}
		p.rows = slices.DeleteFunc(p.rows, func(r simRow) bool { return r.process == process && gone[r.object] })
		return append(doc, "true"...)
	case "event.offline.list": // the front of the queue, where the reserved rows are
		doc = append(doc, '[')
		n := 0
		for i := range p.rows {
			if r := &p.rows[i]; r.process != 0 && n < 50 && !strings.Contains(query, "ERROR%5D=1") {
				doc = appendRow(doc, r, n == 0)
				n++
			}
		}
		return append(doc, ']')
	default:
		return append(doc, "true"...)
	}
}

func appendRow(doc []byte, r *simRow, first bool) []byte {
	if !first {
		doc = append(doc, ',')
	}
	doc = append(doc, `{"ID":"`...)
	doc = strconv.AppendInt(doc, r.id, 10)
	doc = append(doc, `","TIMESTAMP_X":"`...)
	doc = r.changed.UTC().AppendFormat(doc, time.RFC3339)
	doc = append(doc, `","EVENT_NAME":"ONCRMDEALUPDATE","EVENT_DATA":{"FIELDS":{"ID":`...)
	doc = strconv.AppendInt(doc, int64(r.object), 10)
	doc = append(doc, `}},"EVENT_ADDITIONAL":{"user_id":1},"MESSAGE_ID":"`...)
	doc = fmt.Appendf(doc, "%032x", r.object)
	if r.process != 0 {
		doc = append(doc, `","PROCESS_ID":"p`...)
		doc = strconv.AppendInt(doc, int64(r.process), 10)
	}
	return append(doc, `","ERROR":0}`...)
}

// change changes an object, and sends a notice, of which there is one a second at most.
func (p *simPortal) change(object int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.waiting == nil {
		p.waiting = make(map[int]time.Time)
	}
	if _, open := p.waiting[object]; !open {
		p.waiting[object] = now
	}
	i := slices.IndexFunc(p.rows, func(r simRow) bool { return r.object == object && r.process == 0 })
	if i >= 0 {
		p.rows[i].changed = now
	} else {
		p.lastRow++
		p.rows = append(p.rows, simRow{id: p.lastRow, object: object, changed: now})
	}
	if now.Sub(p.noticed) >= time.Second {
		p.noticed = now
		if rand.Float64() < p.sim.load.wakes { //nolint:gosec // a simulation
			delay := 300*time.Millisecond + rand.N(1700*time.Millisecond) //nolint:gosec // a simulation
			time.AfterFunc(delay, func() { p.sim.fleet.Wake(p.id) })
		}
	}
}

// drive changes objects for the time of the simulation.
func (s *sim) drive(ctx context.Context) {
	const step = 100 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	start := time.Now()
	for _, p := range s.order[:s.load.imports] {
		p.importing = true
	}
	for time.Since(start) < s.load.length {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		from := 0
		for _, c := range s.load.classes {
			n := int(c.share * float64(len(s.order)))
			for range poisson(float64(n) * step.Seconds() / c.every.Seconds()) {
				s.order[from+rand.IntN(n)].change(1 + rand.IntN(100)) //nolint:gosec // a simulation
			}
			from += n
		}
		if at := time.Since(start) - s.load.length/2; at >= 0 && at < time.Minute {
			for _, p := range s.order[:s.load.imports] {
				for range s.load.objects * int(step) / int(time.Minute) {
					p.change(1000 + rand.IntN(s.load.objects)) //nolint:gosec // a simulation
				}
			}
		}
	}
}

// poisson returns how often something happens that happens so often on average.
func poisson(mean float64) int {
	if mean > 50 {
		return max(0, int(mean+math.Sqrt(mean)*rand.NormFloat64()+0.5)) //nolint:gosec // a simulation
	}
	n, limit, p := 0, math.Exp(-mean), rand.Float64() //nolint:gosec // a simulation
	for p > limit {
		n++
		p *= rand.Float64() //nolint:gosec // a simulation
	}
	return n
}

// open returns how many objects of portals in a mood have changes that were not handled.
func (s *sim) open(moods ...mood) int {
	n := 0
	for _, p := range s.order {
		p.mu.Lock()
		if slices.Contains(moods, p.mood) {
			n += len(p.waiting)
		}
		p.mu.Unlock()
	}
	return n
}

// simResult is what a simulation found.
type simResult struct {
	calm, storm  []time.Duration // sorted
	perSecond    float64         // requests
	perImported  float64         // requests for each record of portals with an import
	bytesPerIdle float64
	stats        offline.FleetStats
	left         int // objects of healthy portals that stayed unhandled
}

func heapNow() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// runSim runs a simulation in a bubble of its own.
func runSim(t *testing.T, load simLoad, opts ...offline.FleetOption) simResult {
	t.Helper()
	var r simResult
	s := newSim(load)
	f, err := offline.NewFleet(s.caller, s, append([]offline.FleetOption{silent(), offline.WithTurns(load.turns)}, opts...)...)
	require.NoError(t, err)
	s.fleet = f
	before := heapNow()
	for id := range s.portals {
		require.NoError(t, f.Add(id))
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var run sync.WaitGroup
	run.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	pass(t, offline.DefaultFleetMaxInterval+time.Minute) // all have had their first turn
	r.bytesPerIdle = (heapNow() - before) / float64(load.portals)
	requests := s.requests.Load()
	s.drive(ctx)
	r.perSecond = float64(s.requests.Load()-requests) / load.length.Seconds()
	r.stats = f.Stats()
	for end := time.Now().Add(10 * time.Minute); s.open(healthy, slow) > 0 && time.Now().Before(end); {
		pass(t, 10*time.Second)
	}
	r.left = s.open(healthy, slow)
	stop()
	run.Wait()
	r.calm, r.storm = s.calm, s.storm
	slices.Sort(r.calm)
	slices.Sort(r.storm)
	for _, p := range s.order[:load.imports] {
		r.perImported += float64(p.requests) / float64(len(r.storm))
	}
	return r
}

// quantile returns the lag that so large a part of the sorted lags does not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Round(10 * time.Millisecond)
}

func (r simResult) String() string {
	line := func(sorted []time.Duration) string {
		return fmt.Sprintf("p50 %v p90 %v p99 %v p99.9 %v max %v, of %d", quantile(sorted, .5), quantile(sorted, .9), quantile(sorted, .99),
			quantile(sorted, .999), quantile(sorted, 1), len(sorted))
	}
	return fmt.Sprintf("%d portals, %d of them failing, %.0f requests/s, %.0f bytes for each idle portal\n"+
		"  change to handled: %s\n  the same in an import: %s, %.3f requests for each record\n  unhandled at the end: %d",
		r.stats.Portals, r.stats.Failing, r.perSecond, r.bytesPerIdle, line(r.calm), line(r.storm), r.perImported, r.left)
}

func TestFleetSimulation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := runSim(t, simLoad{
			portals: 400, turns: 32, length: 3 * time.Minute, wakes: 1,
			classes: []simClass{{0.1, 20 * time.Second}, {0.3, 5 * time.Minute}, {0.6, 2 * time.Hour}},
			imports: 2, objects: 600, hanging: 10, erring: 10, refusing: 10, slow: 4,
		})
		t.Log(r)
		require.Zero(t, r.left, "no change is lost")
		require.Less(t, quantile(r.calm, 0.5), 3*time.Second, "a notice takes up to two seconds")
		require.Less(t, quantile(r.calm, 0.95), 10*time.Second)
		require.Less(t, quantile(r.storm, 0.99), 30*time.Second)
		require.Equal(t, 30, r.stats.Failing)
		require.Equal(t, 10, r.stats.Refused)
		require.Less(t, r.perSecond, 100.0)
	})
}

// BenchmarkFleet simulates 100,000 portals of one process for eight minutes: six until each had its
// first turn and found nothing, then two in which of each hundred two change something each 20
// seconds, fifteen each five minutes, and 80 each two hours, 50 import 5,000 objects within a
// minute, and 1,500 never respond, fail, refuse, or take six seconds for each response. One in
// twenty notices is lost; what such a change waits for is the fleet's next look by itself. It
// prints what [simResult] holds.
func BenchmarkFleet(b *testing.B) {
	load := simLoad{
		portals: 100_000, turns: 1024, length: 2 * time.Minute, wakes: 0.95,
		classes: []simClass{{0.02, 20 * time.Second}, {0.15, 5 * time.Minute}, {0.8, 2 * time.Hour}},
		imports: 50, objects: 5000, hanging: 500, erring: 300, refusing: 200, slow: 500,
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	for b.Loop() {
		start := time.Now()
		var r simResult
		inBubble(b, func(t *testing.T) { r = runSim(t, load) }) //nolint:thelper // the test itself
		b.Logf("%v\n  simulated in %v", r, time.Since(start).Round(time.Second))
		b.ReportMetric(quantile(r.calm, .5).Seconds(), "lag-p50-s")
		b.ReportMetric(quantile(r.calm, .9).Seconds(), "lag-p90-s")
		b.ReportMetric(quantile(r.calm, .99).Seconds(), "lag-p99-s")
		b.ReportMetric(r.perSecond, "requests/s")
		b.ReportMetric(r.perImported, "requests/record")
		b.ReportMetric(r.bytesPerIdle, "bytes/portal")
	}
}
