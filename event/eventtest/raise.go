package eventtest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/phpform"
)

// pendingEvents collects the events that one request to the portal, or one change in its interface,
// raises. sendPending sends them when the request or change ends, as the platform does.
type pendingEvents struct {
	clientID  string // of the calling application; empty for people, webhooks and robots
	connector string // its auth_connector
	user      int64
	chainLeft int // events that may still follow in this chain; see maxEventChain
	raised    []occurrence
}

// occurrence is an event that happened.
type occurrence struct {
	event string
	data  phpform.Value // null if there is none
	user  int64         // the user who caused it; 0 for nobody
	app   *Application  // the only application that gets it; nil for all
	bot   *bot          // the only bot of imbot.v2 that gets it; nil for all
}

func (ev *pendingEvents) raise(o occurrence) { ev.raised = append(ev.raised, o) }

// newPendingEvents begins a change in the portal's interface.
func (p *Portal) newPendingEvents(user int64) *pendingEvents {
	return &pendingEvents{user: user, chainLeft: maxEventChain}
}

// sendPending sends the raised events: to the delivery queue for online handlers, and to the
// offline queue for offline handlers.
func (p *Portal) sendPending(ev *pendingEvents) {
	p.signalChangeLocked()
	defer p.unsubscribeGoneLocked()
	if len(ev.raised) == 0 {
		return
	}
	if ev.chainLeft <= 0 { // events cause each other in a loop; the platform stops sending them
		return
	}
	ev.chainLeft--
	seen := map[sent]bool{}
	var rows []offlineEvent
	for _, o := range ev.raised {
		if o.event != "ONAPPINSTALL" && o.event != onAppUserReady { // always has a user and data
			o.applyQuirks(p.quirks)
		}
		key := sent{o.app, o.bot, o.event, string(appendJSON(nil, o.data))}
		if seen[key] {
			continue
		}
		seen[key] = true
		rows = p.dispatch(ev, o, rows)
	}
	if len(rows) > 0 && p.quirks.OfflineLag > 0 {
		p.scheduleLocked(p.quirks.OfflineLag, func() { p.storeOffline(ev, rows) })
		return
	}
	p.storeOffline(ev, rows)
}

// sent is an event with its addressees. Identical ones of one request are sent once.
type sent struct {
	app         *Application
	bot         *bot
	event, data string
}

// applyQuirks removes the user and the data if the quirks say so.
func (o *occurrence) applyQuirks(q Quirks) {
	if q.NoUser {
		o.user = 0
	}
	if q.NoData {
		o.data = null()
	}
}

// offlineEvent is an occurrence that goes to the offline queue of a binding.
type offlineEvent struct {
	binding    *binding
	occurrence occurrence
}

// storeOffline adds records to the offline queues. It sends one ONOFFLINEEVENT to each handler for
// it of the applications that got records.
func (p *Portal) storeOffline(ev *pendingEvents, rows []offlineEvent) {
	notify := map[*Application]bool{}
	for _, r := range rows {
		if r.binding.app.getsEventsLocked() { // it may have been removed meanwhile
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

// dispatch sends an occurrence to its online handlers and webhooks. It returns rows with the
// records for offline handlers added.
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

// mayNotifyLocked limits how often ONOFFLINEEVENT is sent to a handler. A record inside the window
// causes no later notification.
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

// Raise raises an event by its name, caused by a user (0 for nobody). data is a payload struct,
// nested maps, an [event.Data], or nil for none. Handlers, outgoing webhooks and offline queues get
// the event as on a real portal.
//
// Raise returns [ErrNotFound] for a user who does not exist, and for an event that the portal does
// not know, so that a misspelt name is not mistaken for an event without a handler. It knows those
// of the catalogue of package event, of its smart processes, of its outgoing webhooks, and of
// [Portal.AddEvent]. It returns [ErrClosed], or an error if data cannot be encoded.
func (p *Portal) Raise(name string, data any, user int64) error {
	return p.raise(nil, name, data, user)
}

// Raise raises an event that only this application gets, for example ONAPPPAYMENT or
// ONIMCOMMANDADD. Otherwise it does what [Portal.Raise] does.
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
	name = upperName(name)
	switch {
	case p.closed:
		return ErrClosed
	case !p.knowsEventLocked(name):
		return fmt.Errorf("%w: event %q; check its name, or add it by AddEvent, or its smart process by AddSmartProcess", ErrNotFound, name)
	case user != 0 && p.accounts.users[user] == nil:
		return fmt.Errorf("%w: user %d; add users by AddUser, or raise the event for nobody, 0", ErrNotFound, user)
	}
	ev := p.newPendingEvents(user)
	ev.raise(occurrence{event: name, app: a, data: tree, user: user})
	p.sendPending(ev)
	return nil
}

// knowsEventLocked reports whether an event can happen on the portal.
func (p *Portal) knowsEventLocked(name string) bool {
	if _, ok := p.bindableLocked(name); ok {
		return true
	}
	info, ok := event.Lookup(name)
	return ok && info.AutoSubscribed ||
		slices.ContainsFunc(p.accounts.outgoing, func(hook *outgoingWebhook) bool { return slices.Contains(hook.events, name) })
}

// neverHasTokens reports whether an event never carries tokens.
func neverHasTokens(name string) bool {
	return name == "ONAPPUNINSTALL" || name == "ONAPPMETHODCONFIRM"
}

// hasRefreshToken reports whether an event carries a refresh token next to the access token.
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
