package offline_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
)

const (
	modelPerson  = 7 // user who changes objects
	modelIgnored = 9 // user whose changes are ignored

	// modelSettle is how long Run may take after its grace period and the last handler: ten seconds
	// for the portal, and two steps of three seconds for the store of leases.
	modelSettle = 16*time.Second + modelSlack
	// modelCalm is how long it may take until everything is handled once nothing goes wrong.
	modelCalm = 3 * time.Hour
	// modelSlack is how much later than its lease a handler's context may end.
	modelSlack = 100 * time.Millisecond
)

// modelObject is an object of a portal.
type modelObject struct {
	portal int
	id     string
}

func (o modelObject) String() string { return fmt.Sprintf("portal %d, deal %s", o.portal, o.id) }

// modelKey is a kind of change of an object, for which the queue has one record at a time that
// waits.
type modelKey struct {
	modelObject

	kind string
}

func (k modelKey) String() string { return k.kind + " of " + k.modelObject.String() }

// modelChanges are the changes of one kind of an object. Changes are counted from 1.
type modelChanges struct {
	at    []time.Time // of each
	ended int         // the last that a handler saw that ended well, or that may go unhandled
	late  bool        // propPrompt was violated, which is said once
	lost  int         // the last that no row stood for, which is said once
	calls int         // of handlers
}

func (c *modelChanges) last() int { return len(c.at) }

// modelWorld is what happens in a run.
type modelWorld struct {
	t        *testing.T
	cfg      modelConfig
	seed     uint64
	start    time.Time
	leaser   *offline.MemoryLeaser
	schedule *rand.Rand // of the driver, which is one goroutine
	objects  int
	portals  []*fixture
	number   map[string]int // of a portal, by member ID
	living   []*modelProcess
	killed   []*modelProcess
	healing  *time.Timer // of event.offline.list

	background sync.WaitGroup // calls that run late

	mu         sync.Mutex
	calm       bool // nothing goes wrong any more
	changes    map[modelKey]*modelChanges
	running    map[modelObject][]*modelRun
	piled      map[string]bool // message IDs with too many rows
	processes  int             // that were started
	trace      []string
	violations []modelViolation
}

func newModelWorld(t *testing.T, cfg modelConfig, seed uint64) *modelWorld {
	t.Helper()
	w := &modelWorld{
		t: t, cfg: cfg, seed: seed, start: time.Now(), leaser: offline.NewMemoryLeaser(),
		number: make(
			map[string]int,
		), changes: make(map[modelKey]*modelChanges), piled: make(map[string]bool), running: make(map[modelObject][]*modelRun),
	}
	w.schedule = w.source("schedule")
	w.objects = between(w.schedule, cfg.objects)
	for i := range cfg.portals {
		f := newFixture(t, eventtest.WithQuirks(func(m *eventtest.Quirks) { m.RacingReservations = cfg.racing }))
		w.portals = append(w.portals, f)
		w.number[f.MemberID()] = i
	}
	return w
}

// clientID names the application. It is one, although each portal of eventtest knows it by another
// ID.
func (w *modelWorld) clientID() offline.CommonOption {
	return offline.WithClientID(w.portals[0].app.ClientID())
}

// identity names the queue of a portal.
func (w *modelWorld) identity(portal int) []offline.ConsumerOption {
	return []offline.ConsumerOption{w.clientID(), offline.WithMemberID(w.portals[portal].MemberID())}
}

// source returns random decisions for one occasion, which depend on nothing but the seed and the
// occasion's name.
func (w *modelWorld) source(occasion string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(occasion))
	return rand.New(rand.NewPCG(w.seed, h.Sum64())) //nolint:gosec // repeatable
}

func between[T ~int | ~int64](r *rand.Rand, limits [2]T) T {
	return limits[0] + T(r.Int64N(int64(limits[1]-limits[0])+1))
}

// upToDuration returns a random duration shorter than d, or 0.
func upToDuration(r *rand.Rand, d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(r.Int64N(int64(d)))
}

// pick returns an index, as often as its weight says.
func pick(r *rand.Rand, weights ...int) int {
	sum := 0
	for _, n := range weights {
		sum += n
	}
	at := r.IntN(sum)
	for i, n := range weights {
		if at -= n; at < 0 {
			return i
		}
	}
	return 0
}

