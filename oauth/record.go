package oauth

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/b24events/b24events/event"
)

// record is an installation as it is known: stored, or waiting in memory to be written.
type record struct {
	in      Installation
	version Version // in the store; empty when it holds none
	unsaved *unsaved
}

// unsaved is an installation that is to be written, or that the store could not take so far. Nothing in it
// changes once it is shared.
type unsaved struct {
	in      Installation
	version Version // of the record that it replaces; empty creates
	// supersedes are the refresh tokens that this one follows. A stored record with one of them is older.
	supersedes []event.Secret
	// install tells a verified installation, which replaces whatever an earlier one left, from a renewal, which
	// only replaces the tokens that it has spent.
	install bool
	// later tells that it comes after whatever has happened to the key, as an installation does that was
	// verified just now. Anything else is void if the key is forgotten meanwhile.
	later   bool
	forgets int // how often the key had been forgotten when this came to be
	tried   time.Time
}

const (
	writeTries   = 3
	writeTimeout = 3 * time.Second // of one try; a store that hangs must not hold up those whom memory can serve
	loadTimeout  = 5 * time.Second
	// rewriteAfter is how often, at most, access to a portal tries again to write what the store could not take.
	rewriteAfter = time.Second
	// installSkew is how far the clocks of two processes may differ that store installations of one portal.
	installSkew = time.Minute
)

// backoff is the pause before a try, counted from 0.
func backoff(try int) time.Duration {
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

// loadStored reads the store, and bounds how long it may take: whoever has the turn of a key keeps others
// waiting.
func (p *Portals) loadStored(ctx context.Context, key Key) (Installation, Version, error) {
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

// deleteStored deletes from the store within the time of one try.
func (p *Portals) deleteStored(ctx context.Context, key Key, old Version) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return p.store.Delete(ctx, key, old)
}

// onto returns the installation to write when found is stored instead of the version that u replaces, and
// false when the stored one, or its absence, is to stay.
func (u *unsaved) onto(found Installation, known bool) (Installation, bool) {
	switch {
	case !known:
		// What replaced a record that is gone now was forgotten with it, unless it was verified just now.
		return u.in, u.version == "" || u.later
	case found.AccessToken == u.in.AccessToken:
		return found, false // this very one, written by a try that seemed to fail
	case slices.Contains(u.supersedes, found.RefreshToken) && found.RefreshToken != "":
		// Somebody changed something else in the meantime.
		in := found.withTokensOf(u.in)
		if u.install {
			in = in.withInstallOf(u.in)
		}
		return in, true
	case u.install && sameInstant(found.InstalledAt, u.in.InstalledAt):
		// This very installation, which another process has renewed: the try that seemed to fail had written it.
		return found, false
	case u.install && !found.InstalledAt.After(u.in.InstalledAt.Add(u.skew())):
		return found.withTokensOf(u.in).withInstallOf(u.in), true
	default:
		return found, false // a later installation, or the winner of the renewal
	}
}

// skew is how far a stored installation may be dated after u and yet be older: clocks differ, and u was
// verified just now. One that has waited to be written gives way to any later one.
func (u *unsaved) skew() time.Duration {
	if u.later {
		return installSkew
	}
	return 0
}

// sameInstant reports whether two times are one that was stored, perhaps by a database that keeps fewer
// digits.
func sameInstant(a, b time.Time) bool {
	return a.Truncate(time.Millisecond).Equal(b.Truncate(time.Millisecond))
}

// write puts an installation into the store and returns what is stored afterwards, which may be the work
// of another process. When the store fails, the installation is kept in memory and returned with
// unsaved set: its tokens are the only ones that work. The caller has the turn of the key.
func (p *Portals) write(ctx context.Context, s *keyState, u unsaved, tries int) (record, error) {
	if u.later {
		u.forgets = p.keys.forgets(s)
	}
	if u.forgets != p.keys.forgets(s) {
		return record{}, &Error{Op: opWrite, Kind: ErrNotFound}
	}
	var failure error
	for try := range tries {
		if wait(ctx, backoff(try)) != nil && try > 0 {
			break
		}
		for range writeTries { // after a conflict another try is worth it at once
			done, written, err := p.tryWrite(ctx, s.key, &u)
			if done {
				if !p.keys.keep(s, nil, u.forgets) && err == nil && !u.later {
					_ = p.deleteStored(ctx, s.key, written.version) // forgotten just now
					return record{}, &Error{Op: opWrite, Kind: ErrNotFound}
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
		slog.String(keyMemberID, s.key.MemberID), slog.String(keyError, errorText(failure)))
	return record{in: u.in, version: u.version, unsaved: &u}, nil
}

// tryWrite writes once. It reports whether that ended the matter. When another version was in the way, u
// is based on that one.
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

// change edits what is known under a key, when edit finds something to do. edit may run several times.
func (p *Portals) change(ctx context.Context, key Key, edit func(*Installation) bool) (Installation, error) {
	s, unlock, err := p.keys.lock(ctx, key)
	if err != nil {
		return Installation{}, &Error{Op: opChange, Kind: ErrStore, Err: err}
	}
	defer unlock()
	if u := p.keys.peek(key); u != nil {
		return p.changeUnsaved(ctx, s, *u, edit)
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

// changeUnsaved edits what waits to be written, and tries to write it.
func (p *Portals) changeUnsaved(ctx context.Context, s *keyState, u unsaved, edit func(*Installation) bool) (Installation, error) {
	u.in = u.in.clone()
	if !edit(&u.in) {
		return u.in, nil
	}
	r, err := p.write(ctx, s, u, 1)
	switch {
	case err != nil:
		return Installation{}, err
	case r.unsaved != nil:
		return Installation{}, &Error{Op: opChange, Kind: ErrStore, Detail: "the change is kept in memory"}
	case r.in.AccessToken != u.in.AccessToken && edit(&r.in): // another process' installation is stored
		if err := p.swapStored(ctx, s.key, r.version, r.in); err != nil {
			return Installation{}, &Error{Op: opChange, Kind: ErrStore, Err: err}
		}
	}
	return r.in, nil
}
