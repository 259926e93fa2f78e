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

	// noteFolder comes after the prefix in the names of leases that are notes. The text and a time
	// follow.
	noteFolder = "wake/"
)

// Note leaves a note for the other owners. They read it when they next look at the store, within
// about a step. A note is a lease that runs out soon, so every owner that looks meanwhile reads it
// once. It may be any text. Equal notes that are left together become one. Note reports whether
// there was room: an owner leaves no more than [MaxNotes] at a time. It never waits.
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
	signal(k.wakeSoon)
	return true
}

// leaveNotes writes the notes to the store.
func (k *Keeper) leaveNotes(ctx context.Context) {
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

// readNotes calls noted with those notes among the leases that were not there the last time.
func (k *Keeper) readNotes(owners map[string]string) {
	seen := make(map[string]bool)
	for name := range owners {
		note, ok := strings.CutPrefix(name, k.prefix+noteFolder)
		if !ok {
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
