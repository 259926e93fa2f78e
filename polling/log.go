package polling

import (
	"context"
	"log/slog"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/redact"
)

// Keys of log attributes. Packages webhook and offline have the same words.
const (
	keyMember  = "member_id" // the portal
	keyBot     = "bot_id"
	keyUser    = "user_id"
	keyEvent   = "event"    // wire name
	keyEventID = "event_id" // eventId
	keyEvents  = "events"   // how many
	keyOffset  = "offset"
	keyAttempt = "attempt" // attempts so far
	keyError   = "error"   // text, tokens removed
	keyWait    = "wait"    // until the next attempt, for example 1.5s
)

const (
	// maxErrorText bounds the text of an error in a log line, in characters.
	maxErrorText = 500
	// maxNames bounds how many names of events are remembered.
	maxNames = 1000
)

// identityAttrs returns what identifies the consumer in a log line.
func (c *Consumer) identityAttrs() []slog.Attr {
	attrs := []slog.Attr{slog.String(keyMember, c.cfg.key.MemberID)}
	if c.cfg.key.BotID != 0 {
		attrs = append(attrs, slog.Int64(keyBot, c.cfg.key.BotID))
	}
	if c.cfg.key.UserID != 0 {
		attrs = append(attrs, slog.Int64(keyUser, c.cfg.key.UserID))
	}
	return attrs
}

func (c *Consumer) log(ctx context.Context, level slog.Level, message string, attrs ...slog.Attr) {
	if c.cfg.logger.Enabled(ctx, level) {
		c.cfg.logger.LogAttrs(ctx, level, message, append(c.identityAttrs(), attrs...)...) //nolint:sloglint // the callers' messages are static
	}
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

// eventAttrs returns what identifies an event in a log line.
func eventAttrs(e Event) []slog.Attr {
	attrs := []slog.Attr{slog.Int64(keyEventID, e.ID)}
	if e.Delivery != nil {
		attrs = append(attrs, slog.String(keyEvent, e.Delivery.Name))
	}
	return attrs
}

// firstUnhandled reports whether an event without a handler was not reported before.
func (c *Consumer) firstUnhandled(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unhandled[name] || len(c.unhandled) >= maxNames {
		return false
	}
	c.unhandled[name] = true
	return true
}
