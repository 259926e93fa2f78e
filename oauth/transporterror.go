package oauth

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
)

// transportError rebuilds the error of an HTTP client. It leaves out the address of the request,
// which is in *url.Error, and text that the peer may have written: net/http quotes malformed
// responses in its errors. It keeps the types of the standard library.
func transportError(ctx context.Context, op string, err error) error {
	var (
		network *net.OpError
		dns     *net.DNSError
		cert    *tls.CertificateVerificationError
		timeout net.Error
	)
	e := &Error{Op: op, Kind: ErrTemporary}
	switch {
	case ctx.Err() != nil:
		e.Err = ctx.Err()
	case errors.As(err, &cert):
		e.Detail, e.Err = "its certificate was refused", cert
	case errors.As(err, &dns):
		e.Detail, e.Err = "its host name did not resolve", dns
	case errors.As(err, &network):
		e.Detail, e.Err = "the connection failed", network
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		e.Detail, e.Err = "the connection closed before the response was complete", io.ErrUnexpectedEOF
	case errors.As(err, &timeout) && timeout.Timeout():
		e.Detail, e.Err = "the time limit of the HTTP client passed", context.DeadlineExceeded
	default:
		e.Detail = "the connection failed"
	}
	return e
}