// sayLocked adds a line to the trace. Callers hold mu.
func (w *modelWorld) sayLocked(format string, args ...any) {
	at := time.Since(w.start)
	w.trace = append(
		w.trace,
		fmt.Sprintf("%3d:%02d:%06.3f  ", int(at.Hours()), int(at.Minutes())%60, (at%time.Minute).Seconds())+fmt.Sprintf(format, args...),
	)
}

func (w *modelWorld) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sayLocked(format, args...)
}

// violateLocked notes that a property does not hold. Callers hold mu.
func (w *modelWorld) violateLocked(p property, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.sayLocked("VIOLATION of %q: %s", p, text)
	w.violations = append(w.violations, modelViolation{property: p, text: text, line: len(w.trace) - 1})
}

// changesLocked returns the changes of a key. Callers hold mu.
func (w *modelWorld) changesLocked(key modelKey) *modelChanges {
	c := w.changes[key]
	if c == nil {
		c = new(modelChanges)
		w.changes[key] = c
	}
	return c
}

// change lets something happen to an object.
func (w *modelWorld) change() {
	r := w.schedule
	portal, kind, id := r.IntN(len(w.portals)), w.cfg.kinds[r.IntN(len(w.cfg.kinds))], 1+r.IntN(w.objects)
	ignored := w.cfg.ignored && r.IntN(3) == 0
	f := w.portals[portal]
	key := modelKey{modelObject{portal, strconv.Itoa(id)}, kind}
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.changesLocked(key)
	user := int64(modelPerson)
	if ignored {
		user = modelIgnored
		w.sayLocked("an ignored user: %s", key)
		if w.mergesLocked(key) {
			c.ended = c.last() // see WithIgnoredUsers
		}
	} else {
		c.at = append(c.at, time.Now())
		w.sayLocked("change %d: %s", c.last(), key)
	}
	require.NoError(w.t, f.Raise("ONCRMDEAL"+kind, map[string]any{"FIELDS": map[string]any{"ID": id}}, user))
}

// mergesLocked reports whether a change would be merged into a record that waits and is not parked.
// Callers hold mu.
func (w *modelWorld) mergesLocked(key modelKey) bool {
	for _, r := range w.portals[key.portal].OfflineRows() {
		if r.Event == "ONCRMDEAL"+key.kind && r.Data.Get("FIELDS", "ID").Text() == key.id && r.ProcessID == "" && !r.Error {
			return true
		}
	}
	return false
}

// excuseLocked ends the changes of records that were deleted as they were read and whose response
// did not arrive: see "Plans that cannot reserve". Callers hold mu.
func (w *modelWorld) excuseLocked(portal int, rows []modelRow) {
	for _, row := range rows {
		key := modelKey{modelObject{portal, row.Data.Fields.ID.String()}, row.Name[len("ONCRMDEAL"):]}
		c := w.changesLocked(key)
		c.ended = c.last()
		w.sayLocked("%s was deleted on reading, and its answer is lost", key)
	}
}

// modelRun is one call of a handler.
type modelRun struct {
	process *modelProcess
	ctx     context.Context //nolint:containedctx // the oracle looks whether it has ended
	key     modelKey
	row     modelRowID
	seen    int // the last change when it began
	ended   bool
	success bool // of those that ended, those that Stats.Handled counts
	lingers bool // it ignores its context
}

// modelRowID is a record as it was at one time: its row may change again while it waits.
type modelRowID struct {
	portal int
	id     int64
	time   time.Time
}

// begin notes that a handler begins. It returns nil if the process is dead.
func (w *modelWorld) begin(ctx context.Context, p *modelProcess, d *event.Delivery) *modelRun {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.dead {
		return nil
	}
	portal := w.number[d.MemberID()]
	key := modelKey{modelObject{portal, d.Entity().ID}, d.Name[len("ONCRMDEAL"):]}
	c := w.changesLocked(key)
	c.calls++
	run := &modelRun{process: p, ctx: ctx, key: key, seen: c.last(), row: modelRowID{portal, d.ID, d.Time}}
	w.sayLocked("%s begins %s, row %d of %s, as of change %d", p.name, key, d.ID, d.Time.Format("15:04:05"), run.seen)
	w.checkAloneLocked(run)
	w.checkOrderLocked(run)
	if w.cfg.once && p.finished[run.row] {
		w.violateLocked(propOnce, "%s was handed row %d of %s again, which it has finished", p.name, d.ID, key)
	}
	if w.cfg.leased && !time.Now().Before(p.leaseEndLocked()) {
		w.violateLocked(propLeased, "%s begins %s without a lease", p.name, key)
	}
	w.running[key.modelObject] = append(w.running[key.modelObject], run)
	return run
}

