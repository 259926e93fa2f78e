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
	// expirySkew is how long ago a token must have ended before it is renewed without asking the
	// portal. Bitrix24 wants renewals after expired_token, not by the clock.
	expirySkew = 10 * time.Second
	// finalAfter is how long a refused refresh token must stay in the store before the refusal is
	// final. Another process may have spent the token and be about to write its successor.
	finalAfter = 3 * time.Minute
	// adoptTries is how often the store is read for that successor, over about 1.5 seconds.
	adoptTries = 6
)

// Access returns the REST address of a portal and an access token for the application. It renews
// the token only if it has clearly expired; otherwise [Portals.Renew] does that.
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
	rewrite := r.pending != nil && time.Since(r.pending.triedAt) >= rewriteAfter
	if rewrite || r.in.AccessToken == "" || expired(r.in) {
		// No token was refused, so this adopts tokens that work, and renews only if none do.
		return p.renew(ctx, key, "")
	}
	return r.in, nil
}

// Renew returns access after the portal returned expired_token for the access token refused. If
// another caller, or another process, has replaced that token in the meantime, Renew returns the
// replacement. All callers of a process share one renewal, which goes on after they leave.
//
// It returns what [Portals.Access] returns. A refusal by the OAuth server is an [ErrReauthorize]
// only after the refused refresh token has stayed in the store for three minutes. Until then it is
// an [ErrTemporary], because another process may have used the token and be about to store the new
// one. After a failure the OAuth server is not asked for the portal again for a second, then two,
// up to a minute.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/auto-renewal.html
func (p *Portals) Renew(ctx context.Context, memberID, refused string) (endpoint, token string, err error) {
	in, err := p.renew(ctx, p.appKey(memberID), event.Secret(refused))
	return in.ClientEndpoint, string(in.AccessToken), err
}

// expired reports whether an installation's access token has clearly expired.
func expired(in Installation) bool {
	return !in.Expires.IsZero() && time.Since(in.Expires) > expirySkew
}

// usable reports whether an installation has an access token that is neither expired nor the
// refused one.
func usable(in Installation, refused event.Secret) bool {
	return in.AccessToken != "" && in.AccessToken != refused && !expired(in)
}

func (p *Portals) renew(ctx context.Context, key Key, refused event.Secret) (Installation, error) {
	name := opRenew + " " + key.MemberID + "/" + strconv.FormatInt(key.UserID, 10)
	for range 3 {
		in, err := p.flights.do(ctx, name, opRenew, func(ctx context.Context) (Installation, error) {
			return p.renewOnce(ctx, key, refused)
		})
		if err != nil {
			return Installation{}, err
		}
		if in.AccessToken != refused {
			return in, nil
		}
		// This flight replaced an older token. The next one replaces ours.
	}
	return Installation{}, &Error{Op: opRenew, Kind: ErrTemporary, Detail: "it gave the refused token again"}
}

// renewOnce replaces the access token refused, unless that has been done already.
func (p *Portals) renewOnce(ctx context.Context, key Key, refused event.Secret) (in Installation, err error) {
	re := renewal{began: time.Now()}
	err = &Error{Op: opRenew, Kind: ErrStore} // unless the store returns
	defer func() { p.renewalEnded(ctx, key, re, err) }()
	return p.replaceTokens(ctx, key, refused, &re)
}

// replaceTokens is renewOnce, and notes in re how it ended.
func (p *Portals) replaceTokens(ctx context.Context, key Key, refused event.Secret, re *renewal) (Installation, error) {
	s, unlock, err := p.keys.lock(ctx, key)
	if err != nil {
		return Installation{}, &Error{Op: opRenew, Kind: ErrTemporary, Err: err}
	}
	defer unlock()
	r, err := p.flushLocked(ctx, s, 1)
	if err != nil {
		return Installation{}, err
	}
	if usable(r.in, refused) {
		re.adopted = true
		return r.in, nil
	}
	if _, err := p.keys.backoffOf(s, r.in.RefreshToken); err != nil {
		re.postponed = true
		return Installation{}, err
	}
	forgets := p.keys.forgets(s)
	release, err := p.refreshLock(ctx, key)
	if err != nil {
		return Installation{}, err
	}
	defer release()
	if r.pending == nil { // another process may have renewed it before it released the lock
		if r, err = p.load(ctx, key); err != nil {
			return Installation{}, err
		}
		if usable(r.in, refused) {
			re.adopted = true
			return r.in, nil
		}
		unprepare, err := p.prepareStore(ctx, opRenew, key)
		if err != nil {
			return Installation{}, err
		}
		defer unprepare()
	}
	info, err := p.requestRenewal(ctx, key, r.in)
	if err != nil {
		in, err := p.renewalFailedLocked(ctx, s, r, err)
		re.adopted = err == nil
		return in, err
	}
	p.keys.clearBackoff(s)
	return p.storeRenewedLocked(ctx, s, r, info, forgets)
}

