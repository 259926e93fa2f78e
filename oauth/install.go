package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
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
// The user must be an administrator, which Install asks the portal with the confirmed token, or one
// whom [WithInstallPolicy] allows. If the policy refuses the user of a known portal, the tokens are
// stored as that user's, for [Portals.User], and Install returns [ErrUnverified].
//
// A page that is loaded again brings tokens that are used up. If its access token does not prove
// the user who installed the application, what Install returns has no tokens and no UserID.
//
// A page without an application token leaves the stored one as it is. Install returns
// [ErrUnverified] if the claim is not confirmed. It returns [ErrTemporary], [ErrBusy],
// [ErrCredentials], [ErrPayment] or [ErrStore] if it could not find out. The application's stored
// tokens are then unchanged.
//
// Then Install runs [Hooks.Installed] of each [Portals.Lifecycle], as an ONAPPINSTALL does, and
// sets SetUpAt. If a hook fails, Install returns [ErrHook]: the tokens are stored, and the hook
// runs again when the page is opened again.
//
// Source: https://apidocs.bitrix24.com/settings/app-installation/index.html
func (p *Portals) Install(ctx context.Context, auth event.Auth) (Installation, error) {
	in, copied, err := p.install(ctx, installClaim{Auth: auth, page: true})
	if err == nil {
		in, err = p.setUpByPage(ctx, in, copied)
	}
	if err != nil {
		return Installation{}, err
	}
	if copied && !p.isInstaller(ctx, auth, in) {
		in = in.withoutUser()
	}
	return in, nil
}

// isInstaller reports whether the access token of a page is the user's whose tokens are stored. A
// copy of an installation proves only the application token, which everybody who opens a page
// knows.
func (p *Portals) isInstaller(ctx context.Context, auth event.Auth, stored Installation) bool {
	if auth.AccessToken == "" || stored.UserID == 0 {
		return false
	}
	user, err := p.flights.do(ctx, flightName(opPage, auth), opPage, func(ctx context.Context) (Installation, error) {
		return p.checkPage(ctx, auth)
	})
	return err == nil && user.UserID == stored.UserID
}

// installClaim is the access that an install event or a page brings.
type installClaim struct {
	event.Auth

	page  bool      // from a page, whose user may be anybody
	fired time.Time // when the event was fired, by the portal's clock
}

// copyError carries the stored installation of a claim that arrived before.
type copyError struct{ in *Installation }

func (*copyError) Error() string { return "oauth: a copy of an installation" }

// install confirms a claim and stores it. copied means that it had arrived before, so that nothing
// was stored.
func (p *Portals) install(ctx context.Context, c installClaim) (in Installation, copied bool, err error) {
	switch {
	case !validMemberID(c.MemberID) || (c.AccessToken == "" && c.RefreshToken == ""):
		return Installation{}, false, &Error{Op: opInstall, Kind: ErrUnverified, Detail: "it names no portal or carries no token"}
	case !plausibleTokens(c.Auth):
		return Installation{}, false, &Error{Op: opInstall, Kind: ErrUnverified, Detail: detailNoTokens}
	}
	in, err = p.flights.do(ctx, flightName(opInstall, c.Auth), opInstall, func(ctx context.Context) (Installation, error) {
		return p.checkInstall(ctx, c)
	})
	if errors.Is(err, ErrUnverified) {
		p.meter.refused.Add(1)
		p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 installation refused",
			slog.String(keyMemberID, c.MemberID), slog.String(keyError, errorText(err)))
	}
	var again *copyError
	if errors.As(err, &again) {
		return again.in.clone(), true, nil
	}
	return in, false, err
}

// detailNoTokens is said of a claim whose tokens have bytes that no token has, or too many.
const detailNoTokens = "what it carries does not look like tokens"

// flightName names the flight of a claim. Everything that the outcome depends on is in the name, so
// that different claims never share an outcome.
func flightName(op string, auth event.Auth) string {
	claim := sha256.New()
	for _, part := range []string{
		auth.MemberID, string(auth.RefreshToken), string(auth.AccessToken), string(auth.ApplicationToken), auth.ServerEndpoint,
		auth.ClientEndpoint,
	} {
		sum := sha256.Sum256([]byte(part))
		claim.Write(sum[:])
	}
	return op + " " + hex.EncodeToString(claim.Sum(nil))
}

// checkInstall confirms a claim and stores it.
func (p *Portals) checkInstall(ctx context.Context, c installClaim) (Installation, error) {
	unlock, err := p.admission.lockToken(ctx, opInstall, c.RefreshToken)
	if err != nil {
		return Installation{}, err
	}
	defer unlock()
	key := p.appKey(c.MemberID)
	stored, err := p.load(ctx, key)
	known := err == nil
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Installation{}, err
	}
	if known && carriesStoredToken(stored.in, c.Auth) {
		return p.checkStoredTokens(ctx, key, c)
	}
	check, err := p.newClaimCheck(opInstall, c.Auth, stored.in, known)
	if err != nil {
		return Installation{}, err
	}
	proof, err := p.confirm(ctx, check)
	if err != nil {
		return p.findDuplicate(ctx, key, c.Auth, err)
	}
	defer proof.release()
	if !proof.traded && proof.clientID == "" {
		// The token may be another application's on the portal. Only the application token is
		// proven.
		return Installation{}, &copyError{&stored.in}
	}
	if err := p.applyPolicy(ctx, proof.tokenInfo, c.Auth, known); err != nil {
		return Installation{}, p.policyRefused(ctx, proof, c, known, err)
	}
	return p.storeConfirmed(ctx, key, proof.tokenInfo, c.Auth, c.fired)
}

