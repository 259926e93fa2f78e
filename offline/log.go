package offline

import (
	"context"
	"log/slog"

	"github.com/b24events/b24events/internal/logattr"
	"github.com/b24events/b24events/internal/redact"
)

// Keys of log attributes. Package webhook has the same words.
const (
	keyMember  = "member_id"  // the portal
	keyEvent   = "event"      // wire name
	keyRecord  = "record_id"  // of the row
	keyMessage = "message_id" // of the row
	keyRecords = "records"    // how many
	keyAttempt = "attempt"    // attempts so far
	keyKind    = "kind"       // a StallKind
	keySince   = "since"      // when a stall began
	keyShards  = "shards"     // how many
)

// maxMessageText bounds what is shown of a message ID, in characters. Real ones have 32.
const maxMessageText = 64

// log logs a line about the portal of the engine.
func (e *engine) log(ctx context.Context, level slog.Level, message string, attrs ...slog.Attr) {
	if !e.cfg.logger.Enabled(ctx, level) {
		return
	}
	if e.memberID != "" {
		attrs = append([]slog.Attr{slog.String(keyMember, e.memberID)}, attrs...)
	}
	e.cfg.logger.LogAttrs(ctx, level, message, attrs...) //nolint:sloglint // the callers' messages are static
}

// portalLogger returns a logger for other packages, whose lines name the portal.
func (e *engine) portalLogger() *slog.Logger {
	if e.memberID == "" {
		return e.cfg.logger
	}
	return e.cfg.logger.With(slog.String(keyMember, e.memberID))
}

// recordAttrs returns what identifies a record in a log line.
func recordAttrs(r Record) []slog.Attr {
	attrs := []slog.Attr{slog.Int64(keyRecord, r.ID), slog.String(keyMessage, redact.Clean(r.MessageID, maxMessageText))}
	if r.Delivery != nil {
		attrs = logattr.AppendEntity(append(attrs, slog.String(keyEvent, r.Delivery.Name)), r.Delivery)
	}
	return attrs
}