// checkAloneLocked checks that no other handler works on the object. Callers hold mu.
func (w *modelWorld) checkAloneLocked(run *modelRun) {
	if !w.cfg.alone {
		return
	}
	for _, other := range w.running[run.key.modelObject] {
		switch {
		case other.process == run.process:
			w.violateLocked(propAlone, "%s handles %s twice at the same time", run.process.name, run.key.modelObject)
		case other.ctx.Err() == nil:
			w.violateLocked(propAlone, "%s and %s handle %s at the same time", other.process.name, run.process.name, run.key.modelObject)
		}
	}
}

// checkOrderLocked checks that the process did not handle a later record of the object before.
// Callers hold mu.
func (w *modelWorld) checkOrderLocked(run *modelRun) {
	if !w.cfg.ordered {
		return
	}
	for _, r := range w.portals[run.key.portal].OfflineRows() {
		if r.ID == run.row.id && r.Error {
			return // a parked record comes when its time comes
		}
	}
	last := run.process.latest[run.key.modelObject]
	if run.row.time.Before(last) {
		w.violateLocked(propOrdered, "%s handles %s, changed at %s, after a record of %s",
			run.process.name, run.key, run.row.time.Format("15:04:05"), last.Format("15:04:05"))
		return
	}
	run.process.latest[run.key.modelObject] = run.row.time
}

// end notes that a handler has ended.
func (w *modelWorld) end(run *modelRun, how string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := run.process
	object := run.key.modelObject
	for i, other := range w.running[object] {
		if other == run {
			w.running[object] = append(w.running[object][:i], w.running[object][i+1:]...)
			break
		}
	}
	p.lastReturn = time.Now()
	if p.dead {
		return // nothing that it did counts
	}
	if run.ctx.Err() == nil || !run.lingers { // otherwise its context has just ended, or had long ago
		w.checkLeaseLocked(run)
	}
	p.checkGraceLocked(run)
	w.sayLocked("%s ends %s: %s", p.name, run.key, how)
	if !run.ended {
		return
	}
	c := w.changesLocked(run.key)
	w.checkPromptLocked(run.key, c, run.seen)
	c.ended = max(c.ended, run.seen)
	switch {
	case !run.success:
	case run.ctx.Err() != nil:
		p.doubtful++ // an engine may call it finished or not
	default:
		p.handled++
		p.finished[run.row] = true
	}
}

// checkLeaseLocked checks that a handler whose context has not ended before belongs to a process
// with a lease. Callers hold mu.
func (w *modelWorld) checkLeaseLocked(run *modelRun) {
	if !w.cfg.leased || run.process.dead {
		return
	}
	if end := run.process.leaseEndLocked(); time.Since(end) > modelSlack && !run.process.unleased {
		run.process.unleased = true // said once
		w.violateLocked(propLeased, "the lease of %s ended at %s, and its handler of %s goes on",
			run.process.name, end.Sub(w.start).Round(time.Millisecond), run.key)
	}
}

// checkPromptLocked checks that the changes up to n were not handled late. Callers hold mu.
func (w *modelWorld) checkPromptLocked(key modelKey, c *modelChanges, n int) {
	if w.cfg.prompt == 0 || c.late || n <= c.ended || (w.cfg.oneBad && key.id == "1") {
		return
	}
	if waited := time.Since(c.at[c.ended]); waited > w.cfg.prompt {
		c.late = true
		w.violateLocked(propPrompt, "change %d of %s waits for %s", c.ended+1, key, waited.Round(time.Millisecond))
	}
}

