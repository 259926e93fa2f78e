package oauth

import (
	"strings"
	"time"

	"github.com/b24events/b24events/event"
)

// tokenInfo is what the OAuth server says about a token. It is checked as far as that is possible
// without knowing which portal and user it is about.
type tokenInfo struct {
	memberID       string // empty if the server does not name it
	clientID       string // empty if the server does not name it
	clientEndpoint string // a valid address, or empty if the server does not name it
	serverEndpoint string // empty if the server does not name it, or if it is not on the allow list
	access         event.Secret
	refresh        event.Secret // empty if none was sent
	expires        time.Time
	userID         int64
	scope          []string // empty if the server says nothing but "app"
	status         string
}

// tokenInfoOf is what the OAuth server said about a stored installation.
func tokenInfoOf(in Installation) tokenInfo {
	return tokenInfo{
		memberID: in.MemberID, clientEndpoint: in.ClientEndpoint, serverEndpoint: in.ServerEndpoint, access: in.AccessToken,
		refresh: in.RefreshToken, expires: in.Expires, userID: in.UserID, scope: in.Scope, status: in.Status,
	}
}

const (
	// tokenLifetime is the lifetime of an access token by the documentation. It is used if the
	// server sends no sensible one.
	tokenLifetime = time.Hour
	// maxLifetime is the longest lifetime that is accepted. A portal with a wrong clock once issued
	// tokens until the year 2235, which were then never renewed.
	maxLifetime = 24 * time.Hour
)

// expiry returns when a token ends: at the Unix time expires, or else after expiresIn seconds. It
// ignores a value that makes no sense.
func expiry(now time.Time, expires, expiresIn int64) time.Time {
	now = now.UTC().Truncate(time.Second)
	if expires > now.Unix() && expires <= now.Add(maxLifetime).Unix() {
		return time.Unix(expires, 0).UTC()
	}
	if expiresIn > 0 && expiresIn <= int64(maxLifetime/time.Second) {
		return now.Add(time.Duration(expiresIn) * time.Second)
	}
	return now.Add(tokenLifetime)
}

// scopes reads a list, or names separated by commas or spaces. The OAuth server mostly sends "app",
// which names no permission.
func scopes(v any) []string {
	var list []string
	switch v := v.(type) {
	case string:
		list = strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
	case []any:
		for _, item := range v {
			if s, ok := item.(string); ok && s != "" {
				list = append(list, s)
			}
		}
	}
	if len(list) == 1 && list[0] == "app" {
		return nil
	}
	return list
}

// validMemberID reports whether an ID can be the key of a portal. Bitrix24 uses 32 hexadecimal
// digits. Nothing odd in an unverified body may reach a store.
func validMemberID(id string) bool {
	const maxMemberID = 64
	return id != "" && id != "." && id != ".." && len(id) <= maxMemberID && strings.Trim(id, pathBytes) == ""
}
