package webhook

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/logattr"
	"github.com/b24events/b24events/internal/redact"
)

// Keys of the log attributes.
const (
	KeyReason     = "reason"      // a Reason
	KeyRefusal    = "refusal"     // a Refusal, if the reason is "forbidden"
	KeyStatus     = "status"      // HTTP status of the response
	KeyEvent      = "event"       // wire name; "activity" for automation rules; "unknown" if it is the sender's text
	KeyMemberID   = "member_id"   // the portal; only of verified deliveries
	KeyEventID    = "event_id"    // Key of the delivery; only of verified ones
	KeyHandlerID  = "handler_id"  // the portal's ID of the binding
	KeyEntity     = "entity"      // the object that the event is about, such as "crm.deal 42"; only of verified deliveries
	KeyRemoteAddr = "remote_addr" // address of the peer, which may be a proxy
	KeySource     = "source"      // address that a request comes from, as SourceFilter sees it
	KeyNodes      = "nodes"       // entries of the source list in force
	KeyError      = "error"       // text of an error, tokens removed
	KeyStack      = "stack"       // of a panic
	KeyAttempt    = "attempt"     // number of attempts so far
	KeyWait       = "wait"        // until the next attempt, such as 1.5s
	KeyDropped    = "dropped"     // deliveries that were dropped together
	KeyRecordID   = "record_id"   // ID of a record in the store
	KeyRecords    = "records"     // number of them
	KeyPartition  = "partition"   // of the store
	KeyPartitions = "partitions"  // number of them
)

// maxAddr bounds the address of a peer in the log, in characters.
const maxAddr = 64

// unknownName replaces names that are not in the catalogue: anyone can send any text as a name.
const unknownName = "unknown"

// eventLog writes the log lines of this package.
type eventLog struct{ *slog.Logger }

// emit writes a line. If the logger panics, the line is lost.
func (l eventLog) emit(ctx context.Context, level slog.Level, message string, attrs ...slog.Attr) {
	_ = dispatch.Guard(func() error {
		l.LogAttrs(ctx, level, message, attrs...) //nolint:sloglint // the callers' messages are static
		return nil
	})
}

// knownName returns the name of the event as the catalogue spells it, or unknownName.
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

// plainName returns the name of a verified event if it looks like one, or unknownName.
func plainName(name string) string {
	if name == "" || len(name) > maxPlainName {
		return unknownName
	}
	for _, c := range []byte(name) {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return unknownName
		}
	}
	return name
}

// activityName stands for the name of an event in lines about calls of automation rules, which have
// none.
const activityName = "activity"

// nameOf returns the name of a verified delivery for the log.
func nameOf(d *event.Delivery) string {
	if d.Kind == event.KindHandler {
		return activityName
	}
	return plainName(d.Name)
}

// identity returns the attributes of a verified delivery.
func identity(d *event.Delivery, more ...slog.Attr) []slog.Attr {
	return append(logattr.AppendEntity([]slog.Attr{
		slog.String(KeyEvent, nameOf(d)),
		slog.String(KeyMemberID, memberText(d.MemberID())),
		slog.String(KeyEventID, d.Key()),
		slog.Int64(KeyHandlerID, d.HandlerID),
	}, d), more...)
}

// memberText returns a member ID if it looks like one, or unknownName.
func memberText(memberID string) string {
	if !plausibleMemberID(memberID) {
		return unknownName
	}
	return memberID
}

// logContext returns the context for log lines about an item: the one that WithContext made.
func logContext(it *dispatch.Item) context.Context {
	if it.Values == nil {
		return context.Background()
	}
	return it.Values
}

// rejected logs a rejection. Nothing of the delivery is verified.
func (l eventLog) rejected(r *http.Request, d *event.Delivery, rej rejection) {
	level, message := slog.LevelWarn, "webhook: delivery rejected"
	if losesEvent(rej.reason) {
		level, message = slog.LevelError, "webhook: event lost"
	}
	ctx := r.Context()
	if !l.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs, slog.String(KeyReason, string(rej.reason)))
	if rej.refusal != "" {
		attrs = append(attrs, slog.String(KeyRefusal, string(rej.refusal)))
	}
	attrs = append(attrs,
		slog.Int(KeyStatus, responseTo(rej.reason).status),
		slog.String(KeyEvent, knownName(d)),
		slog.String(KeyRemoteAddr, redact.Clean(r.RemoteAddr, maxAddr)), // a middleware may have written it
	)
	if rej.err != nil {
		attrs = append(attrs, slog.String(KeyError, errorText(d, rej.err)))
		attrs = appendStack(attrs, rej.err)
	}
	l.emit(ctx, level, message, attrs...)
}

// about logs a line about a verified delivery.
func (l eventLog) about(it *dispatch.Item, level slog.Level, message string, err error, more ...slog.Attr) {
	ctx := logContext(it)
	if !l.Enabled(ctx, level) {
		return
	}
	attrs := identity(it.Delivery, more...)
	if err != nil {
		attrs = append(attrs, slog.String(KeyError, errorText(it.Delivery, err)))
		attrs = appendStack(attrs, err)
	}
	l.emit(ctx, level, message, attrs...)
}

func (l eventLog) unhandled(it *dispatch.Item) {
	l.about(it, slog.LevelDebug, "webhook: event without a handler", nil)
}

func (l eventLog) retry(it *dispatch.Item, err error, wait time.Duration) {
	l.about(it, slog.LevelWarn, "webhook: handler failed, trying again", err, slog.Int(KeyAttempt, it.Attempts),
		slog.String(KeyWait, wait.Round(time.Millisecond).String())) // JSON would show a duration in nanoseconds
}

func (l eventLog) failed(it *dispatch.Item, err error) {
	l.about(it, slog.LevelError, "webhook: handler failed, giving up", err, slog.Int(KeyAttempt, it.Attempts))
}

func (l eventLog) lost(it *dispatch.Item, err error) {
	l.about(it, slog.LevelError, "webhook: event lost", err, slog.String(KeyReason, string(lossReason(err))))
}

func (l eventLog) removed(it *dispatch.Item, err error) {
	l.about(it, slog.LevelInfo, "webhook: handler failed, and the portal has removed the application", err,
		slog.Int(KeyAttempt, it.Attempts))
}

// store logs a line about the store.
func (l eventLog) store(ctx context.Context, level slog.Level, message string, err error, more ...slog.Attr) {
	if err != nil {
		more = append(more, slog.String(KeyError, storeText(err)))
	}
	l.emit(ctx, level, message, more...)
}

// removal logs that a portal removed the application, and how many deliveries were dropped.
func (l eventLog) removal(portal dispatch.Key, dropped int) {
	l.emit(context.Background(), slog.LevelInfo, "webhook: the portal has removed the application; what waited for it is dropped",
		slog.String(KeyMemberID, memberText(portal.MemberID)), slog.Int(KeyDropped, dropped))
}

func (l eventLog) panicked(it *dispatch.Item, message string, err error) {
	l.about(it, slog.LevelError, message, err)
}

// appendStack adds the stack of a panic. The stack has addresses but no values.
func appendStack(attrs []slog.Attr, err error) []slog.Attr {
	var p *event.PanicError
	if errors.As(err, &p) {
		attrs = append(attrs, slog.String(KeyStack, string(p.Stack)))
	}
	return attrs
}
