package main

import (
	"slices"
	"strings"

	"github.com/b24events/b24events/event/eventtest"
)

// hearing says whether an event reaches anything, so that the page can say why nothing arrives.
type hearing struct {
	Heard bool   `json:"heard"`         // a handler, a webhook, the offline queue or a bot in fetch mode gets it
	Why   string `json:"why,omitempty"` // why nothing gets it
}

// silence returns why the portal sends no events to an application, or nothing if it does.
func silence(a *eventtest.Application) string {
	switch {
	case !a.Registered():
		return "it is not installed"
	case !a.Installed():
		return "its installation is not finished: no page of it has called BX24.installFinish, and until then the platform sends it no events"
	case !a.Active():
		return "it is switched off"
	case a.PaymentExpired():
		return "its subscription has run out"
	default:
		return ""
	}
}

// hears reports whether anything gets an event that has one of the names. Items of smart processes
// raise two events.
func (pg *page) hears(names ...string) hearing {
	bound := map[string]bool{}
	for _, b := range pg.portal.Bindings() {
		if slices.Contains(names, b.Event) {
			bound[b.ClientID] = true
		}
	}
	pg.mu.Lock()
	hooked := slices.ContainsFunc(pg.webhooks, func(w webhookView) bool {
		return slices.ContainsFunc(w.Events, func(name string) bool { return slices.Contains(names, name) })
	})
	pg.mu.Unlock()
	if hooked {
		return hearing{Heard: true}
	}
	silent := ""
	for _, a := range pg.portal.Applications() {
		why := silence(a)
		switch {
		case !bound[a.ClientID()]:
		case why == "":
			return hearing{Heard: true}
		case silent == "":
			silent = "the application " + shorten(a.ClientID()) + " has bound " + names[0] + ", but gets no events: " + why
		}
	}
	if silent == "" {
		silent = "no application and no webhook has bound " + names[0]
	}
	return hearing{Why: silent}
}

// botHears reports which event a message to a user is, and whether the bot's application gets it.
// action is that of the change.
func (pg *page) botHears(to int64, action string) (string, hearing) {
	action = strings.ToUpper(action)
	for _, a := range pg.portal.Applications() {
		b, found := a.Bots()[to]
		if !found {
			continue
		}
		if modeOf(b) != "old" {
			return "ONIMBOTV2MESSAGE" + action, pg.v2Hears(a, to)
		}
		old := "ONIMBOTMESSAGE" + action
		if !slices.ContainsFunc(pg.portal.Bindings(), func(b eventtest.Binding) bool {
			return b.ClientID == a.ClientID() && b.Event == old
		}) {
			return old, hearing{Why: "the bot's application has not bound " + old}
		}
		return old, appHears(a)
	}
	return "ONIMBOTMESSAGE" + action, hearing{Why: "the message is not to a bot"}
}

// v2Hears reports whether a bot of imbot.v2 gets its events. In fetch mode they wait to be polled.
func (pg *page) v2Hears(a *eventtest.Application, bot int64) hearing {
	if a.Bots()[bot].Fetch {
		return hearing{Heard: true}
	}
	return appHears(a)
}

// appHears reports whether the application of a bot gets events.
func appHears(a *eventtest.Application) hearing {
	if why := silence(a); why != "" {
		return hearing{Why: "the bot's application gets no events: " + why}
	}
	return hearing{Heard: true}
}
