// Package logattr has what the packages that work a portal's queue say in the same way in their
// logs: errors without tokens, waits, and names that are logged once.
package logattr

import (
	"log/slog"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/errtree"
	"github.com/b24events/b24events/internal/redact"
)

// The keys of the attributes.
const (
	KeyError  = "error"  // text, tokens removed
	KeyWait   = "wait"   // until the next attempt, for example 1.5s
	KeyEntity = "entity" // the object of a delivery, for example "crm.deal 42"
)

const (
	// maxErrorText bounds the text of an error in a log line, in bytes.
	maxErrorText = 500
	// maxEntityID bounds the ID of an object in a log line, in characters.
	maxEntityID = 64
	// maxNames bounds how many names are remembered.
	maxNames = 1000
)

// AppendEntity appends the object that a delivery is about, unless it is about none. The ID is the
// portal's text, so tokens are removed from it. d may be nil.
func AppendEntity(attrs []slog.Attr, d *event.Delivery) []slog.Attr {
	if d == nil {
		return attrs
	}
	e := d.Entity()
	if e.Kind == "" {
		return attrs
	}
	text := e.Kind
	if e.ID != "" {
		text += " " + redact.Line(d, e.ID, maxEntityID)
	}
	return append(attrs, slog.String(KeyEntity, text))
}

// Wait returns a time to wait as text, because JSON would show it in nanoseconds.
func Wait(d time.Duration) slog.Attr {
	return slog.String(KeyWait, d.Round(time.Millisecond).String())
}

// Error returns an error for a log line. Errors of handlers and callers may quote the tokens of a
// call or of d, so these are removed. d may be nil.
func Error(d *event.Delivery, err error) slog.Attr {
	if err == nil {
		return slog.Any(KeyError, nil)
	}
	var r redact.Redactor = redact.New()
	if d != nil {
		r = d
	}
	return slog.String(KeyError, redact.Line(r, errtree.WithoutURL(err).Error(), maxErrorText))
}

// Names remembers which names were logged. It is safe for concurrent use. The zero Names is empty.
type Names struct {
	mu   sync.Mutex
	seen map[string]bool
}

// First reports whether a name is new, and remembers it. Names beyond a thousand are never new.
func (n *Names) First(name string) bool {
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
