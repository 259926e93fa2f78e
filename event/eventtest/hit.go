package eventtest

import (
	"slices"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// hit is one request to the portal, or one change made in its interface. What it raises is sent at
// its end.
type hit struct {
	clientID  string // of the application that calls; empty for people, webhooks, robots
	connector string // its auth_connector
	user      int64
	session   int // what is left of the chain of events
	raised    []occurrence
}

// occurrence is an event that happened.
type occurrence struct {
	event string
	data  phpform.Value // null where there is none
	user  int64         // who caused it; 0 for nobody
	app   *Application  // the only application to be told; nil for all
	bot   *bot          // the only bot of imbot.v2 that gets it; nil for all
}

func (h *hit) raise(o occurrence) { h.raised = append(h.raised, o) }

// newHit begins a change made in the portal's own interface.
func (p *Portal) newHit(user int64) *hit { return &hit{user: user, session: freshSession} }

// finish sends what the hit raised: online events to the delivery queue, offline ones to the
// offline queue.
func (p *Portal) finish(h *hit) {
	p.touch()
	defer p.unsubscribeGone()
	if len(h.raised) == 0 {
		return
	}
	if h.session <= 0 { // a chain of events that feeds itself; the platform cuts it for everyone
		return
	}
	h.session--
	var seen []string
	var rows []record
	for _, o := range h.raised {
		if o.event != "ONAPPINSTALL" && o.event != onAppUserReady { // somebody installs, and the platform has the data
			o.fit(p.quirks)
		}
		key := o.event + "|" + string(appendJSON(nil, o.data))
		if slices.Contains(seen, key) && o.app == nil { // identical items of one hit are sent once
			continue
		}
		seen = append(seen, key)
		rows = p.dispatch(h, o, rows)
	}
	if len(rows) > 0 && p.quirks.OfflineLag > 0 {
		p.after(p.quirks.OfflineLag, func() { p.save(h, rows) })
		return
	}
	p.save(h, rows)
}

// fit takes out of an occurrence what quirks leave out.
func (o *occurrence) fit(m Quirks) {
	if m.NoUser {
		o.user = 0
	}
	if m.NoData {
		o.data = null()
	}
}

// record is an occurrence that goes to an offline queue.
type record struct {
	to *binding
	of occurrence
}

// save puts records into the offline queues, and sends one ONOFFLINEEVENT for each handler of an
// application that got any.
func (p *Portal) save(h *hit, rows []record) {
	notify := map[*Application]bool{}
	for _, r := range rows {
		if r.to.app.live() { // it may have been removed since
			p.store(r.to, r.of)
			notify[r.to.app] = true
		}
	}
	for _, b := range slices.Clone(p.bindings) {
		if b.event == "ONOFFLINEEVENT" && notify[b.app] && p.mayNotify(b) {
			user := h.user
			if p.quirks.NoUser {
				user = 0
			}
			p.send(h, b, occurrence{event: b.event, user: user})
		}
	}
	p.touch()
}

// dispatch sends an occurrence to its online handlers, and adds what belongs into offline queues to
// rows.
func (p *Portal) dispatch(h *hit, o occurrence, rows []record) []record {
	for _, b := range p.bindings {
		switch {
		case b.event != o.event, o.app != nil && b.app != o.app, !b.app.live(), o.bot != nil && b.bot != o.bot:
		case !b.offline:
			p.send(h, b, o)
		case h.clientID == b.app.spec.ClientID && h.connector == b.connector:
			// the application's own change, made through the same connector
		default:
			rows = append(rows, record{b, o})
		}
	}
	if o.app != nil {
		return rows
	}
	for _, hook := range p.outgoing {
		if slices.Contains(hook.events, o.event) {
			p.sendToHook(hook, o)
		}
	}
	return rows
}

// mayNotify is the throttle of ONOFFLINEEVENT: a record that lands inside the window causes no
// later notice.
func (p *Portal) mayNotify(b *binding) bool {
	window := int64(1)
	if p.quirks.HonourMinTimeout && b.minTimeout >= 0 {
		window = b.minTimeout
	}
	now := p.now()
	if last, ok := p.throttle[b.id]; ok && int64(now.Sub(last).Seconds()) < window {
		return false
	}
	p.throttle[b.id] = now
	return true
}

// Raise lets an event happen by its name, caused by a user (0 for nobody), as one hit. data is a
// payload struct, nested maps, an [event.Data], or nil for none. Handlers, outgoing webhooks and
// offline queues get it as they would on a portal. It returns an error where data cannot stand in
// an event.
func (p *Portal) Raise(name string, data any, user int64) error {
	return p.raise(nil, name, data, user)
}

// Raise lets an event happen that is this application's own, such as ONAPPPAYMENT or
// ONIMCOMMANDADD: no other application gets it, and no outgoing webhook. It is like [Portal.Raise]
// otherwise.
func (a *Application) Raise(name string, data any, user int64) error {
	return a.p.raise(a, name, data, user)
}

func (p *Portal) raise(a *Application, name string, data any, user int64) error {
	tree, err := treeOf(data)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	h := p.newHit(user)
	h.raise(occurrence{event: upper(name), app: a, data: tree, user: user})
	p.finish(h)
	return nil
}

// withoutTokens tells the events that never carry tokens.
func withoutTokens(name string) bool { return name == "ONAPPUNINSTALL" || name == "ONAPPMETHODCONFIRM" }

// withRefresh tells the events that carry a refresh token besides the access token.
func withRefresh(name string) bool {
	switch name {
	case "ONAPPINSTALL", "ONAPPUPDATE", onAppUserReady, "ONAPPTEST", "ONSUBSCRIPTIONRENEW", "ONOFFLINEEVENT",
		"ONIMBOTMESSAGEADD", "ONIMBOTMESSAGEUPDATE", "ONIMBOTMESSAGEDELETE", "ONIMBOTCONTEXTGET", "ONIMCOMMANDADD",
		"ONIMBOTV2MESSAGEADD", "ONIMBOTV2MESSAGEUPDATE", "ONIMBOTV2MESSAGEDELETE", "ONIMBOTV2CONTEXTGET",
		"ONIMBOTV2COMMANDADD", "ONIMBOTV2REACTIONCHANGE":
		return true
	}
	return strings.HasPrefix(name, "ONCALENDAR")
}
