package rest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// guard ends a request that makes no progress for as long as the HTTP client's time limit. The
// limit itself would end a request that is merely large. A nil guard does nothing.
type guard struct {
	limit  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

// idleError is the cause of a request's end by its guard, and reads like a time limit of net/http.
type idleError struct{}

func (idleError) Error() string   { return "rest: the request made no progress" }
func (idleError) Timeout() bool   { return true }
func (idleError) Temporary() bool { return true }

// guarded returns the client and the context for a request. If the request may take long, the guard
// is its only time limit.
func (cs *Clients) guarded(ctx context.Context, long bool) (*http.Client, context.Context, *guard) {
	if !long {
		return cs.http, ctx, nil
	}
	g := &guard{limit: cs.http.Timeout}
	ctx, g.cancel = context.WithCancelCause(ctx)
	client := *cs.http
	client.Timeout = 0
	g.timer = time.AfterFunc(g.limit, func() { g.cancel(idleError{}) })
	return &client, ctx, g
}

// touch records progress.
func (g *guard) touch() {
	if g != nil {
		g.timer.Reset(g.limit)
	}
}

// pause stops the clock until the next touch.
func (g *guard) pause() {
	if g != nil {
		g.timer.Stop()
	}
}

// end releases the guard's resources and ends the request.
func (g *guard) end() {
	if g != nil {
		g.timer.Stop()
		g.cancel(nil)
	}
}

// body returns the body of a response to a request with a context of the guard. If the body is
// long, each part of it is progress, and only the time counts in which a reader waits for a part.
func (g *guard) body(ctx context.Context, from io.ReadCloser, long bool) io.ReadCloser {
	if g == nil {
		return from
	}
	b := &guardedBody{ReadCloser: from, failed: func(err error) error { return guardFailed(ctx, err) }}
	if long {
		b.guard = g
	}
	return b
}

type guardedBody struct {
	io.ReadCloser

	guard  *guard
	failed func(error) error
}

func (b *guardedBody) Read(p []byte) (int, error) {
	b.guard.touch()
	n, err := b.ReadCloser.Read(p)
	b.guard.pause()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.failed(err)
	}
	return n, err
}

// guardFailed returns the error of a request, or the guard's error if the guard ended the request.
func guardFailed(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, idleError{}) {
		return cause
	}
	return err
}
