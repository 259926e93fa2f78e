package rest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
)

// callError is a call without a response.
type callError struct {
	method   string
	what     string
	cause    error // for errors.Is and errors.As; its text is never printed
	executed executed
	creds    bool // an error of the credentials, which retry by themselves if that helps
	file     bool // an error of a file, so a retry would fail again
}

// executed says whether the portal may have run a call. If nothing is known, it may.
type executed int

const (
	executedMaybe executed = iota
	executedNot            // did not run, and may succeed later
	executedNever          // did not run, and a retry does not help
)

func (e *callError) Error() string { return "rest: " + e.method + ": " + e.what }
func (e *callError) Unwrap() error { return e.cause }

// NotRun reports whether the call surely did not run. See [Error.NotRun].
func (e *callError) NotRun() bool { return e.executed != executedMaybe }

// Permanent reports whether the error comes from the credentials and they call it permanent. The
// cause of a context that ended may be the error of another portal's call, and says nothing about
// this one.
func (e *callError) Permanent() bool { return e.creds && isPermanent(e.cause) }

func isPermanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}

// withMayHaveRun returns a copy of err for a call of which an earlier attempt may have run.
func withMayHaveRun(err error) error {
	switch e := err.(type) { //nolint:errorlint // errors of this package, not yet wrapped
	case *Error:
		own := *e
		own.mayHaveRun = true
		own.Hint = "an attempt before that may have run"
		return &own
	case *callError:
		own := *e
		own.executed = executedMaybe
		return &own
	default:
		return err
	}
}

// Format prints the text for every verb: the type of the cause may show more than its text does.
func (e *callError) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(e.Error())) }

// contextError is the error of a call whose context ended before it was sent.
func contextError(ctx context.Context, method string) error {
	return contextEnded(ctx, method, executedNever)
}

// contextEnded is the error of a call whose context ended.
func contextEnded(ctx context.Context, method string, ran executed) error {
	e := &callError{method: method, what: ctx.Err().Error(), cause: ctx.Err(), executed: ran}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, ctx.Err()) {
		e.cause = errors.Join(ctx.Err(), cause)
	}
	return e
}

// withMethod returns a copy of err for a call of method. If a batch request fails, each of its
// calls fails with it.
func withMethod(err error, method string) error {
	switch e := err.(type) { //nolint:errorlint // errors of this package, not yet wrapped
	case *Error:
		own := *e
		own.Method = method
		return &own
	case *callError:
		own := *e
		own.method = method
		return &own
	default:
		return err
	}
}

// transportError rebuilds the error of an HTTP client without the request's address, and without
// text that the peer may have written: net/http quotes malformed responses in its errors. It keeps
// what the standard library's own types say. reached says how far the request came.
func transportError(ctx context.Context, method string, err error, reached progress) error {
	var (
		address *url.Error
		op      *net.OpError
		dns     *net.DNSError
		cert    *tls.CertificateVerificationError
		timeout net.Error
	)
	if errors.As(err, &address) {
		err = address.Err
	}
	e := &callError{method: method, cause: err}
	if reached == progressNoConnection {
		e.executed = executedNot
	}
	if ctx.Err() != nil {
		if reached == progressNoConnection {
			return contextEnded(ctx, method, executedNever)
		}
		return contextEnded(ctx, method, executedMaybe)
	}
	failed := executedNot // if the request did not get through
	switch {
	case errors.As(err, &cert):
		e.what, e.cause, failed = "the portal's certificate was refused", cert, executedNever
	case errors.As(err, &dns):
		e.what, e.cause = "the portal's host name did not resolve", dns
		if dns.IsNotFound {
			failed = executedNever
		}
	case err.Error() == proxyRefused:
		e.what, e.cause, failed = "the proxy demands credentials (status 407): give them in the URL of the proxy", nil, executedNever
	case errors.As(err, &op):
		e.what, e.cause = "the connection failed: "+op.Op, op
		switch op.Op {
		case "proxyconnect":
			e.what = "the connection to the proxy failed"
		case "dial":
		default:
			failed = e.executed
		}
		if op.Timeout() {
			e.what += ": timeout"
		}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		e.what, e.cause, failed = "the connection closed before the response was complete", io.ErrUnexpectedEOF, e.executed
	case errors.As(err, &timeout) && timeout.Timeout() && reached == progressNoConnection:
		e.what, e.cause = "no connection was made within the time limit of the HTTP client", context.DeadlineExceeded
	case errors.As(err, &timeout) && timeout.Timeout():
		e.what, e.cause, failed = "the time limit of the HTTP client passed", context.DeadlineExceeded, e.executed
	default:
		e.what, e.cause, failed = "the connection failed", nil, e.executed
	}
	if reached != progressSent { // otherwise an earlier attempt of the transport may have run
		e.executed = failed
	}
	return e
}

// progress is how far a request came.
type progress int

const (
	progressUnknown      progress = iota // the transport does not say
	progressNoConnection                 // there was no connection
	progressSent                         // something may have been sent
)

// proxyRefused is the whole error of net/http if a proxy refuses a CONNECT because it wants
// credentials.
const proxyRefused = "Proxy Authentication Required"
