package eventtest

import (
	"context"
	"slices"
	"time"
)

// Now returns the portal's time.
func (p *Portal) Now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nowLocked()
}

// nowLocked returns the portal's time.
func (p *Portal) nowLocked() time.Time { return time.Now().Add(p.clockOffset) }

// Advance moves the portal's clock forward: tokens and codes expire, limits recover, and the agent
// that purges old records of the offline queue runs, as it does once a day. A negative duration
// does nothing.
func (p *Portal) Advance(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clockOffset += max(d, 0)
	p.purgeLocked()
	p.runDueLocked()
	p.signalChangeLocked()
}

// scheduledRun is a function that runs later, by the portal's clock.
type scheduledRun struct {
	at  time.Time
	run func() // called with Portal.mu held
}

// scheduleLocked runs a function after d, by the portal's clock. Wait waits for it.
func (p *Portal) scheduleLocked(d time.Duration, run func()) {
	p.addPendingLocked()
	p.deliveries.scheduled = append(p.deliveries.scheduled, scheduledRun{at: p.nowLocked().Add(d), run: run})
	p.runDueLocked()
}

// runDueLocked runs the scheduled functions and readies the lanes that are due by the portal's
// clock. It sets a timer for the next ones.
func (p *Portal) runDueLocked() {
	q := &p.deliveries
	if q.timer != nil {
		q.timer.Stop()
		q.timer = nil
	}
	if p.closed {
		return
	}
	now := p.nowLocked()
	var next time.Time
	later := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	var due []scheduledRun
	q.scheduled = slices.DeleteFunc(q.scheduled, func(a scheduledRun) bool {
		if now.Before(a.at) {
			later(a.at)
			return false
		}
		due = append(due, a)
		return true
	})
	for _, l := range q.lanes {
		if p.readyLaneLocked(l); len(l.waiting) > 0 && now.Before(l.until) {
			later(l.until)
		}
	}
	if !next.IsZero() {
		q.timer = time.AfterFunc(next.Sub(now), func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.runDueLocked()
		})
	}
	for _, a := range due { // last, because each may schedule more
		a.run()
		p.donePendingLocked()
	}
}

// pause waits for d in real time. It returns early when ctx ends or the portal closes.
func (p *Portal) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-p.life.done:
	}
}

// isoTime formats t as the portal does: in its zone, to the second.
func isoTime(t time.Time) string {
	return t.In(time.FixedZone("", 3*60*60)).Format("2006-01-02T15:04:05-07:00")
}