// applyPolicy asks the policy about a claim whose refresh token is spent. If the policy cannot
// decide, or panics, the new pair is remembered, because the next try needs it.
func (p *Portals) applyPolicy(ctx context.Context, info tokenInfo, claim event.Auth, known bool) (err error) {
	decided := false
	defer func() {
		if !decided {
			p.trades.put(claim.RefreshToken, info)
		}
	}()
	err = p.askPolicy(ctx, info, claim, known)
	decided = err == nil || errors.Is(err, ErrUnverified)
	return err
}

// carriesStoredToken reports whether a claim carries a token of the stored installation itself.
// That pair is not traded, because the trade would spend the stored one.
func carriesStoredToken(in Installation, claim event.Auth) bool {
	return (claim.RefreshToken != "" && sameSecret(in.RefreshToken, claim.RefreshToken)) ||
		(claim.AccessToken != "" && sameSecret(in.AccessToken, claim.AccessToken))
}

// checkStoredTokens handles a claim that carries the stored tokens. It takes over what else the
// claim says.
func (p *Portals) checkStoredTokens(ctx context.Context, key Key, c installClaim) (Installation, error) {
	in, err := p.access(ctx, key)
	if err != nil {
		return Installation{}, err
	}
	if err := p.askPolicy(ctx, tokenInfoOf(in), c.Auth, true); err != nil {
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

// policyRefused handles a confirmed claim that the policy refused or could not decide on. The
// refresh token is spent.
func (p *Portals) policyRefused(ctx context.Context, proof *confirmedClaim, c installClaim, known bool, err error) error {
	if errors.Is(err, ErrUnverified) && c.page && known && proof.traded {
		proof.release() // the reservation was for another key
		if _, keepErr := p.storeUser(ctx, proof.tokenInfo, c.Auth); keepErr != nil {
			p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 tokens of a user could not be kept",
				slog.String(keyMemberID, c.MemberID), slog.String(keyError, errorText(keepErr)))
		}
	}
	return err
}

// storeConfirmed stores what the OAuth server has confirmed, even if ctx has ended, because nobody
// else has the pair. If it cannot begin to write, it remembers the pair for the next try.
func (p *Portals) storeConfirmed(ctx context.Context, key Key, info tokenInfo, claim event.Auth, fired time.Time) (Installation, error) {
	begun := false
	defer func() {
		if !begun {
			p.trades.put(claim.RefreshToken, info)
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
	defer cancel()
	s, unlock, err := p.keys.lock(ctx, key)
	if err != nil {
		return Installation{}, &Error{Op: opInstall, Kind: ErrTemporary, Err: err}
	}
	defer unlock()
	stored, err := p.loadQuickly(ctx, key)
	if err != nil {
		stored = snapshot{} // nothing is stored, or it cannot be read now, which a conflict shows
	}
	w := pendingWrite{
		in: stored.in.installed(info, claim), version: stored.version,
		isInstall: true, justVerified: true, wasAbsent: errors.Is(err, ErrNotFound),
	}
	if !fired.IsZero() {
		w.in.EventTime = fired.UTC()
	}
	if stored.in.RefreshToken != "" {
		w.supersedes = append(w.supersedes, stored.in.RefreshToken)
	}
	if stored.pending != nil {
		w.supersedes = append(w.supersedes, stored.pending.supersedes...)
	}
	p.keys.clearBackoff(s)
	begun = true
	written, err := p.writeLocked(context.WithoutCancel(ctx), s, w, writeTries)
	if err != nil {
		return Installation{}, err
	}
	if written.pending != nil {
		return Installation{}, &Error{Op: opInstall, Kind: ErrStore, Detail: "the tokens are kept in memory"}
	}
	if key.UserID != 0 {
		p.meter.users.Add(1)
		p.log.LogAttrs(ctx, slog.LevelInfo, "bitrix24 tokens of a user verified",
			slog.String(keyMemberID, key.MemberID), slog.Int64(keyUserID, key.UserID))
		return written.in, nil
	}
	p.meter.installed.Add(1)
	p.log.LogAttrs(ctx, slog.LevelInfo, "bitrix24 installation verified", slog.String(keyMemberID, key.MemberID))
	return written.in, nil
}

// findDuplicate looks for the first copy of an installation that arrived twice. A refresh token
// works once, so the second copy cannot prove itself. It counts as an event that carries the stored
// application token, and changes nothing.
func (p *Portals) findDuplicate(ctx context.Context, key Key, claim event.Auth, refusal error) (Installation, error) {
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
