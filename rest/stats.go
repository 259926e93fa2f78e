package rest

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/internal/histogram"
	"github.com/b24events/b24events/internal/typednil"
)

// Stats is a snapshot of what the clients of a [Clients] have done since it was made, including
// those that [Clients.As] and [Client.As] derive from it. Each number is exact. They are read one
// after the other, so they may not add up exactly while calls are running.
type Stats struct {
	Calls    uint64 `json:"calls"`    // that ended; a batch request counts as one
	Failed   uint64 `json:"failed"`   // calls that returned an error
	Requests uint64 `json:"requests"` // that were sent to portals
	Commands uint64 `json:"commands"` // in batch requests that succeeded
	Retried  uint64 `json:"retried"`  // requests that retried one that failed
	Refused  uint64 `json:"refused"`  // requests that the portal refused because they were too many
	Busy     uint64 `json:"busy"`     // requests that a front end rejected with 429 or 503
	Paused   uint64 `json:"paused"`   // requests that were refused because the method's time was used up
	Renewed  uint64 `json:"renewed"`  // times that a token was renewed because the portal refused it as expired
	Waiting  int    `json:"waiting"`  // calls that wait now, for their turn, the end of a pause, or before a retry

	LimitWait    time.Duration `json:"limit_wait"`             // of all calls, until their turns
	PauseWait    time.Duration `json:"pause_wait"`             // of all calls, for the end of a pause of the method
	BackoffWait  time.Duration `json:"backoff_wait"`           // of all calls, before retries
	Took         Latency       `json:"took"`                   // calls in all, with their waits
	LastResponse time.Time     `json:"last_response,omitzero"` // when a call last succeeded; zero before the first
}

// MarshalJSON writes durations in seconds.
func (s Stats) MarshalJSON() ([]byte, error) {
	type fields Stats
	return json.Marshal(struct {
		fields

		LimitWait   float64 `json:"limit_wait"`
		PauseWait   float64 `json:"pause_wait"`
		BackoffWait float64 `json:"backoff_wait"`
	}{fields(s), s.LimitWait.Seconds(), s.PauseWait.Seconds(), s.BackoffWait.Seconds()})
}

// CallInfo describes one call that has ended.
type CallInfo struct {
	MemberID string // of the portal; empty for an incoming webhook
	Host     string // of the last request, in lower case; empty if none was sent
	Method   string // batch for a batch request
	Commands int    // of a batch request
	Requests int    // that were sent
	Retries  int    // of them, those that retried one that failed
	Renewed  bool   // a token was renewed
	Status   int    // HTTP status of the last response; 0 without one
	Code     string // error code of the portal or of this package; empty if there is none
	Err      error  // what the call returned

	LimitWait   time.Duration // until its turns
	PauseWait   time.Duration // for the end of a pause of the method
	BackoffWait time.Duration // before retries
	Took        time.Duration // in all

	// Joined are the contexts of the calls that a [Coalescer] made with this one, or that got the
	// result of one of these. The first is the one whose values the context of this call has. It is
	// nil for a call that no Coalescer made. Traces link to the spans in them.
	Joined []context.Context
}

// WithObserver sets a function that is called after each call, in its goroutine. It is for metrics
// and traces: label metrics by the method and not by the portal, of which there may be thousands.
// The function must return soon and be safe for concurrent use. A second observer is called after
// the first.
func WithObserver(f func(ctx context.Context, info CallInfo)) Option {
	return func(cfg *config) error {
		if f == nil {
			return misconfigured("WithObserver: the function is nil")
		}
		cfg.observers = append(cfg.observers, f)
		return nil
	}
}

// WithContext sets a function that makes the context of each call, before the call waits for
// anything. The credentials, the HTTP client and the observers of [WithObserver] get what it
// returns, so a span that it starts is the parent of theirs. It must return a context that is
// derived from ctx. If it panics or returns nil, the call has ctx. The method is "batch" for a
// request of a [Coalescer], which may turn out to hold a single call.
//
// Functions of several of these options run one after the other.
func WithContext(f func(ctx context.Context, method string) context.Context) Option {
	return func(cfg *config) error {
		if f == nil {
			return misconfigured("WithContext: the function is nil")
		}
		cfg.contexts = append(cfg.contexts, f)
		return nil
	}
}

// Latency is a snapshot of how long calls took since their [Clients] were made. It is immutable.
// The zero Latency has no observations.
type Latency struct{ snapshot histogram.Snapshot }

// Count returns the number of observations.
func (l Latency) Count() uint64 { return l.snapshot.Count() }

// Sum returns the total of all observations, to the nanosecond.
func (l Latency) Sum() time.Duration { return l.snapshot.Sum() }

