package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"time"

	"github.com/b24events/b24events/event"
)

const (
	// maxChecks is how many installations are checked at a time. Anyone can post one, and each costs a request to the OAuth
	// server.
	maxChecks = 16
	// maxWait is how long a check waits for its turn.
	maxWait = 5 * time.Second
	// duplicateTries is how often the store is read again for the other copy of an installation that arrived twice.
	duplicateTries = 5
)

// Install takes the access that an application page brings (its auth block, see event.ParseRequest), confirms it at the
// OAuth server and stores it. Call it for the page on which the application is installed. Other pages carry the tokens of
// whoever opened them, and these would become the application's own. An installation that arrives twice, as page and as
// event, is one installation.
//
// A page without an application token leaves the stored one as it is. Install returns [ErrUnverified] where the claim is not
// confirmed, and then has stored nothing; [ErrTemporary], [ErrCredentials], [ErrPayment] or [ErrStore] where it could not tell.
//
// Source: https://apidocs.bitrix24.com/settings/app-installation/index.html
func (p *Portals) Install(ctx context.Context, auth event.Auth) (Installation, error) {
	if !validMemberID(auth.MemberID) || (auth.AccessToken == "" && auth.RefreshToken == "") {
		return Installation{}, &Error{Op: opInstall, Kind: ErrUnverified, Detail: "it names no portal or carries no token"}
	}
	in, err := p.fly(ctx, &p.arrival, flightOf(opInstall, auth), opInstall, func(ctx context.Context) (Installation, error) {
		return p.check(ctx, auth)
	})
	if errors.Is(err, ErrUnverified) {
		p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 installation refused",
			slog.String(keyMemberID, auth.MemberID), slog.String(keyError, err.Error()))
	}
	return in, err
}

// flightOf names a claim. All that the outcome depends on is in the name: nobody shares the outcome of a claim that is not the
// same.
func flightOf(op string, auth event.Auth) string {
	claim := sha256.New()
	for _, part := range []string{auth.MemberID, string(auth.RefreshToken), string(auth.AccessToken), string(auth.ApplicationToken)} {
		sum := sha256.Sum256([]byte(part))
		claim.Write(sum[:])
	}
	return op + " " + hex.EncodeToString(claim.Sum(nil))
}

// check confirms a claim at the OAuth server and stores it.
func (p *Portals) check(ctx context.Context, claim event.Auth) (Installation, error) {
	key := p.appKey(claim.MemberID)
	stored, err := p.load(ctx, key)
	known := err == nil
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Installation{}, err
	}
	at, err := p.claimedServer(claim, stored.in)
	if err != nil {
		return Installation{}, &Error{Op: opInstall, Kind: ErrUnverified, Err: err}
	}
	a, err := p.prove(ctx, at, claim)
	if err != nil {
		return p.duplicate(ctx, key, claim, err)
	}
	if a.serverEndpoint == "" {
		a.serverEndpoint = at.String()
	}
	if err := p.concerns(&a, claim, stored.in, known); err != nil {
		return Installation{}, err
	}
	return p.keep(ctx, key, stored, a, claim)
}

// keep stores what the OAuth server has confirmed.
func (p *Portals) keep(ctx context.Context, key Key, stored record, a answer, claim event.Auth) (Installation, error) {
	r := record{in: stored.in.installed(a, claim), version: stored.version}
	latest := r.in.InstalledAt.Add(time.Minute) // clocks differ
	r.rebase = func(found Installation, known bool) (Installation, bool) {
		if known && (found.AccessToken == a.access || found.InstalledAt.After(latest)) {
			return Installation{}, false // this very one, written by a try that seemed to fail, or a later one
		}
		return found.installed(a, claim), true
	}
	written, err := p.write(ctx, key, r, writeTries)
	if err != nil {
		return Installation{}, err
	}
	if written.rebase != nil {
		return Installation{}, &Error{Op: opInstall, Kind: ErrStore, Detail: "the tokens are kept in memory"}
	}
	if key.UserID != 0 {
		p.log.LogAttrs(ctx, slog.LevelInfo, "bitrix24 tokens of a user verified",
			slog.String(keyMemberID, key.MemberID), slog.Int64(keyUserID, key.UserID))
		return written.in, nil
	}
	p.log.LogAttrs(ctx, slog.LevelInfo, "bitrix24 installation verified", slog.String(keyMemberID, key.MemberID))
	return written.in, nil
}

