package rest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// limiterRuns is how many schedules TestLimiterModel tries, and limiterSeed the first of them.
var (
	limiterRuns = flag.Int("limiter.model.runs", 10_000, "random schedules of TestLimiterModel")
	limiterSeed = flag.Uint64("limiter.model.seed", 1, "seed of the first schedule of TestLimiterModel")
)

// TestLimiterModel holds a Limiter to a queue that is written for clarity, under random arrivals,
// deadlines, cancellations and refusals at two portals.
func TestLimiterModel(t *testing.T) {
	t.Parallel()
	const parts = 8 // so that both processors have something to do
	for part := range parts {
		t.Run(fmt.Sprint("part ", part), func(t *testing.T) {
			t.Parallel()
			for i := part; i < *limiterRuns && !t.Failed(); i += parts {
				synctest.Test(t, func(t *testing.T) { newLimiterModel(t, *limiterSeed+uint64(i)).run() }) //nolint:gosec // not negative
			}
		})
	}
}

// limiterModel is one schedule: what happens at which millisecond.
type limiterModel struct {
	t      *testing.T
	seed   uint64
	rand   *rand.Rand
	l      *Limiter
	gap    time.Duration
	burst  int
	start  time.Time
	queues map[string]*queueModel

	mu    sync.Mutex
	calls []*callModel
}

// queueModel is the reference: the calls that wait, in order.
type queueModel struct {
	waiting []*callModel
	full    time.Time // when the bucket has drained
	until   time.Time // of the pause
}

type callModel struct {
	n        int
	host     string
	turn     turn
	deadline time.Time
	cancel   context.CancelFunc

	// What happened, and what the reference says.
	got, want     outcomeModel
	gotAt, wantAt time.Time
	done          bool
	resent        bool // under its ticket there is another call
}

type outcomeModel string

const (
	modelSent     outcomeModel = "sent"
	modelLate     outcomeModel = "late"
	modelCanceled outcomeModel = "canceled"
)

func newLimiterModel(t *testing.T, seed uint64) *limiterModel {
	t.Helper()
	schedule := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // a schedule
	m := &limiterModel{t: t, seed: seed, rand: schedule, queues: make(map[string]*queueModel)}
	m.burst = 1 + m.rand.IntN(4)
	perSecond := []float64{2, 5, 10}[m.rand.IntN(3)]
	m.gap = time.Duration(float64(time.Second) / perSecond)
	m.l = newLimiter(perSecond, m.burst)
	m.start = time.Now()
	for _, host := range []string{"a", "b"} {
		m.queues[host] = &queueModel{full: m.start, until: m.start}
	}
	return m
}

func (m *limiterModel) run() {
	for range 25 + m.rand.IntN(25) {
		// The step is never a multiple of the gap, so nothing happens at the moment of a turn.
		pauseIn(time.Duration(1+m.rand.IntN(40))*7*time.Millisecond + time.Duration(1+m.rand.IntN(900))*time.Microsecond)
		now := time.Now()
		for _, q := range m.queues {
			m.advance(q, now)
		}
		switch m.rand.IntN(12) {
		case 0, 1:
			m.cancelOne(now)
		case 2:
			m.refuse(now)
		case 3:
			m.again(now)
		default:
			for range 1 + m.rand.IntN(3) {
				m.arrive(now, new(turn), []string{"a", "a", "b"}[m.rand.IntN(3)])
			}
		}
		synctest.Wait()
		m.compare(now, false)
	}
	pauseIn(5 * time.Minute)
	for _, q := range m.queues {
		m.advance(q, time.Now())
	}
	m.compare(time.Now(), true)
	m.l.mu.Lock()
	defer m.l.mu.Unlock()
	for _, q := range m.l.lines {
		require.Zero(m.t, q.n, m.label())
		require.Nil(m.t, q.timer, m.label())
	}
}

func (m *limiterModel) label() string {
	return fmt.Sprintf("run again with -limiter.model.seed %d -limiter.model.runs 1", m.seed)
}

// next returns when the first of a queue may go, as seen at some time.
func (m *limiterModel) next(q *queueModel, now time.Time) time.Time {
	at := now
	for _, other := range []time.Time{q.until, q.full.Add(-time.Duration(m.burst-1) * m.gap)} {
		if other.After(at) {
			at = other
		}
	}
	return at
}

func (m *limiterModel) send(q *queueModel, c *callModel, at time.Time) {
	if q.full.Before(at) {
		q.full = at
	}
	q.full = q.full.Add(m.gap)
	c.want, c.wantAt = modelSent, at
}

// advance lets those go whose turn came before now.
func (m *limiterModel) advance(q *queueModel, now time.Time) {
	for len(q.waiting) > 0 {
		at := m.next(q, m.start)
		if at.After(now) {
			return
		}
		m.send(q, q.waiting[0], at)
		q.waiting = q.waiting[1:]
	}
}

