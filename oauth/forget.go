package oauth

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Forget deletes what is stored of a portal: the application's own access and, where the store is a [Lister], that of its
// users. Call it once a verified ONAPPUNINSTALL asks for it; [Portals.Lifecycle] does. It returns nil where there is nothing.
func (p *Portals) Forget(ctx context.Context, memberID string) error {
	return p.forget(ctx, memberID, func(Installation) bool { return true })
}

// forget deletes what is stored of a portal while over says that the installation is what is to be deleted.
func (p *Portals) forget(ctx context.Context, memberID string, over func(Installation) bool) error {
	if !validMemberID(memberID) {
		return nil
	}
	key := p.appKey(memberID)
	in, _, err := p.store.Load(ctx, key)
	switch {
	case err == nil && !over(in):
		return nil
	case err != nil && !errors.Is(err, ErrNotFound):
		return &Error{Op: opForget, Kind: ErrStore, Err: err}
	}
	if err := p.forgetUsers(ctx, memberID); err != nil { // first: while the portal is known, its ONAPPUNINSTALL can be tried again
		return err
	}
	if err := p.remove(ctx, key, over); err != nil {
		return err
	}
	p.log.LogAttrs(ctx, slog.LevelInfo, "bitrix24 installation forgotten", slog.String(keyMemberID, memberID))
	return nil
}

// forgetUsers deletes the tokens of a portal's users, where the store can tell which there are.
func (p *Portals) forgetUsers(ctx context.Context, memberID string) error {
	lister, ok := p.store.(Lister)
	if !ok {
		return nil
	}
	var users []Key
	for key, err := range lister.Keys(ctx) {
		if err != nil {
			if ctx.Err() != nil {
				return &Error{Op: opForget, Kind: ErrStore, Err: err}
			}
			continue // an installation whose key cannot be told; it must not keep the others
		}
		if key.MemberID == memberID && key.UserID != 0 {
			users = append(users, key)
		}
	}
	for _, key := range users {
		if err := p.remove(ctx, key, func(Installation) bool { return true }); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes what is stored under a key, and what memory holds of it.
func (p *Portals) remove(ctx context.Context, key Key, over func(Installation) bool) error {
	p.mu.Lock()
	delete(p.unsaved, key)
	delete(p.held, key)
	delete(p.detours, key)
	p.mu.Unlock()
	for range writeTries {
		in, version, err := p.store.Load(ctx, key)
		if errors.Is(err, ErrNotFound) || (err == nil && !over(in)) {
			return nil
		}
		if err == nil {
			err = p.store.Delete(ctx, key, version)
		}
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, ErrConflict):
			return &Error{Op: opForget, Kind: ErrStore, Err: err}
		}
	}
	return &Error{Op: opForget, Kind: ErrStore, Detail: "the installation changes all the time", Err: ErrConflict}
}

// installedBy returns whether an installation is as old as at, and not a later one.
func installedBy(at time.Time) func(Installation) bool {
	return func(in Installation) bool { return !in.InstalledAt.After(at) }
}
