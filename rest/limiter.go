package rest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What portals in the cloud allow: a bucket of so many requests that drains at so many a second. The first pair is for all
// plans but Enterprise. A batch is one request.
//
// Source: https://apidocs.bitrix24.com/limits.html
const (
	DefaultRate     = 2
	DefaultBurst    = 50
	EnterpriseRate  = 5
	EnterpriseBurst = 250
)

const (
	firstBlock  = time.Second      // after the first refusal; doubled by each one that follows
	maxBlock    = 16 * time.Second // and no longer than this
	strikesKept = time.Minute      // without a refusal the count starts again
	sweepEvery  = time.Minute
)

// Limiter keeps requests within what portals allow. Portals count requests for each portal and source address, so one Limiter
// stands for one source address and has a bucket for each portal. Each [Portals] and each client of [NewWebhook] has a Limiter of its
// own; where several in a process call the same portals, make one and hand it to each by [WithLimiter].
//
// A portal that refuses nevertheless, since another process calls it too, empties its bucket: all calls to it pause for one
// to sixteen seconds, and go on at the steady rate.
//
// It is safe for concurrent use, and forgets a portal once its bucket would be full again. The zero value is not usable.
type Limiter struct {
	limit rate.Limit
	burst int

	mu      sync.Mutex
	buckets map[string]*bucket // by host
	swept   time.Time
}

// bucket is what is known of one portal.
type bucket struct {
	tokens  *rate.Limiter // replaced at a refusal, which voids what was reserved
	until   time.Time     // nothing is sent before
	strikes int
}

// NewLimiter returns a limiter for perSecond requests a second to each portal, and bursts of up to burst.
func NewLimiter(perSecond float64, burst int) (*Limiter, error) {
	if !(perSecond > 0) || math.IsInf(perSecond, 0) || burst < 1 {
		return nil, errors.New("rest: NewLimiter: the rate and the burst must be positive; without a limit there is WithoutRateLimit")
	}
	return newLimiter(rate.Limit(perSecond), burst), nil
}

func newLimiter(limit rate.Limit, burst int) *Limiter {
	return &Limiter{limit: limit, burst: burst, buckets: make(map[string]*bucket), swept: time.Now()}
}

// WithLimiter sets the limiter, to share it with other clients in the process that call the same portals from the same address.
func WithLimiter(l *Limiter) Option {
	return func(cfg *config) error {
		switch {
		case l == nil:
			return errors.New("rest: WithLimiter: the limiter is nil; without a limit there is WithoutRateLimit")
		case cfg.limiter != nil:
			return errLimits
		}
		cfg.limiter = l
		return nil
	}
}

// WithRateLimit sets what each portal is sent, in requests a second and in a burst, such as [EnterpriseRate] and
// [EnterpriseBurst]. The default is [DefaultRate] and [DefaultBurst].
func WithRateLimit(perSecond float64, burst int) Option {
	return func(cfg *config) error {
		if cfg.limiter != nil {
			return errLimits
		}
		var err error
		cfg.limiter, err = NewLimiter(perSecond, burst)
		return err
	}
}

// WithoutRateLimit lets all requests out at once, for portals on premise, which have no limit unless someone set one up, and for
// fake portals. Where a portal refuses nevertheless, calls pause as [Limiter] says.
func WithoutRateLimit() Option {
	return func(cfg *config) error {
		if cfg.limiter != nil {
			return errLimits
		}
		cfg.limiter = newLimiter(rate.Inf, 1)
		return nil
	}
}

const errLimits ErrorCode = "pass one of WithLimiter, WithRateLimit and WithoutRateLimit"

// Format prints the limits; a limiter holds no secrets.
func (l *Limiter) Format(f fmt.State, _ rune) {
	if l.limit == rate.Inf {
		_, _ = f.Write([]byte("rest.Limiter(none)"))
		return
	}
	_, _ = fmt.Fprintf(f, "rest.Limiter(%g/s, %d)", float64(l.limit), l.burst)
}

// wait returns when a request may be sent. Where the context would end before, it returns at once.
func (l *Limiter) wait(ctx context.Context, host, method string) error {
	for {
		tokens, reserved, delay := l.reserve(host, time.Now())
		if delay <= 0 {
			return nil
		}
		if err := pause(ctx, delay); err != nil {
			if reserved != nil {
				reserved.Cancel() // others move up
			}
			return waitFailed(ctx, err, &Error{Method: method, Code: ErrQueryLimit, until: time.Now().Add(delay)})
		}
		if l.valid(host, tokens) {
			return nil
		}
	}
}

// reserve takes a place in the line for a portal.
func (l *Limiter) reserve(host string, now time.Time) (*rate.Limiter, *rate.Reservation, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	b := l.buckets[host]
	if b == nil {
		if l.limit == rate.Inf {
			return nil, nil, 0
		}
		b = &bucket{tokens: rate.NewLimiter(l.limit, l.burst)}
		l.buckets[host] = b
	}
	from := now
	if b.until.After(now) {
		from = b.until
	}
	r := b.tokens.ReserveN(from, 1)
	return b.tokens, r, from.Sub(now) + r.DelayFrom(from)
}

// valid reports whether a place that was taken in the line still counts.
func (l *Limiter) valid(host string, tokens *rate.Limiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[host]
	return b == nil || b.tokens == tokens
}

// refuse notes that the portal refused a request, and returns until when nothing is sent to it.
func (l *Limiter) refuse(host string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	b := l.buckets[host]
	if b == nil {
		b = &bucket{}
		l.buckets[host] = b
	}
	if b.until.After(now) {
		return b.until // another call of the same moment was refused too
	}
	if now.Sub(b.until) > strikesKept {
		b.strikes = 0
	}
	b.until = now.Add(jitter(min(firstBlock<<b.strikes, maxBlock)))
	b.strikes = min(b.strikes+1, 8)
	b.tokens = rate.NewLimiter(l.limit, l.burst)
	b.tokens.AllowN(b.until, l.burst) // empty when the pause ends
	return b.until
}

// sweep drops the portals of which nothing needs to be remembered.
func (l *Limiter) sweep(now time.Time) {
	if now.Sub(l.swept) < sweepEvery {
		return
	}
	l.swept = now
	for host, b := range l.buckets {
		full := l.limit == rate.Inf || b.tokens.TokensAt(now) >= float64(l.burst)
		if full && now.Sub(b.until) > strikesKept {
			delete(l.buckets, host)
		}
	}
}

// jitter spreads a pause, so that processes that were refused together do not come back together.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2) //nolint:gosec // no secret depends on it
}
