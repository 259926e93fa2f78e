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

// record is an installation as it is known: stored, or waiting in memory to be written.
type record struct {
	in      Installation
	version Version // in the store; empty when it holds none
	unsaved *unsaved
}

// unsaved is an installation that is to be written, or that the store could not take so far.
// Nothing in it changes once it is shared.
type unsaved struct {
	in      Installation
	version Version // of the record that it replaces; empty creates
	// supersedes are the refresh tokens that this one follows. A stored record with one of them is
	// older.
	supersedes []event.Secret
	// install tells a verified installation, which replaces whatever an earlier one left, from a
	// renewal, which only replaces the tokens that it has spent.
	install bool
	// later tells that it comes after whatever has happened to the key, as an installation does
	// that was verified just now. Anything else is void if the key is forgotten meanwhile.
	later bool
	// fresh tells that nothing was stored when it came to be, and seen that something was stored
	// since, such as itself by a try that seemed to fail. If that is gone again, the key was
	// forgotten.
	fresh, seen bool

	edited  bool // it was changed after the last try to write it
	forgets int  // how often the key had been forgotten when this came to be
	tried   time.Time
}

const (
	writeTries   = 3
	writeTimeout = 3 * time.Second // of one try; a store that hangs must not hold up those whom memory can serve
	loadTimeout  = 5 * time.Second
	// rewriteAfter is how often, at most, access to a portal tries again to write what the store could
	// not take.
	rewriteAfter = time.Second
	// installSkew is how far the clocks of two processes may differ that store installations of one
	// portal.
	installSkew = time.Minute
)

// pauseBefore is the pause before a try, counted from 0. It has no random part: the tries together
// must give another process time to write.
func pauseBefore(try int) time.Duration {
	if try == 0 {
		return 0
	}
	return 50 * time.Millisecond << (try - 1)
}

// load returns what is known under a key: what waits to be written, or else what is stored.
func (p *Portals) load(ctx context.Context, key Key) (record, error) {
	if !validMemberID(key.MemberID) {
		return record{}, &Error{Op: opLoad, Kind: ErrNotFound}
	}
	if u := p.keys.peek(key); u != nil {
		return record{in: u.in, version: u.version, unsaved: u}, nil
	}
	in, version, err := p.loadStored(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return record{}, &Error{Op: opLoad, Kind: ErrNotFound}
	case err != nil:
		return record{}, &Error{Op: opLoad, Kind: ErrStore, Err: err}
	}
	return record{in: in, version: version}, nil
}

// loadStored reads the store, and bounds how long it may take: whoever has the turn of a key keeps
// others waiting. Memory needs no limit.
func (p *Portals) loadStored(ctx context.Context, key Key) (Installation, Version, error) {
	if s, ok := p.store.(*MemoryStore); ok {
		return s.Load(ctx, key)
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	return p.store.Load(ctx, key)
}

// swapStored writes to the store within the time of one try.
func (p *Portals) swapStored(ctx context.Context, key Key, old Version, in Installation) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err := p.store.Swap(ctx, key, old, in)
	return err
}

// loadSoon is load with the time limit of a write.
func (p *Portals) loadSoon(ctx context.Context, key Key) (record, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return p.load(ctx, key)
}

// onto returns the installation to write when found is stored instead of the version that u
// replaces, and false when the stored one, or its absence, is to stay.
func (u *unsaved) onto(found Installation, known bool) (Installation, bool) {
	switch {
	case !known && u.seen && !u.later:
		return u.in, false
	case !known:
		return u.in, u.install || u.version == "" // a renewal does not write a forgotten portal back
	case found.AccessToken == u.in.AccessToken && !u.edited:
		return found, false // this very one, written by a try that seemed to fail
	case found.AccessToken == u.in.AccessToken:
		return u.in.withExtraTokensOf(found), true
	case slices.Contains(u.supersedes, found.RefreshToken) && found.RefreshToken != "":
		// Somebody changed something else in the meantime.
		in := found.withTokensOf(u.in)
		if u.install || u.edited {
			in = in.withInstallOf(u.in)
		}
		return in, true
	case u.install && found.InstalledAt.Truncate(time.Microsecond).Equal(u.in.InstalledAt.Truncate(time.Microsecond)):
		return found, false // this very one, written by a try that seemed to fail, and renewed since
	case u.install && !found.InstalledAt.After(u.in.InstalledAt.Add(u.skew())):
		return found.withTokensOf(u.in).withInstallOf(u.in), true
	default:
		return found, false // a later installation, or the winner of the renewal
	}
}

// skew is how much later another installation may seem to be than this one, and give way to it all
// the same. One that has been waiting in memory gives way itself.
func (u *unsaved) skew() time.Duration {
	if u.later {
		return installSkew
	}
	return 0
}

