package oauth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/timing"
)

// duplicateTries is how often the store is read again for the other copy of an installation that
// arrived twice.
const duplicateTries = 5

// Install takes the access that an application page brings (its auth block, see
// event.ParseRequest), confirms it at the OAuth server and stores it as the application's own. Call
// it for the page on which the application is installed. An installation that arrives twice, as
// page and as event, is one installation.
//
// The user must be an administrator, or whom [WithInstallPolicy] allows: the portal is asked with
// the confirmed token. When the policy refuses the user of a known portal, the tokens are stored as
// that user's, for [Portals.User], and Install returns [ErrUnverified].
//
// A page without an application token leaves the stored one as it is. Install returns
// [ErrUnverified] when the claim is not confirmed; [ErrTemporary], [ErrBusy], [ErrCredentials],
// [ErrPayment] or [ErrStore] when it could not tell. The application's stored tokens are then as
// they were.
//
// Source: https://apidocs.bitrix24.com/settings/app-installation/index.html
func (p *Portals) Install(ctx context.Context, auth event.Auth) (Installation, error) {
	in, _, err := p.install(ctx, arrival{Auth: auth, page: true})
	return in, err
}

// arrival is a claim of access: what an install event or a page brings.
type arrival struct {
	event.Auth

	page  bool      // from a page, whose user may be anybody
	fired time.Time // of an event, on the portal's clock
}

// copyError carries the stored installation of a claim that arrived before.
type copyError struct{ in *Installation }

func (*copyError) Error() string { return "oauth: a copy of an installation" }

// install confirms a claim and stores it. copied tells that it had arrived before, so that nothing
// was stored.
func (p *Portals) install(ctx context.Context, c arrival) (in Installation, copied bool, err error) {
	switch {
	case !validMemberID(c.MemberID) || (c.AccessToken == "" && c.RefreshToken == ""):
		return Installation{}, false, &Error{Op: opInstall, Kind: ErrUnverified, Detail: "it names no portal or carries no token"}
	case !plausibleTokens(c.Auth):
		return Installation{}, false, &Error{Op: opInstall, Kind: ErrUnverified, Detail: "what it carries are no tokens"}
	}
	in, err = p.flights.do(ctx, flightOf(opInstall, c.Auth), opInstall, func(ctx context.Context) (Installation, error) {
		return p.check(ctx, c)
	})
	if errors.Is(err, ErrUnverified) {
		p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 installation refused",
			slog.String(keyMemberID, c.MemberID), slog.String(keyError, errorText(err)))
	}
	var again *copyError
	if errors.As(err, &again) {
		return again.in.clone(), true, nil
	}
	return in, false, err
}

// flightOf names a claim. All that the outcome depends on is in the name: nobody shares the outcome
// of a claim that is not the same.
func flightOf(op string, auth event.Auth) string {
	claim := sha256.New()
	for _, part := range []string{
		auth.MemberID, string(auth.RefreshToken), string(auth.AccessToken), string(auth.ApplicationToken), auth.ServerEndpoint, auth.ClientEndpoint,
	} {
		sum := sha256.Sum256([]byte(part))
		claim.Write(sum[:])
	}
	return op + " " + hex.EncodeToString(claim.Sum(nil))
}

// check confirms a claim and stores it.
func (p *Portals) check(ctx context.Context, c arrival) (Installation, error) {
	done, err := p.admission.alone(ctx, opInstall, c.RefreshToken)
	if err != nil {
		return Installation{}, err
	}
	defer done()
	key := p.appKey(c.MemberID)
	stored, err := p.load(ctx, key)
	known := err == nil
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Installation{}, err
	}
	if known && owns(stored.in, c.Auth) {
		return p.checkOwn(ctx, key, c)
	}
	at, err := p.claimedServer(c.Auth, stored.in)
	if err != nil {
		return Installation{}, &Error{Op: opInstall, Kind: ErrUnverified, Err: err}
	}
	proof, err := p.prove(ctx, opInstall, at, c.Auth, stored.in, known)
	if err != nil {
		return p.duplicate(ctx, key, c.Auth, err)
	}
	defer proof.release()
	if !proof.traded && proof.clientID == "" {
		// The token may be another application's on the portal. Only the application token is
		// proven.
		return Installation{}, &copyError{&stored.in}
	}
	if err := p.judge(ctx, proof.answer, c.Auth, known); err != nil {
		return Installation{}, p.notAllowed(ctx, proof, c, known, err)
	}
	return p.keep(ctx, key, proof.answer, c.Auth, c.fired)
}

// judge asks the policy about a claim whose refresh token is spent. When the policy cannot tell, or
// panics, what the OAuth server gave is remembered: the next try needs it.
func (p *Portals) judge(ctx context.Context, a answer, claim event.Auth, known bool) (err error) {
	judged := false
	defer func() {
		if !judged {
			p.remembered.put(claim.RefreshToken, a)
		}
	}()
	err = p.allow(ctx, a, claim, known)
	judged = err == nil || errors.Is(err, ErrUnverified)
	return err
}

