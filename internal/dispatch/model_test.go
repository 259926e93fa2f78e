package dispatch

import (
	"fmt"
	"slices"
	"time"
)

// model is what the dispatcher has to do, written without locks, rings and linked lists. It works
// on a schedule one event after the other, and searches its lists for what is next. It notes what a
// front would see.
type model struct {
	cfg Config
	now time.Duration
	log []entry

	todo    []*step
	portals []*modelPortal
	items   []*modelItem // all that are under way, in order of their arrival
	places  [placeCount]int
	used    [classCount]int64
	turns   int // that were given out
	begun   int
	last    modelLine      // of the last item that began on a worker that slow portals leave
	saw     map[string]int // how often what happened

	accepted, outcomes int
	closing            bool
	cutAt              time.Duration // when Shutdown stops waiting; 0 for never
	cut, over          bool          // Shutdown did, and gave up what was left
	answered           bool          // Shutdown returned
	left               int
}

// entry is one thing that a front or a caller sees.
type entry struct {
	at   time.Duration
	what string
}

type modelPortal struct {
	id          int
	owned       bool
	limit       int
	lanes       []*modelLane
	ready       []*modelLane // in the order in which they became ready
	running     int
	urgents     int
	inline      int
	held        [classCount]int64
	slow        bool
	slowAt      time.Duration // when the last overdue item ended
	turnItems   int           // items that began in its turn, if that goes on
	barred      bool          // its intake ended
	overdue     int
	stopped     bool
	stopping    int // calls of Done that wait
	slackCalled bool
	ended       time.Duration // when its contexts ended; negative if they did not

	line       modelLine       // that it waits in for a worker
	turn       int             // in that line
	urgentTurn int             // with its urgent lane
	roomTurn   [classCount]int // with what waits for room

	starts map[*modelPortal]int // items of others in the line that began since it waits there
}

// modelLine is a line of portals that wait for a worker.
type modelLine string

const (
	modelNoLine   modelLine = "none"
	modelOrdinary modelLine = "ordinary"
	modelBusy     modelLine = "busy"
	modelSlow     modelLine = "slow"
)

type modelLane struct {
	name  string // empty if it takes no other items
	busy  bool   // an item of it runs
	items []*modelItem
}

type modelItem struct {
	*itemSpec
	portal   *modelPortal
	lane     *modelLane
	state    modelState
	cost     int64
	merged   int
	tries    int // attempts, which are counted from 0 again after a merger
	calls    int // of the handler
	holds    int64
	place    place
	overdue  bool
	removed  bool
	reported bool // Shutdown gave it up
	began    time.Duration
	order    int           // of the beginning
	due      time.Duration // when the call ends, or the rest, or the patience
}

type modelState uint8

const (
	modelAdmitting modelState = iota
	modelWaiting
	modelResting
	modelRunning
	modelGone
)

// simulate returns what the fronts of a schedule see.
func simulate(s *schedule) *model {
	m := &model{cfg: s.cfg, todo: s.steps, saw: make(map[string]int)}
	for i, o := range s.portals {
		m.portals = append(m.portals,
			&modelPortal{id: i, ended: -1, owned: o.owned, limit: o.limit, line: modelNoLine, starts: make(map[*modelPortal]int)})
	}
	for m.next() {
		m.announce()
	}
	return m
}

func (m *model) note(format string, args ...any) {
	m.log = append(m.log, entry{at: m.now, what: fmt.Sprintf(format, args...)})
}