// Quantile returns a duration that the share q of the observations did not exceed, for example 0.99
// for the 99th percentile. It is at most an eighth (or a microsecond) too high and never too low,
// up to 78 hours. It is 0 without observations. q is clamped to 0…1.
func (l Latency) Quantile(q float64) time.Duration { return l.snapshot.Quantile(q) }

// MarshalJSON writes the count, the sum and the usual quantiles, in seconds.
func (l Latency) MarshalJSON() ([]byte, error) { return l.snapshot.MarshalJSON() }

// meter counts the calls of the clients.
type meter struct {
	observers                                                                  []func(context.Context, CallInfo)
	contexts                                                                   []func(context.Context, string) context.Context
	calls, failed, requests, commands, retried, refused, busy, paused, renewed atomic.Uint64
	waiting                                                                    atomic.Int64
	limitWait, pauseWait, backoffWait                                          atomic.Int64 // nanoseconds
	succeeded                                                                  atomic.Int64 // last, in Unix nanoseconds; 0 before the first
	took                                                                       histogram.Histogram
}

// Stats returns the counts so far. It is cheap enough to call for each scrape of a metrics
// endpoint.
func (cs *Clients) Stats() Stats {
	m := cs.meter
	s := Stats{
		Calls: m.calls.Load(), Failed: m.failed.Load(), Requests: m.requests.Load(), Commands: m.commands.Load(), Retried: m.retried.Load(),
		Refused: m.refused.Load(), Busy: m.busy.Load(), Paused: m.paused.Load(), Renewed: m.renewed.Load(), Waiting: int(m.waiting.Load()),
		LimitWait: time.Duration(m.limitWait.Load()), PauseWait: time.Duration(m.pauseWait.Load()),
		BackoffWait: time.Duration(m.backoffWait.Load()), Took: Latency{m.took.Snapshot()},
	}
	if at := m.succeeded.Load(); at != 0 {
		s.LastResponse = time.Unix(0, at)
	}
	return s
}

// Stats returns the counts of the client's [Clients].
func (c *Client) Stats() Stats { return c.clients.Stats() }

// context returns the context of a call.
func (m *meter) context(ctx context.Context, c *Client, method string) context.Context {
	for _, f := range m.contexts {
		c.recovering(ctx, "a function of WithContext panicked", method, func() {
			if own := f(ctx, method); !typednil.Is(own) {
				ctx = own //nolint:fatcontext // each option adds to it
			}
		})
	}
	return ctx
}

// wait counts a call as waiting while f runs, and adds the time to sum.
func (m *meter) wait(sum *time.Duration, f func() error) error {
	m.waiting.Add(1)
	start := time.Now()
	defer func() {
		m.waiting.Add(-1)
		*sum += time.Since(start)
	}()
	return f()
}

// countCall counts a call that has ended, and calls the observers.
func (m *meter) countCall(ctx context.Context, c *Client, call *call, start time.Time, err error) {
	m.calls.Add(1)
	if err != nil {
		m.failed.Add(1)
	} else {
		m.succeeded.Store(time.Now().UnixNano())
	}
	took := time.Since(start)
	m.took.Record(took)
	m.limitWait.Add(int64(call.info.LimitWait))
	m.pauseWait.Add(int64(call.info.PauseWait))
	m.backoffWait.Add(int64(call.info.BackoffWait))
	if len(m.observers) == 0 {
		return
	}
	info := call.info
	info.MemberID, info.Method, info.Commands, info.Renewed = c.memberID, call.method, len(call.batch), call.renewed
	info.Err, info.Took = err, took
	if call.joined != nil {
		info.Joined = call.joined()
	}
	if info.Requests > 0 {
		info.Host = strings.ToLower(call.turn.host)
	}
	if failure, ok := err.(*Error); ok { //nolint:errorlint // the cause of a context may be another call's error
		info.Code = string(failure.Code)
	}
	for _, f := range m.observers {
		c.recovering(ctx, "an observer of calls panicked", call.method, func() { f(ctx, info) })
	}
}

// countRequest counts a request.
func (m *meter) countRequest(call *call, got exchanged, err error) {
	if got.progress != progressNoConnection {
		m.requests.Add(1)
		call.info.Requests++
	}
	call.info.Status = got.status
	if call.info.Retries < call.tries {
		call.info.Retries = call.tries
		m.retried.Add(1)
	}
	if err == nil {
		m.commands.Add(uint64(len(call.batch)))
		return
	}
	failure, ok := err.(*Error) //nolint:errorlint // the cause of a context may be another call's error
	switch {
	case !ok:
	case failure.Is(ErrQueryLimit):
		m.refused.Add(1)
	case failure.Is(ErrOperationTimeLimit):
		m.paused.Add(1)
	case failure.busy():
		m.busy.Add(1)
	}
}