func (m *limiterModel) arrive(now time.Time, of *turn, host string) {
	c := &callModel{n: len(m.calls), host: host, turn: *of}
	c.turn.host, c.turn.method = host, "profile"
	q := m.queues[host]
	ctx, cancel := context.WithCancel(m.t.Context())
	if m.rand.IntN(3) == 0 {
		c.deadline = now.Add(time.Duration(m.rand.IntN(6000))*time.Millisecond + 300*time.Microsecond)
		ctx, cancel = context.WithDeadline(ctx, c.deadline)
	}
	c.cancel = cancel
	m.calls = append(m.calls, c)
	at := len(q.waiting)
	if c.turn.ticket > 0 { // it was sent before: those that came after it are behind it
		at = 0
		for at < len(q.waiting) && q.waiting[at].turn.ticket < c.turn.ticket {
			at++
		}
	}
	due := m.next(q, now).Add(time.Duration(at) * m.gap)
	switch {
	case len(q.waiting) == 0 && !due.After(now):
		m.send(q, c, now)
	case !c.deadline.IsZero() && c.deadline.Before(due):
		c.want, c.wantAt = modelLate, now
	default:
		q.waiting = slices.Insert(q.waiting, at, c)
		m.postpone(q, at+1, due.Add(m.gap), now)
	}
	go func() {
		err := m.l.wait(ctx, &c.turn)
		m.mu.Lock()
		defer m.mu.Unlock()
		c.done, c.gotAt = true, time.Now()
		switch {
		case err == nil:
			c.got = modelSent
		case errors.Is(err, ErrQueryLimit):
			c.got = modelLate
		default:
			c.got = modelCanceled
		}
	}()
	synctest.Wait() // so that tickets are in the order of arrival
}

// cancelOne lets one that waits leave.
func (m *limiterModel) cancelOne(now time.Time) {
	var all []*callModel
	for _, host := range []string{"a", "b"} {
		all = append(all, m.queues[host].waiting...)
	}
	if len(all) == 0 {
		return
	}
	c := all[m.rand.IntN(len(all))]
	q := m.queues[c.host]
	q.waiting = slices.DeleteFunc(q.waiting, func(other *callModel) bool { return other == c })
	c.want, c.wantAt = modelCanceled, now
	c.cancel()
}

// refuse lets the portal refuse a request. How long the pause is, is the limiter's to say.
func (m *limiterModel) refuse(now time.Time) {
	host := []string{"a", "b"}[m.rand.IntN(2)]
	q := m.queues[host]
	until := m.l.recordRefusal(host)
	if q.until.After(now) {
		require.True(m.t, until.Equal(q.until), "%s: a pause that goes on stays as it is", m.label())
		return
	}
	require.GreaterOrEqual(m.t, until.Sub(now), firstBlock*3/4, m.label())
	require.LessOrEqual(m.t, until.Sub(now), maxBlock*5/4, m.label())
	q.until = until
	q.full = until.Add(time.Duration(m.burst) * m.gap)
	m.postpone(q, 0, m.next(q, now), now)
}

// postpone gives later turns to those from a position on. Those for whom it is too late leave.
func (m *limiterModel) postpone(q *queueModel, from int, due, now time.Time) {
	kept := slices.DeleteFunc(slices.Clone(q.waiting[from:]), func(c *callModel) bool {
		if !c.deadline.IsZero() && c.deadline.Before(due) {
			c.want, c.wantAt = modelLate, now
			return true
		}
		due = due.Add(m.gap)
		return false
	})
	q.waiting = append(q.waiting[:from:from], kept...)
}

// again sends a call again that was sent before, as after a refusal. It has its old ticket.
func (m *limiterModel) again(now time.Time) {
	m.mu.Lock()
	var sent []*callModel
	for _, c := range m.calls {
		if c.done && c.got == modelSent && !c.resent {
			sent = append(sent, c)
		}
	}
	m.mu.Unlock()
	if len(sent) == 0 {
		return
	}
	c := sent[m.rand.IntN(len(sent))]
	c.resent = true
	m.arrive(now, &turn{ticket: c.turn.ticket}, c.host)
}

func (m *limiterModel) compare(now time.Time, all bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.calls {
		if c.done != (c.want != "") || c.done && (c.got != c.want || !c.gotAt.Equal(c.wantAt)) || all && !c.done {
			m.t.Fatalf("at %v: call %d to %s: %q at %v, want %q at %v; %s", now.Sub(m.start), c.n, c.host, c.got, c.gotAt.Sub(m.start),
				c.want, c.wantAt.Sub(m.start), m.label())
		}
	}
}

func pauseIn(d time.Duration) { <-time.After(d) }
