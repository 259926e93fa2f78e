package offline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/offline"
)

// modelProcess is a process with a consumer or a fleet. It is its handler and its leaser.
type modelProcess struct {
	world    *modelWorld
	name     string
	dir      string // of its spool
	grace    time.Duration
	cancel   context.CancelFunc
	ended    chan error
	consumer *offline.Consumer
	fleet    *offline.Fleet
	odds     map[string]modelCalls // by method

	// The rest is guarded by the world's mu.

	dead       bool      // it was killed
	stopped    time.Time // when it was asked to stop; zero before
	fair       bool      // its calls go well while it stops
	failed     bool      // one of these did not, all the same
	store      storeMode
	changed    chan struct{}        // closed when store changes
	leases     map[string]time.Time // their ends, by this process's own account
	unleased   bool                 // a violation was noted
	occasions  map[string]int       // how often each happened, for the sources of decisions
	lastReturn time.Time            // of a handler, or of a leaser that hung
	latest     map[modelObject]time.Time
	finished   map[modelRowID]bool
	handled    uint64 // calls of the handler that succeeded
	doubtful   uint64 // calls that succeeded although their context had ended
	hooked     uint64 // calls of Hooks.Handled
}

// storeMode is how a process reaches the store of leases.
type storeMode int

const (
	storeFine   storeMode = iota
	storeAway             // calls fail
	storeSilent           // calls hang until their context ends
	storeStuck            // calls hang for two minutes and ignore their context
)

var (
	errModelCall    = errors.New("the call failed")
	errModelHandler = errors.New("the handler failed")
	errModelStore   = errors.New("the store is away")
)

