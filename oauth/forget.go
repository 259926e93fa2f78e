package oauth

import (
	"context"
	"errors"
	"log/slog"
)

// Forget deletes what is stored for a portal: the application's own access, and that of its users.
// It returns nil if nothing is stored. [Portals.Lifecycle] calls it after the application was
// removed from a portal. A renewal under way does not write the portal back.
func (p *Portals) Forget(ctx context.Context, memberID string) error {
	return p.forget(ctx, memberID, anyInstallation)
}

// anyInstallation matches every installation.
func anyInstallation(Installation) bool { return true }

// forget deletes what is stored for a portal if obsolete reports that the installation is the one
// to be deleted.
func (p *Portals) forget(ctx context.Context, memberID string, obsolete func(Installation) bool) error {
	if !validMemberID(memberID) {
		return nil
	}
	key := p.appKey(memberID)
	if w := p.keys.pendingOf(key); w != nil && !obsolete(w.in) {
		return nil // a later installation waits to be written
	}
	in, _, err := p.loadStored(ctx, key)
	switch {
	case err == nil && !obsolete(in):
		return nil
	case err != nil && !errors.Is(err, ErrNotFound):
		return &Error{Op: opForget, Kind: ErrStore, Err: err}
	}
	// The users come first: as long as the portal is known, its ONAPPUNINSTALL can be tried again.
	for user, err := range userKeys(ctx, p.store, key) {
		if err != nil {
			return &Error{Op: opForget, Kind: ErrStore, Err: err}
		}
		if err := p.remove(ctx, user, anyInstallation); err != nil {
			return err
		}
	}
	if err := p.remove(ctx, key, obsolete); err != nil {
		return err
	}
	if err == nil {
		p.meter.removed.Add(1)
	}
	p.log.LogAttrs(ctx, slog.LevelInfo, "bitrix24 installation forgotten", slog.String(keyMemberID, memberID))
	return nil
}

// remove deletes what is stored under a key, and then what memory holds for it. Then it looks
// again, because what memory held may have been written just before it was dropped.
func (p *Portals) remove(ctx context.Context, key Key, obsolete func(Installation) bool) error {
	dropped := false
	for range 2 * writeTries {
		if w := p.keys.pendingOf(key); w != nil && !obsolete(w.in) {
			return nil
		}
		in, version, err := p.loadStored(ctx, key)
		switch {
		case errors.Is(err, ErrNotFound) && dropped, err == nil && !obsolete(in):
			return nil
		case err == nil:
			err = p.deleteStored(ctx, key, version)
		}
		switch {
		case err == nil, errors.Is(err, ErrNotFound):
			p.keys.drop(key, obsolete)
			dropped = true
		case !errors.Is(err, ErrConflict):
			return &Error{Op: opForget, Kind: ErrStore, Err: err}
		}
	}
	return &Error{Op: opForget, Kind: ErrStore, Detail: detailKeepsChanging, Err: ErrConflict}
}