// write puts an installation into the store and returns what is stored afterwards, which may be the
// work of another process. When the store fails, the installation is kept in memory and returned
// with unsaved set: its tokens are the only ones that work. It is kept before the store is asked,
// so that a store that panics does not lose it. The caller has the turn of the key.
func (p *Portals) write(ctx context.Context, s *keyState, u unsaved, tries int) (record, error) {
	if u.later {
		u.forgets = p.keys.forgets(s)
	}
	u.tried = time.Now()
	first := u
	first.later = false
	if !p.keys.keep(s, &first, u.forgets) {
		return record{}, &Error{Op: opWrite, Kind: ErrNotFound}
	}
	var failure error
	for try := range tries {
		if timing.Sleep(ctx, pauseBefore(try)) != nil && try > 0 {
			break
		}
		for range writeTries { // after a conflict another try is worth it at once
			done, written, err := p.tryWrite(ctx, s.key, &u)
			if done {
				if !p.keys.keep(s, nil, u.forgets) && err == nil && !u.later {
					return record{}, p.takeBack(ctx, s.key, written.version)
				}
				return written, err
			}
			if failure = err; !errors.Is(err, ErrConflict) {
				break
			}
		}
	}
	u.tried, u.later = time.Now(), false
	if !p.keys.keep(s, &u, u.forgets) {
		return record{}, &Error{Op: opWrite, Kind: ErrNotFound}
	}
	p.log.LogAttrs(ctx, slog.LevelError, "bitrix24 tokens could not be stored and are kept in memory",
		slog.String(keyMemberID, s.key.MemberID), slog.String(keyError, failure.Error()))
	return record{in: u.in, version: u.version, unsaved: &u}, nil
}

// takeBack deletes what was written of a key that was forgotten at the same time.
func (p *Portals) takeBack(ctx context.Context, key Key, version Version) error {
	var err error
	for try := range writeTries {
		if timing.Sleep(ctx, pauseBefore(try)) != nil && try > 0 {
			break
		}
		err = p.deleteSoon(ctx, key, version)
		if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrConflict) {
			return &Error{Op: opWrite, Kind: ErrNotFound}
		}
	}
	p.log.LogAttrs(ctx, slog.LevelError, "bitrix24 installation was forgotten while it was written, and could not be deleted again",
		slog.String(keyMemberID, key.MemberID), slog.String(keyError, err.Error()))
	return &Error{Op: opWrite, Kind: ErrStore, Err: err}
}

// deleteSoon deletes within the time limit of a write.
func (p *Portals) deleteSoon(ctx context.Context, key Key, version Version) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return p.store.Delete(ctx, key, version)
}

// tryWrite writes once. It reports whether that ended the matter. When another version was in the
// way, u is based on that one.
func (p *Portals) tryWrite(ctx context.Context, key Key, u *unsaved) (done bool, written record, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	version, err := p.store.Swap(ctx, key, u.version, u.in)
	if err == nil {
		return true, record{in: u.in, version: version}, nil
	}
	if !errors.Is(err, ErrConflict) {
		return false, record{}, err
	}
	u.seen = u.seen || (u.fresh && u.version == "")
	found, version, loadErr := p.store.Load(ctx, key)
	known := !errors.Is(loadErr, ErrNotFound)
	if known && loadErr != nil {
		return false, record{}, loadErr
	}
	if !known {
		found, version = Installation{}, ""
	}
	in, over := u.onto(found, known)
	switch {
	case over:
		u.in, u.version = in, version
		return false, record{}, err
	case known:
		return true, record{in: found, version: version}, nil
	default: // forgotten in the meantime
		return true, record{}, &Error{Op: opWrite, Kind: ErrNotFound}
	}
}

// flush writes what the store could not take before. The caller has the turn of the key.
func (p *Portals) flush(ctx context.Context, s *keyState, tries int) (record, error) {
	u := p.keys.peek(s.key)
	if u == nil {
		return p.load(ctx, s.key)
	}
	return p.write(ctx, s, *u, tries)
}

// change edits what is known under a key, when edit finds something to do. edit may run several
// times.
func (p *Portals) change(ctx context.Context, key Key, edit func(*Installation) bool) (Installation, error) {
	ctx, cancel := context.WithTimeout(ctx, flightTimeout) // others wait for the turn
	defer cancel()
	s, unlock, err := p.keys.lock(ctx, key)
	if err != nil {
		return Installation{}, &Error{Op: opChange, Kind: ErrStore, Err: err}
	}
	defer unlock()
	if u := p.keys.peek(key); u != nil {
		r, err := p.write(ctx, s, *u, 1)
		if err != nil {
			return Installation{}, err
		}
		if r.unsaved != nil {
			return p.changeUnsaved(s, *r.unsaved, edit)
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
	return Installation{}, &Error{Op: opChange, Kind: ErrStore, Detail: "the installation changes all the time", Err: ErrConflict}
}

// changeUnsaved edits what waits to be written. The caller has the turn of the key.
func (p *Portals) changeUnsaved(s *keyState, u unsaved, edit func(*Installation) bool) (Installation, error) {
	u.in = u.in.clone()
	if edit(&u.in) {
		u.edited = true
	}
	if !u.edited {
		return u.in, nil
	}
	if !p.keys.keep(s, &u, u.forgets) {
		return Installation{}, &Error{Op: opChange, Kind: ErrNotFound}
	}
	return Installation{}, &Error{Op: opChange, Kind: ErrStore, Detail: "the change is kept in memory"}
}
