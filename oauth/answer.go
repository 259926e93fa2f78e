package oauth

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
)

// answer is what the OAuth server says of a token, checked as far as it can be without knowing whom
// it is about.
type answer struct {
	memberID       string // empty where it was not said
	clientID       string // empty where it was not said
	clientEndpoint string // empty where it was not said; a valid address otherwise
	serverEndpoint string // empty where it was not said or is not on the allow list
	access         event.Secret
	refresh        event.Secret // empty where none came
	expires        time.Time
	userID         int64
	scope          []string // empty where nothing but "app" was said
	status         string
}

// answerOf is what the OAuth server said of a stored installation.
func answerOf(in Installation) answer {
	return answer{
		memberID: in.MemberID, clientEndpoint: in.ClientEndpoint, serverEndpoint: in.ServerEndpoint, access: in.AccessToken,
		refresh: in.RefreshToken, expires: in.Expires, userID: in.UserID, scope: in.Scope, status: in.Status,
	}
}

const (
	// tokenLifetime is what the documentation gives an access token, and what is believed where the
	// server says nothing sensible.
	tokenLifetime = time.Hour
	// maxLifetime is the longest lifetime believed. A portal with a wrong clock once issued tokens
	// until the year 2235, which were then never renewed.
	maxLifetime = 24 * time.Hour
)

// expiry returns when a token ends: at the Unix time expires, else after expiresIn seconds, each
// where it makes sense.
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

// scopes reads a list, or names separated by commas or spaces. What the OAuth server mostly says is
// "app", which tells nothing.
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

// integer reads a JSON number, or one in quotes.
func integer(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case float64:
		if math.Abs(v) < 1<<53 {
			return int64(v)
		}
	case string:
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			return n
		}
	}
	return 0
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// facts are the members of an answer. PHP writes an empty object as [], so anything may be of any
// type.
type facts map[string]any

// maxFactStarts is how many braces are tried as the beginning of an answer. PHP notices have none.
const maxFactStarts = 16

// findFacts finds the JSON object in a response that has one of the members names. A byte order
// mark or the text of a PHP notice may stand before it, and anything after it.
func findFacts(body []byte, names ...string) (facts, bool) {
	for range maxFactStarts {
		i := bytes.IndexByte(body, '{')
		if i < 0 {
			break
		}
		body = body[i:]
		var f facts
		if json.NewDecoder(bytes.NewReader(body)).Decode(&f) == nil {
			for _, name := range names {
				if _, ok := f[name]; ok {
					return f, true
				}
			}
		}
		body = body[1:]
	}
	return nil, false
}

func (f facts) text(name string) string { return text(f[name]) }

func (f facts) object(name string) facts {
	m, _ := f[name].(map[string]any)
	return m
}

// validMemberID tells what can be the key of a portal. Bitrix24 uses 32 hexadecimal digits;
// anything odd in an unverified body must not reach a store.
func validMemberID(id string) bool {
	const maxMemberID = 64
	return id != "" && id != "." && id != ".." && len(id) <= maxMemberID && strings.Trim(id, pathBytes) == ""
}
