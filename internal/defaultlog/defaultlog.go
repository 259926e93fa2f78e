// Package defaultlog provides the logger that a package uses if the program sets none. Messages
// that need attention must not be lost because of a forgotten option. Other messages must not fill
// the log of a program that did not ask for them.
package defaultlog

import (
	"context"
	"log/slog"
)

// New returns a logger that passes WARN and above to [slog.Default], and nothing else. It uses the
// default logger at the time of the call: a later slog.SetDefault does not change it.
func New() *slog.Logger { return slog.New(warnings{slog.Default().Handler()}) }

// warnings is a handler for records of WARN and above.
type warnings struct{ next slog.Handler }

// Enabled reports whether the level is WARN or above and the program logs it.
func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.next.Enabled(ctx, l)
}

// Handle passes a record on.
func (w warnings) Handle(ctx context.Context, r slog.Record) error { return w.next.Handle(ctx, r) }

// WithAttrs returns a handler with attributes.
func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.next.WithAttrs(attrs)}
}

// WithGroup returns a handler with a group.
func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.next.WithGroup(name)} }
