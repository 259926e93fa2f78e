package eventtest

import (
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// method is one REST method.
type method struct {
	scope   string // the permission it needs; empty for the basic ones
	appOnly bool   // refuses incoming webhooks
	run     func(*call) (reply, *apiError)
}

// reply is the answer of a method. Lists also have a total, and an offset of the next page but for the last.
type reply struct {
	result      phpform.Value
	total, next *int64
}

func done(v phpform.Value) (reply, *apiError) { return reply{result: v}, nil }

// call is one run of a method.
type call struct {
	p      *Portal
	h      *hit
	id     *identity
	name   string
	params phpform.Value
}

// identity is who calls.
type identity struct {
	app       *Application // nil for an incoming webhook
	hook      *inboundHook
	user      *user
	session   int
	connector string
}

func (id *identity) scopes() []string {
	if id.app != nil {
		return id.app.spec.Scope
	}
	return id.hook.scope
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

// bucket is a leaky bucket.
type bucket struct {
	level float64
	at    time.Time
}

// spent is one run of a method that counts towards its operating time.
type spent struct {
	at       time.Time
	duration time.Duration
}

func (p *Portal) portalMux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/rest/", p.serveREST)
	mux.HandleFunc("/oauth/authorize/", p.serveAuthorize)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if domain := p.Domain(); r.Host != domain && p.renamed(r) {
			http.Redirect(w, r, "http://"+domain+r.URL.RequestURI(), http.StatusFound) //nolint:gosec // the host is the portal's own
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// renamed reports whether the request came in on the listener of an earlier name.
func (p *Portal) renamed(r *http.Request) bool {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.moved, func(s server) bool { return port(s.addr) == port(addr.String()) })
}

func port(addr string) string {
	_, number, _ := net.SplitHostPort(addr)
	return number
}

func (p *Portal) serveREST(w http.ResponseWriter, r *http.Request) {
	name, hookUser, hookSecret := splitPath(r.URL.Path)
	start := p.Now()
	p.mu.Lock()
	p.records.requests.REST++
	allowed := p.allow(r.RemoteAddr)
	p.mu.Unlock()
	if !allowed {
		c, tooMany := &call{p: p, name: name}, fail(503, "QUERY_LIMIT_EXCEEDED", "Too many requests")
		p.mu.Lock()
		p.record(c, tooMany, false)
		p.mu.Unlock()
		p.answer(w, start, c, reply{}, tooMany)
		return
	}
	params := readParams(r)
	fault, faulty := p.takeFault(name)
	if faulty && fault.before(p, w, r, name) {
		return
	}
	params, creds := take(params, "auth", "access_token", "auth_connector")
	c := &call{p: p, name: name, params: params}
	rep, apiErr := p.execute(c, func() (*identity, *apiError) {
		if hookUser != "" {
			return p.webhookIdentity(hookUser, hookSecret)
		}
		return p.appIdentity(bearer(r, creds), creds)
	})
	if faulty && fault.lose {
		hangUp(w)
		return
	}
	p.answer(w, start, c, rep, apiErr)
}

func bearer(r *http.Request, creds map[string]phpform.Value) string {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") && token != "" {
		return strings.TrimSpace(token)
	}
	if token := creds["auth"].Scalar(); token != "" {
		return token
	}
	return creds["access_token"].Scalar()
}

// execute runs one request under the lock: the method must exist, the caller be known, the scope granted; then it runs, and what it raised
// is sent.
func (p *Portal) execute(c *call, who func() (*identity, *apiError)) (rep reply, apiErr *apiError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { p.record(c, apiErr, false) }()
	m, ok := p.methods[c.name]
	if !ok {
		return reply{}, fail(404, "ERROR_METHOD_NOT_FOUND", "Method not found!")
	}
	if c.id, apiErr = who(); apiErr != nil {
		return reply{}, apiErr
	}
	if apiErr := c.permitted(m, false); apiErr != nil {
		return reply{}, apiErr
	}
	c.h = &hit{clientID: c.id.clientID(), connector: c.id.connector, user: c.id.user.id, session: c.id.session}
	rep, apiErr = m.run(c)
	p.finish(c.h)
	return rep, apiErr
}

// permitted checks scope and kind of authorization.
func (c *call) permitted(m method, batched bool) *apiError {
	if !c.id.allows(m.scope) {
		description := "The request requires higher privileges than provided by the access token"
		switch {
		case batched:
			description = ""
		case c.id.app == nil:
			description = "The request requires higher privileges than provided by the webhook token"
		}
		return fail(401, "insufficient_scope", description)
	}
	if m.appOnly && c.id.app == nil {
		return fail(403, "WRONG_AUTH_TYPE", "Current authorization type is denied for this method")
	}
	return nil
}

func (p *Portal) record(c *call, apiErr *apiError, batched bool) {
	rec := Call{Method: c.name, Params: dataOf(c.params), Status: http.StatusOK, Batch: batched, Time: p.now()}
	if apiErr != nil {
		rec.ErrorCode = apiErr.code
		if rec.ErrorCode == "" {
			rec.ErrorCode = EmptyCode
		}
		if !batched {
			rec.Status = apiErr.status
		}
	}
	if c.id != nil {
		rec.ClientID, rec.UserID = c.id.clientID(), c.id.user.id
	}
	p.keepCall(rec, false)
}

func (p *Portal) webhookIdentity(userID, secret string) (*identity, *apiError) {
	for _, h := range p.hooks {
		if userKey(h.user) == userID && string(h.secret) == secret {
			return &identity{hook: h, user: p.users[h.user], session: freshSession}, nil
		}
	}
	return nil, fail(401, "INVALID_CREDENTIALS", "Invalid request credentials")
}

func (p *Portal) appIdentity(token string, creds map[string]phpform.Value) (*identity, *apiError) {
	if token == "" {
		return nil, fail(401, "NO_AUTH_FOUND", "Wrong authorization data")
	}
	t, ok := p.access[token]
	switch {
	case !ok:
		return nil, fail(401, "invalid_token", "Unable to get application by token")
	case !t.app.registered || t.app.inactive:
		return nil, fail(401, "APPLICATION_NOT_FOUND", "Application not found")
	case !t.expires.After(p.now()):
		return nil, fail(401, "expired_token", "The access token provided has expired")
	}
	connector := creds["auth_connector"]
	if connector.Kind() != phpform.Null && p.cfg.noConnectors {
		return nil, fail(403, "WRONG_LICENSE", "This feature is not enabled for the current license: auth_connector")
	}
	return &identity{app: t.app, user: p.users[t.user], session: t.session, connector: connector.Scalar()}, nil
}

// allow lets a request through the bucket of its source address.
func (p *Portal) allow(remote string) bool {
	if p.cfg.burst == 0 {
		return true
	}
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	now := p.now()
	b := p.limits[host]
	if b == nil {
		b = &bucket{at: now}
		p.limits[host] = b
	}
	b.level = math.Max(0, b.level-now.Sub(b.at).Seconds()*p.cfg.rate)
	b.at = now
	if b.level+1 > float64(p.cfg.burst) {
		return false
	}
	b.level++
	return true
}

// answer writes the envelope.
func (p *Portal) answer(w http.ResponseWriter, start time.Time, c *call, rep reply, apiErr *apiError) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Access-Control-Allow-Origin", "*")
	if c.id != nil && c.id.app != nil {
		h.Set("X-Bitrix-Rest-Application", c.id.clientID())
	}
	if apiErr != nil {
		writeBody(w, apiErr.status, apiErr.value())
		return
	}
	entries := []phpform.Entry{kv("result", rep.result)}
	if rep.next != nil {
		entries = append(entries, number("next", *rep.next))
	}
	if rep.total != nil {
		entries = append(entries, number("total", *rep.total))
	}
	p.mu.Lock()
	clock := p.timing(c, start)
	p.mu.Unlock()
	writeBody(w, http.StatusOK, phpform.Map(append(entries, kv("time", clock))...))
}