// storeRenewedLocked stores what a refresh token was traded for. The caller holds the lock of the
// key.
func (p *Portals) storeRenewedLocked(ctx context.Context, s *keyState, r snapshot, info tokenInfo, forgets int) (Installation, error) {
	w := pendingWrite{version: r.version, forgets: forgets, supersedes: []event.Secret{r.in.RefreshToken}}
	if r.pending != nil {
		w.isInstall, w.supersedes = r.pending.isInstall, append(w.supersedes, r.pending.supersedes...)
		w.wasAbsent, w.sawStored, w.edited = r.pending.wasAbsent, r.pending.sawStored, r.pending.edited
	}
	w.in = r.in.renewed(info)
	written, err := p.writeLocked(context.WithoutCancel(ctx), s, w, writeTries)
	if err != nil {
		return Installation{}, err
	}
	p.log.LogAttrs(ctx, slog.LevelDebug, "bitrix24 access renewed", slog.String(keyMemberID, s.key.MemberID))
	return written.in, nil
}

// requestRenewal asks the OAuth server for a new pair.
func (p *Portals) requestRenewal(ctx context.Context, key Key, in Installation) (tokenInfo, error) {
	if in.RefreshToken == "" {
		return tokenInfo{}, &Error{Op: opRenew, Kind: ErrReauthorize, Detail: "no refresh token is stored"}
	}
	at, err := p.client.hosts.checkServer(in.ServerEndpoint)
	if err != nil {
		return tokenInfo{}, err
	}
	info, err := p.client.trade(ctx, at, refreshToken(in.RefreshToken))
	switch {
	case err == nil && info.memberID != "" && info.memberID != key.MemberID:
		return tokenInfo{}, &Error{Op: opRenew, Kind: ErrReauthorize, Detail: "the OAuth server gave the tokens of another portal"}
	case err == nil && key.UserID != 0 && info.userID != 0 && info.userID != key.UserID:
		return tokenInfo{}, &Error{Op: opRenew, Kind: ErrReauthorize, Detail: "the OAuth server gave the tokens of another user"}
	}
	return info, err
}

// renewalFailedLocked decides what a failed renewal means. If another process has renewed the
// tokens, it returns those. The caller holds the lock of the key.
func (p *Portals) renewalFailedLocked(ctx context.Context, s *keyState, r snapshot, failure error) (Installation, error) {
	spent := r.in.RefreshToken
	refusedAt, _ := p.keys.backoffOf(s, spent)
	var e *Error
	final := errors.As(failure, &e) && e.Permanent()
	if final && spent != "" && e.Kind == ErrReauthorize && e.Code != "" {
		winner, found, err := p.findSuccessorLocked(ctx, s, spent)
		if found {
			return winner, nil
		}
		if err != nil {
			return Installation{}, err
		}
		if refusedAt.IsZero() {
			refusedAt = time.Now()
		}
		if !p.onlyProcess() && time.Since(refusedAt) < finalAfter {
			final = false
			failure = &Error{
				Op: opRenew, Kind: ErrTemporary, Code: e.Code, Status: e.Status,
				Detail: "it refuses the refresh token, which another process may have used a moment ago",
			}
		}
	}
	if errors.Is(failure, ErrCredentials) && refusedAt.IsZero() {
		refusedAt = time.Now()
	}
	p.keys.backOff(s, spent, failure, final || errors.Is(failure, ErrPayment), refusedAt)
	if final && s.key.UserID == 0 && notInstalled(e) {
		p.suspectRemoval(ctx, s.key.MemberID)
	}
	p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 access could not be renewed",
		slog.String(keyMemberID, s.key.MemberID), slog.String(keyError, errorText(failure)))
	return Installation{}, failure
}

// findSuccessorLocked looks in the store for the pair of another process that has used the same
// refresh token. That process may still be writing. It returns an error if the store could not be
// read, or holds nothing. The caller holds the lock of the key.
func (p *Portals) findSuccessorLocked(ctx context.Context, s *keyState, spent event.Secret) (in Installation, found bool, err error) {
	for try := range adoptTries {
		if timing.Sleep(ctx, pauseBefore(try)) != nil && try > 0 {
			break
		}
		var stored Installation
		stored, _, err = p.loadStored(ctx, s.key)
		switch {
		case errors.Is(err, ErrNotFound):
			p.keys.drop(s.key, anyInstallation)
			return Installation{}, false, &Error{Op: opRenew, Kind: ErrNotFound}
		case err != nil:
			err = &Error{Op: opRenew, Kind: ErrStore, Err: err}
		case p.isSuperseded(s, stored.RefreshToken, spent): // not replaced yet
		case stored.AccessToken != "":
			p.keys.setPendingLocked(s, nil, p.keys.forgets(s))
			p.keys.clearBackoff(s)
			return stored, true, nil
		}
	}
	return Installation{}, false, err
}

// isSuperseded reports whether a stored refresh token is the spent one, or one from before it.
func (p *Portals) isSuperseded(s *keyState, stored, spent event.Secret) bool {
	if stored == spent {
		return true
	}
	w := p.keys.pendingOf(s.key)
	if w == nil {
		return false
	}
	return slices.Contains(w.supersedes, stored)
}

// onlyProcess reports whether no other process uses the store and can have spent a token.
func (p *Portals) onlyProcess() bool {
	_, memory := p.store.(*MemoryStore)
	return memory || p.exclusive
}

// prepareStore makes the store ready to take what a credential is traded for. It comes before the
// trade, because a credential works once.
func (p *Portals) prepareStore(ctx context.Context, op string, key Key) (release func(), err error) {
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
