package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Intervals of the stream.
const (
	minInterval   = 100 * time.Millisecond // minimum between two snapshots
	drainInterval = 500 * time.Millisecond // between snapshots while a bucket drains
	heartbeat     = 15 * time.Second
)

func (pg *page) serveState(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, pg.snapshot(deliveryFilterOf(r.URL.Query())))
}

// serveStream sends a snapshot as a server-sent event after each change.
func (pg *page) serveStream(w http.ResponseWriter, r *http.Request) {
	ctx, control, filter := r.Context(), http.NewResponseController(w), deliveryFilterOf(r.URL.Query())
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	var sent []byte
	for {
		changed := pg.portal.Changed() // before the snapshot, so that no change is missed
		now := pg.snapshot(filter)
		picture, err := json.Marshal(now)
		if err != nil {
			return // the browser reconnects
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
				wait = drainInterval
			}
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