// next does what happens next. It reports false if there is nothing.
func (m *model) next() bool {
	at, what, who := never, nothing, (*modelItem)(nil)
	soonest := func(t time.Duration, w happening, it *modelItem) {
		if t < at {
			at, what, who = t, w, it
		}
	}
	if len(m.todo) > 0 {
		soonest(m.todo[0].at, stepIsDue, nil)
	}
	for _, it := range m.items {
		switch it.state {
		case modelAdmitting:
			soonest(it.due, patienceEnds, it)
		case modelResting:
			soonest(it.due, restEnds, it)
		case modelRunning:
			soonest(it.due, callEnds, it)
			soonest(m.watched(it), itemIsOverdue, it)
		case modelWaiting, modelGone:
		}
	}
	if m.closing && !m.cut && m.cutAt > 0 && !m.answered {
		soonest(m.cutAt, cutIsDue, nil)
	}
	if m.cut && !m.over {
		soonest(m.cutAt+m.cfg.Grace*3/4, graceEnds, nil)
	}
	m.now = at
	switch what {
	case nothing:
		return false
	case stepIsDue:
		s := m.todo[0]
		m.todo = m.todo[1:]
		m.do(s)
	case patienceEnds:
		m.refuse(who, "full")
		m.admit(who.class())
		m.start()
	case restEnds:
		m.wake(who)
		m.start()
	case callEnds:
		m.returned(who)
	case itemIsOverdue:
		m.lookForOverdue()
	case cutIsDue:
		m.cutOff()
	case graceEnds:
		m.giveUp()
	}
	m.items = slices.DeleteFunc(m.items, func(it *modelItem) bool { return it.state == modelGone })
	return true
}

// happening is what happens next in the model.
type happening uint8

const (
	nothing happening = iota
	stepIsDue
	patienceEnds
	restEnds
	callEnds
	itemIsOverdue
	cutIsDue
	graceEnds
)

const never = time.Duration(1<<63 - 1)

// watched returns when a running item is moved to another place.
func (m *model) watched(it *modelItem) time.Duration {
	switch {
	case it.place == placeInline, it.place == placeStuck, it.reported:
		return never
	case it.overdue:
		return it.began + m.cfg.Timeout + SlowAfter
	default:
		return it.began + SlowAfter
	}
}

func (m *model) do(s *step) {
	p := m.portals[s.portal]
	switch s.kind {
	case stepEnqueue:
		for _, spec := range s.items {
			m.enqueue(p, &modelItem{itemSpec: spec})
		}
	case stepDo:
		m.inline(p, &modelItem{itemSpec: s.items[0]})
	case stepAdd:
		p.slackCalled = false
		merged := false
		for _, spec := range s.items {
			merged = m.add(p, &modelItem{itemSpec: spec}) || merged
		}
		m.start()
		if merged {
			m.slack(p)
		}
	case stepRemove:
		m.remove(p, s.fired)
	case stepBar:
		p.barred = true
		m.lineUp(p)
	case stepStop:
		p.stopped = true
		p.stopping++
		m.drop(p, func(*modelItem) bool { return true }, OutcomeCut)
		m.start()
	case stepCancel:
		m.end(p)
	case stepShutdown:
		m.shutdown(s.cutAfter)
	}
}

// laneOf returns the lane of an item.
func (m *model) laneOf(p *modelPortal, it *modelItem) *modelLane {
	name := it.object
	if it.urgent {
		name = "urgent"
	}
	for _, l := range p.lanes {
		if name != "" && l.name == name {
			return l
		}
	}
	l := &modelLane{name: name}
	p.lanes = append(p.lanes, l)
	return l
}

func (m *model) enqueue(p *modelPortal, it *modelItem) {
	if m.closing {
		m.note("enqueue %d: closed", it.id)
		return
	}
	c := it.class()
	it.cost = it.itemSpec.cost
	if size := m.size(c); size > 0 {
		it.cost = min(it.cost, size)
	}
	m.arrive(p, it)
	if m.merge(it) {
		m.note("enqueue %d: ok", it.id)
		m.start()
		return
	}
	it.lane.items = append(it.lane.items, it)
	m.items = append(m.items, it)
	if !m.isSomebodyDue(c) && len(m.waitingForRoom(p, c)) == 0 && m.takeRoom(it, it.cost) {
		m.admitted(it)
		m.start()
		return
	}
	if it.patience == 0 {
		m.refuse(it, "full")
		return
	}
	it.state, it.due = modelAdmitting, m.now+it.patience
	if p.roomTurn[c] == 0 {
		p.roomTurn[c] = m.turn()
	}
}

func (m *model) arrive(p *modelPortal, it *modelItem) {
	it.portal, it.lane, it.tries, it.state = p, m.laneOf(p, it), it.begun, modelGone
}

func (m *model) size(c class) int64 {
	if c == classUrgent {
		return m.cfg.UrgentSize
	}
	return m.cfg.Size
}

func (m *model) turn() int {
	m.turns++
	return m.turns
}