// look checks what can be seen at any time.
func (w *modelWorld) look() {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, runs := range w.running {
		for _, run := range runs {
			if run.ctx.Err() == nil {
				w.checkLeaseLocked(run)
			}
		}
	}
	for key, c := range w.changes {
		w.checkPromptLocked(key, c, c.last())
	}
	if !w.cfg.spooled {
		w.checkLostLocked()
	}
	if w.cfg.parked {
		w.checkRowsLocked()
	}
	for _, p := range w.living {
		select {
		case err := <-p.ended:
			w.violateLocked(propRuns, "Run of %s ended: %v", p.name, err)
			p.ended <- err
		default:
		}
	}
}

// checkLostLocked checks that a row stands for each change that is not handled: without it, nobody
// will ever hear of the change, unless the object happens to change again. Callers hold mu.
func (w *modelWorld) checkLostLocked() {
	rows := make(map[modelKey]bool)
	for portal, f := range w.portals {
		for _, r := range f.OfflineRows() {
			rows[modelKey{modelObject{portal, r.Data.Get("FIELDS", "ID").Text()}, r.Event[len("ONCRMDEAL"):]}] = true
		}
	}
	for key, c := range w.changes {
		if n := c.last(); n > c.ended && n > c.lost && !rows[key] {
			c.lost = n
			w.violateLocked(propHandled, "change %d of %s is lost: it was not handled, and no row stands for it", n, key)
		}
	}
}

// checkRowsLocked checks that the rows of one record do not pile up: one may be reserved, one
// parked and reserved, and one wait. Callers hold mu.
func (w *modelWorld) checkRowsLocked() {
	for portal, f := range w.portals {
		rows := make(map[string]int)
		for _, r := range f.OfflineRows() {
			if rows[r.MessageID]++; rows[r.MessageID] == 5 && !w.piled[r.MessageID] {
				w.piled[r.MessageID] = true // said once
				w.violateLocked(propParked, "portal %d holds 5 rows of %s %s", portal, r.Event, r.Data.Get("FIELDS", "ID").Text())
			}
		}
	}
}

// drive lets the schedule happen.
func (w *modelWorld) drive() {
	for range between(w.schedule, w.cfg.processes) {
		w.living = append(w.living, w.launch(w.t.TempDir()))
	}
	a := w.cfg.actions
	for range w.cfg.steps {
		r := w.schedule
		i := r.IntN(len(w.living))
		p, portal := w.living[i], r.IntN(len(w.portals))
		wait := upToDuration(r, 4*time.Second)
		w.look()
		switch pick(r, a.change, a.kill, a.stop, a.store, a.storeStuck, a.plan, a.item, a.list, a.wake, a.remove, a.pause, a.rest) {
		case 0:
			w.change()
		case 1:
			w.living[i] = w.launch(p.kill())
			w.killed = append(w.killed, p)
		case 2:
			if w.cfg.leased && r.IntN(2) == 0 {
				p.setStore([]storeMode{storeAway, storeSilent}[r.IntN(2)])
			}
			p.stop()
			w.living[i] = w.launch(p.dir)
			w.living[i].follow(p)
		case 3:
			p.setStore([]storeMode{storeFine, storeAway, storeSilent}[r.IntN(3)])
		case 4:
			p.setStore([]storeMode{storeFine, storeStuck}[r.IntN(2)])
		case 5:
			w.togglePlan(portal)
		case 6:
			w.breakItems(portal)
		case 7:
			w.breakList(portal)
		case 8:
			p.wake(w.portals[portal].MemberID())
		case 9:
			p.readd(w.portals[portal].MemberID(), wait)
		case 10:
			wait = upToDuration(r, 90*time.Second)
		case 11:
			wait = upToDuration(r, 6*time.Minute)
		}
		<-time.After(wait)
	}
}

// togglePlan changes whether a portal can reserve records.
func (w *modelWorld) togglePlan(portal int) {
	require.NoError(w.t, w.portals[portal].ChangeQuirks(func(m *eventtest.Quirks) { m.NoExtendedOffline = !m.NoExtendedOffline }))
	w.say("portal %d: extended mode %v", portal, !w.portals[portal].Quirks().NoExtendedOffline)
}