// claimedServer returns the OAuth server to ask. It also looks at the portal's address, which is not used here: a claim with
// a malformed one is not from Bitrix24.
func (p *Portals) claimedServer(claim event.Auth, stored Installation) (address, error) {
	portal := claim.ClientEndpoint
	if portal == "" && claim.Domain != "" {
		portal = p.server.hosts.atHost(claim.Domain)
	}
	if portal != "" {
		if _, err := p.server.hosts.portal(portal); err != nil {
			return address{}, err
		}
	}
	raw := claim.ServerEndpoint
	if raw == "" {
		raw = stored.ServerEndpoint
	}
	if raw == "" {
		raw = "https://" + officialHost + "/rest/"
	}
	return p.server.hosts.server(raw)
}

// prove lets the OAuth server say whose the tokens of a claim are: by trading in the refresh token, which works with the
// application's own secret and gives the pair to be stored, or else by looking at the access token.
func (p *Portals) prove(ctx context.Context, at address, claim event.Auth) (answer, error) {
	turn := time.NewTimer(maxWait)
	defer turn.Stop()
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-turn.C:
		return answer{}, &Error{Op: opInstall, Kind: ErrTemporary, Detail: "too many installations are being checked"}
	}
	if claim.RefreshToken != "" {
		return p.server.renew(ctx, at, claim.RefreshToken)
	}
	return p.server.identify(ctx, at, claim.AccessToken)
}

// concerns makes sure that an answer is about the portal and the application of the claim, and says where the portal is.
func (p *Portals) concerns(a *answer, claim event.Auth, stored Installation, known bool) error {
	refuse := func(detail string) error { return &Error{Op: opInstall, Kind: ErrUnverified, Detail: detail} }
	traded := claim.RefreshToken != ""
	switch {
	case a.clientID != "" && a.clientID != p.server.id:
		return refuse("its tokens are another application's")
	case !traded && a.clientID == "" && known && !stored.authenticates(claim.ApplicationToken):
		// A token of any application on the portal would pass; it must not replace what was verified.
		return refuse("the OAuth server does not say whose tokens they are")
	case a.memberID != "" && a.memberID != claim.MemberID:
		return refuse("its tokens are another portal's")
	case a.memberID == "" && (traded || !known || a.clientEndpoint != stored.ClientEndpoint):
		return refuse("the OAuth server does not say which portal the tokens are for")
	}
	claimed, err := p.server.hosts.portal(claim.ClientEndpoint)
	if !traded && err == nil && a.clientEndpoint != "" && a.clientEndpoint != claimed.String() {
		return refuse("its tokens are for another address")
	}
	if a.clientEndpoint == "" && known {
		a.clientEndpoint = stored.ClientEndpoint
	}
	if a.clientEndpoint == "" {
		return refuse("the OAuth server names no usable address of the portal; is it https?")
	}
	return nil
}

// duplicate looks for the other copy of an installation that arrived twice. A refresh token works once, so the second copy
// cannot prove itself; it is as good as any event that carries the stored application token, and changes nothing.
func (p *Portals) duplicate(ctx context.Context, key Key, claim event.Auth, refusal error) (Installation, error) {
	var e *Error
	if !errors.As(refusal, &e) || !e.refusesToken() {
		return Installation{}, refusal
	}
	for try := range duplicateTries {
		if wait(ctx, backoff(try)) != nil {
			break
		}
		r, err := p.load(ctx, key)
		switch {
		case err == nil && r.in.authenticates(claim.ApplicationToken):
			return r.in, nil
		case err != nil && !errors.Is(err, ErrNotFound):
			return Installation{}, err
		}
	}
	return Installation{}, &Error{Op: opInstall, Kind: ErrUnverified, Err: refusal}
}
