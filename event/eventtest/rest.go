package eventtest

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// method is one REST method.
type method struct {
	scope   string // the permission it needs; empty for the basic ones
	appOnly bool   // refuses incoming webhooks
	run     func(*call) (reply, *apiError)
}

// reply is the answer of a method. Lists also have a total, and an offset of the next page but for
// the last.
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

func (p *Portal) portalMux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/rest/", p.serveREST)
	mux.HandleFunc("/oauth/authorize/", p.serveAuthorize)
	if p.cfg.fallback != nil {
		mux.Handle("/", p.cfg.fallback)
		mux.HandleFunc("/oauth/", http.NotFound)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.renamed(r) {
			http.Redirect(w, r, p.URL()+r.URL.RequestURI(), http.StatusFound) //nolint:gosec // the host is the portal's own
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// renamed reports whether the request came in on the listener of an earlier name.
func (p *Portal) renamed(r *http.Request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cfg.network != nil {
		return canonical((&url.URL{Host: r.Host}).Hostname()) != p.domain
	}
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && r.Host != p.domain && slices.ContainsFunc(p.moved, func(s server) bool { return port(s.addr) == port(addr.String()) })
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
	allowed, latency := p.allow(r.RemoteAddr), p.quirks.Latency
	p.mu.Unlock()
	if !allowed {
		c, tooMany := &call{p: p, name: name}, fail(503, "QUERY_LIMIT_EXCEEDED", "Too many requests")
		p.mu.Lock()
		p.record(c, tooMany, false)
		p.mu.Unlock()
		p.answer(w, start, c, reply{}, tooMany, Fault{})
		return
	}
	params := readParams(r)
	if latency > 0 {
		p.pause(r.Context(), latency)
	}
	params, creds := take(params, "auth", "access_token", "auth_connector")
	fault, faulty := p.takeFault(name)
	if faulty && fault.instead(p, w, r, name, params) {
		return
	}
	c := &call{p: p, name: name, params: params}
	rep, apiErr := p.execute(c, start, func() (*identity, *apiError) {
		if hookUser != "" {
			if p.cfg.network != nil && r.TLS == nil {
				return nil, fail(401, "INVALID_REQUEST", "Https required.")
			}
			return p.webhookIdentity(hookUser, hookSecret)
		}
		return p.appIdentity(bearer(r, creds), creds)
	})
	p.answer(w, start, c, rep, apiErr, fault)
}

// execute runs one request under the lock: the method must exist, the caller be known, the scope
// granted; then it runs, and what it raised is sent.
func (p *Portal) execute(c *call, start time.Time, who func() (*identity, *apiError)) (rep reply, apiErr *apiError) {
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
	p.charge(c, p.now().Sub(start))
	return rep, apiErr
}

func (p *Portal) record(c *call, apiErr *apiError, batched bool) {
	rec := Call{Method: c.name, Params: dataOf(shownParams(c.name, c.params)), Status: http.StatusOK, Batch: batched, Time: p.now()}
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

// answer writes the envelope.
func (p *Portal) answer(w http.ResponseWriter, start time.Time, c *call, rep reply, apiErr *apiError, fault Fault) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Access-Control-Allow-Origin", "*")
	if c.id != nil && c.id.app != nil {
		h.Set("X-Bitrix-Rest-Application", c.id.clientID())
	}
	if apiErr != nil {
		fault.write(w, apiErr.status, appendJSON(nil, apiErr.value()))
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
	answer := phpform.Map(append(entries, kv("time", clock))...)
	if !encodable(answer) {
		answer = wrongEncoding()
	}
	fault.write(w, http.StatusOK, appendJSON(nil, answer))
}

// timing is the member time. As in current builds start is a whole number, which makes duration up
// to a second too long.
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
	if c.id == nil || p.quirks.Box {
		return phpform.Map(entries...)
	}
	reset, total := p.operating(c)
	return phpform.Map(append(entries, number("operating_reset_at", reset), float("operating", total.Seconds()))...)
}

func writeBody(w http.ResponseWriter, status int, v phpform.Value) {
	Fault{}.write(w, status, appendJSON(nil, v))
}
