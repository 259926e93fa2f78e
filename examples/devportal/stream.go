package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/b24events/b24events/examples/internal/program"
)

// Intervals of the stream.
const (
	minInterval   = 100 * time.Millisecond // minimum between two snapshots
	drainInterval = 500 * time.Millisecond // between snapshots while a bucket drains
	heartbeat     = 15 * time.Second
	writeLimit    = 10 * time.Second // for a browser to take one snapshot
)

const (
	maxStreams  = 16 // open at the same time, of all portals
	maxPictures = 32 // that are kept for streams with different filters
)

// picture is a snapshot as JSON.
type picture struct {
	doc      []byte
	draining bool // it changes as time passes
}

// sharedState makes each snapshot once for all streams with the same filter.
type sharedState struct {
	mu       sync.Mutex
	changed  <-chan struct{} // closed at the first change after the pictures were made
	made     time.Time
	pictures map[viewFilter]picture
}

// picture returns the present state, and a channel that is closed when it has changed.
func (pg *page) picture(filter viewFilter) (picture, <-chan struct{}, error) {
	s := &pg.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, found := s.pictures[filter]
	if !closed(s.changed) && found && (!kept.draining || time.Since(s.made) < drainInterval) && time.Since(s.made) < heartbeat {
		return kept, s.changed, nil
	}
	if closed(s.changed) || found || len(s.pictures) >= maxPictures {
		s.changed = pg.portal.Changed() // before the snapshot, so that no change is missed
		s.made, s.pictures = time.Now(), map[viewFilter]picture{}
	}
	now := pg.snapshot(filter)
	doc, err := json.Marshal(now)
	if err != nil {
		return picture{}, nil, err
	}
	made := picture{doc: program.EscapeControls(doc)}
	for _, b := range now.Buckets {
		made.draining = made.draining || b.Level > 0
	}
	s.pictures[filter] = made
	return made, s.changed, nil
}

// closed reports whether a channel is closed, or nil.
func closed(c <-chan struct{}) bool {
	if c == nil {
		return true
	}
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (pg *page) serveState(w http.ResponseWriter, r *http.Request) {
	pg.shared.mu.Lock() // one at a time: with many records a snapshot takes a while
	now := pg.snapshot(viewFilterOf(r.URL.Query()))
	pg.shared.mu.Unlock()
	writeJSON(w, http.StatusOK, now)
}

// serveStream sends a snapshot as a server-sent event after each change.
func (pg *page) serveStream(w http.ResponseWriter, r *http.Request) {
	select {
	case pg.all.streams <- struct{}{}:
		defer func() { <-pg.all.streams }()
	default:
		writeProblem(w, http.StatusServiceUnavailable, "too many streams are open; close tabs with this page, or read /api/state")
		return
	}
	ctx, control, filter := r.Context(), http.NewResponseController(w), viewFilterOf(r.URL.Query())
	_ = control.SetReadDeadline(time.Time{}) // the server's is for requests that end
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	var sent []byte
	for {
		now, changed, err := pg.picture(filter)
		if err != nil {
			return // the browser reconnects
		}
		message := []byte(": still here\n\n")
		if !bytes.Equal(now.doc, sent) {
			message = bytes.Join([][]byte{[]byte("data: "), now.doc, []byte("\n\n")}, nil)
			sent = now.doc
		}
		_ = control.SetWriteDeadline(time.Now().Add(writeLimit))
		if _, err := w.Write(message); err != nil {
			return
		}
		if err := control.Flush(); err != nil {
			return
		}
		wait := heartbeat
		if now.draining {
			wait = drainInterval
		}
		if !pause(ctx, nil, minInterval) || !pause(ctx, changed, wait) {
			return
		}
	}
}

// pause waits for a change or for d. It reports false if ctx has ended.
func pause(ctx context.Context, changed <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return false
	}
	return true
}