func (m *model) waitingForRoom(p *modelPortal, c class) (waiting []*modelItem) {
	for _, it := range m.items {
		if it.portal == p && it.state == modelAdmitting && it.class() == c {
			waiting = append(waiting, it)
		}
	}
	return waiting
}

// isSomebodyDue reports whether an item of a portal that holds nothing waits for a part of the room
// that is left free for others.
func (m *model) isSomebodyDue(c class) bool {
	return slices.ContainsFunc(m.portals, func(p *modelPortal) bool {
		waiting := m.waitingForRoom(p, c)
		return len(waiting) > 0 && m.isDue(waiting[0])
	})
}

func (m *model) isDue(it *modelItem) bool {
	return it.portal.held[it.class()] == 0 && it.cost <= m.size(it.class())/4
}

func (m *model) takeRoom(it *modelItem, cost int64) bool {
	c, p := it.class(), it.portal
	size := m.size(c)
	if size == 0 {
		return true
	}
	free := size - m.used[c] - cost
	if free < 0 || (p.held[c] > 0 && p.held[c]+cost > 3*free) {
		return false
	}
	m.used[c] += cost
	p.held[c] += cost
	it.holds += cost
	return true
}

func (m *model) giveRoom(it *modelItem, cost int64) {
	if cost > 0 {
		m.freeRoom(it, cost)
		m.admit(it.class())
	}
}

func (m *model) freeRoom(it *modelItem, cost int64) {
	m.used[it.class()] -= cost
	it.portal.held[it.class()] -= cost
	it.holds -= cost
}

// admit admits what may have room, in the order of the portals' turns.
func (m *model) admit(c class) {
	for {
		line := slices.Clone(m.portals)
		slices.SortFunc(line, func(a, b *modelPortal) int { return a.roomTurn[c] - b.roomTurn[c] })
		admitted := false
		for _, p := range line {
			waiting := m.waitingForRoom(p, c)
			if len(waiting) == 0 {
				continue
			}
			if m.takeRoom(waiting[0], waiting[0].cost) {
				m.admitted(waiting[0])
				p.roomTurn[c] = m.turn()
				m.leaveLine(p)
				admitted = true
				break
			}
			if m.isDue(waiting[0]) {
				return
			}
		}
		if !admitted {
			return
		}
	}
}

func (m *model) admitted(it *modelItem) {
	it.state = modelWaiting
	m.accepted++
	m.note("enqueue %d: ok", it.id)
	m.offer(it.portal, it.lane)
	m.absorb(it)
}

// absorb merges an item that was admitted with those behind it that wait for room.
func (m *model) absorb(it *modelItem) {
	l := it.lane
	at := slices.Index(l.items, it)
	for len(l.items) > at+1 {
		next := l.items[at+1]
		if next.state != modelAdmitting || it.mergeKey == "" || next.mergeKey != it.mergeKey {
			return
		}
		stays, gone := next, it
		if next.firedBefore(it.itemSpec) {
			stays, gone = it, next
		} else if grow := next.cost - it.holds; grow > 0 && !m.takeRoom(it, grow) {
			return
		}
		m.freeRoom(it, max(0, it.holds-stays.cost))
		stays.holds, gone.holds = it.holds, 0
		stays.merged += 1 + gone.merged
		stays.state = modelWaiting
		l.items = slices.Delete(l.items, at, at+2)
		l.items = slices.Insert(l.items, at, stays)
		m.accepted++
		m.note("enqueue %d: ok", next.id)
		m.finish(gone, OutcomeMerged)
		m.leaveLine(it.portal)
		it = stays
	}
}

// refuse gives an item back to its caller.
func (m *model) refuse(it *modelItem, why string) {
	m.note("enqueue %d: %s", it.id, why)
	m.takeOut(it)
	it.state = modelGone
	m.offer(it.portal, it.lane)
	m.leaveLine(it.portal)
}

// leaveLine ends the turn of a portal of which nothing waits for room.
func (m *model) leaveLine(p *modelPortal) {
	for c := range classCount {
		if len(m.waitingForRoom(p, c)) == 0 {
			p.roomTurn[c] = 0
		}
	}
}

// takeOut takes an item out of its lane.
func (m *model) takeOut(it *modelItem) {
	l := it.lane
	l.items = slices.DeleteFunc(l.items, func(other *modelItem) bool { return other == it })
}

