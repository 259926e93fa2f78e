package rest

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/b24events/b24events/internal/timing"
)

// The limits of portals in the cloud: a bucket that holds so many requests (burst) and drains at so
// many a second (rate). The first pair is for all plans except Enterprise. A batch is one request.
//
// Source: https://apidocs.bitrix24.com/limits.html
const (
	DefaultRate     = 2
	DefaultBurst    = 50
	EnterpriseRate  = 5
	EnterpriseBurst = 250
)

const (
	firstBlock  = time.Second      // after the first refusal; each further one doubles it
	maxBlock    = 16 * time.Second // the longest pause
	strikesKept = time.Minute      // without a refusal the count starts again
	sweepEvery  = time.Minute
)

// Limiter keeps requests within the limits of portals. Portals count requests for each portal and
// source address, so one Limiter stands for one source address and has a line for each portal. Each
// [Clients] and each client of [NewWebhook] has its own Limiter. If several of them in a process
// call the same portals, make one Limiter and pass it to each by [WithLimiter].
//
// Requests to a portal leave in the order in which their calls came, for all methods together. A
// call whose context ends gives up its place. A call whose deadline comes before its turn fails at
// once. No portal waits for another.
//
// If a portal refuses a request nevertheless, because another process calls it too, its bucket
// counts as full: all calls to it pause for about one to sixteen seconds, keep their order, and go
// on at the steady rate. The call that was refused is the first of them.
//
// It is safe for concurrent use. It forgets a portal when its bucket has drained. The zero value is
// not usable.
type Limiter struct {
	rate  float64 // infinite without a limit
	burst int
	gap   time.Duration // between two requests at the steady rate; zero without a limit
	slack time.Duration // how far a burst may be ahead of the steady rate
	begun time.Time     // the times of lines count from here

	mu    sync.Mutex
	lines map[string]*line // by host
	last  uint64           // ticket
	swept time.Duration
}

// line is the requests that wait for one portal, the first one in front. It is small, because there
// is one for each portal that was called recently.
type line struct {
	drained time.Duration // when the bucket will have drained
	until   time.Duration // nothing is sent before
	strikes int
	epoch   int // counts refusals
	head    *waiter
	tail    *waiter
	n       int
	timed   int         // calls with a deadline, or with a function later
	timer   *time.Timer // for the turn of head; nil if no call waits
}

// waiter is one call in a line. The Limiter's lock guards it, except for ready.
type waiter struct {
	method     string
	ticket     uint64
	deadline   time.Time // zero for none
	ready      chan struct{}
	granted    bool
	failed     error         // instead
	epoch      int           // in which it was granted
	drained    time.Duration // when its request will have drained
	later      func()
	prev, next *waiter
}

// NewLimiter returns a limiter for perSecond requests a second to each portal, and bursts of up to
// burst. An error matches [ErrConfig].
func NewLimiter(perSecond float64, burst int) (*Limiter, error) {
	if !(perSecond > 0) || math.IsInf(perSecond, 0) || burst < 1 {
		return nil, misconfigured("NewLimiter: the rate and the burst must be positive; use WithoutRateLimit for no limit")
	}
	return newLimiter(perSecond, burst), nil
}

// farAway is the largest time that limiters calculate with.
const farAway = 1 << 60 * time.Nanosecond

func newLimiter(perSecond float64, burst int) *Limiter {
	gap := min(float64(time.Second)/perSecond, float64(farAway))
	return &Limiter{
		rate: perSecond, burst: burst, gap: time.Duration(gap), slack: time.Duration(min(gap*float64(burst-1), float64(farAway))),
		begun: time.Now(), lines: make(map[string]*line),
	}
}

// WithLimiter sets the limiter, to share it with other clients in the process that call the same
// portals from the same address.
func WithLimiter(l *Limiter) Option {
	return func(cfg *config) error {
		switch {
		case l == nil:
			return misconfigured("WithLimiter: the limiter is nil; use WithoutRateLimit for no limit")
		case cfg.limiter != nil:
			return errTwoLimits()
		}
		cfg.limiter = l
		return nil
	}
}

// WithRateLimit sets the limit for each portal, in requests a second and in a burst, for example
// [EnterpriseRate] and [EnterpriseBurst]. The default is [DefaultRate] and [DefaultBurst].
func WithRateLimit(perSecond float64, burst int) Option {
	return func(cfg *config) error {
		if cfg.limiter != nil {
			return errTwoLimits()
		}
		var err error
		cfg.limiter, err = NewLimiter(perSecond, burst)
		return err
	}
}

