package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/oauth"
)

const (
	answerTimeout = 30 * time.Second // for the handler
	maxRetryWait  = 10 * time.Second
)

// forwarder posts records to a handler.
type forwarder struct {
	target  string
	token   event.Secret
	in      oauth.Installation // of the portal that the records come from
	retries int
	client  *http.Client
	log     *slog.Logger
	abort   context.CancelCauseFunc

	mu    sync.Mutex
	lines *program.LineWriter
	err   error             // the write that failed; no more lines are written
	tries map[string]*tries // of records that failed, by message
	down  bool              // the handler could not be reached
}

// tries counts the attempts to post one record.
type tries struct{ posted, answered int }

// line is how an event is printed.
type line struct {
	Event     string        `json:"event"`
	MessageID string        `json:"message_id"`
	Entity    *event.Entity `json:"entity"`
	UserID    int64         `json:"user_id"`
	Status    int           `json:"status"`
	LatencyMS float64       `json:"latency_ms"` // of the last attempt
	Attempts  int           `json:"attempts"`
	Error     *string       `json:"error"`
}

func newForwarder(cfg config, token event.Secret, in oauth.Installation, stdout io.Writer, abort context.CancelCauseFunc) *forwarder {
	return &forwarder{
		target: cfg.forwardTo, token: token, in: in, retries: cfg.retries, log: cfg.logger, lines: program.NewLineWriter(stdout), abort: abort,
		tries: make(map[string]*tries),
		client: &http.Client{
			Timeout:       answerTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token stays here
		},
	}
}

// HandleEvent posts a record. It returns nil when the record is finished, successfully or not, and
// printed. A record that cannot be printed stays in the queue, and the next start posts it again.
func (f *forwarder) HandleEvent(ctx context.Context, d *event.Delivery) error {
	if err := f.failure(); err != nil {
		return err
	}
	r, err := f.request(ctx, d)
	if err != nil {
		return f.done(d, 0, 0, err)
	}
	began := time.Now()
	status, err := f.post(r)
	took := time.Since(began)
	t := f.count(d, err == nil)
	switch {
	case ctx.Err() != nil && err != nil:
		return err // stopped: the next start posts it again
	case err != nil:
		f.reached(ctx, err)
		return event.Retry(err, backoff(t.posted))
	case retryable(status) && t.answered <= f.retries:
		f.reached(ctx, nil)
		wait := backoff(t.answered)
		f.log.LogAttrs(ctx, slog.LevelWarn, "the handler failed, the event comes again",
			slog.String("event", d.Name), slog.Int("status", status), slog.String("wait", wait.Round(time.Millisecond).String()))
		return event.Retry(fmt.Errorf("the handler answered %d", status), wait)
	}
	f.reached(ctx, nil)
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		f.log.LogAttrs(ctx, slog.LevelWarn, "the handler refused the event: give it the application token that is named above",
			slog.Int("status", status))
	}
	return f.done(d, status, took, nil)
}

// request returns the POST that the portal would send, but without the tokens of the user, which
// the queue does not keep.
func (f *forwarder) request(ctx context.Context, d *event.Delivery) (*http.Request, error) {
	opts := []eventtest.RequestOption{
		eventtest.WithURL(f.target), eventtest.WithToken(f.token), eventtest.WithMember(f.in.MemberID), eventtest.WithDomain(f.in.Domain()),
		eventtest.WithEndpoints(f.in.ClientEndpoint, f.in.ServerEndpoint), eventtest.WithUserID(d.Auth.UserID),
	}
	if !d.Time.IsZero() {
		opts = append(opts, eventtest.WithTime(d.Time))
	}
	return eventtest.NewRequest(ctx, eventtest.Name(d.Name), d.Data, opts...)
}

// post sends a request and reads the response to its end, up to a limit.
func (f *forwarder) post(r *http.Request) (status int, err error) {
	resp, err := f.client.Do(r)
	if err != nil {
		var address *url.Error
		if errors.As(err, &address) {
			err = address.Err // without the address, which the user knows
		}
		return 0, fmt.Errorf("the handler cannot be reached: %w", err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	_ = resp.Body.Close()
	return resp.StatusCode, nil
}

// retryable reports whether a retry may succeed, for example after a restart of the handler.
func retryable(status int) bool {
	return status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}

func backoff(attempt int) time.Duration { return min(time.Second<<min(attempt-1, 10), maxRetryWait) }

// count counts an attempt.
func (f *forwarder) count(d *event.Delivery, answered bool) tries {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.tries[d.MessageID]
	if t == nil {
		t = &tries{}
		f.tries[d.MessageID] = t
	}
	t.posted++
	if answered {
		t.answered++
	}
	return *t
}

// reached logs when the handler goes away and when it is back.
func (f *forwarder) reached(ctx context.Context, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch was := f.down; {
	case err != nil && !was:
		f.log.LogAttrs(ctx, slog.LevelWarn, "is your handler running? events wait until it is", slog.String("error", err.Error()))
	case err == nil && was:
		f.log.LogAttrs(ctx, slog.LevelInfo, "the handler is back")
	}
	f.down = err != nil
}

// failure returns the error because of which nothing is printed any more, or nil.
func (f *forwarder) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// done prints the outcome of an event. If it cannot, it ends the program.
func (f *forwarder) done(d *event.Delivery, status int, took time.Duration, failure error) error {
	l := line{
		Event: d.Name, MessageID: d.MessageID, UserID: d.Auth.UserID, Status: status,
		LatencyMS: float64(took.Microseconds()) / 1000,
	}
	if e := d.Entity(); e.Kind != "" {
		l.Entity = &e
	}
	if failure != nil {
		text := d.Redact(failure.Error())
		l.Error = &text
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err // the output may end within a line
	}
	if t := f.tries[d.MessageID]; t != nil {
		l.Attempts = t.posted
	}
	text, err := program.JSONLine(l)
	if err == nil {
		_, err = f.lines.Write(text)
	}
	if err != nil {
		f.err = err
		f.abort(err)
		return err
	}
	delete(f.tries, d.MessageID)
	return nil
}