// offer makes a lane ready if its first item can start, and forgets it if it is empty.
func (m *model) offer(p *modelPortal, l *modelLane) {
	m.review(p, l)
	m.lineUp(p)
}

func (m *model) review(p *modelPortal, l *modelLane) {
	switch {
	case l.busy:
	case len(l.items) == 0:
		p.lanes = slices.DeleteFunc(p.lanes, func(other *modelLane) bool { return other == l })
		p.ready = slices.DeleteFunc(p.ready, func(other *modelLane) bool { return other == l })
	case l.items[0].state != modelWaiting:
	case l.items[0].urgent:
		if p.urgentTurn == 0 {
			p.urgentTurn = m.turn()
		}
	case !slices.Contains(p.ready, l):
		p.ready = append(p.ready, l)
	}
}

// lineUp puts a portal at the end of the line that it belongs to, unless it is in that line.
func (m *model) lineUp(p *modelPortal) {
	line := m.lineOf(p)
	if line != p.line {
		m.saw[fmt.Sprintf("%s to %s", p.line, line)]++
		p.line, p.turn = line, 0
		clear(p.starts)
	}
	switch {
	case line == modelNoLine:
		if p.turnItems > 0 {
			m.saw["a turn ends early"]++
		}
		p.turnItems = 0
	case p.turn == 0:
		p.turn = m.turn()
	}
	if p.barred || !slices.ContainsFunc(p.lanes, (*modelLane).isUrgentAndReady) {
		p.urgentTurn = 0
	}
	if len(p.lanes) == 0 && p.inline == 0 && !p.owned {
		p.slow = false // it is forgotten
	}
}

// lineOf returns the line that a portal belongs to.
func (m *model) lineOf(p *modelPortal) modelLine {
	if len(p.ready) == 0 || p.running == p.limit || p.barred {
		return modelNoLine
	}
	if p.slow {
		return modelSlow
	}
	if m.cfg.SlowShare < m.cfg.Workers && (p.turnItems > 0 || (len(p.ready) > 1 && len(p.ready) >= p.limit)) {
		return modelBusy
	}
	return modelOrdinary
}

func (l *modelLane) isUrgentAndReady() bool {
	return l.name == "urgent" && !l.busy && len(l.items) > 0 && l.items[0].state == modelWaiting
}

func (m *model) setSlow(p *modelPortal, slow bool) {
	if p.slow != slow {
		p.slow, p.turnItems = slow, 0
		m.lineUp(p)
	}
}

// first returns the portal of the lowest turn, nil for none.
func (m *model) first(turn func(*modelPortal) int) (first *modelPortal) {
	for _, p := range m.portals {
		if turn(p) > 0 && (first == nil || turn(p) < turn(first)) {
			first = p
		}
	}
	return first
}

// start starts what may run.
func (m *model) start() {
	for m.startUrgent() || m.startFast() || m.startSlow() {
	}
}

func (m *model) startUrgent() bool {
	p := m.first(func(p *modelPortal) int { return p.urgentTurn })
	if p == nil || m.places[placeUrgent] >= m.cfg.Urgent {
		return false
	}
	p.urgentTurn = 0
	p.urgents++
	i := slices.IndexFunc(p.lanes, func(l *modelLane) bool { return l.name == "urgent" })
	m.begin(p.lanes[i], placeUrgent)
	return true
}

// startFast starts an item of a portal that is not slow.
func (m *model) startFast() bool {
	kept := m.slow()
	if m.firstIn(modelSlow) != nil {
		kept = max(kept, m.places[placeOverdue]+max(1, m.cfg.Workers/8))
	}
	left := m.cfg.Workers - min(kept, m.cfg.SlowShare)
	if m.fast() >= left {
		return false
	}
	ordinary, busy := m.firstIn(modelOrdinary), m.firstIn(modelBusy)
	if ordinary == nil && busy == nil {
		return false
	}
	share := max(1, left/4)
	switch {
	case ordinary == nil:
		m.saw["a busy portal where nobody else waits"]++
	case busy == nil:
	case left == 1 && m.last == modelBusy:
		m.saw["the one worker serves an ordinary portal next"]++
		busy = nil
	case left == 1:
		m.saw["the one worker serves a busy portal next"]++
	case m.places[placeBusy] >= share:
		m.saw["an ordinary portal before a busy one"]++
		busy = nil
	default:
		m.saw["a busy portal before an ordinary one"]++
	}
	if busy != nil {
		m.beginReady(busy, placeBusy)
		m.last = modelBusy
	} else {
		m.beginReady(ordinary, placeOrdinary)
		m.last = modelOrdinary
	}
	return true
}

