package oauth

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/timing"
)

// snapshot is an installation as this process knows it: stored, or waiting in memory to be written.
type snapshot struct {
	in      Installation
	version Version       // in the store; empty if the store holds none
	pending *pendingWrite // nil if in is stored
}

// pendingWrite is an installation that is to be written, or that the store could not take so far.
// Nothing in it changes once it is shared.
type pendingWrite struct {
	in      Installation
	version Version // of the stored installation that it replaces; empty creates one
	// supersedes are the refresh tokens that came before that of in. A stored installation with one
	// of them is older.
	supersedes []event.Secret
	// isInstall marks a verified installation, which replaces everything that an earlier one left.
	// A renewal only replaces the tokens that it has spent.
	isInstall bool
	// justVerified marks an installation that was verified just now, so that it is later than
	// anything that happened to the key. Any other write is void if the key is forgotten meanwhile.
	justVerified bool
	// wasAbsent means that nothing was stored when the write was made. sawStored means that
	// something was stored since, for example by a try that seemed to fail. If that is gone again,
	// the key was forgotten.
	wasAbsent, sawStored bool

	edited  bool // it was changed after the last try to write it
	forgets int  // how often the key had been forgotten when the write was made
	triedAt time.Time
}

const (
	writeTries   = 3
	writeTimeout = 3 * time.Second // of one try; a store that hangs must not delay callers whom memory can serve
	loadTimeout  = 5 * time.Second
	// rewriteAfter is the shortest time between two tries of Access to write what the store could
	// not take.
	rewriteAfter = time.Second
	// installSkew is how far the clocks of two processes that store installations of one portal may
	// differ.
	installSkew = time.Minute
)

// pauseBefore returns the pause before a try, counted from 0. It has no random part, because the
// tries together must give another process time to write.
func pauseBefore(try int) time.Duration {
	if try == 0 {
		return 0
	}
	return 50 * time.Millisecond << (try - 1)
}

// load returns what is known under a key: the pending write, or else what is stored.
func (p *Portals) load(ctx context.Context, key Key) (snapshot, error) {
	if !validMemberID(key.MemberID) {
		return snapshot{}, &Error{Op: opLoad, Kind: ErrNotFound}
	}
	if w := p.keys.pendingOf(key); w != nil {
		return snapshot{in: w.in, version: w.version, pending: w}, nil
	}
	in, version, err := p.loadStored(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return snapshot{}, &Error{Op: opLoad, Kind: ErrNotFound}
	case err != nil:
		return snapshot{}, &Error{Op: opLoad, Kind: ErrStore, Err: err}
	}
	return snapshot{in: in, version: version}, nil
}

// loadStored reads the store with a time limit, because the caller may hold the lock of the key
// while others wait for it. Memory needs no limit.
func (p *Portals) loadStored(ctx context.Context, key Key) (Installation, Version, error) {
	if s, ok := p.store.(*MemoryStore); ok {
		return s.Load(ctx, key)
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	return p.store.Load(ctx, key)
}

// swapStored writes to the store within the time limit of one try.
func (p *Portals) swapStored(ctx context.Context, key Key, old Version, in Installation) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err := p.store.Swap(ctx, key, old, in)
	return err
}

// loadQuickly is load with the time limit of a write.
func (p *Portals) loadQuickly(ctx context.Context, key Key) (snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return p.load(ctx, key)
}

// rebase returns the installation to write if found is stored instead of the version that w
// replaces. It returns false if the stored installation, or its absence, is to stay.
func (w *pendingWrite) rebase(found Installation, known bool) (Installation, bool) {
	switch {
	case !known && w.sawStored && !w.justVerified:
		return w.in, false
	case !known:
		return w.in, w.isInstall || w.version == "" // a renewal does not write a forgotten portal back
	case found.AccessToken == w.in.AccessToken && !w.edited:
		return found, false // the same one, written by a try that seemed to fail
	case found.AccessToken == w.in.AccessToken:
		return w.in.withExtraTokensOf(found), true
	case slices.Contains(w.supersedes, found.RefreshToken) && found.RefreshToken != "":
		// Something else was changed in the meantime.
		in := found.withTokensOf(w.in)
		if w.isInstall || w.edited {
			in = in.withInstallOf(w.in)
		}
		return in, true
	case w.isInstall && found.InstalledAt.Truncate(time.Microsecond).Equal(w.in.InstalledAt.Truncate(time.Microsecond)):
		return found, false // the same one, written by a try that seemed to fail, and renewed since
	case w.isInstall && !found.InstalledAt.After(w.in.InstalledAt.Add(w.skew())):
		return found.withTokensOf(w.in).withInstallOf(w.in), true
	default:
		return found, false // a later installation, or the winner of the renewal
	}
}

// skew returns how much later another installation may seem to be and still be replaced by this
// one. An installation that has been waiting in memory replaces no later one.
func (w *pendingWrite) skew() time.Duration {
	if w.justVerified {
		return installSkew
	}
	return 0
}

