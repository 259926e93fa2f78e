package offline

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
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
	keyError   = "error"      // text, tokens removed
	keyWait    = "wait"       // until the next attempt, for example 1.5s
	keyKind    = "kind"       // a StallKind
	keySince   = "since"      // when a stall began
	keyShards  = "shards"     // how many
)

const (
	// maxErrorText bounds the text of an error in a log line, in characters.
	maxErrorText = 500
	// maxMessageText bounds what is shown of a message ID, in characters. Real ones have 32.
	maxMessageText = 64
	// maxNames bounds how many names of events are remembered.
	maxNames = 1000
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

// waitAttr returns a time to wait as text, because JSON would show it in nanoseconds.
func waitAttr(d time.Duration) slog.Attr {
	return slog.String(keyWait, d.Round(time.Millisecond).String())
}

// errorAttr returns an error for a log line. Errors of handlers and callers may quote the tokens of
// a call or of d, so these are removed. d may be nil.
func errorAttr(d *event.Delivery, err error) slog.Attr {
	if err == nil {
		return slog.Any(keyError, nil)
	}
	var r redact.Redactor = redact.New()
	if d != nil {
		r = d
	}
	return slog.String(keyError, redact.Line(r, withoutURL(err).Error(), maxErrorText))
}

// recordAttrs returns what identifies a record in a log line.
func recordAttrs(r Record) []slog.Attr {
	attrs := []slog.Attr{slog.Int64(keyRecord, r.ID), slog.String(keyMessage, redact.Clean(r.MessageID, maxMessageText))}
	if r.Delivery != nil {
		attrs = append(attrs, slog.String(keyEvent, r.Delivery.Name))
	}
	return attrs
}

// seenNames remembers which events were reported. It is safe for concurrent use.
type seenNames struct {
	mu   sync.Mutex
	seen map[string]bool
}

// first reports whether a name is new, and remembers it.
func (n *seenNames) first(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen[name] || len(n.seen) >= maxNames {
		return false
	}
	if n.seen == nil {
		n.seen = make(map[string]bool)
	}
	n.seen[name] = true
	return true
}
