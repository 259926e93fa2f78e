package event

import (
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/values"
)

// Auth is the auth block of a body. Until the delivery is verified, everything in it is the
// sender's claim. After that, MemberID, Domain, ClientEndpoint and ServerEndpoint are proven or
// empty; see [Delivery.SetProof]. The tokens, the scope, the status and UserID remain the sender's
// claim: anyone who knows a portal's application token can write them. A field whose value has the
// wrong shape is zero.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/index.html
type Auth struct { //nolint:recvcheck // what prints takes the value, so that a value prints like a pointer
	AccessToken      Secret    // of the acting user, for about an hour; empty if no user made the change
	RefreshToken     Secret    // only in a few events, such as ONAPPINSTALL
	ApplicationToken Secret    // the shared secret that authenticates a delivery
	Expires          time.Time // of AccessToken, UTC; zero if unknown
	Scope            Scope     // the permissions of AccessToken
	Domain           string    // host of the portal, for display; not a key, because it can change
	MemberID         string    // key of the portal
	ServerEndpoint   string    // REST base URL of the OAuth server
	ClientEndpoint   string    // REST base URL of the portal
	Status           string    // licence letter of the application: F, D, T, P, L, S
	UserID           int64     // whose token it is; 0 if unknown
}

// Scope is a list of permissions, such as crm and task, as the portal writes it: one text with
// commas or spaces between them.
type Scope string

// ScopeOf joins permissions to a Scope.
func ScopeOf(permissions ...string) Scope { return Scope(strings.Join(permissions, ",")) }

// List returns the permissions in the order of arrival, or nil if there are none. The slice is the
// caller's own.
func (s Scope) List() []string {
	if s == "" {
		return nil
	}
	return strings.FieldsFunc(string(s), isScopeGap)
}

// Has reports whether a permission is in the list. It ignores case.
func (s Scope) Has(permission string) bool {
	for name := range strings.FieldsFuncSeq(string(s), isScopeGap) {
		if strings.EqualFold(name, permission) {
			return true
		}
	}
	return false
}

func isScopeGap(c rune) bool { return c == ',' || c == ' ' }

// scopeOf reads a list of permissions. It arrives as one text or as a list of texts.
func scopeOf(v phpform.Value) Scope {
	if v.Kind() != phpform.Array {
		return Scope(strings.TrimSpace(v.Scalar()))
	}
	var all []string
	for _, item := range v.All() {
		if text := item.Scalar(); text != "" {
			all = append(all, text)
		}
	}
	return ScopeOf(all...)
}

// The fields of an auth block, in the order in which portals send them.
const (
	authAccess = iota
	authExpires
	authLifetime
	authScope
	authDomain
	authServer
	authStatus
	authClient
	authMember
	authRefresh
	authUser
	authApplication
	authFields
)

// authNames are the keys of the auth block of an event. pageNames are those of an application page,
// whose credentials are among its other fields.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/simple-way.html
var (
	authNames = [authFields]string{
		authAccess: "access_token", authRefresh: "refresh_token", authApplication: "application_token",
		authExpires: "expires", authLifetime: "expires_in", authScope: "scope", authDomain: "domain",
		authMember: "member_id", authServer: "server_endpoint", authClient: "client_endpoint",
		authStatus: "status", authUser: "user_id",
	}
	pageNames = [authFields]string{
		authAccess: "AUTH_ID", authRefresh: "REFRESH_ID", authApplication: "APPLICATION_TOKEN",
		authScope: "APPLICATION_SCOPE", authDomain: "DOMAIN", authMember: "member_id",
		authServer: "SERVER_ENDPOINT", authStatus: "status",
	}
)

// read reads an auth block into an empty Auth. It ignores a value that is not an array.
func (a *Auth) read(block phpform.Value, names *[authFields]string, fired time.Time) {
	p, lifetime := picker{names: names[:]}, int64(0)
	c := block.Cursor()
	for c.Next() {
		switch field := p.field(c.Key); field {
		case -1:
		case authLifetime:
			lifetime, _ = values.Int(c.Value)
		default:
			a.set(field, c.Value)
		}
	}
	if lifetime > 0 && a.Expires.IsZero() && !fired.IsZero() {
		a.Expires = fired.Add(time.Duration(min(lifetime, maxLifetime)) * time.Second)
	}
}

// maxLifetime, in seconds, keeps an absurd expires_in from overflowing; real tokens live for 3,600.
const maxLifetime = 366 * 24 * 3600

// set sets a field. It returns false, and leaves the field zero, if v has the wrong shape.
func (a *Auth) set(field int, v phpform.Value) (ok bool) {
	text, isText := values.Text(v), v.Kind() != phpform.Array || v.Empty()
	switch field {
	case authAccess:
		a.AccessToken, ok = Secret(text), isText
	case authRefresh:
		a.RefreshToken, ok = Secret(text), isText
	case authApplication:
		a.ApplicationToken, ok = Secret(text), isText
	case authExpires:
		a.Expires, ok = values.Unix(v)
	case authLifetime:
		_, ok = values.Int(v)
	case authScope:
		a.Scope, ok = scopeOf(v), true
	case authDomain:
		a.Domain, ok = text, isText
	case authMember:
		a.MemberID, ok = text, isText
	case authServer:
		a.ServerEndpoint, ok = text, isText
	case authClient:
		a.ClientEndpoint, ok = text, isText
	case authStatus:
		a.Status, ok = text, isText
	case authUser:
		a.UserID, ok = values.Int(v)
	}
	return ok
}
