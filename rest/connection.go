package rest

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/url"
)

// callError is a request without an answer.
type callError struct {
	method string
	what   string
	cause  error // for errors.Is and errors.As; its text is not ours to print
}

func (e *callError) Error() string { return "rest: " + e.method + ": " + e.what }
func (e *callError) Unwrap() error { return e.cause }

// connectionError rebuilds the error of an HTTP client without the request's address, and without text that the peer may have
// written: net/http quotes malformed answers in its errors. What the standard library's own types say is kept.
func connectionError(ctx context.Context, method string, err error) error {
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
	switch {
	case ctx.Err() != nil:
		e.what, e.cause = ctx.Err().Error(), ctx.Err()
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, ctx.Err()) {
			e.cause = errors.Join(ctx.Err(), cause)
		}
	case errors.As(err, &cert):
		e.what, e.cause = "the portal's certificate was refused", cert
	case errors.As(err, &dns):
		e.what, e.cause = "the portal's host name did not resolve", dns
	case errors.As(err, &op):
		e.what, e.cause = "the connection failed: "+op.Op, op
		if op.Timeout() {
			e.what += ": timeout"
		}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		e.what, e.cause = "the connection closed before the answer was complete", io.ErrUnexpectedEOF
	case errors.As(err, &timeout) && timeout.Timeout():
		e.what, e.cause = "the time limit of the HTTP client passed", context.DeadlineExceeded
	default:
		e.what, e.cause = "the connection failed", nil
	}
	return e
}
