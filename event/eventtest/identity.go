package eventtest

import (
	"net/http"
	"slices"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// identity is the caller of a method: an application or an incoming webhook, and a user.
type identity struct {
	app       *Application // nil for an incoming webhook
	webhook   *incomingWebhook
	user      *user
	chainLeft int
	connector string
}

func (id *identity) scopes() []string {
	if id.app != nil {
		return id.app.spec.Scope
	}
	return id.webhook.scope
}

func (id *identity) allows(scope string) bool {
	return scope == "" || slices.Contains(id.scopes(), scope)
}

func (id *identity) clientID() string {
	if id.app == nil {
		return ""
	}
	return id.app.spec.ClientID
}

// bearer returns the access token of a request, from its header or its parameters.
func bearer(r *http.Request, creds map[string]phpform.Value) string {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") && token != "" {
		return strings.TrimSpace(token)
	}
	if token := creds["auth"].Scalar(); token != "" {
		return token
	}
	return creds["access_token"].Scalar()
}

// webhookIdentityLocked returns the identity that an incoming webhook stands for.
func (p *Portal) webhookIdentityLocked(userID, secret string) (*identity, *apiError) {
	for _, h := range p.accounts.incoming {
		if userKey(h.user) == userID && string(h.secret) == secret {
			if p.awayLocked(h.user) {
				return nil, dismissed()
			}
			return &identity{webhook: h, user: p.accounts.users[h.user], chainLeft: maxEventChain}, nil
		}
	}
	return nil, fail(401, "INVALID_CREDENTIALS", "Invalid request credentials")
}

// appIdentityLocked returns the identity that an access token stands for.
func (p *Portal) appIdentityLocked(token string, creds map[string]phpform.Value) (*identity, *apiError) {
	if token == "" {
		return nil, fail(401, "NO_AUTH_FOUND", "Wrong authorization data")
	}
	t, ok := p.tokens.access[token]
	switch {
	case !ok:
		return nil, fail(401, "invalid_token", "Unable to get application by token")
	case !t.app.registered || t.app.inactive:
		return nil, fail(401, "APPLICATION_NOT_FOUND", "Application not found")
	case !t.expires.After(p.nowLocked()):
		return nil, fail(401, "expired_token", "The access token provided has expired")
	}
	if p.awayLocked(t.user) {
		return nil, dismissed()
	}
	connector := creds["auth_connector"]
	if connector.Kind() != phpform.Null && p.quirks.NoConnectors && !p.quirks.Box {
		return nil, fail(403, "WRONG_LICENSE", "This feature is not enabled for the current license: auth_connector")
	}
	return &identity{app: t.app, user: p.accounts.users[t.user], chainLeft: t.chainLeft, connector: connector.Scalar()}, nil
}

// awayLocked reports whether a user was dismissed, or was a bot that has been deleted.
func (p *Portal) awayLocked(id int64) bool {
	return p.accounts.users[id] == nil || p.accounts.users[id].dismissed
}

func dismissed() *apiError { return fail(401, "authorization_error", "Unable to authorize user") }

// permitted checks the scope, the operating time and the kind of authorization.
func (c *call) permitted(m method, batched bool) *apiError {
	if !c.caller.allows(m.scope) {
		description := "The request requires higher privileges than provided by the access token"
		switch {
		case batched:
			description = ""
		case c.caller.app == nil:
			description = "The request requires higher privileges than provided by the webhook token"
		}
		return fail(401, "insufficient_scope", description)
	}
	if _, total := c.p.operatingTime(c); c.p.overOperatingLimitLocked(total) {
		return fail(429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.")
	}
	if m.appOnly && c.caller.app == nil {
		return fail(403, "WRONG_AUTH_TYPE", "Current authorization type is denied for this method")
	}
	return nil
}
