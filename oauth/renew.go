package oauth

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/timing"
)

const (
	// expirySkew is how far past its end a token must be before it is renewed without asking the
	// portal. Bitrix24 wants renewals after expired_token, not by the clock.
	expirySkew = 10 * time.Second
	// judgeAfter is how long a refused refresh token must stay in the store before the refusal is
	// final. Another process may have spent the token and be about to write its successor.
	judgeAfter = 3 * time.Minute
	// adoptTries is how often the store is read for that successor at once, over about 1.5 seconds.
	adoptTries = 6
)

// Access returns the REST address of a portal and an access token for the application. It renews
// the token only when its time has clearly passed; otherwise that is left to [Portals.Renew].
//
// It returns [ErrNotFound], [ErrReauthorize], [ErrCredentials], [ErrPayment], [ErrTemporary] or
// [ErrStore].
func (p *Portals) Access(ctx context.Context, memberID string) (endpoint, token string, err error) {
	in, err := p.access(ctx, p.appKey(memberID))
	return in.ClientEndpoint, string(in.AccessToken), err
}

// access returns what is known under a key, with an access token that has not clearly expired.
func (p *Portals) access(ctx context.Context, key Key) (Installation, error) {
	r, err := p.load(ctx, key)
	if err != nil {
		return Installation{}, err
	}
	rewrite := r.unsaved != nil && time.Since(r.unsaved.tried) >= rewriteAfter
	if rewrite || r.in.AccessToken == "" || expired(r.in) {
		// Nothing was refused: this takes over tokens that work, and renews only if none do.
		return p.renew(ctx, key, "")
	}
	return r.in, nil
}

// Renew returns access after the portal answered expired_token to the access token refused. When
// another caller, or another process, has replaced that token in the meantime, it returns the
// replacement. All callers of a process share one renewal, which goes on when they leave.
//
// It returns what [Portals.Access] returns. A refusal by the OAuth server is an [ErrReauthorize]
// only after the refused refresh token has stayed in the store for three minutes; until then it is
// an [ErrTemporary], because another process may have used the token and be about to store the new
// one. After a failure the OAuth server is not asked again for the portal for a second, then two,
// up to a minute.
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

// usable reports whether an installation has an access token that is not the refused one.
func usable(in Installation, refused event.Secret) bool {
	return in.AccessToken != "" && in.AccessToken != refused && !expired(in)
}

func (p *Portals) renew(ctx context.Context, key Key, refused event.Secret) (Installation, error) {
	name := opRenew + " " + key.MemberID + "/" + strconv.FormatInt(key.UserID, 10)
	for range 3 {
		in, err := p.flights.do(ctx, name, opRenew, func(ctx context.Context) (Installation, error) {
			return p.rotate(ctx, key, refused)
		})
		if err != nil {
			return Installation{}, err
		}
		if in.AccessToken != refused {
			return in, nil
		}
		// This flight was for an older token. The next one is for ours.
	}
	return Installation{}, &Error{Op: opRenew, Kind: ErrTemporary, Detail: "it gave the refused token again"}
}

// rotate replaces the access token refused, unless that has been done already.
func (p *Portals) rotate(ctx context.Context, key Key, refused event.Secret) (Installation, error) {
	s, unlock, err := p.keys.lock(ctx, key)
	if err != nil {
		return Installation{}, &Error{Op: opRenew, Kind: ErrTemporary, Err: err}
	}
	defer unlock()
	r, err := p.flush(ctx, s, 1)
	if err != nil {
		return Installation{}, err
	}
	if usable(r.in, refused) {
		return r.in, nil
	}
	if _, err := p.keys.held(s, r.in.RefreshToken); err != nil {
		return Installation{}, err
	}
	forgets := p.keys.forgets(s)
	release, err := p.refreshLock(ctx, key)
	if err != nil {
		return Installation{}, err
	}
	defer release()
	if r.unsaved == nil { // another process may have renewed it before it released the lock
		if r, err = p.load(ctx, key); err != nil {
			return Installation{}, err
		}
		if usable(r.in, refused) {
			return r.in, nil
		}
		unprepare, err := p.prepare(ctx, opRenew, key)
		if err != nil {
			return Installation{}, err
		}
		defer unprepare()
	}
	a, err := p.refresh(ctx, key, r.in)
	if err != nil {
		return p.refreshFailed(ctx, s, r, err)
	}
	p.keys.clearHold(s)
	return p.storeRenewed(ctx, s, r, a, forgets)
}

