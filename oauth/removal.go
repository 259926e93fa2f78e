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
	// confirmAgain is how long an uninstallation waits that could not be confirmed. It is longer
	// than a refusal by the OAuth server takes to become final.
	confirmRetryAfter = finalAfter + 10*time.Second
	// removedEvery is how often, at most, a portal is asked whether the application is gone from
	// it.
	removalCheckInterval = time.Minute
	// removedTimeout bounds the hook of a removal.
	removalHookTimeout = 5 * time.Minute
)

// removals knows the lifecycles whose hooks a removal runs, and the portals that were asked lately.
type removals struct {
	mu         sync.Mutex
	lifecycles []*lifecycle
	nextCheck  map[string]time.Time // by member ID: when the portal may be asked again
}

func (r *removals) add(l *lifecycle) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lifecycles = append(r.lifecycles, l)
}

// due reports whether a portal may be asked now, and if so that it is.
func (r *removals) beginCheck(memberID string) (hooks []*lifecycle, ok bool) {
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

// Removed is called when a portal answered a call with a code that says that the application is not
// there any more, such as APPLICATION_NOT_FOUND. Package rest calls it by itself, and so does a
// renewal that the OAuth server refuses because the application is not installed. In the background
// it tries the stored token, at most once a minute for a portal. If that is refused for good, it
// runs [Hooks.Removed] of each [Portals.Lifecycle] and then forgets the portal, so that what is
// queued for it ends at once with [ErrNotFound]. It returns at once.
func (p *Portals) Removed(ctx context.Context, memberID, code string) {
	if meansRemoved(code) && validMemberID(memberID) {
		p.suspectRemoval(ctx, memberID)
	}
}

// suspectRemoval finds out in the background whether the application is gone from a portal.
func (p *Portals) suspectRemoval(ctx context.Context, memberID string) {
	hooks, due := p.removals.beginCheck(memberID)
	if !due {
		return
	}
	_, _ = p.flights.join(ctx, opRemoval+" "+memberID, opRemoval, func(ctx context.Context) (Installation, error) {
		return Installation{}, p.checkRemoval(ctx, memberID, hooks)
	})
}

// checkRemoval finds out whether the application is gone from a portal, and then forgets the
// portal.
func (p *Portals) checkRemoval(ctx context.Context, memberID string, hooks []*lifecycle) error {
	in, err := p.Installation(ctx, memberID)
	if err != nil {
		return err
	}
	gone, err := p.isRemoved(ctx, in)
	if err != nil {
		p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 portal refuses the application; whether it was removed could not be confirmed",
			slog.String(keyMemberID, memberID), slog.String(keyError, errorText(err)))
		return err
	}
	if !gone {
		return nil
	}
	p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 application was removed from a portal, and no event said so",
		slog.String(keyMemberID, memberID))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removalHookTimeout)
	defer cancel()
	for _, l := range hooks {
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

// gone tries the stored token of a portal once, and renews it if it has expired. It reports true
// when the application is refused for good, false when the token works, and an error when it could
// not find out.
func (p *Portals) isRemoved(ctx context.Context, in Installation) (bool, error) {
	if in.AccessToken != "" { // also an expired one: a portal without the application may say so first
		gone, settled, err := p.tryToken(ctx, in)
		if settled || (err != nil && !isRedirect(err)) {
			return gone, err
		}
	}
	// A portal that redirects was renamed: a renewal brings its new address.
	key := p.appKey(in.MemberID)
	renewed, err := p.renew(ctx, key, in.AccessToken)
	var e *Error
	switch {
	case errors.Is(err, ErrNotFound):
		return true, nil // another process has forgotten it
	case errors.As(err, &e) && e.Kind == ErrReauthorize && e.Code != "": // the OAuth server's word, not ours
		return true, nil
	case errors.As(err, &e) && e.Kind == ErrCredentials && p.client.acceptedSince(p.keys.refusedSince(key)):
		// The code also means a wrong client secret. Another portal's renewal has ruled that out
		// since.
		return true, nil
	case err != nil:
		return false, err
	}
	gone, settled, err := p.tryToken(ctx, renewed)
	return gone && settled, err
}

// isRedirect reports whether a portal answered with a redirect.
func isRedirect(err error) bool {
	var e *Error
	return errors.As(err, &e) && isRedirectStatus(e.Status)
}

// refusesApp calls a portal with a token. settled is false when only the token was refused.
func (p *Portals) tryToken(ctx context.Context, in Installation) (gone, settled bool, err error) {
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
// is not on the portal any more. Its codes have other reasons too.
func notInstalled(e *Error) bool {
	return e.Kind == ErrCredentials || (e.Kind == ErrReauthorize && strings.EqualFold(e.Code, "error_oauth"))
}

// meansGone reports whether a portal's code says that the application is not there. A portal on
// premise whose site is closed says PORTAL_DELETED as well, so that one does not count.
func meansRemoved(code string) bool { return strings.EqualFold(code, "APPLICATION_NOT_FOUND") }