// WithoutRateLimit sends all requests at once. It is for portals on premise, which have no limit
// unless one was set up, and for fake portals. If a portal refuses a request nevertheless, calls
// pause as [Limiter] says.
func WithoutRateLimit() Option {
	return func(cfg *config) error {
		if cfg.limiter != nil {
			return errTwoLimits()
		}
		cfg.limiter = newLimiter(math.Inf(1), 1)
		return nil
	}
}

func errTwoLimits() error {
	return misconfigured("pass only one of WithLimiter, WithRateLimit and WithoutRateLimit")
}

// Format prints the limits; a limiter holds no secrets.
func (l *Limiter) Format(f fmt.State, _ rune) {
	if math.IsInf(l.rate, 1) {
		_, _ = f.Write([]byte("rest.Limiter(none)"))
		return
	}
	_, _ = fmt.Fprintf(f, "rest.Limiter(%g/s, %d)", l.rate, l.burst)
}

// turn is a call that is about to send a request. It keeps its ticket, and with it its place, for
// retries.
type turn struct {
	host, method string
	ticket       uint64 // zero before the first request

	// placed is called when the turn has to wait, with a function that returns the estimated time
	// of the turn. later is called when that time is delayed, because the portal refused a request.
	// Both may be nil. later must return at once.
	placed func(due func() time.Time)
	later  func()

	epoch   int           // of the line, when the turn came
	drained time.Duration // when the request will have drained
}

// wait returns when a request may be sent. If the context would end before that, it returns at
// once.
func (l *Limiter) wait(ctx context.Context, t *turn) error {
	w, err := l.enqueue(ctx, t)
	if w == nil {
		return err
	}
	if t.placed != nil {
		t.placed(func() time.Time { return l.due(t.host, w) })
	}
	select {
	case <-w.ready:
	case <-ctx.Done():
		l.withdraw(t.host, w)
		return contextError(ctx, t.method)
	}
	if w.failed != nil {
		return w.failed
	}
	if ctx.Err() != nil {
		l.withdraw(t.host, w)
		return contextError(ctx, t.method)
	}
	t.epoch, t.drained = w.epoch, w.drained
	return nil
}

// giveBack returns the place of a request whose turn had come, but which was not sent.
func (l *Limiter) giveBack(t *turn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q := l.lines[t.host]; q != nil {
		now := time.Since(l.begun)
		l.refundLocked(q, t.epoch, t.drained, now)
		l.pumpLocked(t.host, q, now)
	}
}

// refundLocked takes a request out of the bucket, unless it has drained. l.mu is held.
func (l *Limiter) refundLocked(q *line, epoch int, drained, now time.Duration) {
	if epoch == q.epoch && drained > now {
		q.drained -= min(l.gap, drained-now)
	}
}

// enqueue takes a place in the line of a portal. It returns no waiter if the request may be sent at
// once, or never.
func (l *Limiter) enqueue(ctx context.Context, t *turn) (*waiter, error) {
	if ctx.Err() != nil {
		return nil, contextError(ctx, t.method)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Since(l.begun)
	l.sweepLocked(now)
	if t.ticket == 0 {
		l.last++
		t.ticket = l.last
	}
	q := l.lines[t.host]
	if q == nil {
		if l.gap == 0 {
			return nil, nil
		}
		q = &line{until: -2 * strikesKept}
		l.lines[t.host] = q
	}
	l.pumpLocked(t.host, q, now)
	if q.head == nil && l.nextLocked(q, now) <= now {
		l.takeLocked(q, now)
		t.epoch, t.drained = q.epoch, q.drained
		return nil, nil
	}
	w := &waiter{method: t.method, ticket: t.ticket, ready: make(chan struct{}), later: t.later}
	w.deadline, _ = ctx.Deadline()
	ahead := q.insert(w)
	due := l.nextLocked(q, now) + time.Duration(ahead)*l.gap
	if at := l.at(due); !w.deadline.IsZero() && w.deadline.Before(at) {
		q.remove(w)
		return nil, late(t.method, at)
	}
	l.postponeLocked(q, w.next, due+l.gap)
	l.armLocked(t.host, q, now)
	return w, nil
}

const hintLate = "nothing was sent: the wait for the portal's limit is longer than the context allows"

// late is the error of a call that was not sent because its deadline comes before its turn.
func late(method string, due time.Time) error {
	return &Error{Method: method, Code: ErrQueryLimit, Hint: hintLate, until: due, cause: &cause{tooLongError{}}}
}

// withdraw gives up the place of a call.
func (l *Limiter) withdraw(host string, w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Since(l.begun)
	q := l.lines[host]
	switch {
	case w.failed != nil || q == nil:
		return
	case !w.granted:
		q.remove(w)
	default: // its turn came just now
		l.refundLocked(q, w.epoch, w.drained, now)
	}
	l.pumpLocked(host, q, now)
}

// due returns when the turn of a call is expected.
func (l *Limiter) due(host string, w *waiter) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Since(l.begun)
	q := l.lines[host]
	if q == nil || w.granted || w.failed != nil {
		return l.at(now)
	}
	ahead := 0
	for other := w.prev; other != nil; other = other.prev {
		ahead++
	}
	return l.at(l.nextLocked(q, now) + time.Duration(ahead)*l.gap)
}

