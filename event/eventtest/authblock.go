package eventtest

import (
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// authBlock is the auth section of a delivery. Empty fields decide which keys it has.
type authBlock struct {
	accessToken      string
	refreshToken     string
	expires          time.Time
	expiresIn        time.Duration
	scope            string
	domain           string
	serverEndpoint   string
	status           string
	clientEndpoint   string
	memberID         string
	user             int64
	applicationToken string
	direct           bool
	bot              bool
}

// grant adds the tokens of a user.
func (a *authBlock) grant(g Grant, lifetime time.Duration) {
	a.accessToken, a.refreshToken = string(g.AccessToken), string(g.RefreshToken)
	a.expires, a.expiresIn = g.Expires, lifetime
	a.scope, a.status, a.user = strings.Join(g.Scope, ","), g.Status, g.UserID
}

// value returns the section with the keys that the platform sends in each case.
func (a *authBlock) value() phpform.Value {
	switch {
	case a.bot: // for a bot of imbot.v2, which has its own block inside data
		return phpform.Map(text("domain", a.domain), text("application_token", a.applicationToken))
	case a.direct: // the portal posts without its OAuth server
		return phpform.Map(text("domain", a.domain), text("member_id", a.memberID), text("application_token", a.applicationToken))
	case a.accessToken == "":
		entries := []phpform.Entry{
			text("domain", a.domain), text("client_endpoint", a.clientEndpoint), text("server_endpoint", a.serverEndpoint),
			text("member_id", a.memberID),
		}
		if a.user > 0 {
			entries = append(entries, text("user_id", strconv.FormatInt(a.user, 10)))
		}
		return phpform.Map(append(entries, text("application_token", a.applicationToken))...)
	}
	entries := []phpform.Entry{
		text("access_token", a.accessToken),
		text("expires", strconv.FormatInt(a.expires.Unix(), 10)),
		text("expires_in", strconv.FormatInt(int64(a.expiresIn/time.Second), 10)),
		text("scope", a.scope),
		text("domain", a.domain),
		text("server_endpoint", a.serverEndpoint),
		text("status", a.status),
		text("client_endpoint", a.clientEndpoint),
		text("member_id", a.memberID),
		text("user_id", strconv.FormatInt(a.user, 10)),
	}
	if a.refreshToken != "" {
		entries = append(entries, text("refresh_token", a.refreshToken))
	}
	return phpform.Map(append(entries, text("application_token", a.applicationToken))...)
}

// encodeBody writes the body of a delivery.
func encodeBody(name string, handlerID int64, data phpform.Value, fired time.Time, auth authBlock) string {
	return encodeSections(name, handlerID, data, phpform.Int(fired.Unix()), auth.value())
}

func encodeSections(name string, handlerID int64, data, ts, auth phpform.Value) string {
	entries := []phpform.Entry{text("event", name)}
	if handlerID > 0 {
		entries = append(entries, number("event_handler_id", handlerID))
	}
	return phpform.Encode(phpform.Map(append(entries, kv("data", wireNumbers(data)), kv("ts", ts), kv("auth", auth))...))
}
