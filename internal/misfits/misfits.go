// Package misfits logs and counts the values of events that do not fit their payload types. A
// portal that sends an unexpected value sends it in every event, so each place is logged once.
package misfits

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
)

// MaxPlaces is how many places are remembered and logged. A place is an event and a path. The
// sender chooses some keys of paths, so there may be any number of places.
const MaxPlaces = 1000

// Keys of log attributes.
const (
	keyEvent = "event"
	keyPath  = "path"
	keyWant  = "want"
)

// Log logs and counts misfits. It is safe for concurrent use.
type Log struct {
	logger *slog.Logger
	count  atomic.Uint64

	mu     sync.Mutex
	places map[place]struct{}
}

type place struct{ event, path string }

// New returns a Log that writes to the logger.
func New(logger *slog.Logger) *Log {
	return &Log{logger: logger, places: make(map[place]struct{})}
}

// Count returns how many misfits were reported.
func (l *Log) Count() uint64 { return l.count.Load() }

// Report counts one misfit, and logs it at WARN if it is the first one at its place: an event and a
// path, in which keys that are numbers count as equal. After [MaxPlaces] places, a last line says
// that no more are logged.
func (l *Log) Report(ctx context.Context, event, path, want string) {
	l.count.Add(1)
	switch first, last := l.first(place{event, withoutNumbers(path)}); {
	case first:
		l.logger.LogAttrs(ctx, slog.LevelWarn, "a value of an event does not fit its field, which stays zero",
			slog.String(keyEvent, event), slog.String(keyPath, path), slog.String(keyWant, want))
	case last:
		l.logger.LogAttrs(ctx, slog.LevelWarn, "too many values of events do not fit; no more are logged")
	}
}

// first reports whether a place is new and should be logged, and whether it is the first one beyond
// the limit.
func (l *Log) first(p place) (first, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.places[p]; known || len(l.places) > MaxPlaces {
		return false, false
	}
	l.places[p] = struct{}{}
	return len(l.places) <= MaxPlaces, len(l.places) > MaxPlaces
}

// withoutNumbers returns a path with a star for each key that is a number: positions in lists, and
// IDs.
func withoutNumbers(path string) string {
	if !strings.ContainsAny(path, "0123456789") {
		return path
	}
	keys := strings.Split(path, ".")
	for i, key := range keys {
		if strings.Trim(key, "0123456789") == "" {
			keys[i] = "*"
		}
	}
	return strings.Join(keys, ".")
}