// timing is the member time. As in current builds start is a whole number, which makes duration up to a second too long.
func (p *Portal) timing(c *call, start time.Time) phpform.Value {
	finish := p.now()
	seconds := func(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }
	entries := []phpform.Entry{
		number("start", start.Unix()),
		float("finish", seconds(finish)),
		float("duration", seconds(finish)-float64(start.Unix())),
		float("processing", finish.Sub(start).Seconds()),
		text("date_start", isoTime(start)),
		text("date_finish", isoTime(finish)),
	}
	if c.id == nil {
		return phpform.Map(entries...)
	}
	reset, total := p.operating(c, finish, finish.Sub(start))
	return phpform.Map(append(entries, number("operating_reset_at", reset), float("operating", total))...)
}

// operating sums the time that the caller's runs of the method took in the last ten minutes. Runs of a tenth of a second or less are not counted.
func (p *Portal) operating(c *call, now time.Time, last time.Duration) (resetAt int64, total float64) {
	const window = 10 * time.Minute
	key := c.id.clientID() + "|" + userKey(c.id.user.id) + "|" + c.name
	if c.id.app != nil {
		key = c.id.clientID() + "|" + c.name
	}
	runs := slices.DeleteFunc(p.usage[key], func(s spent) bool { return now.Sub(s.at) > window })
	if last > 100*time.Millisecond {
		runs = append(runs, spent{at: now, duration: last})
	}
	if len(runs) == 0 {
		delete(p.usage, key)
		return now.Add(window).Unix(), 0
	}
	p.usage[key] = runs
	for _, s := range runs {
		total += s.duration.Seconds()
	}
	return runs[0].at.Add(window).Unix(), total
}

func writeBody(w http.ResponseWriter, status int, v phpform.Value) {
	body := appendJSON(nil, v)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller that went away misses it
}

// serveAuthorize is the page where a user lets an application in. The user is the administrator, who agrees at once.
func (p *Portal) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	query := r.URL.Query()
	a := p.app(query.Get("client_id"))
	if a == nil || !a.registered || a.spec.RedirectURL == "" {
		http.Error(w, "Application not found or not installed", http.StatusNotFound) // shown to the user, not sent to the redirect
		return
	}
	target, err := url.Parse(a.spec.RedirectURL)
	if err != nil {
		http.Error(w, "Wrong redirect address", http.StatusNotFound)
		return
	}
	answer := phpform.Encode(phpform.Map(
		text("code", p.newCode(a, AdminID)),
		text("state", query.Get("state")),
		text("domain", p.domain),
		text("member_id", p.cfg.memberID),
		text("scope", strings.Join(a.spec.Scope, ",")),
		text("server_domain", p.oauth.addr),
	))
	if target.RawQuery != "" {
		answer = target.RawQuery + "&" + answer
	}
	target.RawQuery = answer
	http.Redirect(w, r, target.String(), http.StatusFound)
}
