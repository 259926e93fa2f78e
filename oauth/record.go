package oauth

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// record is an installation on its way to the store.
type record struct {
	in      Installation
	version Version // of what it replaces; empty creates
	// rebase returns the installation to write over another one that was found in the store instead, or false where that one
	// is to stay. known is false where there is none.
	rebase func(found Installation, known bool) (Installation, bool)
	tried  time.Time
}

const (
	writeTries   = 3
	writeTimeout = 3 * time.Second // of one try; a store that hangs must not hold up those whom memory can serve
	// rewriteAfter is how often, at most, access to a portal tries again to write what the store could not take.
	rewriteAfter = time.Second
)

// backoff is the pause before a try, counted from 0.
func backoff(try int) time.Duration {
	if try == 0 {
		return 0
	}
	return 50 * time.Millisecond << (try - 1)
}

// load returns what is known of a portal: what waits to be written, or else what is stored.
func (p *Portals) load(ctx context.Context, key Key) (record, error) {
	if !validMemberID(key.MemberID) {
		return record{}, &Error{Op: opLoad, Kind: ErrNotFound}
	}
	if r, ok := p.waiting(key); ok {
		return r, nil
	}
	in, version, err := p.store.Load(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return record{}, &Error{Op: opLoad, Kind: ErrNotFound}
	case err != nil:
		return record{}, &Error{Op: opLoad, Kind: ErrStore, Err: err}
	}
	return record{in: in, version: version}, nil
}

// write puts a record into the store and returns what is there afterwards, which may be the work of another process. Where
// the store fails, the record is kept in memory and returned as if it had been written: its tokens are the only ones that
// work.
func (p *Portals) write(ctx context.Context, key Key, r record, tries int) (record, error) {
	ctx = context.WithoutCancel(ctx)
	var failure error
	for try := range tries {
		_ = wait(ctx, backoff(try)) // the context cannot end
		for range writeTries {      // a record that was rebased is worth another try at once
			done, written, err := p.tryWrite(ctx, key, &r)
			if done {
				p.saved(key)
				return written, err
			}
			if failure = err; !errors.Is(err, ErrConflict) {
				break
			}
		}
	}
	r.tried = time.Now()
	p.mu.Lock()
	p.unsaved[key] = &r
	p.mu.Unlock()
	p.log.LogAttrs(ctx, slog.LevelError, "bitrix24 tokens could not be stored and are kept in memory",
		slog.String(keyMemberID, key.MemberID), slog.String(keyError, failure.Error()))
	return r, nil
}

// tryWrite writes once. It reports whether that settled the matter; where another version was in the way, r is rebased on it.
func (p *Portals) tryWrite(ctx context.Context, key Key, r *record) (done bool, written record, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	version, err := p.store.Swap(ctx, key, r.version, r.in)
	if err == nil {
		return true, record{in: r.in, version: version}, nil
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
	in, over := r.rebase(found, known)
	switch {
	case over:
		r.in, r.version = in, version
		return false, record{}, err
	case known:
		return true, record{in: found, version: version}, nil
	default: // forgotten in the meantime
		return true, record{}, &Error{Op: opWrite, Kind: ErrNotFound}
	}
}

// waiting returns a record that the store could not take.
func (p *Portals) waiting(key Key) (record, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.unsaved[key]
	if !ok {
		return record{}, false
	}
	return *r, true
}

// saved drops a record that the store could not take before.
func (p *Portals) saved(key Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.unsaved, key)
}
