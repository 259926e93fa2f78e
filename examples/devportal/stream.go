package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Pace of the stream.
const (
	calm      = 100 * time.Millisecond // at least between two pictures
	draining  = 500 * time.Millisecond // between looks at a bucket that empties
	heartbeat = 15 * time.Second
)

func (d *desk) serveState(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, d.snapshot(lookOf(r.URL.Query())))
}

// serveStream sends a snapshot as a server-sent event whenever something changed.
func (d *desk) serveStream(w http.ResponseWriter, r *http.Request) {
	ctx, control, l := r.Context(), http.NewResponseController(w), lookOf(r.URL.Query())
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	var sent []byte
	for {
		changed := d.portal.Changed() // before the look, so that nothing is missed
		now := d.snapshot(l)
		picture, err := json.Marshal(now)
		if err != nil {
			return // the browser comes back
		}
		message := []byte(": still here\n\n")
		if !bytes.Equal(picture, sent) {
			message = append(append([]byte("data: "), picture...), "\n\n"...)
			sent = picture
		}
		if _, err := w.Write(message); err != nil {
			return
		}
		if err := control.Flush(); err != nil {
			return
		}
		wait := heartbeat
		for _, b := range now.Buckets {
			if b.Level > 0 {
				wait = draining
			}
		}
		if !pause(ctx, nil, calm) || !pause(ctx, changed, wait) {
			return
		}
	}
}

// pause waits for a change or d, and reports false when the request is over.
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
