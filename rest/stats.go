package rest

import (
	"context"
	"strings"
	"sync/atomic"
	"time"
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

// meter counts the calls of the clients.
type meter struct {
	observers                                                                  []func(context.Context, CallInfo)
	calls, failed, requests, commands, retried, refused, busy, paused, renewed atomic.Uint64
	waiting                                                                    atomic.Int64
}

// Stats returns the counts so far. It is cheap enough to call for each scrape of a metrics
// endpoint.
func (cs *Clients) Stats() Stats {
	m := cs.meter
	return Stats{
		Calls: m.calls.Load(), Failed: m.failed.Load(), Requests: m.requests.Load(), Commands: m.commands.Load(), Retried: m.retried.Load(),
		Refused: m.refused.Load(), Busy: m.busy.Load(), Paused: m.paused.Load(), Renewed: m.renewed.Load(), Waiting: int(m.waiting.Load()),
	}
}

// Stats returns the counts of the client's [Clients].
func (c *Client) Stats() Stats { return c.clients.Stats() }

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
	}
	if len(m.observers) == 0 {
		return
	}
	info := call.info
	info.MemberID, info.Method, info.Commands, info.Renewed = c.memberID, call.method, len(call.batch), call.renewed
	info.Err, info.Took = err, time.Since(start)
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
