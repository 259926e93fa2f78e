package oauth

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// moveCheckInterval is the shortest time between two requests for the address of a portal after the
// OAuth server did not confirm one.
const moveCheckInterval = time.Minute

// Moved is called with the REST address that a portal's stored address redirects to, because the
// portal was renamed. It asks the OAuth server for the portal's address, which sends nothing to the
// new address. It stores the new address only if the OAuth server names it too. Package rest calls
// Moved by itself and then repeats its call.
//
// It returns nil if [Portals.Access] now returns the address; [ErrEndpoint] if it is not an https
// address that ends in /rest/; [ErrUnverified] if the OAuth server names another one, after which
// it is not asked about this portal again for a minute; or what [Portals.Access] returns. If Moved
// returns an error, it has stored nothing.
//
// Source: https://apidocs.bitrix24.com/settings/how-to-call-rest-api/change-domen.html
func (p *Portals) Moved(ctx context.Context, memberID, endpoint string) error {
	at, err := p.client.hosts.checkPortal(endpoint)
	if err != nil {
		return err
	}
	if at.path != "/rest/" {
		return &Error{Op: opMove, Kind: ErrEndpoint, Detail: "a portal's new address does not end at /rest/"}
	}
	key, target := p.appKey(memberID), at.String()
	r, err := p.load(ctx, key)
	if err != nil {
		return err
	}
	if r.in.ClientEndpoint == target {
		return nil
	}
	if err := p.moveError(key); err != nil {
		return err
	}
	_, err = p.flights.do(ctx, opMove+" "+memberID, opMove, func(ctx context.Context) (Installation, error) {
		return p.followMove(ctx, key, target)
	})
	return err
}

// followMove stores a portal's new address if the OAuth server names it.
func (p *Portals) followMove(ctx context.Context, key Key, target string) (Installation, error) {
	r, err := p.load(ctx, key)
	if err != nil || r.in.ClientEndpoint == target {
		return r.in, err
	}
	named, err := p.locate(ctx, key, r.in)
	if err != nil {
		return Installation{}, err
	}
	if named != target {
		err := &Error{Op: opMove, Kind: ErrUnverified, Detail: "it does not name the address that the portal redirects to"}
		p.keys.pauseMoves(key, err)
		p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 portal redirects to an address that the OAuth server does not name",
			slog.String(keyMemberID, key.MemberID))
		return Installation{}, err
	}
	in, err := p.change(ctx, key, func(in *Installation) bool {
		if in.ClientEndpoint == target {
			return false // a renewal has stored it already
		}
		in.ClientEndpoint, in.UpdatedAt = target, time.Now().UTC()
		return true
	})
	if err != nil {
		return Installation{}, err
	}
	p.log.LogAttrs(ctx, slog.LevelInfo, "bitrix24 portal has a new address",
		slog.String(keyMemberID, key.MemberID), slog.String(keyDomain, in.Domain()))
	return in, nil
}

// locate asks the OAuth server for a portal's address. It looks at the access token, which changes
// nothing, or else renews it: by the documentation, the response names the address.
func (p *Portals) locate(ctx context.Context, key Key, in Installation) (string, error) {
	at, err := p.client.hosts.checkServer(in.ServerEndpoint)
	if err != nil {
		return "", err
	}
	if in.AccessToken != "" && !expired(in) {
		info, err := p.client.identify(ctx, at, in.AccessToken)
		var e *Error
		switch {
		case err == nil && info.memberID == key.MemberID && info.clientEndpoint != "":
			return info.clientEndpoint, nil
		case err == nil && info.memberID != "" && info.memberID != key.MemberID:
			return "", &Error{Op: opMove, Kind: ErrUnverified, Detail: "it says that the stored token is another portal's"}
		case err != nil && (!errors.As(err, &e) || !e.refusesToken()):
			return "", err
		}
	}
	renewed, err := p.renew(ctx, key, in.AccessToken)
	return renewed.ClientEndpoint, err
}

// moveError returns the error of an address that was not confirmed a short while ago. It is the
// portal's error, not the address's: redirects to many addresses cost no more than to one.
func (p *Portals) moveError(key Key) error {
	p.keys.mu.Lock()
	defer p.keys.mu.Unlock()
	s := p.keys.states[key]
	if s == nil || !time.Now().Before(s.moves.until) {
		return nil
	}
	return s.moves.err
}

// pauseMoves keeps the OAuth server from being asked for a portal's address for a while.
func (ks *keyStates) pauseMoves(key Key, err error) {
	s := ks.use(key)
	defer ks.release(s)
	ks.mu.Lock()
	defer ks.mu.Unlock()
	s.moves = movePause{err: err, until: time.Now().Add(moveCheckInterval)}
}