// writeLocked puts an installation into the store and returns what is stored afterwards, which
// another process may have written. If the store fails, the installation stays in memory and is
// returned with pending set, because its tokens are the only ones that work. It is kept in memory
// before the store is called, so that a store that panics does not lose it. The caller holds the
// lock of the key.
func (p *Portals) writeLocked(ctx context.Context, s *keyState, w pendingWrite, tries int) (snapshot, error) {
	if w.justVerified {
		w.forgets = p.keys.forgets(s)
	}
	w.triedAt = time.Now()
	first := w
	first.justVerified = false
	if !p.keys.setPendingLocked(s, &first, w.forgets) {
		return snapshot{}, &Error{Op: opWrite, Kind: ErrNotFound}
	}
	var failure error
	for try := range tries {
		if timing.Sleep(ctx, pauseBefore(try)) != nil && try > 0 {
			break
		}
		for range writeTries { // after a conflict another try makes sense at once
			done, written, err := p.tryWrite(ctx, s.key, &w)
			if done {
				if !p.keys.setPendingLocked(s, nil, w.forgets) && err == nil && !w.justVerified {
					return snapshot{}, p.deleteForgotten(ctx, s.key, written.version)
				}
				return written, err
			}
			if failure = err; !errors.Is(err, ErrConflict) {
				break
			}
		}
	}
	w.triedAt, w.justVerified = time.Now(), false
	if !p.keys.setPendingLocked(s, &w, w.forgets) {
		return snapshot{}, &Error{Op: opWrite, Kind: ErrNotFound}
	}
	p.log.LogAttrs(ctx, slog.LevelError, "bitrix24 tokens could not be stored and are kept in memory",
		slog.String(keyMemberID, s.key.MemberID), slog.String(keyError, failure.Error()))
	return snapshot{in: w.in, version: w.version, pending: &w}, nil
}

// deleteForgotten deletes what was written under a key that was forgotten at the same time.
func (p *Portals) deleteForgotten(ctx context.Context, key Key, version Version) error {
	var err error
	for try := range writeTries {
		if timing.Sleep(ctx, pauseBefore(try)) != nil && try > 0 {
			break
		}
		err = p.deleteStored(ctx, key, version)
		if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrConflict) {
			return &Error{Op: opWrite, Kind: ErrNotFound}
		}
	}
	p.log.LogAttrs(ctx, slog.LevelError, "bitrix24 installation was forgotten while it was written, and could not be deleted again",
		slog.String(keyMemberID, key.MemberID), slog.String(keyError, err.Error()))
	return &Error{Op: opWrite, Kind: ErrStore, Err: err}
}

// deleteStored deletes from the store within the time limit of a write.
func (p *Portals) deleteStored(ctx context.Context, key Key, version Version) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return p.store.Delete(ctx, key, version)
}

// tryWrite writes once. done reports that no other try is needed. If another version is stored, w
// is rebased onto it.
func (p *Portals) tryWrite(ctx context.Context, key Key, w *pendingWrite) (done bool, written snapshot, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	version, err := p.store.Swap(ctx, key, w.version, w.in)
	if err == nil {
		return true, snapshot{in: w.in, version: version}, nil
	}
	if !errors.Is(err, ErrConflict) {
		return false, snapshot{}, err
	}
	w.sawStored = w.sawStored || (w.wasAbsent && w.version == "")
	found, version, loadErr := p.store.Load(ctx, key)
	known := !errors.Is(loadErr, ErrNotFound)
	if known && loadErr != nil {
		return false, snapshot{}, loadErr
	}
	if !known {
		found, version = Installation{}, ""
	}
	in, overwrite := w.rebase(found, known)
	switch {
	case overwrite:
		w.in, w.version = in, version
		return false, snapshot{}, err
	case known:
		return true, snapshot{in: found, version: version}, nil
	default: // forgotten in the meantime
		return true, snapshot{}, &Error{Op: opWrite, Kind: ErrNotFound}
	}
}

// flushLocked writes what the store could not take before. The caller holds the lock of the key.
func (p *Portals) flushLocked(ctx context.Context, s *keyState, tries int) (snapshot, error) {
	w := p.keys.pendingOf(s.key)
	if w == nil {
		return p.load(ctx, s.key)
	}
	return p.writeLocked(ctx, s, *w, tries)
}

// detailKeepsChanging is said if every try met another version.
const detailKeepsChanging = "other processes keep changing the installation"

// change edits what is known under a key. edit reports whether it changed anything, and may run
// several times.
func (p *Portals) change(ctx context.Context, key Key, edit func(*Installation) bool) (Installation, error) {
	ctx, cancel := context.WithTimeout(ctx, flightTimeout) // others wait for the lock
	defer cancel()
	s, unlock, err := p.keys.lock(ctx, key)
	if err != nil {
		return Installation{}, &Error{Op: opChange, Kind: ErrStore, Err: err}
	}
	defer unlock()
	if w := p.keys.pendingOf(key); w != nil {
		r, err := p.writeLocked(ctx, s, *w, 1)
		if err != nil {
			return Installation{}, err
		}
		if r.pending != nil {
			return p.changePendingLocked(s, *r.pending, edit)
		}
	}
	for range writeTries {
		in, version, err := p.loadStored(ctx, key)
		switch {
		case errors.Is(err, ErrNotFound):
			return Installation{}, &Error{Op: opChange, Kind: ErrNotFound}
		case err != nil:
			return Installation{}, &Error{Op: opChange, Kind: ErrStore, Err: err}
		case !edit(&in):
			return in, nil
		}
		if err = p.swapStored(ctx, key, version, in); err == nil {
			return in, nil
		}
		if !errors.Is(err, ErrConflict) {
			return Installation{}, &Error{Op: opChange, Kind: ErrStore, Err: err}
		}
	}
	return Installation{}, &Error{Op: opChange, Kind: ErrStore, Detail: detailKeepsChanging, Err: ErrConflict}
}

// changePendingLocked edits a pending write. The caller holds the lock of the key.
func (p *Portals) changePendingLocked(s *keyState, w pendingWrite, edit func(*Installation) bool) (Installation, error) {
	w.in = w.in.clone()
	if edit(&w.in) {
		w.edited = true
	}
	if !w.edited {
		return w.in, nil
	}
	if !p.keys.setPendingLocked(s, &w, w.forgets) {
		return Installation{}, &Error{Op: opChange, Kind: ErrNotFound}
	}
	return Installation{}, &Error{Op: opChange, Kind: ErrStore, Detail: "the change is kept in memory"}
}
