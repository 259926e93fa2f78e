package offline

import (
	"context"
	"log/slog"
	"time"
)

// Keys of log attributes. Package webhook has the same words.
const (
	keyMember  = "member_id"  // the portal
	keyEvent   = "event"      // wire name
	keyRecord  = "record_id"  // of the row
	keyMessage = "message_id" // of the row
	keyRecords = "records"    // how many
	keyAttempt = "attempt"    // attempts so far
	keyError   = "error"      // text, tokens removed
	keyWait    = "wait"       // until the next attempt, such as 1.5s
	keyKind    = "kind"       // a StallKind
	keySince   = "since"      // when a silence began
	keyShards  = "shards"     // how many
)

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

// waitAttr is a time to wait as text. JSON would show it in nanoseconds.
func waitAttr(d time.Duration) slog.Attr {
	return slog.String(keyWait, d.Round(time.Millisecond).String())
}