func (m *model) startSlow() bool {
	p := m.firstIn(modelSlow)
	if p == nil || m.slow() >= m.cfg.SlowShare || m.slow()+m.fast() >= m.cfg.Workers {
		return false
	}
	m.beginReady(p, placeSlow)
	return true
}

func (m *model) slow() int { return m.places[placeSlow] + m.places[placeOverdue] }

func (m *model) fast() int { return m.places[placeOrdinary] + m.places[placeBusy] }

func (m *model) firstIn(line modelLine) *modelPortal {
	return m.first(func(p *modelPortal) int {
		if p.line != line {
			return 0
		}
		return p.turn
	})
}

// beginReady begins an item of a portal whose turn it is. The turn is over after one item of an
// ordinary portal, and after as many as may run at a time of another.
func (m *model) beginReady(p *modelPortal, at place) {
	length := 1
	if p.line != modelOrdinary {
		length = p.limit
	}
	for _, other := range m.portals {
		if other != p && other.line == p.line {
			if other.starts[p]++; other.starts[p] > length {
				m.note("unfair: portal %d began %d while portal %d waited", p.id, other.starts[p], other.id)
			}
		}
	}
	clear(p.starts)
	l := p.ready[0]
	p.ready = p.ready[1:]
	p.running++
	p.turnItems++
	if p.turnItems == length {
		p.turnItems, p.turn = 0, 0
	} else {
		m.saw["a turn goes on"]++
	}
	m.begin(l, at)
	m.lineUp(p)
}

func (m *model) begin(l *modelLane, at place) {
	it := l.items[0]
	l.items, l.busy = l.items[1:], true
	m.places[at]++
	it.place = at
	m.call(it)
}

func (m *model) call(it *modelItem) {
	m.begun++
	it.state, it.began, it.order = modelRunning, m.now, m.begun
	it.tries++
	it.calls++
	limit := it.limit(m.cfg)
	if it.place == placeInline {
		it.tries, limit = 1, 1
	}
	m.note("begin %d: attempt %d of %d, merged %d", it.id, it.tries, limit, it.merged)
	it.due = it.endOfCall(m.now, it.portal.ended, m.cfg.Timeout)
}

func (m *model) inline(p *modelPortal, it *modelItem) {
	if m.closing {
		m.note("do %d: closed", it.id)
		return
	}
	m.accepted++
	m.items = append(m.items, it)
	it.portal, it.place = p, placeInline
	p.inline++
	m.call(it)
}

// lookForOverdue makes portals slow whose items run for long.
func (m *model) lookForOverdue() {
	running := slices.DeleteFunc(slices.Clone(m.items), func(it *modelItem) bool {
		return it.state != modelRunning || m.watched(it) > m.now
	})
	slices.SortFunc(running, func(a, b *modelItem) int { return a.order - b.order })
	for _, it := range running {
		switch {
		case it.overdue:
			m.move(it, placeStuck)
		case it.urgent && m.places[placeUrgentSlow] < m.cfg.Urgent:
			m.move(it, placeUrgentSlow)
		case !it.urgent && m.cfg.SlowShare < m.cfg.Workers:
			m.setSlow(it.portal, true)
			if it.place == placeSlow || m.slow() < m.cfg.Overflow {
				m.move(it, placeOverdue)
			}
		}
		if !it.overdue && !it.urgent {
			it.portal.overdue++
		}
		it.overdue = true
	}
	m.start()
}

func (m *model) move(it *modelItem, to place) {
	m.places[it.place]--
	m.places[to]++
	it.place = to
}

// leave gives the place of an item back.
func (m *model) leave(it *modelItem) {
	p := it.portal
	if it.place == placeInline {
		p.inline--
		return
	}
	m.places[it.place]--
	if it.urgent {
		p.urgents--
	} else {
		p.running--
		if it.overdue {
			p.overdue--
			p.slowAt = m.now
		} else if p.overdue == 0 && m.now-p.slowAt >= SlowFor {
			m.setSlow(p, false)
		}
	}
	it.overdue = false
	m.lineUp(p)
}

