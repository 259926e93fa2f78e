package eventtest

import (
	"slices"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// pendingEvents is one request to the portal, or one change made in its interface. What it raises is sent at
// its end.
type pendingEvents struct {
	clientID  string // of the application that calls; empty for people, webhooks, robots
	connector string // its auth_connector
	user      int64
	chainLeft int // what is left of the chain of events
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

func (ev *pendingEvents) raise(o occurrence) { ev.raised = append(ev.raised, o) }

// newPendingEvents begins a change made in the portal's own interface.
func (p *Portal) newPendingEvents(user int64) *pendingEvents {
	return &pendingEvents{user: user, chainLeft: maxEventChain}
}

// sendPending sends what the hit raised: online events to the delivery queue, offline ones to the
// offline queue.
func (p *Portal) sendPending(ev *pendingEvents) {
	p.signalChangeLocked()
	defer p.unsubscribeGoneLocked()
	if len(ev.raised) == 0 {
		return
	}
	if ev.chainLeft <= 0 { // a chain of events that feeds itself; the platform cuts it for everyone
		return
	}
	ev.chainLeft--
	var seen []string
	var rows []offlineEvent
	for _, o := range ev.raised {
		if o.event != "ONAPPINSTALL" && o.event != onAppUserReady { // somebody installs, and the platform has the data
			o.applyQuirks(p.quirks)
		}
		key := o.event + "|" + string(appendJSON(nil, o.data))
		if slices.Contains(seen, key) && o.app == nil { // identical items of one hit are sent once
			continue
		}
		seen = append(seen, key)
		rows = p.dispatch(ev, o, rows)
	}
	if len(rows) > 0 && p.quirks.OfflineLag > 0 {
		p.scheduleLocked(p.quirks.OfflineLag, func() { p.storeOffline(ev, rows) })
		return
	}
	p.storeOffline(ev, rows)
}

// applyQuirks takes out of an occurrence what quirks leave out.
func (o *occurrence) applyQuirks(q Quirks) {
	if q.NoUser {
		o.user = 0
	}
	if q.NoData {
		o.data = null()
	}
}

// offlineEvent is an occurrence that goes to an offline queue.
type offlineEvent struct {
	binding    *binding
	occurrence occurrence
}

// storeOffline puts records into the offline queues, and sends one ONOFFLINEEVENT for each handler of an
// application that got any.
func (p *Portal) storeOffline(ev *pendingEvents, rows []offlineEvent) {
	notify := map[*Application]bool{}
	for _, r := range rows {
		if r.binding.app.getsEventsLocked() { // it may have been removed since
			p.storeLocked(r.binding, r.occurrence)
			notify[r.binding.app] = true
		}
	}
	for _, b := range slices.Clone(p.handlers.bound) {
		if b.event == "ONOFFLINEEVENT" && notify[b.app] && p.mayNotifyLocked(b) {
			user := ev.user
			if p.quirks.NoUser {
				user = 0
			}
			p.send(ev, b, occurrence{event: b.event, user: user})
		}
	}
	p.signalChangeLocked()
}

// dispatch sends an occurrence to its online handlers, and adds what belongs into offline queues to
// rows.
func (p *Portal) dispatch(ev *pendingEvents, o occurrence, rows []offlineEvent) []offlineEvent {
	for _, b := range p.handlers.bound {
		switch {
		case b.event != o.event, o.app != nil && b.app != o.app, !b.app.getsEventsLocked(), o.bot != nil && b.bot != o.bot:
		case !b.offline:
			p.send(ev, b, o)
		case ev.clientID == b.app.spec.ClientID && ev.connector == b.connector:
			// the application's own change, made through the same connector
		default:
			rows = append(rows, offlineEvent{b, o})
		}
	}
	if o.app != nil {
		return rows
	}
	for _, hook := range p.accounts.outgoing {
		if slices.Contains(hook.events, o.event) {
			p.sendToWebhookLocked(hook, o)
		}
	}
	return rows
}

// mayNotifyLocked is the throttle of ONOFFLINEEVENT: a record that lands inside the window causes no
// later notice.
func (p *Portal) mayNotifyLocked(b *binding) bool {
	window := int64(1)
	if p.quirks.HonourMinTimeout && b.minTimeout >= 0 {
		window = b.minTimeout
	}
	now := p.nowLocked()
	if last, ok := p.handlers.notified[b.id]; ok && int64(now.Sub(last).Seconds()) < window {
		return false
	}
	p.handlers.notified[b.id] = now
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
	ev := p.newPendingEvents(user)
	ev.raise(occurrence{event: upperName(name), app: a, data: tree, user: user})
	p.sendPending(ev)
	return nil
}

// neverHasTokens tells the events that never carry tokens.
func neverHasTokens(name string) bool {
	return name == "ONAPPUNINSTALL" || name == "ONAPPMETHODCONFIRM"
}

// hasRefreshToken tells the events that carry a refresh token besides the access token.
func hasRefreshToken(name string) bool {
	switch name {
	case "ONAPPINSTALL", "ONAPPUPDATE", onAppUserReady, "ONAPPTEST", "ONSUBSCRIPTIONRENEW", "ONOFFLINEEVENT",
		"ONIMBOTMESSAGEADD", "ONIMBOTMESSAGEUPDATE", "ONIMBOTMESSAGEDELETE", "ONIMBOTCONTEXTGET", "ONIMCOMMANDADD",
		"ONIMBOTV2MESSAGEADD", "ONIMBOTV2MESSAGEUPDATE", "ONIMBOTV2MESSAGEDELETE", "ONIMBOTV2CONTEXTGET",
		"ONIMBOTV2COMMANDADD", "ONIMBOTV2REACTIONCHANGE":
		return true
	}
	return strings.HasPrefix(name, "ONCALENDAR")
}
