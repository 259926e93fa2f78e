package oauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/url"
	"slices"
	"time"

	"github.com/b24events/b24events/event"
)

// Installation is what is known about one portal that has the application: its address and its
// tokens. Nothing in it comes from an unverified body, except for fields that say so.
//
// Under a [Key] with a user, it holds that user's tokens, and no application token.
//
// Every secret in it prints and encodes as [redacted], so a Store that writes JSON must convert the
// secrets to strings itself.
type Installation struct {
	MemberID       string // key of the portal; never changes
	ClientEndpoint string // REST address of the portal, such as https://example.bitrix24.com/rest/; a renewal may bring a new one
	ServerEndpoint string // REST address of the OAuth server that the tokens come from

	AccessToken  event.Secret
	RefreshToken event.Secret // used up by each renewal
	Expires      time.Time    // of AccessToken, UTC
	UserID       int64        // whose tokens they are; 0 if unknown
	Scope        []string     // permissions, for display; those of the install event if the OAuth server says only "app"
	Status       string       // license letter of the application: F, D, T, P, L, S

	// ApplicationToken authenticates events. It is empty until an install event or page brings it.
	ApplicationToken event.Secret
	// PreviousApplicationToken is the one before ApplicationToken. Events under way during the
	// rotation carry it. It is accepted for a while after RotatedAt; see WithRotationWindow.
	PreviousApplicationToken event.Secret
	RotatedAt                time.Time // when ApplicationToken replaced the one before it, UTC; zero if it never did
	// ExtraApplicationTokens authenticate events as well; see Portals.AddApplicationToken.
	ExtraApplicationTokens []event.Secret

	InstalledAt time.Time // when an install event, page or code was last verified, UTC
	EventTime   time.Time // ts of the last verified ONAPPINSTALL, on the portal's clock, UTC; zero if none came
	SetUpAt     time.Time // InstalledAt of the last installation for which Hooks.Installed succeeded; zero if there is none
	UpdatedAt   time.Time // when any of this last changed, UTC
}

// Domain returns the host of the portal, with its port if there is one. It is for display, and
// changes if the portal is renamed.
func (in Installation) Domain() string {
	u, err := url.Parse(in.ClientEndpoint)
	if err != nil {
		return ""
	}
	return u.Host
}

// withoutUser returns the installation without what belongs to its user or proves the portal.
func (in Installation) withoutUser() Installation {
	in.AccessToken, in.RefreshToken, in.Expires, in.UserID = "", "", time.Time{}, 0
	in.ApplicationToken, in.PreviousApplicationToken, in.ExtraApplicationTokens = "", "", nil
	return in
}

// clone returns a deep copy.
func (in Installation) clone() Installation {
	in.Scope = slices.Clone(in.Scope)
	in.ExtraApplicationTokens = slices.Clone(in.ExtraApplicationTokens)
	return in
}

// applicationTokens returns the tokens that authenticate events now. window is how long the
// previous one is accepted after a rotation.
func (in Installation) applicationTokens(window time.Duration) []event.Secret {
	tokens := make([]event.Secret, 0, 3+len(in.ExtraApplicationTokens)) // and one that oneOf adds
	add := func(token event.Secret) {
		if token != "" {
			tokens = append(tokens, token)
		}
	}
	add(in.ApplicationToken)
	if in.PreviousApplicationToken != "" && time.Now().Before(in.RotatedAt.Add(window)) {
		add(in.PreviousApplicationToken)
	}
	for _, token := range in.ExtraApplicationTokens {
		add(token)
	}
	return tokens
}

// oneOf reports whether token is one of tokens, in a time that does not show which.
func oneOf(tokens []event.Secret, token event.Secret) bool {
	given := sha256.Sum256([]byte(token))
	found := 0
	for _, t := range append(tokens, "") { // an unknown portal takes as long as a wrong token
		stored := sha256.Sum256([]byte(t))
		found |= subtle.ConstantTimeCompare(stored[:], given[:])
	}
	return found == 1 && token != ""
}

// withApplicationToken returns the installation with a new application token. The one before
// becomes the previous one.
func (in Installation) withApplicationToken(token event.Secret) Installation {
	if token == "" || token == in.ApplicationToken {
		return in
	}
	if in.ApplicationToken != "" {
		in.PreviousApplicationToken, in.RotatedAt = in.ApplicationToken, time.Now().UTC()
	}
	in.ApplicationToken = token
	return in
}

// withTokensOf returns the installation with the tokens of another one, and what else a renewal
// brings.
func (in Installation) withTokensOf(other Installation) Installation {
	in.AccessToken, in.RefreshToken, in.Expires = other.AccessToken, other.RefreshToken, other.Expires
	in.ClientEndpoint, in.ServerEndpoint = other.ClientEndpoint, other.ServerEndpoint
	in.UserID, in.Status, in.Scope, in.UpdatedAt = other.UserID, other.Status, slices.Clone(other.Scope), other.UpdatedAt
	return in
}

// withInstallOf returns the installation with what else a verified one has besides its tokens.
func (in Installation) withInstallOf(other Installation) Installation {
	in = in.withApplicationToken(other.ApplicationToken)
	in.MemberID, in.InstalledAt, in.EventTime = other.MemberID, other.InstalledAt, other.EventTime
	return in
}

// withExtraTokensOf returns the installation with the extra application tokens of another one, too.
func (in Installation) withExtraTokensOf(other Installation) Installation {
	in = in.clone()
	for _, token := range other.ExtraApplicationTokens {
		if !slices.Contains(in.ExtraApplicationTokens, token) {
			in.ExtraApplicationTokens = append(in.ExtraApplicationTokens, token)
		}
	}
	return in
}

// sameSecret compares in a time that does not show where, or in which length, the two differ.
func sameSecret(a, b event.Secret) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// renewed returns the installation with what the OAuth server returned.
func (in Installation) renewed(info tokenInfo) Installation {
	in.AccessToken, in.Expires = info.access, info.expires
	if info.refresh != "" {
		in.RefreshToken = info.refresh
	}
	if info.clientEndpoint != "" {
		in.ClientEndpoint = info.clientEndpoint
	}
	if info.serverEndpoint != "" {
		in.ServerEndpoint = info.serverEndpoint
	}
	if info.userID != 0 {
		in.UserID = info.userID
	}
	if info.status != "" {
		in.Status = info.status
	}
	if len(info.scope) > 0 {
		in.Scope = info.scope
	}
	in.UpdatedAt = time.Now().UTC()
	return in
}

// installed returns the installation with what the OAuth server returned, and with the parts of a
// verified claim that the server never returns.
func (in Installation) installed(info tokenInfo, claim event.Auth) Installation {
	in = in.renewed(info)
	in.MemberID = claim.MemberID
	if len(info.scope) == 0 && claim.Scope != "" {
		in.Scope = claim.Scope.List()
	}
	if info.status == "" && claim.Status != "" {
		in.Status = claim.Status
	}
	if info.userID == 0 {
		in.UserID = claim.UserID
	}
	in = in.withApplicationToken(claim.ApplicationToken)
	in.InstalledAt = in.UpdatedAt
	return in
}
