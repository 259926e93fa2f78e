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
	binding  []*binding          // being bound; see Quirks.RacingBinds
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
	minTimeout int64 // -1 where not given
	bot        *bot  // of imbot.v2, whose subscription it is
}

// Columns of the handler table.
const (
	maxColumn    = 255
	uniqueURL    = 180
	uniqueEvent  = 50
	uniqueSource = 70
)

// equal compares what makes a handler unique.
func (b *binding) equal(o *binding) bool {
	return b.app == o.app && b.user == o.user && b.offline == o.offline && b.bot == o.bot &&
		firstBytes(b.event, uniqueEvent) == firstBytes(o.event, uniqueEvent) &&
		firstBytes(b.handler, uniqueURL) == firstBytes(o.handler, uniqueURL) &&
		firstBytes(b.connector, uniqueSource) == firstBytes(o.connector, uniqueSource)
}

func firstBytes(s string, n int) string { return s[:min(len(s), n)] }

// addBindingLocked stores a handler unless the same one is there.
func (p *Portal) addBindingLocked(b *binding) bool {
	if slices.ContainsFunc(p.handlers.bound, b.equal) {
		return false
	}
	b.id = p.nextIDLocked("handler")
	p.handlers.bound = append(p.handlers.bound, b)
	return true
}

// rebindLocked gives an application's events their only online handlers.
func (p *Portal) rebindLocked(a *Application, handlers map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(handlers)) {
		p.handlers.bound = slices.DeleteFunc(p.handlers.bound, func(b *binding) bool { return b.app == a && b.event == name && !b.offline })
		p.addBindingLocked(&binding{app: a, event: name, handler: handlers[name], minTimeout: -1})
	}
}

// checkCallback is the platform's whole check of a handler address: a host with a dot that is not
// its first character, and one of two schemes in lower case. Nothing is called.
func checkCallback(handler string) *apiError {
	u, err := url.Parse(handler)
	if err != nil || strings.Index(u.Hostname(), ".") <= 0 {
		return fail(400, "ERROR_WRONG_HANDLER_URL", "Wrong handler URL")
	}
	if !strings.HasPrefix(handler, "http://") && !strings.HasPrefix(handler, "https://") {
		return fail(400, "ERROR_UNSUPPORTED_PROTOCOL", "Unsupported handler protocol")
	}
	return nil
}

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
		return misconfigured("a handler address must hold no fragment and no space, and no port but 1 to 65535")
	}
	return nil
}

// Binding is one event handler of an application.
type Binding struct {
	ID        int64 // event_handler_id
	ClientID  string
	Event     string
	Handler   string // empty for the offline queue
	UserID    int64  // AUTH_TYPE: whose tokens are sent, 0 for whoever caused the event
	Connector string
	Offline   bool
}

// Bindings returns every handler in the order in which they were bound.
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
