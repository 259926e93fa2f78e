package oauth

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// detour is an address that the OAuth server did not confirm.
type detour struct {
	endpoint string
	err      error
	until    time.Time
}

// Moved is told the REST address to which a portal's stored address redirects, as that of a renamed portal does. It asks the
// OAuth server where the portal is, which sends nothing to the new address, and stores that address only where the OAuth
// server names it too. Package rest calls Moved by itself and then repeats its call.
//
// It returns nil where [Portals.Access] now returns the address; [ErrEndpoint] where it is no address /rest/ over https;
// [ErrUnverified] where the OAuth server names another one, which is not asked again for a minute; or what [Portals.Access]
// returns. On error nothing is stored.
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
	if err := p.detour(key, target); err != nil {
		return err
	}
	_, err = p.fly(ctx, &p.arrival, "moved "+memberID+" "+target, opMove, func(ctx context.Context) (Installation, error) {
		return p.move(ctx, key, target)
	})
	return err
}

// move stores a portal's new address where the OAuth server names it.
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
		p.mu.Lock()
		p.detours[key] = detour{endpoint: target, err: err, until: time.Now().Add(holdTime)}
		p.mu.Unlock()
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

// locate asks the OAuth server for a portal's address: by looking at the access token, which changes nothing, or else by a
// renewal, whose answer is documented to name it.
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

// detour returns the error of an address that was not confirmed a short while ago.
func (p *Portals) detour(key Key, endpoint string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, ok := p.detours[key]
	switch {
	case !ok || d.endpoint != endpoint:
		return nil
	case !time.Now().Before(d.until):
		delete(p.detours, key)
		return nil
	default:
		return d.err
	}
}
