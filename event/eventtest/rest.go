package eventtest

import (
	"net/http"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// method is one REST method.
type method struct {
	scope   string // the permission it needs; empty for basic methods
	appOnly bool   // rejects incoming webhooks
	run     func(*call) (reply, *apiError)
}

// reply is the result of a method. Lists also have a total and, except on the last page, the offset
// of the next page.
type reply struct {
	result      phpform.Value
	total, next *int64
}

// done returns a result without a total.
func done(v phpform.Value) (reply, *apiError) { return reply{result: v}, nil }

// call is one run of a method. Portal.mu is held while it runs.
type call struct {
	p      *Portal
	events *pendingEvents
	caller *identity
	name   string
	params phpform.Value
	start  time.Time
	result phpform.Value // for records
}

// serveREST serves one request to REST: limits, faults, and then the method.
func (p *Portal) serveREST(w http.ResponseWriter, r *http.Request) {
	name, hookUser, hookSecret := splitPath(r.URL.Path)
	c := &call{p: p, name: name, start: p.Now()}
	p.mu.Lock()
	p.records.requests.REST++
	allowed, latency := p.allowLocked(r.RemoteAddr), p.quirks.Latency
	p.mu.Unlock()
	if !allowed {
		tooMany := fail(503, "QUERY_LIMIT_EXCEEDED", "Too many requests")
		p.mu.Lock()
		p.recordResult(c, tooMany, false)
		p.mu.Unlock()
		p.respond(w, c, reply{}, tooMany, Fault{})
		return
	}
	params := readParams(r)
	if latency > 0 {
		p.pause(r.Context(), latency)
	}
	params, creds := take(params, "auth", "access_token", "auth_connector")
	fault, faulty := p.takeFault(name)
	if faulty && fault.replace(p, w, r, name, params) {
		return
	}
	c.params = params
	rep, apiErr := p.execute(c, func() (*identity, *apiError) {
		if hookUser != "" {
			if p.cfg.network != nil && r.TLS == nil {
				return nil, fail(401, "INVALID_REQUEST", "Https required.")
			}
			return p.webhookIdentityLocked(hookUser, hookSecret)
		}
		return p.appIdentityLocked(bearer(r, creds), creds)
	})
	p.respond(w, c, rep, apiErr, fault)
}

// execute locks mu and runs one request. It checks that the method exists, that the caller is known
// and that the scope is granted. Then it runs the method and sends the events that it raised.
func (p *Portal) execute(c *call, who func() (*identity, *apiError)) (rep reply, apiErr *apiError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { p.recordResult(c, apiErr, false) }()
	m, ok := p.methods[c.name]
	if !ok {
		return reply{}, fail(404, "ERROR_METHOD_NOT_FOUND", "Method not found!")
	}
	if c.caller, apiErr = who(); apiErr != nil {
		return reply{}, apiErr
	}
	if apiErr := c.permitted(m, false); apiErr != nil {
		return reply{}, apiErr
	}
	c.events = &pendingEvents{
		clientID: c.caller.clientID(), connector: c.caller.connector, user: c.caller.user.id,
		chainLeft: c.caller.chainLeft,
	}
	rep, apiErr = m.run(c)
	c.result = rep.result
	p.sendPending(c.events)
	p.addOperatingTime(c, p.nowLocked().Sub(c.start))
	return rep, apiErr
}

// recordResult keeps a record of a call and its result.
func (p *Portal) recordResult(c *call, apiErr *apiError, batched bool) {
	rec := Call{
		Method: c.name,
		Params: dataOf(recordedParams(c.name, c.params)),
		Status: http.StatusOK,
		Batch:  batched,
		Time:   p.nowLocked(),
	}
	if apiErr != nil {
		rec.ErrorCode = apiErr.code
		if rec.ErrorCode == "" {
			rec.ErrorCode = EmptyCode
		}
		if !batched {
			rec.Status = apiErr.status
		}
	}
	if c.caller != nil {
		rec.ClientID, rec.UserID = c.caller.clientID(), c.caller.user.id
	}
	p.keepAnswer(&rec, c.result, apiErr)
	p.recordCallLocked(rec, false)
}

// respond writes the envelope of a result or an error. It locks mu.
func (p *Portal) respond(w http.ResponseWriter, c *call, rep reply, apiErr *apiError, fault Fault) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Access-Control-Allow-Origin", "*")
	if c.caller != nil && c.caller.app != nil {
		h.Set("X-Bitrix-Rest-Application", c.caller.clientID())
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
	clock := p.timing(c)
	p.mu.Unlock()
	answer := phpform.Map(append(entries, kv("time", clock))...)
	if !encodable(answer) {
		answer = wrongEncoding()
	}
	fault.write(w, http.StatusOK, appendJSON(nil, answer))
}

// timing returns the member time of an envelope. As in current builds, start is a whole number, so
// duration is up to a second too long.
func (p *Portal) timing(c *call) phpform.Value {
	start, finish := c.start, p.nowLocked()
	seconds := func(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }
	entries := []phpform.Entry{
		number("start", start.Unix()),
		float("finish", seconds(finish)),
		float("duration", seconds(finish)-float64(start.Unix())),
		float("processing", finish.Sub(start).Seconds()),
		text("date_start", isoTime(start)),
		text("date_finish", isoTime(finish)),
	}
	if c.caller == nil || p.quirks.Box {
		return phpform.Map(entries...)
	}
	reset, total := p.operatingTime(c)
	return phpform.Map(append(entries, number("operating_reset_at", reset), float("operating", total.Seconds()))...)
}

// writeBody writes a response without faults.
func writeBody(w http.ResponseWriter, status int, v phpform.Value) {
	Fault{}.write(w, status, appendJSON(nil, v))
}
