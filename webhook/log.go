package webhook

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/redact"
)

// Keys of the log attributes.
const (
	KeyReason     = "reason"      // a Reason
	KeyStatus     = "status"      // HTTP status of the answer
	KeyEvent      = "event"       // wire name; "unknown" where it is the sender's text
	KeyMemberID   = "member_id"   // the portal; only of verified deliveries
	KeyHandlerID  = "handler_id"  // the portal's number of the binding
	KeyRemoteAddr = "remote_addr" // address of the peer, which may be a proxy
	KeySource     = "source"      // address that a request comes from, as SourceFilter sees it
	KeyNodes      = "nodes"       // entries of the source list in force
	KeyError      = "error"       // text of an error, tokens removed
	KeyStack      = "stack"       // of a panic
	KeyAttempt    = "attempt"     // attempts so far
	KeyWait       = "wait"        // until the next attempt
)

// maxAddr bounds the address of a peer in the log, in characters.
const maxAddr = 64

// unknownName stands for the names that are not in the catalogue: anyone can send any text as a name.
const unknownName = "unknown"

// journal writes the log lines of this package.
type journal struct{ *slog.Logger }

// knownName returns the name of the event from the catalogue.
func knownName(d *event.Delivery) string {
	if d == nil {
		return unknownName
	}
	info, ok := event.Lookup(d.Name)
	if !ok {
		return unknownName
	}
	return info.Name
}

// maxPlainName bounds the names of verified events in the log.
const maxPlainName = 64

// verifiedName also shows a verified portal's own names, where they look like names.
func verifiedName(d *event.Delivery) string {
	if len(d.Name) > maxPlainName {
		return unknownName
	}
	for _, c := range []byte(d.Name) {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return unknownName
		}
	}
	return d.Name
}

// identity is what the log says of a verified delivery.
func identity(d *event.Delivery, more ...slog.Attr) []slog.Attr {
	return append([]slog.Attr{
		slog.String(KeyEvent, verifiedName(d)),
		slog.String(KeyMemberID, memberText(d)),
		slog.Int64(KeyHandlerID, d.HandlerID),
	}, more...)
}

func memberText(d *event.Delivery) string {
	if !plausible(d.MemberID()) {
		return unknownName
	}
	return d.MemberID()
}

// rejected logs a refusal. Nothing of the delivery is verified here.
func (j journal) rejected(r *http.Request, d *event.Delivery, reason Reason, err error) {
	level, message := slog.LevelWarn, "webhook: delivery rejected"
	if losesEvent(reason) {
		level, message = slog.LevelError, "webhook: event lost"
	}
	ctx := r.Context()
	if !j.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String(KeyReason, string(reason)),
		slog.Int(KeyStatus, answerTo(reason).status),
		slog.String(KeyEvent, knownName(d)),
		slog.String(KeyRemoteAddr, redact.Clean(r.RemoteAddr, maxAddr)), // a middleware may have written it
	}
	if err != nil {
		attrs = append(attrs, slog.String(KeyError, errorText(d, err)))
		attrs = appendStack(attrs, err)
	}
	j.LogAttrs(ctx, level, message, attrs...) //nolint:sloglint // one of two static messages
}

func (j journal) unhandled(ctx context.Context, d *event.Delivery) {
	if j.Enabled(ctx, slog.LevelDebug) {
		j.LogAttrs(ctx, slog.LevelDebug, "webhook: event without a handler", identity(d)...)
	}
}

func (j journal) retry(ctx context.Context, d *event.Delivery, err error, tries int, wait time.Duration) {
	if j.Enabled(ctx, slog.LevelWarn) {
		j.LogAttrs(ctx, slog.LevelWarn, "webhook: handler failed, trying again", identity(d,
			slog.String(KeyError, errorText(d, err)), slog.Int(KeyAttempt, tries), slog.Duration(KeyWait, wait))...)
	}
}

func (j journal) failed(ctx context.Context, d *event.Delivery, err error, tries int) {
	if j.Enabled(ctx, slog.LevelError) {
		j.LogAttrs(ctx, slog.LevelError, "webhook: handler failed, giving up", appendStack(identity(d,
			slog.String(KeyError, errorText(d, err)), slog.Int(KeyAttempt, tries)), err)...)
	}
}

func (j journal) lost(ctx context.Context, d *event.Delivery, err error) {
	if j.Enabled(ctx, slog.LevelError) {
		j.LogAttrs(ctx, slog.LevelError, "webhook: event lost",
			appendStack(identity(d, slog.String(KeyReason, string(lostBecause(err))), slog.String(KeyError, errorText(d, err))), err)...)
	}
}

func (j journal) panicked(ctx context.Context, message string, err error) {
	j.LogAttrs(ctx, slog.LevelError, message, //nolint:sloglint // the callers' messages are static
		appendStack([]slog.Attr{slog.String(KeyError, errorText(nil, err))}, err)...)
}

// appendStack adds the stack of a panic. It has addresses but no values.
func appendStack(attrs []slog.Attr, err error) []slog.Attr {
	var p *event.PanicError
	if errors.As(err, &p) {
		attrs = append(attrs, slog.String(KeyStack, string(p.Stack)))
	}
	return attrs
}