// launch starts a process.
func (w *modelWorld) launch(dir string) *modelProcess {
	w.mu.Lock()
	w.processes++
	p := &modelProcess{
		world: w, name: "P" + strconv.Itoa(w.processes), dir: dir, ended: make(chan error, 1), odds: make(map[string]modelCalls),
		changed: make(chan struct{}), leases: make(map[string]time.Time), occasions: make(map[string]int),
		latest: make(map[modelObject]time.Time), finished: make(map[modelRowID]bool),
	}
	w.mu.Unlock()
	r := w.source(p.name)
	for _, method := range []string{"event.offline.get", "event.offline.list", "event.offline.clear", "event.offline.error"} {
		c := w.cfg.calls
		if method == "event.offline.error" {
			c = w.cfg.parking
		}
		p.odds[method] = modelCalls{fail: r.IntN(c.fail + 1), lose: r.IntN(c.lose + 1), late: r.IntN(c.late + 1), slow: r.IntN(c.slow + 1)}
	}
	p.fair = r.IntN(2) == 0
	p.grace = upToDuration(r, w.cfg.grace)
	if r.IntN(5) == 0 {
		p.grace = 0
	}
	var run func(context.Context) error
	if w.cfg.fleets {
		run = p.newFleet(r)
	} else {
		run = p.newConsumer(r)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	p.cancel = cancel
	w.say("%s starts, grace %s", p.name, p.grace.Round(time.Millisecond))
	go func() { p.ended <- run(ctx) }()
	return p
}

// options are those of consumers and of fleets.
func (p *modelProcess) options(r *rand.Rand) []offline.WorkOption {
	c := p.world.cfg
	opts := []offline.WorkOption{
		silent(),
		offline.WithBatchSize(
			between(r, c.batchSize),
		), offline.WithWorkers(between(r, c.workers)), offline.WithMaxAttempts(between(r, c.maxAttempts)),
		offline.WithParkedInterval(between(r, c.parkedInterval)), offline.WithInterval(time.Second, between(r, c.maxInterval)),
		offline.WithGrace(p.grace), offline.WithHandlerTimeout(c.timeout),
		offline.WithHooks(offline.Hooks{Handled: func(context.Context, *event.Delivery, time.Duration) {
			p.world.mu.Lock()
			defer p.world.mu.Unlock()
			p.hooked++
		}}),
	}
	if c.ignored {
		opts = append(opts, offline.WithIgnoredUsers(modelIgnored))
	}
	if c.leased {
		opts = append(opts, offline.WithLeaser(p))
	}
	if c.spooled {
		opts = append(opts, offline.WithSpool(p.dir))
	}
	return opts
}

// kill ends a process between two instants, without a trace of what it does from then on. It
// returns the folder with its spool as it was.
func (p *modelProcess) kill() (dir string) {
	w := p.world
	synctest.Wait() // what it writes to the disk takes no time
	w.mu.Lock()
	p.dead = true
	for object, runs := range w.running {
		w.running[object] = slices.DeleteFunc(runs, func(run *modelRun) bool { return run.process == p })
	}
	w.sayLocked("%s is killed", p.name)
	w.mu.Unlock()
	p.setStore(storeSilent)
	dir = p.dir
	if w.cfg.spooled {
		dir = w.t.TempDir()
		require.NoError(w.t, os.CopyFS(dir, os.DirFS(p.dir)))
	}
	p.cancel()
	return dir
}

// stop ends a process as a program ends it.
func (p *modelProcess) stop() {
	w := p.world
	began := time.Now()
	w.mu.Lock()
	p.stopped = began
	w.sayLocked("%s is stopped", p.name)
	w.mu.Unlock()
	p.cancel()
	err := <-p.ended
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sayLocked("%s has stopped: %v", p.name, err)
	if err != nil {
		w.violateLocked(propRuns, "Run of %s returned %v", p.name, err)
	}
	due := began.Add(p.grace)
	if p.lastReturn.After(due) {
		due = p.lastReturn
	}
	if took := time.Since(due); took > modelSettle {
		w.violateLocked(propStopped, "%s took %s to stop, %s after its grace of %s and its last handler",
			p.name, time.Since(began).Round(time.Millisecond), took.Round(time.Millisecond), p.grace.Round(time.Millisecond))
	}
	p.checkCountsLocked()
}

// follow makes the process the next one after another that was stopped, whose finished records it
// should not see again: they were cleared before Run returned.
func (p *modelProcess) follow(last *modelProcess) {
	w := p.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cfg.once && last.fair && !last.failed {
		maps.Copy(p.finished, last.finished)
	}
}

// checkGraceLocked checks that a handler that returns when its context ends did so within the grace
// period of a stop, and was given the whole of it. Callers hold the world's mu.
func (p *modelProcess) checkGraceLocked(run *modelRun) {
	if p.stopped.IsZero() || run.lingers {
		return
	}
	over := time.Since(p.stopped.Add(p.grace))
	switch {
	case over > modelSlack:
		p.world.violateLocked(propStopped, "%s was stopped, and its handler of %s went on for %s after the grace period",
			p.name, run.key, over.Round(time.Millisecond))
	case over < -modelSlack && p.fleet == nil && errors.Is(context.Cause(run.ctx), offline.ErrStopped):
		p.world.violateLocked(propStopped, "%s was stopped, and the context of its handler of %s ended %s before the grace period",
			p.name, run.key, (-over).Round(time.Millisecond))
	}
}

// checkCountsLocked compares the statistics with what the handlers did. Callers hold the world's
// mu.
func (p *modelProcess) checkCountsLocked() {
	w := p.world
	var counted uint64
	switch {
	case p.fleet != nil:
		counted = p.fleet.Stats().Handled
	default:
		s := p.consumer.Stats()
		counted = s.Handled
		in := s.Reserved + s.Recovered + s.Unparked + s.Spooled
		if out := s.Handled + s.Ignored; out > in {
			w.violateLocked(propCounted, "%s: %d records handled and ignored, and only %d came: %+v", p.name, out, in, s)
		}
		if s.Cleared > in {
			w.violateLocked(propCounted, "%s: %d records cleared, and only %d came: %+v", p.name, s.Cleared, in, s)
		}
	}
	if counted < p.handled || counted > p.handled+p.doubtful {
		w.violateLocked(propCounted, "%s counts %d records handled; its handlers finished %d, and %d after their context had ended",
			p.name, counted, p.handled, p.doubtful)
	}
	if p.hooked != counted {
		w.violateLocked(propCounted, "%s counts %d records handled, and Hooks.Handled was called %d times", p.name, counted, p.hooked)
	}
}

// wake wakes the process for a portal.
func (p *modelProcess) wake(memberID string) {
	p.world.say("%s is woken", p.name)
	if p.fleet != nil {
		p.fleet.Wake(memberID)
		return
	}
	p.consumer.Wake()
}

// readd removes a portal from a fleet and adds it again a while later.
func (p *modelProcess) readd(memberID string, wait time.Duration) {
	if p.fleet == nil {
		return
	}
	portal := p.world.number[memberID]
	p.world.say("%s: portal %d is removed", p.name, portal)
	p.fleet.Remove(memberID)
	<-time.After(wait)
	p.world.mu.Lock()
	maps.DeleteFunc(p.finished, func(row modelRowID, _ bool) bool { return row.portal == portal }) // as after a restart
	p.world.mu.Unlock()
	p.world.say("%s: portal %d is added", p.name, portal)
	require.NoError(p.world.t, p.fleet.Add(memberID))
}

// source returns the decisions for the next occasion of a name.
func (p *modelProcess) source(occasion string) *rand.Rand {
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	p.occasions[occasion]++
	return p.world.source(fmt.Sprintf("%s, %s, %d", p.name, occasion, p.occasions[occasion]))
}

// gone waits for the end of ctx if the process is dead.
func (p *modelProcess) gone(ctx context.Context) error {
	p.world.mu.Lock()
	dead := p.dead
	p.world.mu.Unlock()
	if !dead {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

// during waits for d or until ctx ends.
func during(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// modelCaller is how a process calls a portal.
type modelCaller struct {
	process *modelProcess
	portal  int
}

// callPlan is what becomes of a call.
type callPlan struct {
	fails, lost   bool
	late          time.Duration // after which it runs, although its caller has an error
	before, after time.Duration // of the wait, before it runs and until it responds
}

// plan decides what becomes of a call that runs these commands.
func (c modelCaller) plan(run []command) callPlan {
	w := c.process.world
	var odds modelCalls
	looks, takes := false, false
	names := make([]string, len(run))
	for i, cmd := range run {
		o := c.process.odds[cmd.method]
		odds = modelCalls{fail: max(odds.fail, o.fail), lose: max(odds.lose, o.lose), late: max(odds.late, o.late), slow: max(odds.slow, o.slow)}
		looks = looks || cmd.method == "event.offline.list"
		// An event.offline.error that runs late deletes the rows of later changes, and nothing can
		// be done about it: PROTOCOL 2.9.
		takes = takes || cmd.method == "event.offline.error"
		names[i] = cmd.method
	}
	r := c.process.source(strconv.Itoa(c.portal) + " " + strings.Join(names, " "))
	plan := callPlan{before: 20*time.Millisecond + upToDuration(r, 60*time.Millisecond)}
	w.mu.Lock()
	calm := w.calm || (c.process.fair && !c.process.stopped.IsZero())
	w.mu.Unlock()
	if calm || (w.cfg.polite && looks) {
		return plan
	}
	plan.fails, plan.lost = r.IntN(100) < odds.fail, r.IntN(100) < odds.lose
	if r.IntN(100) < odds.late && !takes {
		plan.late = upToDuration(r, 20*time.Second)
	}
	if r.IntN(100) < odds.slow {
		plan.before += upToDuration(r, 20*time.Second)
	}
	if r.IntN(100) < odds.slow {
		plan.after = upToDuration(r, 20*time.Second)
	}
	return plan
}

// Call is the method of an event.Caller.
func (c modelCaller) Call(ctx context.Context, method string, params, result any) error {
	p, w := c.process, c.process.world
	sent, _ := params.(map[string]any)
	run := commands(method, sent)
	plan := c.plan(run)
	if err := during(ctx, plan.before); err != nil {
		return err
	}
	if err := p.gone(ctx); err != nil {
		return err
	}
	switch {
	case plan.fails:
		w.say("%s, portal %d: %s fails", p.name, c.portal, shortCommands(run))
		return errModelCall
	case plan.late > 0:
		w.say("%s, portal %d: %s fails, and runs %s later", p.name, c.portal, shortCommands(run), plan.late.Round(time.Millisecond))
		w.background.Go(func() {
			<-time.After(plan.late)
			doc, err := c.execute(ctx, method, params, run)
			c.answered(doc, err, run, true)
		})
		return errModelCall
	}
	doc, err := c.execute(ctx, method, params, run)
	if err == nil {
		if w.isCalm() {
			plan.after = 0
		}
		err = during(ctx, plan.after)
		if dead := p.gone(ctx); dead != nil {
			err = dead
		}
		if err == nil && plan.lost {
			err = errModelCall
		}
		c.answered(doc, err, run, err != nil)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(doc, result)
}

func (w *modelWorld) isCalm() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calm
}

// execute lets the portal run a call. It does so to the end, whoever waits for it.
func (c modelCaller) execute(ctx context.Context, method string, params any, run []command) (json.RawMessage, error) {
	w := c.process.world
	var doc json.RawMessage
	err := w.portals[c.portal].api.Call(context.WithoutCancel(ctx), method, params, &doc)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		c.process.failed = c.process.failed || !c.process.stopped.IsZero()
		w.sayLocked("%s, portal %d: %s: %v", c.process.name, c.portal, shortCommands(run), err)
	}
	return doc, err
}

// answered notes a response, and what goes with it if it is lost.
func (c modelCaller) answered(doc json.RawMessage, err error, run []command, lost bool) {
	w := c.process.world
	rows, taken := rowsIn(doc, run)
	w.mu.Lock()
	defer w.mu.Unlock()
	if failures := failuresIn(doc); lost || err != nil || failures > 0 {
		c.process.failed = c.process.failed || !c.process.stopped.IsZero()
	}
	w.sayLocked("%s, portal %d: %s: %s, lost %v, %v", c.process.name, c.portal, shortCommands(run), showRows(rows), lost, err)
	if lost {
		w.excuseLocked(c.portal, taken)
	}
}

// modelRow is a row in a response.
type modelRow struct {
	ID   json.Number `json:"ID"`
	Name string      `json:"EVENT_NAME"`
	Data struct {
		Fields struct {
			ID json.Number `json:"ID"`
		} `json:"FIELDS"`
	} `json:"EVENT_DATA"`
}

// rowsIn returns the rows in a response, and those of them that the portal deleted.
func rowsIn(doc json.RawMessage, run []command) (all, taken []modelRow) {
	results := map[string]json.RawMessage{"": doc}
	if len(run) > 0 && run[0].name != "" {
		var batch struct {
			Result json.RawMessage `json:"result"`
		}
		_ = json.Unmarshal(doc, &batch) // a batch that failed has none
		results = nil
		_ = json.Unmarshal(batch.Result, &results)
	}
	for _, cmd := range run {
		var got struct {
			Events []modelRow `json:"events"`
		}
		switch cmd.method {
		case "event.offline.list":
			_ = json.Unmarshal(results[cmd.name], &got.Events)
		case "event.offline.get":
			_ = json.Unmarshal(results[cmd.name], &got)
			if fmt.Sprint(cmd.params["clear"]) != "0" {
				taken = append(taken, got.Events...)
			}
		}
		all = append(all, got.Events...)
	}
	return all, taken
}

// failuresIn counts the commands of a batch that failed.
func failuresIn(doc json.RawMessage) int {
	var batch struct {
		Errors map[string]json.RawMessage `json:"result_error"`
	}
	_ = json.Unmarshal(doc, &batch) // it is a list if there are none, and other responses have none
	return len(batch.Errors)
}

func shortCommands(run []command) string {
	names := make([]string, len(run))
	for i, cmd := range run {
		names[i] = strings.TrimPrefix(cmd.method, "event.offline.")
		switch {
		case cmd.params["error"] != nil:
			names[i] += "(parked)"
		case cmd.method == "event.offline.get" && fmt.Sprint(cmd.params["clear"]) != "0":
			names[i] += "(deletes)"
		}
	}
	return strings.Join(names, "+")
}

func showRows(rows []modelRow) string {
	list := make([]string, len(rows))
	for i, r := range rows {
		list[i] = fmt.Sprintf("%s %s %s", r.ID, strings.TrimPrefix(r.Name, "ONCRMDEAL"), r.Data.Fields.ID)
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// setStore changes how the process reaches the store.
func (p *modelProcess) setStore(mode storeMode) {
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	if p.store == mode {
		return
	}
	p.store = mode
	close(p.changed)
	p.changed = make(chan struct{})
	p.world.sayLocked("%s: the store of leases is %s", p.name, []string{"fine", "away", "silent", "stuck"}[mode])
}

// reach waits for the store as its mode says.
func (p *modelProcess) reach(ctx context.Context) error {
	p.world.mu.Lock()
	mode, changed := p.store, p.changed
	p.world.mu.Unlock()
	switch mode {
	case storeAway:
		return errModelStore
	case storeSilent:
		<-ctx.Done()
		return ctx.Err()
	case storeStuck: // nothing waits for such a call, but the end of the run does
		p.world.background.Add(1)
		defer p.world.background.Done()
		select {
		case <-changed:
		case <-time.After(2 * time.Minute):
		}
		p.world.mu.Lock()
		p.lastReturn = time.Now()
		p.world.mu.Unlock()
		return errModelStore
	case storeFine:
	}
	return ctx.Err()
}

// leaseEndLocked returns when the last of the process's leases ends. Callers hold the world's mu.
func (p *modelProcess) leaseEndLocked() (end time.Time) {
	for _, until := range p.leases {
		if until.After(end) {
			end = until
		}
	}
	return end
}

// Acquire implements offline.Leaser.
func (p *modelProcess) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	began := time.Now()
	if err := p.reach(ctx); err != nil {
		return nil, err
	}
	held, err := p.world.leaser.Acquire(ctx, owner, ttl, names...)
	if err != nil {
		return nil, err
	}
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	for _, name := range names {
		delete(p.leases, name)
	}
	for _, name := range held {
		p.leases[name] = began.Add(ttl)
	}
	return held, nil
}

// Release implements offline.Leaser.
func (p *modelProcess) Release(ctx context.Context, owner string, names ...string) error {
	if err := p.reach(ctx); err != nil {
		return err
	}
	p.world.mu.Lock()
	for _, name := range names {
		delete(p.leases, name)
	}
	p.world.mu.Unlock()
	return p.world.leaser.Release(ctx, owner, names...)
}

// Held implements offline.Leaser.
func (p *modelProcess) Held(ctx context.Context, prefix string) (map[string]string, error) {
	if err := p.reach(ctx); err != nil {
		return nil, err
	}
	return p.world.leaser.Held(ctx, prefix)
}

// modelOutcome is what a handler does.
type modelOutcome int

const (
	outcomeSucceed modelOutcome = iota
	outcomeFail
	outcomeDrop
	outcomeRetry
	outcomeRetryLong
	outcomePanic
	outcomeGoexit
	outcomeHang
	outcomeLinger
	outcomeGone
	outcomeUnhandled
)

var modelOutcomes = []string{
	"succeeds",
	"fails",
	"drops",
	"retries",
	"retries late",
	"panics",
	"exits",
	"hangs",
	"lingers",
	"gone",
	"unhandled",
}

// HandleEvent is the handler of the process.
func (p *modelProcess) HandleEvent(ctx context.Context, d *event.Delivery) error {
	run := p.world.begin(ctx, p, d)
	if run == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	how := "leaves"
	defer func() { p.world.end(run, how) }() // also after a panic, and after runtime.Goexit
	outcome, took, r := p.decide(run)
	how = modelOutcomes[outcome]
	if outcome == outcomeLinger {
		run.lingers = true
		<-time.After(took + upToDuration(r, time.Minute)) // ignoring its context
	} else if err := during(ctx, took); err != nil {
		how += ", its context ended first"
		return err
	}
	switch outcome {
	case outcomeFail:
		return errModelHandler
	case outcomeDrop:
		run.ended = true // for good, or it is parked and tried again
		return event.Drop(errModelHandler)
	case outcomeRetry:
		return event.Retry(errModelHandler, time.Second+upToDuration(r, 30*time.Second))
	case outcomeRetryLong:
		return event.Retry(errModelHandler, 5*time.Minute+upToDuration(r, 10*time.Minute))
	case outcomePanic:
		panic("the handler panics")
	case outcomeGoexit:
		runtime.Goexit()
	case outcomeHang:
		<-ctx.Done()
		return ctx.Err()
	case outcomeGone:
		run.ended, run.success = true, true
		return event.ErrGone
	case outcomeUnhandled:
		return event.ErrUnhandled
	case outcomeSucceed, outcomeLinger:
	}
	run.ended, run.success = true, true
	return nil
}

// decide says what a call of the handler does, and how long it takes first.
func (p *modelProcess) decide(run *modelRun) (modelOutcome, time.Duration, *rand.Rand) {
	h := p.world.cfg.handlers
	r := p.source(run.key.String())
	if p.world.isCalm() || (p.world.cfg.oneBad && run.key.id != "1") {
		return outcomeSucceed, 0, r
	}
	outcome := modelOutcome(
		pick(r, h.succeed, h.fail, h.drop, h.retry, h.retryLong, h.panics, h.goexit, h.hang, h.linger, h.gone, h.unhandled),
	)
	var took time.Duration
	if r.IntN(100) < h.slow {
		took = upToDuration(r, h.slowest)
	}
	return outcome, took, r
}
