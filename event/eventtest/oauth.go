package eventtest

import (
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// Names of the OAuth server's requests in records and faults.
const (
	callToken   = "oauth/token" //nolint:gosec // a path
	callAppInfo = "oauth/app.info"
)

// serveOAuth serves one request to the OAuth server that is about this portal.
func (p *Portal) serveOAuth(w http.ResponseWriter, r *http.Request, name string, params phpform.Value) {
	p.mu.Lock()
	p.records.requests.countOAuth(name, params)
	latency := p.quirks.OAuthLatency
	p.mu.Unlock()
	if latency > 0 {
		p.pause(r.Context(), latency)
	}
	fault, faulty := p.takeFault(name)
	public, _ := take(params, "client_secret", "refresh_token", "code", "auth", "access_token")
	if faulty && fault.replace(p, w, r, name, public) {
		return
	}
	run := p.tokenLocked
	if name == callAppInfo {
		run = p.tokenInfoLocked
	}
	p.mu.Lock()
	rec := Call{Method: name, Params: dataOf(public), Status: http.StatusOK, Time: p.nowLocked()}
	answer, apiErr := run(params, &rec)
	if apiErr != nil {
		answer, rec.Status, rec.ErrorCode = apiErr.value(), apiErr.status, apiErr.code
	}
	p.keepAnswer(&rec, answer, nil)
	p.recordCallLocked(rec, true)
	p.mu.Unlock()
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	fault.write(w, rec.Status, appendJSON(nil, answer))
}

// tokenLocked is the token endpoint. It trades a code or a refresh token, which then is no longer
// valid, for a new pair of tokens.
func (p *Portal) tokenLocked(params phpform.Value, rec *Call) (phpform.Value, *apiError) {
	get := func(name string) string {
		v, _ := params.Get(name)
		return v.Scalar()
	}
	grantType := get("grant_type")
	if grantType != "authorization_code" && grantType != "refresh_token" {
		return null(), fail(400, "invalid_request", "Wrong grant_type")
	}
	a := p.appLocked(get("client_id"))
	if a == nil || subtle.ConstantTimeCompare([]byte(a.spec.ClientSecret), []byte(get("client_secret"))) != 1 {
		return null(), fail(401, "invalid_client", "Wrong client credentials")
	}
	rec.ClientID = a.spec.ClientID
	if !a.registered || a.inactive {
		return null(), fail(401, "invalid_client", "Application not installed")
	}
	var user int64
	if grantType == "refresh_token" {
		t, ok := p.tokens.refresh[get("refresh_token")]
		if !ok || t.app != a || !t.expires.After(p.nowLocked()) {
			return null(), fail(400, "invalid_grant", "")
		}
		delete(p.tokens.refresh, get("refresh_token"))
		user = t.user
	} else {
		c, ok := p.tokens.codes[get("code")]
		if !ok || c.app != a || !c.expires.After(p.nowLocked()) {
			return null(), fail(400, "invalid_grant", "")
		}
		delete(p.tokens.codes, get("code"))
		user = c.user
	}
	rec.UserID = user
	g := p.issueLocked(a, user)
	return phpform.Map(
		text("access_token", string(g.AccessToken)),
		number("expires", g.Expires.Unix()),
		number("expires_in", int64(p.quirks.TokenLifetime/time.Second)),
		text("scope", "app"),
		text("domain", p.oauth.addr),
		text("server_endpoint", g.ServerEndpoint),
		text("status", g.Status),
		text("client_endpoint", g.ClientEndpoint),
		text("member_id", g.MemberID),
		number("user_id", g.UserID),
		text("refresh_token", string(g.RefreshToken)),
	), nil
}

// tokenInfoLocked returns whose access token this is. The platform's response is not documented;
// this one has the known members.
func (p *Portal) tokenInfoLocked(params phpform.Value, rec *Call) (phpform.Value, *apiError) {
	auth, _ := params.Get("auth")
	id, apiErr := p.appIdentityLocked(auth.Scalar(), nil)
	if apiErr != nil {
		return null(), apiErr
	}
	rec.ClientID, rec.UserID = id.clientID(), id.user.id
	t := p.tokens.access[auth.Scalar()]
	return phpform.Map(kv("result", phpform.Map(
		text("client_id", id.clientID()),
		number("user_id", id.user.id),
		kv("scope", texts(id.app.spec.Scope)),
		number("expires", t.expires.Unix()),
		kv("install", phpform.Map(
			kv("installed", phpform.Boolean(id.app.installed)),
			text("status", id.app.spec.Status),
			text("member_id", p.cfg.memberID),
			text("uri", p.baseURLLocked()),
			text("domain", p.addresses.domain),
			text("client_endpoint", p.baseURLLocked()+"/rest/"),
		)),
	))), nil
}

// serveAuthorize is the page where a user authorizes an application. The user is the administrator,
// who agrees immediately.
func (p *Portal) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	query := r.URL.Query()
	a := p.appLocked(query.Get("client_id"))
	if a == nil || !a.registered || a.spec.RedirectURL == "" {
		http.Error(w, "Application not found or not installed", http.StatusNotFound) // shown to the user, not sent to the redirect
		return
	}
	target, err := p.redirectionLocked(a, AdminID, query.Get("state"))
	if err != nil {
		http.Error(w, "Wrong redirect address", http.StatusNotFound)
		return
	}
	http.Redirect(w, r, target, http.StatusFound)
}

// redirectionLocked returns the URL that a user's browser opens after the user has authorized an
// application.
func (p *Portal) redirectionLocked(a *Application, user int64, state string) (string, error) {
	target, err := url.Parse(a.spec.RedirectURL)
	if err != nil || a.spec.RedirectURL == "" {
		return "", errors.New("eventtest: the application has no RedirectURL")
	}
	answer := phpform.Encode(phpform.Map(
		text("code", p.newCodeLocked(a, user)),
		text("state", state),
		text("domain", p.addresses.domain),
		text("member_id", p.cfg.memberID),
		text("scope", strings.Join(a.spec.Scope, ",")),
		text("server_domain", p.oauth.addr),
	))
	if target.RawQuery != "" {
		answer = target.RawQuery + "&" + answer
	}
	target.RawQuery = answer
	return target.String(), nil
}
