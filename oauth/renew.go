package oauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/b24events/b24events/event"
)

const (
	// flightTimeout bounds one renewal or one check of an installation, which go on when their callers leave.
	flightTimeout = 30 * time.Second
	// expirySkew is how far past its end a token must be before it is renewed without asking the portal. Bitrix24 wants
	// renewals after expired_token, not by the clock.
	expirySkew = 10 * time.Second
	// holdTime is how long a refused refresh token is not sent again. Each event of a dead portal would otherwise become a
	// request to the OAuth server.
	holdTime = time.Minute
	// adoptTries is how often the store is read again before a refusal is believed, over about 1.5 seconds.
	adoptTries = 6
)

// refusal remembers that the OAuth server does not want a refresh token.
type refusal struct {
	refresh event.Secret
	err     error
	until   time.Time
}

// Access returns the REST address of a portal and an access token for the application. It renews the token only where its
// time has clearly passed; otherwise that is left to [Portals.Renew].
//
// It returns [ErrNotFound], [ErrReauthorize], [ErrCredentials], [ErrPayment], [ErrTemporary] or [ErrStore].
func (p *Portals) Access(ctx context.Context, memberID string) (endpoint, token string, err error) {
	in, err := p.access(ctx, p.appKey(memberID))
	return in.ClientEndpoint, string(in.AccessToken), err
}

// access returns what is stored under a key, with an access token that has not clearly expired.
func (p *Portals) access(ctx context.Context, key Key) (Installation, error) {
	r, err := p.load(ctx, key)
	if err != nil {
		return Installation{}, err
	}
	unsaved := r.rebase != nil && time.Since(r.tried) >= rewriteAfter
	if unsaved || r.in.AccessToken == "" || expired(r.in) {
		// Nothing was refused: this adopts whatever works and renews only where nothing does.
		return p.renew(ctx, key, "")
	}
	return r.in, nil
}

// Renew returns access after the portal answered expired_token to the access token refused. Where another caller, or another
// process, has replaced that token in the meantime, it returns the replacement. All callers of a process share one renewal,
// which goes on when they leave.
//
// It returns what [Portals.Access] returns.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/auto-renewal.html
func (p *Portals) Renew(ctx context.Context, memberID, refused string) (endpoint, token string, err error) {
	in, err := p.renew(ctx, p.appKey(memberID), event.Secret(refused))
	return in.ClientEndpoint, string(in.AccessToken), err
}

// expired reports whether the time of an installation's access token has clearly passed.
func expired(in Installation) bool {
	return !in.Expires.IsZero() && time.Since(in.Expires) > expirySkew
}

func (p *Portals) renew(ctx context.Context, key Key, refused event.Secret) (Installation, error) {
	flight := key.MemberID + "/" + strconv.FormatInt(key.UserID, 10) // one application in a Portals
	rotate := func(ctx context.Context) (Installation, error) { return p.rotate(ctx, key, refused) }
	for range 3 {
		in, err := p.fly(ctx, &p.renewal, flight, opRenew, rotate)
		if err != nil {
			return Installation{}, err
		}
		if in.AccessToken != refused {
			return in, nil
		}
		// This was the flight of others, who had an older token refused. The next one is for ours.
	}
	return Installation{}, &Error{Op: opRenew, Kind: ErrTemporary, Detail: "it gave the refused token again"}
}

// rotate replaces the access token refused, unless that has been done already. One rotate runs for a key at a time.
func (p *Portals) rotate(ctx context.Context, key Key, refused event.Secret) (Installation, error) {
	r, err := p.load(ctx, key)
	if err == nil && r.rebase != nil {
		r, err = p.write(ctx, key, r, 1)
	}
	if err != nil {
		return Installation{}, err
	}
	if r.in.AccessToken != "" && r.in.AccessToken != refused && !expired(r.in) {
		return r.in, nil
	}
	spent := r.in.RefreshToken
	if err := p.refused(key, spent); err != nil {
		return Installation{}, err
	}
	a, err := p.refresh(ctx, key, r.in)
	if err != nil {
		if winner, ok := p.adopt(ctx, key, spent, err); ok {
			return winner, nil
		}
		p.hold(key, spent, err)
		p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 access could not be renewed",
			slog.String(keyMemberID, key.MemberID), slog.String(keyError, err.Error()))
		return Installation{}, err
	}
	earlier := r.rebase // not nil while earlier tokens wait to be written: the store then still holds the token before spent
	r.in = r.in.renewed(a)
	r.rebase = func(found Installation, known bool) (Installation, bool) {
		if known && found.RefreshToken == spent {
			return found.renewed(a), true
		}
		if earlier == nil {
			return Installation{}, false
		}
		base, over := earlier(found, known)
		return base.renewed(a), over
	}
	if r, err = p.write(ctx, key, r, writeTries); err != nil {
		return Installation{}, err
	}
	p.log.LogAttrs(ctx, slog.LevelDebug, "bitrix24 access renewed", slog.String(keyMemberID, key.MemberID))
	return r.in, nil
}