// nextLocked returns when the first request of a line may be sent. l.mu is held.
func (l *Limiter) nextLocked(q *line, now time.Duration) time.Duration {
	return max(now, q.until, q.drained-l.slack)
}

// takeLocked puts a request into the bucket. l.mu is held.
func (l *Limiter) takeLocked(q *line, now time.Duration) { q.drained = max(q.drained, now) + l.gap }

func (l *Limiter) at(d time.Duration) time.Time { return l.begun.Add(d) }

// pumpLocked releases the calls whose turn has come. l.mu is held.
func (l *Limiter) pumpLocked(host string, q *line, now time.Duration) {
	for q.head != nil && l.nextLocked(q, now) <= now {
		w := q.head
		q.remove(w)
		l.takeLocked(q, now)
		w.granted, w.epoch, w.drained = true, q.epoch, q.drained
		close(w.ready)
	}
	l.armLocked(host, q, now)
}

// armLocked sets the timer for the first call of a line. l.mu is held.
func (l *Limiter) armLocked(host string, q *line, now time.Duration) {
	switch wait := l.nextLocked(q, now) - now; {
	case q.head == nil:
		if q.timer != nil {
			q.timer.Stop()
			q.timer = nil
		}
	case q.timer == nil:
		q.timer = time.AfterFunc(wait, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if q.timer != nil {
				l.pumpLocked(host, q, time.Since(l.begun))
			}
		})
	default:
		q.timer.Reset(wait)
	}
}

// postponeLocked gives a call and the calls after it later turns. If that is too late for a call,
// it fails at once. l.mu is held.
func (l *Limiter) postponeLocked(q *line, w *waiter, due time.Duration) {
	for w != nil && q.timed > 0 {
		after := w.next
		if at := l.at(due); !w.deadline.IsZero() && w.deadline.Before(at) {
			q.remove(w)
			w.failed = late(w.method, at)
			close(w.ready)
		} else {
			due += l.gap
			if w.later != nil {
				w.later()
			}
		}
		w = after
	}
}

// recordRefusal records that the portal refused a request, and returns until when nothing is sent
// to it. Waiting calls keep their places. If the pause makes a call too late for its deadline, it
// fails at once.
func (l *Limiter) recordRefusal(host string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Since(l.begun)
	q := l.lines[host]
	if q == nil {
		q = &line{until: -2 * strikesKept}
		l.lines[host] = q
	}
	if q.until > now {
		return l.at(q.until) // another call of the same moment was refused too
	}
	if now-q.until > strikesKept {
		q.strikes = 0
	}
	q.until = now + timing.Jitter(min(firstBlock<<q.strikes, maxBlock))
	q.strikes = min(q.strikes+1, 8)
	q.epoch++
	q.drained = q.until + l.slack + l.gap // the bucket is full when the pause ends
	l.postponeLocked(q, q.head, l.nextLocked(q, now))
	l.armLocked(host, q, now)
	return l.at(q.until)
}

// sweepLocked drops the portals that need not be remembered. l.mu is held.
func (l *Limiter) sweepLocked(now time.Duration) {
	if now-l.swept < sweepEvery {
		return
	}
	l.swept = now
	for host, q := range l.lines {
		if q.head == nil && q.drained <= now && now-q.until > strikesKept {
			delete(l.lines, host)
		}
	}
}

// insert puts a call into the line, in the order of tickets, and returns how many calls are before
// it.
func (q *line) insert(w *waiter) (ahead int) {
	before := q.tail
	ahead = q.n
	if before != nil && before.ticket > w.ticket { // it was refused before: its place is near the front
		before, ahead = nil, 0
		for other := q.head; other != nil && other.ticket < w.ticket; other = other.next {
			before = other
			ahead++
		}
	}
	w.prev = before
	if before == nil {
		w.next, q.head = q.head, w
	} else {
		w.next, before.next = before.next, w
	}
	if w.next == nil {
		q.tail = w
	} else {
		w.next.prev = w
	}
	q.n++
	if w.isTimed() {
		q.timed++
	}
	return ahead
}

// remove removes a call from the line.
func (q *line) remove(w *waiter) {
	if w.prev == nil {
		q.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next = nil, nil
	q.n--
	if w.isTimed() {
		q.timed--
	}
}

func (w *waiter) isTimed() bool { return w.later != nil || !w.deadline.IsZero() }
