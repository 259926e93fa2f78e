package oauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/url"
	"slices"
	"time"

	"github.com/b24events/b24events/event"
)

// Installation is what is known of one portal that has the application: where it is and how to get in. Nothing in it comes
// from an unverified body except what is named as such.
//
// Under a [Key] with a user, it holds that user's tokens, and no application token.
//
// Every secret in it prints and encodes as [redacted], so a Store that writes JSON must take the secrets out as strings by
// itself.
type Installation struct {
	MemberID       string // key of the portal; never changes
	ClientEndpoint string // REST address of the portal, such as https://example.bitrix24.com/rest/; a renewal may bring a new one
	ServerEndpoint string // REST address of the OAuth server that the tokens come from

	AccessToken  event.Secret
	RefreshToken event.Secret // used up by each renewal
	Expires      time.Time    // of AccessToken, UTC
	UserID       int64        // whose tokens they are; 0 where unknown
	Scope        []string     // permissions, for display: the OAuth server often says only "app"; then as the install event had it
	Status       string       // licence letter of the application: F, D, T, P, L, S

	ApplicationToken         event.Secret // authenticates events; empty until an install event or page brought it
	PreviousApplicationToken event.Secret // the one before it; events under way while it was replaced still carry it

	InstalledAt time.Time // when an install event, page or code was last verified, UTC
	SetUpAt     time.Time // when Hooks.Installed last succeeded, UTC; zero where it never did
	UpdatedAt   time.Time // when any of this last changed, UTC
}

// Domain returns the host of the portal, with its port where there is one. It is for display and changes when the portal is
// renamed.
func (in Installation) Domain() string {
	u, err := url.Parse(in.ClientEndpoint)
	if err != nil {
		return ""
	}
	return u.Host
}

// clone returns a copy that shares nothing.
func (in Installation) clone() Installation {
	in.Scope = slices.Clone(in.Scope)
	return in
}

// authenticates reports whether token is one of the installation's application tokens. An empty token never is.
func (in Installation) authenticates(token event.Secret) bool {
	current := sameSecret(in.ApplicationToken, token)
	previous := sameSecret(in.PreviousApplicationToken, token)
	return token != "" && (current || previous)
}

// sameSecret compares in a time that tells nothing of where, or in what length, the two differ.
func sameSecret(a, b event.Secret) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// renewed returns the installation with what the OAuth server answered.
func (in Installation) renewed(a answer) Installation {
	in.AccessToken, in.Expires = a.access, a.expires
	if a.refresh != "" {
		in.RefreshToken = a.refresh
	}
	if a.clientEndpoint != "" {
		in.ClientEndpoint = a.clientEndpoint
	}
	if a.serverEndpoint != "" {
		in.ServerEndpoint = a.serverEndpoint
	}
	if a.userID != 0 {
		in.UserID = a.userID
	}
	if a.status != "" {
		in.Status = a.status
	}
	if len(a.scope) > 0 {
		in.Scope = a.scope
	}
	in.UpdatedAt = time.Now().UTC()
	return in
}

// installed returns the installation with what the OAuth server answered, and the parts of a verified claim that it never says.
func (in Installation) installed(a answer, claim event.Auth) Installation {
	in = in.renewed(a)
	in.MemberID = claim.MemberID
	if len(a.scope) == 0 && len(claim.Scope) > 0 {
		in.Scope = slices.Clone(claim.Scope)
	}
	if a.status == "" && claim.Status != "" {
		in.Status = claim.Status
	}
	if a.userID == 0 {
		in.UserID = claim.UserID
	}
	if claim.ApplicationToken != "" && claim.ApplicationToken != in.ApplicationToken {
		in.PreviousApplicationToken, in.ApplicationToken = in.ApplicationToken, claim.ApplicationToken
	}
	in.InstalledAt = in.UpdatedAt
	return in
}
