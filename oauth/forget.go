package oauth

import (
	"context"
	"errors"
	"log/slog"
)

// Forget deletes what is stored of a portal: the application's own access, and that of its users.
// It returns nil if there is nothing. [Portals.Lifecycle] calls it when the application was removed
// from a portal. A renewal under way does not write the portal back.
func (p *Portals) Forget(ctx context.Context, memberID string) error {
	return p.forget(ctx, memberID, whatever)
}

// whatever is over.
func whatever(Installation) bool { return true }

// forget deletes what is stored of a portal if over says that the installation is the one to be
// deleted.
func (p *Portals) forget(ctx context.Context, memberID string, over func(Installation) bool) error {
	if !validMemberID(memberID) {
		return nil
	}
	key := p.appKey(memberID)
	if u := p.keys.peek(key); u != nil && !over(u.in) {
		return nil // a later installation waits to be written
	}
	in, _, err := p.loadStored(ctx, key)
	switch {
	case err == nil && !over(in):
		return nil
	case err != nil && !errors.Is(err, ErrNotFound):
		return &Error{Op: opForget, Kind: ErrStore, Err: err}
	}
	// First the users: as long as the portal is known, its ONAPPUNINSTALL can be tried again.
	for user, err := range userKeys(ctx, p.store, key) {
		if err != nil {
			return &Error{Op: opForget, Kind: ErrStore, Err: err}
		}
		if err := p.remove(ctx, user, whatever); err != nil {
			return err
		}
	}
	if err := p.remove(ctx, key, over); err != nil {
		return err
	}
	p.log.LogAttrs(ctx, slog.LevelInfo, "bitrix24 installation forgotten", slog.String(keyMemberID, memberID))
	return nil
}

// remove deletes what is stored under a key, and then what memory holds of it. Then it looks again:
// what memory held may have been written just before it was dropped.
func (p *Portals) remove(ctx context.Context, key Key, over func(Installation) bool) error {
	dropped := false
	for range 2 * writeTries {
		if u := p.keys.peek(key); u != nil && !over(u.in) {
			return nil
		}
		in, version, err := p.loadStored(ctx, key)
		switch {
		case errors.Is(err, ErrNotFound) && dropped, err == nil && !over(in):
			return nil
		case err == nil:
			err = p.deleteSoon(ctx, key, version)
		}
		switch {
		case err == nil, errors.Is(err, ErrNotFound):
			p.keys.drop(key, over)
			dropped = true
		case !errors.Is(err, ErrConflict):
			return &Error{Op: opForget, Kind: ErrStore, Err: err}
		}
	}
	return &Error{Op: opForget, Kind: ErrStore, Detail: "the installation changes all the time", Err: ErrConflict}
}
