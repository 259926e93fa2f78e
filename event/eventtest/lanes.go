package eventtest

import (
	"slices"
	"strings"
	"time"
)

// The platform calls slow handlers less often, with growing intervals. Its numbers are not public;
// these are a choice.
const (
	firstGap   = time.Second
	longestGap = 5 * time.Minute
)

// Lane is the queue of deliveries to one handler URL.
type Lane struct {
	URL     string
	Waiting int // deliveries that have not begun
	Busy    int // deliveries under way
	// Gap is how long the portal waits after each delivery to a slow handler; see
	// [Quirks.SlowHandlers]. It is 0 if the handler is not slow. It doubles after each slow response,
	// from a second to five minutes, and halves after each quick one.
	Gap time.Duration
	// Until is the time when the next delivery may begin, by the portal's clock.
	Until time.Time
}

// Lanes returns the queues of deliveries that are not empty or whose handler is slow, ordered by
// URL.
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

// lane holds the deliveries to one URL in order. Portal.mu guards it.
type lane struct {
	waiting []delivery
	busy    int
	ready   bool // is in deliveryQueue.ready
	gap     time.Duration
	until   time.Time
}

// adjustGapLocked adjusts the gap of a lane to how long its handler took.
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

// readyLaneLocked passes a lane to the workers if it has a delivery that may begin now.
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