// refresh asks the OAuth server for a new pair.
func (p *Portals) refresh(ctx context.Context, key Key, in Installation) (answer, error) {
	if in.RefreshToken == "" {
		return answer{}, &Error{Op: opRenew, Kind: ErrReauthorize, Detail: "no refresh token is stored"}
	}
	at, err := p.server.hosts.server(in.ServerEndpoint)
	if err != nil {
		return answer{}, err
	}
	a, err := p.server.renew(ctx, at, in.RefreshToken)
	switch {
	case err == nil && a.memberID != "" && a.memberID != key.MemberID:
		return answer{}, &Error{Op: opRenew, Kind: ErrReauthorize, Detail: "the OAuth server gave the tokens of another portal"}
	case err == nil && key.UserID != 0 && a.userID != 0 && a.userID != key.UserID:
		return answer{}, &Error{Op: opRenew, Kind: ErrReauthorize, Detail: "the OAuth server gave the tokens of another user"}
	}
	return a, err
}

// adopt looks for the pair of another process that has used up the same refresh token. That process may still be writing.
func (p *Portals) adopt(ctx context.Context, key Key, spent event.Secret, err error) (Installation, bool) {
	var e *Error
	if spent == "" || !errors.As(err, &e) || e.Kind != ErrReauthorize || e.Code == "" {
		return Installation{}, false
	}
	for try := range adoptTries {
		if wait(ctx, backoff(try)) != nil {
			break
		}
		in, _, err := p.store.Load(ctx, key)
		if errors.Is(err, ErrNotFound) {
			break
		}
		if err == nil && in.RefreshToken != spent && in.AccessToken != "" {
			p.saved(key)
			return in, true
		}
	}
	return Installation{}, false
}

// hold keeps a refused refresh token from being sent again for a while.
func (p *Portals) hold(key Key, refresh event.Secret, err error) {
	if !errors.Is(err, ErrReauthorize) && !errors.Is(err, ErrCredentials) && !errors.Is(err, ErrPayment) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if old, ok := p.held[key]; ok && old.refresh == refresh && now.Before(old.until) {
		return
	}
	p.held[key] = &refusal{refresh: refresh, err: err, until: now.Add(holdTime)}
}

// refused returns the refusal of a refresh token that was sent a short while ago.
func (p *Portals) refused(key Key, refresh event.Secret) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, ok := p.held[key]
	if !ok {
		return nil
	}
	if old.refresh != refresh || !time.Now().Before(old.until) {
		delete(p.held, key)
		return nil
	}
	return old.err
}

// fly runs work for all callers of a key at once. The work goes on when callers leave: it may already have used up a token.
func (p *Portals) fly(
	ctx context.Context, group *singleflight.Group, key, op string, work func(context.Context) (Installation, error),
) (Installation, error) {
	if err := ctx.Err(); err != nil {
		return Installation{}, fmt.Errorf("oauth: %s: %w", op, err)
	}
	done := group.DoChan(key, func() (result any, err error) {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, &Error{Op: op, Kind: ErrShutdown}
		}
		p.running.Add(1)
		p.mu.Unlock()
		defer p.running.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
		defer cancel()
		defer func() {
			// Only a store can panic here, and this goroutine has no caller that could recover.
			if v := recover(); v != nil {
				p.log.LogAttrs(ctx, slog.LevelError, "panic in the store", slog.String(keyPanic, fmt.Sprintf("%T", v)),
					slog.String(keyStack, string(debug.Stack())))
				err = &Error{Op: op, Kind: ErrStore, Detail: fmt.Sprintf("it panicked with a %T", v)}
			}
		}()
		return work(ctx)
	})
	select {
	case <-ctx.Done():
		return Installation{}, fmt.Errorf("oauth: %s: %w", op, ctx.Err())
	case r := <-done:
		if r.Err != nil {
			return Installation{}, r.Err
		}
		in, _ := r.Val.(Installation)
		return in.clone(), nil
	}
}