// storeRenewed stores what a refresh token was traded for. The caller has the turn of the key.
func (p *Portals) storeRenewed(ctx context.Context, s *keyState, r record, a answer, forgets int) (Installation, error) {
	u := unsaved{version: r.version, forgets: forgets, supersedes: []event.Secret{r.in.RefreshToken}}
	if r.unsaved != nil {
		u.install, u.supersedes = r.unsaved.install, append(u.supersedes, r.unsaved.supersedes...)
		u.fresh, u.seen, u.edited = r.unsaved.fresh, r.unsaved.seen, r.unsaved.edited
	}
	u.in = r.in.renewed(a)
	written, err := p.write(context.WithoutCancel(ctx), s, u, writeTries)
	if err != nil {
		return Installation{}, err
	}
	p.log.LogAttrs(ctx, slog.LevelDebug, "bitrix24 access renewed", slog.String(keyMemberID, s.key.MemberID))
	return written.in, nil
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

// refreshFailed decides what a failed renewal means. It returns the tokens of another process when
// that has renewed them.
func (p *Portals) refreshFailed(ctx context.Context, s *keyState, r record, failure error) (Installation, error) {
	spent := r.in.RefreshToken
	refused, _ := p.keys.held(s, spent)
	var e *Error
	final := errors.As(failure, &e) && e.Permanent()
	if final && spent != "" && e.Kind == ErrReauthorize && e.Code != "" {
		winner, found, err := p.successor(ctx, s, spent)
		if found {
			return winner, nil
		}
		if err != nil {
			return Installation{}, err
		}
		if refused.IsZero() {
			refused = time.Now()
		}
		if !p.onlyProcess() && time.Since(refused) < judgeAfter {
			final = false
			failure = &Error{
				Op: opRenew, Kind: ErrTemporary, Code: e.Code, Status: e.Status,
				Detail: "it refuses the refresh token, which another process may have used a moment ago",
			}
		}
	}
	if errors.Is(failure, ErrCredentials) && refused.IsZero() {
		refused = time.Now()
	}
	p.keys.holdBack(s, spent, failure, final || errors.Is(failure, ErrPayment), refused)
	if final && s.key.UserID == 0 && notInstalled(e) {
		p.suspectRemoval(ctx, s.key.MemberID)
	}
	p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 access could not be renewed",
		slog.String(keyMemberID, s.key.MemberID), slog.String(keyError, errorText(failure)))
	return Installation{}, failure
}

// successor looks in the store for the pair of another process that has used the same refresh
// token. That process may still be writing. It returns an error when the store could not be read,
// or holds nothing.
func (p *Portals) successor(ctx context.Context, s *keyState, spent event.Secret) (in Installation, found bool, err error) {
	for try := range adoptTries {
		if timing.Sleep(ctx, pauseBefore(try)) != nil && try > 0 {
			break
		}
		var stored Installation
		stored, _, err = p.loadStored(ctx, s.key)
		switch {
		case errors.Is(err, ErrNotFound):
			p.keys.drop(s.key, whatever)
			return Installation{}, false, &Error{Op: opRenew, Kind: ErrNotFound}
		case err != nil:
			err = &Error{Op: opRenew, Kind: ErrStore, Err: err}
		case p.superseded(s, stored.RefreshToken, spent): // not yet replaced
		case stored.AccessToken != "":
			p.keys.keep(s, nil, p.keys.forgets(s))
			p.keys.clearHold(s)
			return stored, true, nil
		}
	}
	return Installation{}, false, err
}

// superseded reports whether a stored refresh token is the spent one, or one from before it.
func (p *Portals) superseded(s *keyState, stored, spent event.Secret) bool {
	if stored == spent {
		return true
	}
	u := p.keys.peek(s.key)
	if u == nil {
		return false
	}
	return slices.Contains(u.supersedes, stored)
}

// onlyProcess reports whether no other process uses the store, so that nobody else can have spent a
// token.
func (p *Portals) onlyProcess() bool {
	_, memory := p.store.(*MemoryStore)
	return memory || p.alone
}

// prepare makes the store ready to take what a credential is traded for. A credential works once:
// it is not spent before that.
func (p *Portals) prepare(ctx context.Context, op string, key Key) (release func(), err error) {
	preparer, ok := p.store.(Preparer)
	if !ok {
		return func() {}, nil
	}
	release, err = preparer.Prepare(ctx, key)
	if err != nil {
		return nil, &Error{Op: op, Kind: ErrStore, Detail: "it cannot take new tokens, so nothing was renewed", Err: err}
	}
	return release, nil
}
