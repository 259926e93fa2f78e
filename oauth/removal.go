package oauth

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	// confirmRetryAfter is how long an uninstallation that could not be confirmed waits. It is longer
	// than a refusal by the OAuth server takes to become final.
	confirmRetryAfter = finalAfter + 10*time.Second
	// removalCheckInterval is the shortest time between two checks whether the application was
	// removed from a portal.
	removalCheckInterval = time.Minute
	// removalHookTimeout limits the hook of a removal.
	removalHookTimeout = 5 * time.Minute
)

// removals has the lifecycles whose hooks a removal runs, and the portals that were checked lately.
type removals struct {
	mu         sync.Mutex
	lifecycles []*lifecycle
	nextCheck  map[string]time.Time // by member ID: when the portal may be checked again
}

func (r *removals) add(l *lifecycle) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lifecycles = append(r.lifecycles, l)
}

// all returns the lifecycles.
func (r *removals) all() []*lifecycle {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lifecycles
}

// beginCheck reports whether a portal may be checked now. If so, it may not be checked again for a
// while.
func (r *removals) beginCheck(memberID string) (lifecycles []*lifecycle, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Before(r.nextCheck[memberID]) {
		return nil, false
	}
	if len(r.nextCheck) >= maxIdleStates {
		clear(r.nextCheck)
	}
	if r.nextCheck == nil {
		r.nextCheck = make(map[string]time.Time)
	}
	r.nextCheck[memberID] = now.Add(removalCheckInterval)
	return r.lifecycles, true
}

// Removed is called if a portal responds to a call with a code that says that the application is no
// longer installed, such as APPLICATION_NOT_FOUND. Package rest calls it by itself, and so does a
// renewal that the OAuth server refuses because the application is not installed. In the background
// it tries the stored token, at most once a minute for a portal. If the token is refused for good,
// it runs [Hooks.Removed] of each [Portals.Lifecycle] and then forgets the portal, so that what is
// queued for the portal ends at once with [ErrNotFound]. Removed does not wait for that.
func (p *Portals) Removed(ctx context.Context, memberID, code string) {
	if meansRemoved(code) && validMemberID(memberID) {
		p.suspectRemoval(ctx, memberID)
	}
}

// suspectRemoval finds out in the background whether the application was removed from a portal.
func (p *Portals) suspectRemoval(ctx context.Context, memberID string) {
	lifecycles, ok := p.removals.beginCheck(memberID)
	if !ok {
		return
	}
	_, _ = p.flights.join(ctx, opRemoval+" "+memberID, opRemoval, func(ctx context.Context) (Installation, error) {
		return Installation{}, p.checkRemoval(ctx, memberID, lifecycles)
	})
}

// checkRemoval finds out whether the application was removed from a portal. If so, it runs the
// hooks and forgets the portal.
func (p *Portals) checkRemoval(ctx context.Context, memberID string, lifecycles []*lifecycle) error {
	in, err := p.Installation(ctx, memberID)
	if err != nil {
		return err
	}
	removed, err := p.isRemoved(ctx, in)
	if err != nil {
		p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 portal refuses the application; whether it was removed could not be confirmed",
			slog.String(keyMemberID, memberID), slog.String(keyError, errorText(err)))
		return err
	}
	if !removed {
		return nil
	}
	p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 application was removed from a portal, and no event said so",
		slog.String(keyMemberID, memberID))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removalHookTimeout)
	defer cancel()
	for _, l := range lifecycles {
		if l.hooks.Removed == nil {
			continue
		}
		if err := l.hooks.Removed(ctx, in); err != nil {
			p.log.LogAttrs(ctx, slog.LevelError, "hook for a removed bitrix24 application failed; the installation is kept",
				slog.String(keyMemberID, memberID), slog.String(keyError, errorText(err)))
			return err
		}
	}
	return p.forget(ctx, memberID, installedUntil(in.InstalledAt))
}

// isRemoved tries the stored token of a portal once, and renews it if it has expired. It reports
// true if the application is refused for good, and false if the token works. It returns an error if
// it could not find out.
func (p *Portals) isRemoved(ctx context.Context, in Installation) (bool, error) {
	if in.AccessToken != "" { // even an expired one: a portal without the application may say that first
		removed, decided, err := p.tryToken(ctx, in)
		if decided || (err != nil && !isRedirect(err)) {
			return removed, err
		}
	}
	// A portal that redirects was renamed, and a renewal brings its new address.
	key := p.appKey(in.MemberID)
	renewed, err := p.renew(ctx, key, in.AccessToken)
	var e *Error
	switch {
	case errors.Is(err, ErrNotFound):
		return true, nil // another process has forgotten it
	case errors.As(err, &e) && e.Kind == ErrReauthorize && e.Code != "": // the OAuth server says so, not this package
		return true, nil
	case errors.As(err, &e) && e.Kind == ErrCredentials && p.client.acceptedSince(p.keys.refusedSince(key)):
		// The code also means a wrong client secret. Another portal's renewal has ruled that out
		// since.
		return true, nil
	case err != nil:
		return false, err
	}
	removed, decided, err := p.tryToken(ctx, renewed)
	return removed && decided, err
}

// isRedirect reports whether a portal responded with a redirect.
func isRedirect(err error) bool {
	var e *Error
	return errors.As(err, &e) && isRedirectStatus(e.Status)
}

// tryToken calls a portal with a token. removed reports that the application is not there. decided
// is false if only the token was refused.
func (p *Portals) tryToken(ctx context.Context, in Installation) (removed, decided bool, err error) {
	_, err = p.callPortal(ctx, "app.info", in.ClientEndpoint, in.AccessToken)
	var e *Error
	switch {
	case err == nil:
		return false, true, nil
	case errors.As(err, &e) && meansRemoved(e.Code):
		return true, true, nil
	case errors.As(err, &e) && e.Kind == ErrUnverified:
		return false, false, nil
	default:
		return false, false, err
	}
}

// notInstalled reports whether the OAuth server may have refused a renewal because the application
// is no longer installed on the portal. Its codes have other reasons too.
func notInstalled(e *Error) bool {
	return e.Kind == ErrCredentials || (e.Kind == ErrReauthorize && strings.EqualFold(e.Code, "error_oauth"))
}

// meansRemoved reports whether a portal's code says that the application is not installed. A portal
// on premises whose site is closed returns PORTAL_DELETED as well, so that code does not count.
func meansRemoved(code string) bool { return strings.EqualFold(code, "APPLICATION_NOT_FOUND") }
