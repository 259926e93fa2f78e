package polling

import (
	"context"
	"log/slog"

	"github.com/b24events/b24events/internal/logattr"
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

// eventAttrs returns what identifies an event in a log line.
func eventAttrs(e Event) []slog.Attr {
	attrs := []slog.Attr{slog.Int64(keyEventID, e.ID)}
	if e.Delivery != nil {
		attrs = logattr.AppendEntity(append(attrs, slog.String(keyEvent, e.Delivery.Name)), e.Delivery)
	}
	return attrs
}
