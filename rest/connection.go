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

// callError is a call without an answer.
type callError struct {
	method string
	what   string
	cause  error // for errors.Is and errors.As; its text is not ours to print
	ran    ran
	creds  bool // it is an error of the credentials, which repeat themselves what helps
	file   bool // it is an error of a file, which would be sent in vain once more
}

// ran is whether the portal may have run a call. If nothing is known, it may.
type ran int

const (
	ranMaybe ran = iota
	ranNot       // and it may succeed later
	ranNever     // and trying again is no use
)

func (e *callError) Error() string { return "rest: " + e.method + ": " + e.what }
func (e *callError) Unwrap() error { return e.cause }

// NotRun reports whether the call surely did not run. See [Error.NotRun].
func (e *callError) NotRun() bool { return e.ran != ranMaybe }

// Permanent reports whether the credentials call their error that. The cause of a context that ended may be the error of another
// portal's call, and says nothing of this one.
func (e *callError) Permanent() bool { return e.creds && isPermanent(e.cause) }

func isPermanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}

// doubted returns the error of a call of which an earlier attempt may have run.
func doubted(err error) error {
	switch e := err.(type) { //nolint:errorlint // errors of this package, not yet wrapped
	case *Error:
		own := *e
		own.doubt = true
		own.Hint = "an attempt before that may have run"
		return &own
	case *callError:
		own := *e
		own.ran = ranMaybe
		return &own
	default:
		return err
	}
}

// Format prints the text under every verb: the cause may be of a type that shows more than its text does.
func (e *callError) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(e.Error())) }

// contextError is the error of a call whose context ended before it was sent.
func contextError(ctx context.Context, method string) error { return ended(ctx, method, ranNever) }

// ended is the error of a call whose context ended.
func ended(ctx context.Context, method string, ran ran) error {
	e := &callError{method: method, what: ctx.Err().Error(), cause: ctx.Err(), ran: ran}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, ctx.Err()) {
		e.cause = errors.Join(ctx.Err(), cause)
	}
	return e
}

// about returns err as the error of a call of method: what befell a batch befell each of its calls.
func about(err error, method string) error {
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

// connectionError rebuilds the error of an HTTP client without the request's address, and without text that the peer may have
// written: net/http quotes malformed answers in its errors. What the standard library's own types say is kept. way says how far the
// request came.
func connectionError(ctx context.Context, method string, err error, way way) error {
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
	if way == wayNone {
		e.ran = ranNot
	}
	if ctx.Err() != nil {
		if way == wayNone {
			return ended(ctx, method, ranNever)
		}
		return ended(ctx, method, ranMaybe)
	}
	failed := ranNot // to get through
	switch {
	case errors.As(err, &cert):
		e.what, e.cause, failed = "the portal's certificate was refused", cert, ranNever
	case errors.As(err, &dns):
		e.what, e.cause = "the portal's host name did not resolve", dns
		if dns.IsNotFound {
			failed = ranNever
		}
	case err.Error() == proxyRefused:
		e.what, e.cause, failed = "the proxy demands credentials (status 407): give them in the URL of the proxy", nil, ranNever
	case errors.As(err, &op):
		e.what, e.cause = "the connection failed: "+op.Op, op
		switch op.Op {
		case "proxyconnect":
			e.what = "the connection to the proxy failed"
		case "dial":
		default:
			failed = e.ran
		}
		if op.Timeout() {
			e.what += ": timeout"
		}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		e.what, e.cause, failed = "the connection closed before the answer was complete", io.ErrUnexpectedEOF, e.ran
	case errors.As(err, &timeout) && timeout.Timeout() && way == wayNone:
		e.what, e.cause = "no connection was made within the time limit of the HTTP client", context.DeadlineExceeded
	case errors.As(err, &timeout) && timeout.Timeout():
		e.what, e.cause, failed = "the time limit of the HTTP client passed", context.DeadlineExceeded, e.ran
	default:
		e.what, e.cause, failed = "the connection failed", nil, e.ran
	}
	if way != waySent { // else an attempt of the transport before this one may have run
		e.ran = failed
	}
	return e
}

// way is how far a request came.
type way int

const (
	wayUnknown way = iota // the transport does not tell
	wayNone               // no connection was there
	waySent               // something may have been sent
)

// proxyRefused is all that net/http tells of a proxy that refuses a CONNECT for want of credentials.
const proxyRefused = "Proxy Authentication Required"
