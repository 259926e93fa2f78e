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
	list := make([]Lane, 0, len(p.deliveries.lanes))
	for url, l := range p.deliveries.lanes {
		list = append(list, Lane{URL: url, Waiting: len(l.waiting), Busy: l.busy, Gap: l.gap, Until: l.until})
	}
	slices.SortFunc(list, func(a, b Lane) int { return strings.Compare(a.URL, b.URL) })
	return list
}

// lane holds the deliveries to one address in order.
type lane struct {
	waiting []delivery
	busy    int
	ready   bool // stands in sendQueue.ready
	gap     time.Duration
	until   time.Time
}

// adjustGapLocked notes how long a handler took.
func (p *Portal) adjustGapLocked(l *lane, took time.Duration) {
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
	l.until = p.nowLocked().Add(l.gap)
}

// readyLaneLocked puts a lane up for the workers where it has work that may run now.
func (p *Portal) readyLaneLocked(l *lane) {
	if len(l.waiting) > 0 && !l.ready && l.busy < p.cfg.parallel && !p.nowLocked().Before(l.until) {
		l.ready = true
		p.deliveries.ready = append(p.deliveries.ready, l)
		if p.deliveries.workers < deliveryWorkers && !p.closed {
			p.deliveries.workers++
			p.life.running.Go(p.deliveries.work)
		}
	}
}