// returned is the end of a handler's call.
func (m *model) returned(it *modelItem) {
	if it.reported {
		it.state = modelGone
		m.leave(it)
		m.let(it, OutcomeCut)
		m.start()
		return
	}
	o, wait, retry := m.verdict(it)
	if retry {
		m.note("retry %d in %v", it.id, wait)
		m.leave(it)
		m.rest(it, wait)
	} else {
		it.state = modelGone
		m.finish(it, o)
		if m.cut && o == OutcomeCut {
			m.left++
		}
		m.leave(it)
		m.giveRoom(it, it.holds)
		m.let(it, o)
	}
	m.slack(it.portal)
	m.start()
}

// let lets the lane of a finished item, or the caller of Do, go on.
func (m *model) let(it *modelItem, o Outcome) {
	switch {
	case it.lane != nil:
		it.lane.busy = false
		m.offer(it.portal, it.lane)
		return
	case m.endOf(it) == endExits:
		m.note("do %d: exited", it.id)
	default:
		m.note("do %d: %d", it.id, o)
	}
	m.lineUp(it.portal)
}

// endOf returns how a call ended.
func (m *model) endOf(it *modelItem) callEnd {
	call := it.call(it.calls)
	if !call.deaf && it.due != it.began+call.lasts {
		return endFails // its context ended first
	}
	return call.end
}

func (m *model) verdict(it *modelItem) (o Outcome, wait time.Duration, retry bool) {
	end := m.endOf(it)
	last := it.tries >= it.limit(m.cfg) || it.place == placeInline
	switch {
	case end == endDone:
		return OutcomeDone, 0, false
	case end == endUnhandled:
		return OutcomeUnhandled, 0, false
	case it.portal.ended >= 0:
		return OutcomeCut, 0, false
	case end == endDrops || end == endPanics || end == endExits || last:
		return OutcomeFailed, 0, false
	case it.portal.stopped:
		return OutcomeCut, 0, false
	case it.removed:
		return OutcomeRemoved, 0, false
	case end == endAsks:
		wait = it.call(it.calls).asks
		if m.cfg.MaxWait > 0 {
			wait = min(wait, m.cfg.MaxWait)
		}
		return 0, wait, true
	default:
		return 0, m.cfg.Backoff(it.tries), true
	}
}

func (m *model) finish(it *modelItem, o Outcome) {
	m.outcomes++
	it.state = modelGone
	m.note("finish %d: %d, merged %d", it.id, o, it.merged)
}

// merge merges a new item with the last one of its lane.
func (m *model) merge(it *modelItem) bool {
	l := it.lane
	if len(l.items) == 0 {
		return false
	}
	last := l.items[len(l.items)-1]
	if last.state == modelAdmitting || it.mergeKey == "" || last.mergeKey != it.mergeKey {
		return false
	}
	if it.firedBefore(last.itemSpec) {
		last.merged += 1 + it.merged
		m.accepted++
		m.finish(it, OutcomeMerged)
		return true
	}
	if grow := it.cost - last.holds; !it.portal.owned && grow > 0 && !m.takeRoom(last, grow) {
		return false
	}
	m.accepted++
	l.items[len(l.items)-1] = it
	m.items = append(m.items, it)
	it.state, it.due = last.state, last.due
	it.merged += 1 + last.merged
	it.tries = 0
	m.finish(last, OutcomeMerged)
	if spare := last.holds - it.cost; !it.portal.owned && spare > 0 {
		m.giveRoom(last, spare)
	}
	it.holds, last.holds = last.holds, 0
	return true
}

// rest puts an item back for its next attempt, and merges it with the one behind.
func (m *model) rest(it *modelItem, wait time.Duration) {
	l := it.lane
	stays := it
	if len(l.items) > 0 {
		behind := l.items[0]
		if behind.state != modelAdmitting && it.mergeKey != "" && behind.mergeKey == it.mergeKey {
			l.items = l.items[1:]
			gone := behind
			if !behind.firedBefore(it.itemSpec) {
				gone, stays = it, behind
				stays.tries = 0
			}
			stays.merged += 1 + gone.merged
			m.finish(gone, OutcomeMerged)
			m.giveRoom(gone, gone.holds)
		}
	}
	l.items = slices.Insert(l.items, 0, stays)
	stays.state, stays.due = modelResting, m.now+wait
	l.busy = false
	if wait == 0 {
		m.wake(stays)
	}
}