// owns reports whether a claim carries a token of the stored installation itself. Such a pair is
// not traded: that would spend the stored one.
func owns(in Installation, claim event.Auth) bool {
	return (claim.RefreshToken != "" && sameSecret(in.RefreshToken, claim.RefreshToken)) ||
		(claim.AccessToken != "" && sameSecret(in.AccessToken, claim.AccessToken))
}

// checkOwn takes over what a claim says besides the tokens, which are the stored ones.
func (p *Portals) checkOwn(ctx context.Context, key Key, c arrival) (Installation, error) {
	in, err := p.access(ctx, key)
	if err != nil {
		return Installation{}, err
	}
	if err := p.allow(ctx, answerOf(in), c.Auth, true); err != nil {
		return Installation{}, err
	}
	return p.change(ctx, key, func(in *Installation) bool {
		*in = in.withApplicationToken(c.ApplicationToken)
		in.InstalledAt = time.Now().UTC()
		in.UpdatedAt = in.InstalledAt
		if !c.fired.IsZero() {
			in.EventTime = c.fired
		}
		return true
	})
}

// notAllowed handles a confirmed claim that the policy refused or could not judge. The refresh
// token is spent.
func (p *Portals) notAllowed(ctx context.Context, proof *proven, c arrival, known bool, err error) error {
	if errors.Is(err, ErrUnverified) && c.page && known && proof.traded {
		proof.release() // it was for another key
		if _, keepErr := p.keepUser(ctx, proof.answer, c.Auth); keepErr != nil {
			p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 tokens of a user could not be kept",
				slog.String(keyMemberID, c.MemberID), slog.String(keyError, errorText(keepErr)))
		}
	}
	return err
}

