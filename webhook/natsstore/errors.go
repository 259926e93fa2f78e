package natsstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Error is a sentinel of this package; compare with errors.Is.
type Error string

// Error returns the text of the sentinel.
func (e Error) Error() string { return string(e) }

const (
	// ErrConfig means that arguments or options of New or a method are invalid, or that a stream
	// exists with a configuration under which the store cannot keep its guarantees.
	ErrConfig Error = "natsstore: invalid configuration"
	// ErrClosed means that the store, or its NATS connection, was closed.
	ErrClosed Error = "natsstore: the store or its connection is closed"
	// ErrDisconnected means that the connection to the server broke, or is down.
	ErrDisconnected Error = "natsstore: there is no connection to the NATS server"
	// ErrNoStream means that a stream of the store was deleted, or deleted and made again.
	ErrNoStream Error = "natsstore: a stream of the store was deleted"
	// ErrNotArchived means that the record that List was to continue after is no longer archived.
	ErrNotArchived Error = "natsstore: the record to list after is no longer archived; list from the beginning"
	// ErrNotHeld means that an owner does not hold a lease. See [Store.Fence].
	ErrNotHeld Error = "natsstore: the owner does not hold the lease"

	// errNoReply is the error of requests that no part of the server received.
	errNoReply Error = "natsstore: JetStream did not respond; it may be starting or disabled"
	// errSlow is the error of requests that got no reply in time.
	errSlow Error = "natsstore: no reply in time; is the server overloaded, or does its user lack one of the permissions that package " +
		"natsstore lists?"
	// errBadReply means that a reply does not come from JetStream.
	errBadReply Error = "natsstore: the reply is not JetStream's; does another program subscribe to the subjects of the store?"
	// errOtherServer means that the connection goes to another server than before, or to a restarted
	// one, so that requests without a reply must not be repeated.
	errOtherServer Error = "natsstore: the server was restarted meanwhile"
	// errStopped ends a Feed whose loop has stopped.
	errStopped Error = "natsstore: the loop has stopped"
)

// misconfigured makes an [ErrConfig] with an explanation.
func misconfigured(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
}

// Codes of errors of JetStream.
const (
	codeAccountResources   = 10002
	codeTemporarily        = 10008
	codeInsufficient       = 10023
	codeMessageNotFound    = 10037
	codeSequenceNotFound   = 10043
	codeStorageResources   = 10047
	codeMessageTooLarge    = 10054
	codeDeleteFailed       = 10057
	codeNameInUse          = 10058
	codeStreamNotFound     = 10059
	codeSubjectsOverlap    = 10065
	codeWrongLastSequence  = 10071
	codeStoreFailed        = 10077
	codeNotReady           = 10163
	codeWrongLastSequence2 = 10164
	codeTooManyRequests    = 10167
)

// apiError is an error that JetStream replied.
type apiError struct {
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

// Error returns the code and the text of the server, which name streams and limits.
func (e *apiError) Error() string {
	return fmt.Sprintf("JetStream error %d: %s", e.ErrCode, e.Description)
}

// isFull reports whether the stream, or the account, has no room for a message.
func (e *apiError) isFull() bool {
	switch e.ErrCode {
	case codeStoreFailed:
		return strings.Contains(e.Description, "maximum messages") || strings.Contains(e.Description, "maximum bytes")
	case codeAccountResources, codeInsufficient, codeStorageResources:
		return true
	default:
		return false
	}
}

// isGone reports whether the message of a request does not exist.
func (e *apiError) isGone() bool {
	switch e.ErrCode {
	case codeMessageNotFound, codeSequenceNotFound:
		return true
	case codeDeleteFailed:
		return strings.Contains(e.Description, "no message found") || strings.Contains(e.Description, "not found") ||
			strings.Contains(e.Description, "EOF") // behind the last one
	default:
		return false
	}
}

// isConflict reports whether another process wrote to a subject first.
func (e *apiError) isConflict() bool {
	return e.ErrCode == codeWrongLastSequence || e.ErrCode == codeWrongLastSequence2
}

// isTemporary reports whether the same request may succeed soon.
func (e *apiError) isTemporary() bool {
	return e.ErrCode == codeTemporarily || e.ErrCode == codeNotReady || e.ErrCode == codeTooManyRequests
}

// failed returns the error of a method of the store. It adds the sentinels of this package, and
// keeps err in the chain.
func failed(what string, err error) error {
	if err == nil {
		return nil
	}
	_, own := errors.AsType[Error](err)
	switch {
	case own:
	case errors.Is(err, jetstream.ErrStreamNotFound):
		err = fmt.Errorf("%w: %w", ErrNoStream, err)
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining):
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	case errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionReconnecting):
		err = fmt.Errorf("%w: %w", ErrDisconnected, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		err = fmt.Errorf("%w: %w", errSlow, err)
	}
	return &methodError{what, err}
}

// methodError is an error of a method.
type methodError struct {
	what string
	err  error
}

// Error names the package once, although the errors inside name it too.
func (e *methodError) Error() string {
	return "natsstore: " + e.what + ": " + strings.ReplaceAll(e.err.Error(), "natsstore: ", "")
}

// Unwrap returns the error inside.
func (e *methodError) Unwrap() error { return e.err }
