package lease

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxNotes is how many notes an owner leaves at a time.
	MaxNotes = 1000

	// noteFolder is in the names of leases that are notes. The text and a time follow.
	noteFolder = "wake/"
)

// Note leaves a note for the other owners, which they read with their next look at the store,
// within about a step. A note is a lease that runs out soon, so every owner that looks meanwhile
// reads it, once. The text may be any. Equal notes that are left together are one. Note reports
// whether there was room: no more than [MaxNotes] are left at a time. It never waits.
func (k *Keeper) Note(text string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, again := k.notes[text]; again {
		return true
	}
	if k.stopped || len(k.notes) >= MaxNotes {
		return false
	}
	if k.notes == nil {
		k.notes = make(map[string]struct{})
	}
	k.notes[text] = struct{}{}
	signal(k.gather)
	return true
}

// passOn leaves the notes.
func (k *Keeper) passOn(ctx context.Context) {
	k.mu.Lock()
	notes := k.notes
	k.notes = nil
	k.mu.Unlock()
	if len(notes) == 0 {
		return
	}
	at := strconv.FormatInt(time.Now().UnixMilli(), 36) // keeps a note apart from an earlier one
	names := make([]string, 0, len(notes))
	for text := range notes {
		names = append(names, k.prefix+noteFolder+url.PathEscape(text)+"/"+at)
	}
	_, _ = call(ctx, k, "Acquire", func(ctx context.Context) ([]string, error) { // a failure is logged
		return k.leaser.Acquire(ctx, k.owner, 3*k.step(), names...)
	})
}

// readNotes calls noted with the notes among leases that were not there the last time.
func (k *Keeper) readNotes(owners map[string]string) {
	seen := make(map[string]bool)
	for name := range owners {
		note, is := strings.CutPrefix(name, k.prefix+noteFolder)
		if !is {
			continue
		}
		seen[name] = true
		at := strings.LastIndexByte(note, '/')
		if at < 0 || k.seen[name] {
			continue
		}
		if text, err := url.PathUnescape(note[:at]); err == nil {
			k.noted(text)
		}
	}
	k.seen = seen
}