// keep stores what the OAuth server has confirmed, also when ctx has ended: the pair is nowhere
// else. If it does not come to that, the pair is remembered for the next try.
func (p *Portals) keep(ctx context.Context, key Key, a answer, claim event.Auth, fired time.Time) (Installation, error) {
	begun := false
	defer func() {
		if !begun {
			p.remembered.put(claim.RefreshToken, a)
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
	defer cancel()
	s, unlock, err := p.keys.lock(ctx, key)
	if err != nil {
		return Installation{}, &Error{Op: opInstall, Kind: ErrTemporary, Err: err}
	}
	defer unlock()
	stored, err := p.loadSoon(ctx, key)
	if err != nil {
		stored = record{} // none, or it cannot be read now: a conflict shows it
	}
	u := unsaved{in: stored.in.installed(a, claim), version: stored.version, install: true, later: true, fresh: errors.Is(err, ErrNotFound)}
	if !fired.IsZero() {
		u.in.EventTime = fired.UTC()
	}
	if stored.in.RefreshToken != "" {
		u.supersedes = append(u.supersedes, stored.in.RefreshToken)
	}
	if stored.unsaved != nil {
		u.supersedes = append(u.supersedes, stored.unsaved.supersedes...)
	}
	p.keys.clearHold(s)
	begun = true
	written, err := p.write(context.WithoutCancel(ctx), s, u, writeTries)
	if err != nil {
		return Installation{}, err
	}
	if written.unsaved != nil {
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

// claimedServer returns the OAuth server to ask. It also looks at the portal's address, which is
// not used here: a claim with a malformed one is not from Bitrix24.
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

// proven is a claim that the OAuth server has confirmed.
type proven struct {
	answer

	traded  bool   // the refresh token of the claim was traded for a new pair
	release func() // ends what the store has reserved for it
}

// prove lets the OAuth server say whose the tokens of a claim are. Whoever is not known to the
// stored installation is asked for a live access token first: that costs no credential and no
// client secret. Then the refresh token is traded, which works with the application's own secret
// and gives the pair to be stored. The caller calls release.
func (p *Portals) prove(
	ctx context.Context, op string, at address, claim event.Auth, stored Installation, known bool,
) (*proven, error) {
	if a, ok := p.remembered.take(claim.RefreshToken); ok {
		return p.provenBy(a, at, claim, stored, known, true)
	}
	refused := claim.RefreshToken
	if refused == "" {
		refused = claim.AccessToken
	}
	if p.admission.isRefused(refused) {
		return nil, &Error{Op: op, Kind: ErrUnverified, Code: "invalid_token", Detail: "its tokens were refused a short while ago"}
	}
	friend := known && oneOf(stored.applicationTokens(p.window), claim.ApplicationToken)
	friendOf := ""
	if friend {
		friendOf = claim.MemberID
	}
	leave, err := p.admission.enter(ctx, op, friendOf)
	if err != nil {
		return nil, err
	}
	defer leave()
	result, err := p.ask(ctx, op, at, claim, stored, known, friend)
	var e *Error
	if errors.As(err, &e) && (e.refusesToken() || e.Kind == ErrUnverified) {
		p.admission.refuse(refused)
	}
	return result, err
}

// ask sends the requests of prove.
func (p *Portals) ask(
	ctx context.Context, op string, at address, claim event.Auth, stored Installation, known, friend bool,
) (*proven, error) {
	if claim.RefreshToken == "" {
		a, err := p.server.identify(ctx, at, claim.AccessToken)
		if err != nil {
			return nil, err
		}
		return p.provenBy(a, at, claim, stored, known, false)
	}
	source := claim.MemberID
	if !friend {
		var err error
		if source, err = p.introduce(ctx, at, claim); err != nil {
			return nil, err
		}
	}
	if err := p.admission.trade(ctx, op, source); err != nil {
		return nil, err
	}
	release, err := p.prepare(ctx, op, p.appKey(claim.MemberID))
	if err != nil {
		return nil, err
	}
	a, err := p.server.renew(ctx, at, claim.RefreshToken)
	if err != nil {
		release()
		return nil, err
	}
	result, err := p.provenBy(a, at, claim, stored, known, true)
	if err != nil {
		release()
		return nil, err
	}
	result.release = release
	return result, nil
}

// introduce looks at the access token of a stranger, and returns the portal that the OAuth server
// names for it, by member ID or address. It returns an empty one when the token has expired, or
// when the server does not answer that.
func (p *Portals) introduce(ctx context.Context, at address, claim event.Auth) (source string, err error) {
	if claim.AccessToken == "" {
		return "", nil
	}
	a, err := p.server.identify(ctx, at, claim.AccessToken)
	var e *Error
	switch {
	case errors.As(err, &e) && (e.Code == "expired_token" || (isReadable(e) && !e.refusesToken())):
		return "", nil // an event that comes late, or a server that does not say whose a token is
	case err != nil:
		return "", err
	case a.clientID != "" && a.clientID != p.server.id:
		return "", &Error{Op: opIdentify, Kind: ErrUnverified, Detail: "its tokens are another application's"}
	case a.memberID != "" && a.memberID != claim.MemberID:
		return "", &Error{Op: opIdentify, Kind: ErrUnverified, Detail: "its tokens are another portal's"}
	}
	return cmp.Or(a.memberID, a.clientEndpoint, unnamedSource), nil
}

// isReadable reports whether an OAuth server responded, whatever it said.
func isReadable(e *Error) bool {
	return e.Status != 0 && e.Status < http.StatusInternalServerError && e.Status != http.StatusTooManyRequests
}

// provenBy checks what the OAuth server says of a claim.
func (p *Portals) provenBy(a answer, at address, claim event.Auth, stored Installation, known, traded bool) (*proven, error) {
	if a.serverEndpoint == "" {
		a.serverEndpoint = at.String()
	}
	if err := p.concerns(&a, claim, stored, known, traded); err != nil {
		return nil, err
	}
	return &proven{answer: a, traded: traded, release: func() {}}, nil
}

// detailNoPortal is said of an access token of the application whose portal nobody names. Its
// portal can be asked.
const detailNoPortal = "the OAuth server names no portal for the token"

// concerns makes sure that an answer is about the portal and the application of the claim, and says
// where the portal is.
func (p *Portals) concerns(a *answer, claim event.Auth, stored Installation, known, traded bool) error {
	refuse := func(detail string) error { return &Error{Op: opInstall, Kind: ErrUnverified, Detail: detail} }
	switch {
	case a.clientID != "" && a.clientID != p.server.id:
		return refuse("its tokens are another application's")
	case !traded && a.clientID == "" && !oneOf(stored.applicationTokens(p.window), claim.ApplicationToken):
		// A token of any application on the portal would pass.
		return refuse("the OAuth server does not say whose tokens they are")
	case a.memberID != "" && a.memberID != claim.MemberID:
		return refuse("its tokens are another portal's")
	case a.memberID == "" && (traded || !known || (a.clientEndpoint != "" && a.clientEndpoint != stored.ClientEndpoint)):
		return refuse("the OAuth server does not say which portal the tokens are for")
	case a.memberID == "" && a.clientEndpoint == "":
		return refuse(detailNoPortal)
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

// duplicate looks for the other copy of an installation that arrived twice. A refresh token works
// once, so the second copy cannot prove itself; it is as good as any event that carries the stored
// application token, and changes nothing.
func (p *Portals) duplicate(ctx context.Context, key Key, claim event.Auth, refusal error) (Installation, error) {
	var e *Error
	if !errors.As(refusal, &e) || !e.refusesToken() {
		return Installation{}, refusal
	}
	for try := range duplicateTries {
		if timing.Sleep(ctx, pauseBefore(try)) != nil {
			break
		}
		r, err := p.load(ctx, key)
		switch {
		case err == nil && oneOf(r.in.applicationTokens(p.window), claim.ApplicationToken):
			return Installation{}, &copyError{&r.in}
		case err != nil && !errors.Is(err, ErrNotFound):
			return Installation{}, err
		}
	}
	return Installation{}, &Error{Op: opInstall, Kind: ErrUnverified, Err: refusal}
}
