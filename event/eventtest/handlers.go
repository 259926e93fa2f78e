package eventtest

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// handlerTable holds the event handlers of all applications. Portal.mu guards it.
type handlerTable struct {
	bound    []*binding
	binding  []*binding          // calls of event.bind that run now; see Quirks.RacingBinds
	notified map[int64]time.Time // when ONOFFLINEEVENT was last sent, by handler ID
}

// binding is one event handler.
type binding struct {
	id         int64
	app        *Application
	event      string
	handler    string
	user       int64
	connector  string
	offline    bool
	minTimeout int64 // of ONOFFLINEEVENT; -1 if not given
	bot        *bot  // the bot of imbot.v2 whose subscription this is; usually nil
}

// Lengths in the platform's handler table: of columns, and of their parts that make a handler
// unique.
const (
	maxColumn    = 255
	uniqueURL    = 180
	uniqueEvent  = 50
	uniqueSource = 70
)

// equal reports whether the platform takes two handlers for the same.
func (b *binding) equal(o *binding) bool {
	return b.app == o.app && b.user == o.user && b.offline == o.offline && b.bot == o.bot &&
		firstBytes(b.event, uniqueEvent) == firstBytes(o.event, uniqueEvent) &&
		firstBytes(b.handler, uniqueURL) == firstBytes(o.handler, uniqueURL) &&
		firstBytes(b.connector, uniqueSource) == firstBytes(o.connector, uniqueSource)
}

// firstBytes returns the first n bytes of s.
func firstBytes(s string, n int) string { return s[:min(len(s), n)] }

// addBindingLocked stores a handler. It reports false if the same one is already there.
func (p *Portal) addBindingLocked(b *binding) bool {
	if slices.ContainsFunc(p.handlers.bound, b.equal) {
		return false
	}
	b.id = p.nextIDLocked("handler")
	p.handlers.bound = append(p.handlers.bound, b)
	return true
}

// rebindLocked replaces the online handlers of an application's events. handlers maps events to
// URLs.
func (p *Portal) rebindLocked(a *Application, handlers map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(handlers)) {
		p.handlers.bound = slices.DeleteFunc(p.handlers.bound, func(b *binding) bool { return b.app == a && b.event == name && !b.offline })
		p.addBindingLocked(&binding{app: a, event: name, handler: handlers[name], minTimeout: -1})
	}
}

// checkCallback is the platform's check of a handler address: a host with a dot that is not its
// first character, and one of two schemes in lower case. IPv6 addresses fail, including those that
// end in the form of IPv4. The platform does not call the address.
func checkCallback(handler string) *apiError {
	u, err := url.Parse(handler)
	if err != nil || strings.Index(u.Hostname(), ".") <= 0 || strings.Contains(u.Hostname(), ":") {
		return fail(400, "ERROR_WRONG_HANDLER_URL", "Wrong handler URL")
	}
	if !strings.HasPrefix(handler, "http://") && !strings.HasPrefix(handler, "https://") {
		return fail(400, "ERROR_UNSUPPORTED_PROTOCOL", "Unsupported handler protocol")
	}
	return nil
}

// checkURL returns an ErrConfig if raw is not an address that the portal can post to.
func checkURL(raw string, optional bool) error {
	if optional {
		return nil
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return misconfigured("a handler address must be an absolute http or https URL")
	}
	port, portErr := strconv.ParseUint(cmp.Or(u.Port(), "1"), 10, 16)
	if strings.ContainsAny(raw, "# \x7f") || portErr != nil || port == 0 {
		return misconfigured("a handler address must have no fragment and no space, and a port from 1 to 65535")
	}
	return nil
}

// Binding is one event handler of an application.
type Binding struct {
	ID        int64 // event_handler_id
	ClientID  string
	Event     string
	Handler   string // its URL; empty for the offline queue
	UserID    int64  // AUTH_TYPE: the user whose tokens are sent; 0 for the user who caused the event
	Connector string
	Offline   bool
}

// Bindings returns all event handlers in the order in which they were bound.
func (p *Portal) Bindings() []Binding {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Binding, len(p.handlers.bound))
	for i, b := range p.handlers.bound {
		list[i] = Binding{
			ID: b.id, ClientID: b.app.spec.ClientID, Event: b.event, Handler: b.handler, UserID: b.user,
			Connector: b.connector, Offline: b.offline,
		}
	}
	return list
}
