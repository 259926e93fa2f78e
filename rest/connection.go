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
	once   bool // the client does not repeat the call itself
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
// written: net/http quotes malformed answers in its errors. What the standard library's own types say is kept. sent says whether
// the request may have reached the portal.
func connectionError(ctx context.Context, method string, err error, sent bool) error {
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
	ran := ranMaybe
	if !sent {
		ran = ranNot
	}
	if ctx.Err() != nil {
		if !sent {
			ran = ranNever
		}
		return ended(ctx, method, ran)
	}
	e := &callError{method: method, cause: err, ran: ran}
	switch {
	case errors.As(err, &cert):
		e.what, e.cause, e.ran = "the portal's certificate was refused", cert, ranNever
	case errors.As(err, &dns):
		e.what, e.cause, e.ran = "the portal's host name did not resolve", dns, ranNot
		if dns.IsNotFound {
			e.ran = ranNever
		}
	case err.Error() == proxyRefused:
		e.what, e.cause, e.ran = "the proxy demands credentials (status 407): give them in the URL of the proxy", nil, ranNever
	case errors.As(err, &op):
		e.what, e.cause = "the connection failed: "+op.Op, op
		switch op.Op {
		case "proxyconnect":
			e.what, e.ran = "the connection to the proxy failed", ranNot
		case "dial":
			e.ran = ranNot
		}
		if op.Timeout() {
			e.what += ": timeout"
		}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		e.what, e.cause = "the connection closed before the answer was complete", io.ErrUnexpectedEOF
	case errors.As(err, &timeout) && timeout.Timeout() && !sent:
		e.what, e.cause = "no connection was made within the time limit of the HTTP client", context.DeadlineExceeded
	case errors.As(err, &timeout) && timeout.Timeout():
		e.what, e.cause = "the time limit of the HTTP client passed", context.DeadlineExceeded
	default:
		e.what, e.cause = "the connection failed", nil
	}
	return e
}

// proxyRefused is all that net/http tells of a proxy that refuses a CONNECT for want of credentials.
const proxyRefused = "Proxy Authentication Required"