// breakItems lets the next calls of a method fail, also inside of a batch.
func (w *modelWorld) breakItems(portal int) {
	methods := []string{"event.offline.get", "event.offline.list", "event.offline.clear", "event.offline.error"}
	if w.cfg.polite {
		methods = methods[2:]
	}
	method := methods[w.schedule.IntN(len(methods))]
	n := 1 + w.schedule.IntN(3)
	w.portals[portal].Times(n, method, eventtest.Fail(500, "INTERNAL_SERVER_ERROR", "Internal server error"))
	w.say("portal %d: the next %d calls of %s fail", portal, n, method)
}

// breakList lets event.offline.list alone fail for a while.
func (w *modelWorld) breakList(portal int) {
	f := w.portals[portal]
	f.Always("event.offline.list", eventtest.Fail(429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit."))
	d := upToDuration(w.schedule, 10*time.Minute)
	w.say("portal %d: event.offline.list fails for %s", portal, d.Round(time.Millisecond))
	if w.healing != nil {
		w.healing.Stop()
	}
	w.healing = time.AfterFunc(d, func() { f.Heal("event.offline.list") })
}

// calmDown ends all faults, waits until everything is handled, and looks at what is left.
func (w *modelWorld) calmDown() {
	w.mu.Lock()
	w.calm = true
	w.sayLocked("nothing goes wrong any more")
	w.mu.Unlock()
	for _, p := range w.living {
		p.setStore(storeFine)
	}
	for _, f := range w.portals {
		f.Heal()
		require.NoError(w.t, f.ChangeQuirks(func(m *eventtest.Quirks) { m.NoExtendedOffline = false }))
	}
	deadline := time.Now().Add(modelCalm)
	for !w.done() && time.Now().Before(deadline) {
		<-time.After(20 * time.Second)
		w.look()
	}
	<-time.After(20 * time.Second)
	if w.cfg.spooled {
		<-time.After(25 * time.Minute) // what the spool holds shows only when it is tried again
	}
	w.background.Wait()
	w.look()
	for _, p := range w.living {
		p.stop()
	}
	for _, p := range w.killed {
		<-p.ended
	}
	w.audit()
}

// done reports whether every change is handled and the queues are empty.
func (w *modelWorld) done() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.changes {
		if c.ended < c.last() {
			return false
		}
	}
	for _, f := range w.portals {
		if len(f.OfflineRows()) > 0 {
			return false
		}
	}
	return true
}

// audit checks what is left at the end.
func (w *modelWorld) audit() {
	var leftBehind []string
	if w.cfg.spooled {
		for i := range w.portals {
			leftBehind = append(leftBehind, w.spooledRecords(i)...)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, c := range w.changes {
		if n := c.last(); c.ended < n && c.lost < n {
			w.violateLocked(propHandled, "change %d of %s, at %s, was not handled; the last that was is %d",
				n, key, c.at[n-1].Sub(w.start).Round(time.Millisecond), c.ended)
		}
	}
	for portal, f := range w.portals {
		for _, r := range f.OfflineRows() {
			w.violateLocked(propEmptied, "portal %d still holds row %d: %s %s, reserved %v, parked %v",
				portal, r.ID, r.Event, r.Data.Get("FIELDS", "ID").Text(), r.ProcessID != "", r.Error)
		}
	}
	for _, text := range leftBehind {
		w.violateLocked(propEmptied, "the spool still holds %s", text)
	}
	if w.cfg.parked {
		w.checkCallsLocked()
	}
}

// checkCallsLocked checks that parked records were tried once for each object and pass: a row that
// is not parked yet gets a process's attempts, of which the configuration has one. Callers hold mu.
func (w *modelWorld) checkCallsLocked() {
	passes := int(time.Since(w.start)/w.cfg.parkedInterval[0]) + w.processes
	for key, c := range w.changes {
		if most := c.last() + passes; c.calls > most {
			w.violateLocked(propParked, "%d calls for %s, of which %d changes and %d passes explain %d", c.calls, key, c.last(), passes, most)
		}
	}
}

// spooledRecords returns what a last process finds in the spool of a portal.
func (w *modelWorld) spooledRecords(portal int) (left []string) {
	var mu sync.Mutex
	p := w.living[0]
	c := newConsumer(w.t, tap{Caller: w.portals[portal].api}, func(_ context.Context, d *event.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		left = append(left, name(d))
		return nil
	}, append(w.identity(portal), offline.WithSpool(p.dir))...)
	require.NoError(w.t, c.Drain(w.t.Context()))
	return left
}