func (m *model) wake(it *modelItem) {
	it.state = modelWaiting
	m.offer(it.portal, it.lane)
}

// add reports whether an item was merged.
func (m *model) add(p *modelPortal, it *modelItem) bool {
	if p.stopped || m.cut {
		m.accepted++
		m.finish(it, OutcomeCut)
		return false
	}
	m.arrive(p, it)
	if m.merge(it) {
		return true
	}
	m.accepted++
	it.lane.items = append(it.lane.items, it)
	m.items = append(m.items, it)
	it.state = modelWaiting
	m.offer(p, it.lane)
	return false
}

// slack asks the owner of a portal for more.
func (m *model) slack(p *modelPortal) {
	if !p.owned || p.stopped || m.cut {
		return
	}
	if len(p.lanes) == 0 || (!p.slackCalled && len(p.ready)+p.running < p.limit) {
		p.slackCalled = true
		m.note("slack %d", p.id)
	}
}

// drop finishes what does not run.
func (m *model) drop(p *modelPortal, match func(*modelItem) bool, o Outcome) (n int) {
	var out []*modelItem
	for _, it := range m.items {
		if it.portal == p && it.state < modelRunning && match(it) {
			out = append(out, it)
		}
	}
	for _, it := range out {
		m.takeOut(it)
		if it.state == modelAdmitting {
			m.accepted++
			m.note("enqueue %d: ok", it.id)
		}
		m.finish(it, o)
	}
	p.ready = slices.DeleteFunc(p.ready, func(l *modelLane) bool { return len(l.items) == 0 || l.items[0].state != modelWaiting })
	for _, l := range slices.Backward(slices.Clone(p.lanes)) { // new lanes first
		m.review(p, l)
	}
	m.lineUp(p)
	m.leaveLine(p)
	for _, it := range out {
		m.freeRoom(it, it.holds)
	}
	m.admit(classOrdinary)
	m.admit(classUrgent)
	m.lineUp(p)
	return len(out)
}

func (m *model) remove(p *modelPortal, fired time.Time) {
	match := func(it *modelItem) bool { return !it.urgent && (fired.IsZero() || !it.fired.After(fired)) }
	m.drop(p, match, OutcomeRemoved)
	for _, it := range m.items {
		if it.state == modelRunning && it.portal == p && match(it) {
			it.removed = true
		}
	}
	m.start()
}

func (m *model) shutdown(cutAfter time.Duration) {
	m.closing = true
	if cutAfter > 0 {
		m.cutAt = m.now + cutAfter
	}
	for _, it := range slices.Clone(m.items) {
		if it.state == modelAdmitting {
			m.refuse(it, "closed")
		}
	}
	for _, it := range m.items {
		if it.state == modelResting {
			m.wake(it)
		}
	}
	m.start()
}

func (m *model) cutOff() {
	m.cut = true
	for _, p := range m.portals {
		m.left += m.drop(p, func(*modelItem) bool { return true }, OutcomeCut)
	}
	for _, p := range m.portals {
		m.end(p)
	}
}

// end ends the contexts of a portal.
func (m *model) end(p *modelPortal) {
	if p.ended >= 0 {
		return
	}
	p.ended = m.now
	for _, it := range m.items {
		if it.state == modelRunning && it.portal == p {
			it.due = it.endOfCall(it.began, p.ended, m.cfg.Timeout)
		}
	}
}

func (m *model) giveUp() {
	m.over = true
	for _, it := range m.items {
		if it.state == modelRunning {
			m.finish(it, OutcomeCut)
			it.state, it.reported = modelRunning, true
			m.left++
		}
	}
}

// announce notes when Done and Shutdown have something to say.
func (m *model) announce() {
	for _, p := range m.portals {
		for ; p.stopping > 0 && p.running+p.urgents+p.inline == 0; p.stopping-- {
			m.note("done %d", p.id)
		}
	}
	if !m.closing || m.answered {
		return
	}
	for _, it := range m.items {
		if it.state != modelGone && !it.reported {
			return
		}
	}
	m.answered = true
	m.over = true
	m.note("shutdown: %d left", m.left)
}
