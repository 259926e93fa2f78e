package oauth

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// moveEvery is how often, at most, the OAuth server is asked for the address of a portal.
const moveEvery = time.Minute

// Moved gets the REST address to which a portal's stored address redirects, as that of a renamed
// portal does. It asks the OAuth server where the portal is, which sends nothing to the new
// address, and stores that address only if the OAuth server names it too. Package rest calls Moved
// by itself and then repeats its call.
//
// It returns nil when [Portals.Access] now returns the address; [ErrEndpoint] when it is no address
// /rest/ over https; [ErrUnverified] when the OAuth server names another one, after which it is not
// asked for this portal again for a minute; or what [Portals.Access] returns. On error nothing is
// stored.
//
// Source: https://apidocs.bitrix24.com/settings/how-to-call-rest-api/change-domen.html
func (p *Portals) Moved(ctx context.Context, memberID, endpoint string) error {
	at, err := p.server.hosts.portal(endpoint)
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
	if err := p.movedLately(key); err != nil {
		return err
	}
	_, err = p.flights.do(ctx, opMove+" "+memberID, opMove, func(ctx context.Context) (Installation, error) {
		return p.move(ctx, key, target)
	})
	return err
}

// move stores a portal's new address when the OAuth server names it.
func (p *Portals) move(ctx context.Context, key Key, target string) (Installation, error) {
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
			return false // a renewal has brought it
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

// locate asks the OAuth server for a portal's address: by looking at the access token, which
// changes nothing, or else by a renewal, whose answer is documented to name it.
func (p *Portals) locate(ctx context.Context, key Key, in Installation) (string, error) {
	at, err := p.server.hosts.server(in.ServerEndpoint)
	if err != nil {
		return "", err
	}
	if in.AccessToken != "" && !expired(in) {
		a, err := p.server.identify(ctx, at, in.AccessToken)
		var e *Error
		switch {
		case err == nil && a.memberID == key.MemberID && a.clientEndpoint != "":
			return a.clientEndpoint, nil
		case err == nil && a.memberID != "" && a.memberID != key.MemberID:
			return "", &Error{Op: opMove, Kind: ErrUnverified, Detail: "it says that the stored token is another portal's"}
		case err != nil && (!errors.As(err, &e) || !e.refusesToken()):
			return "", err
		}
	}
	renewed, err := p.renew(ctx, key, in.AccessToken)
	return renewed.ClientEndpoint, err
}

// movedLately returns the error of an address that was not confirmed a short while ago. It holds
// for the portal, whatever the address: redirects to many addresses cost no more than to one.
func (p *Portals) movedLately(key Key) error {
	p.keys.mu.Lock()
	defer p.keys.mu.Unlock()
	s := p.keys.states[key]
	if s == nil || !time.Now().Before(s.move.until) {
		return nil
	}
	return s.move.err
}

// pauseMoves keeps the address of a portal from being asked for a while.
func (ks *keyStates) pauseMoves(key Key, err error) {
	s := ks.use(key)
	defer ks.release(s)
	ks.mu.Lock()
	defer ks.mu.Unlock()
	s.move = pause{err: err, until: time.Now().Add(moveEvery)}
}
