package eventtest

import (
	"slices"
	"strings"
	"time"
)

// The platform calls slow handlers less often, with growing intervals, and its numbers are not
// public. These are chosen.
const (
	firstGap   = time.Second
	longestGap = 5 * time.Minute
)

// Lane is the queue of deliveries to one handler URL.
type Lane struct {
	URL     string
	Waiting int // deliveries that have not begun
	Busy    int // deliveries under way
	// Gap is how long the portal waits after each delivery since the handler was slow, 0 for one that
	// is not; see [Quirks.SlowHandlers]. It grows from a second to five minutes, twice as long after
	// each slow answer, half as long after each quick one.
	Gap time.Duration
	// Until is when the next delivery may begin, by the portal's clock.
	Until time.Time
}

// Lanes returns the queues of deliveries that hold any, or whose handler was slow, by URL.
func (p *Portal) Lanes() []Lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Lane, 0, len(p.queue.lanes))
	for url, l := range p.queue.lanes {
		list = append(list, Lane{URL: url, Waiting: len(l.parcels), Busy: l.busy, Gap: l.gap, Until: l.until})
	}
	slices.SortFunc(list, func(a, b Lane) int { return strings.Compare(a.URL, b.URL) })
	return list
}

// lane holds the deliveries to one address in order.
type lane struct {
	parcels []parcel
	busy    int
	ready   bool // stands in sendQueue.ready
	gap     time.Duration
	until   time.Time
}

// slow notes how long a handler took.
func (p *Portal) slow(l *lane, took time.Duration) {
	switch limit := p.quirks.SlowHandlers; {
	case limit == 0:
		l.gap = 0
	case took > limit:
		l.gap = min(max(2*l.gap, firstGap), longestGap)
	default:
		if l.gap /= 2; l.gap < firstGap {
			l.gap = 0
		}
	}
	l.until = p.now().Add(l.gap)
}

// offer puts a lane up for the workers where it has work that may run now.
func (p *Portal) offer(l *lane) {
	if len(l.parcels) > 0 && !l.ready && l.busy < p.cfg.parallel && !p.now().Before(l.until) {
		l.ready = true
		p.queue.ready = append(p.queue.ready, l)
		if p.queue.workers < deliveryWorkers && !p.closed {
			p.queue.workers++
			p.running.Go(p.work)
		}
	}
}

// plan starts what is due by the portal's clock, and sets a timer for what comes next.
func (p *Portal) plan() {
	q := &p.queue
	if q.timer != nil {
		q.timer.Stop()
		q.timer = nil
	}
	if p.closed {
		return
	}
	now := p.now()
	var next time.Time
	later := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	var due []appointment
	q.later = slices.DeleteFunc(q.later, func(a appointment) bool {
		if now.Before(a.at) {
			later(a.at)
			return false
		}
		due = append(due, a)
		return true
	})
	for _, l := range q.lanes {
		if p.offer(l); len(l.parcels) > 0 && now.Before(l.until) {
			later(l.until)
		}
	}
	if !next.IsZero() {
		q.timer = time.AfterFunc(next.Sub(now), func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.plan()
		})
	}
	for _, a := range due { // at the end, since each may plan again
		a.run()
		p.end()
	}
}

// appointment is something to be done later, by the portal's clock.
type appointment struct {
	at  time.Time
	run func() // under the lock
}

// after makes an appointment.
func (p *Portal) after(d time.Duration, run func()) {
	p.begin()
	p.queue.later = append(p.queue.later, appointment{at: p.now().Add(d), run: run})
	p.plan()
}
