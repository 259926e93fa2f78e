package eventtest

import (
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/phpform"
)

// eventType reads EVENT_TYPE.
func (c *call) eventType() (offline bool, apiErr *apiError) {
	v, _ := c.param("EVENT_TYPE")
	switch {
	case v.Kind() == phpform.Array:
	case v.Scalar() == "", strings.EqualFold(v.Scalar(), "online"):
		return false, nil
	case strings.EqualFold(v.Scalar(), "offline"):
		return true, nil
	}
	return false, badArgument("Value must be one of {online|offline}", "EVENT_TYPE")
}

func (p *Portal) eventBind(c *call) (reply, *apiError) {
	authType, _ := c.param("AUTH_TYPE")
	b := &binding{app: c.caller.app, user: intOf(authType), connector: c.caller.connector, minTimeout: -1}
	if !c.caller.user.Admin {
		if b.user > 0 && b.user != c.caller.user.id {
			return reply{}, denied(" Event binding with AUTH_TYPE requires administrator access rights")
		}
		b.user = c.caller.user.id
	}
	if b.event = strings.ToUpper(c.str("EVENT")); b.event == "" {
		return reply{}, missing("EVENT")
	}
	var apiErr *apiError
	if b.offline, apiErr = c.eventType(); apiErr != nil {
		return reply{}, apiErr
	}
	switch {
	case b.offline && !c.caller.user.Admin:
		return reply{}, denied(" Offline events binding requires administrator access rights")
	case b.offline:
		b.user = 0
	default:
		if b.handler = c.str("HANDLER"); b.handler == "" {
			return reply{}, missing("HANDLER")
		}
		if apiErr := checkCallback(b.handler); apiErr != nil {
			return reply{}, apiErr
		}
	}
	scope, known := p.bindableLocked(b.event)
	if !known || !c.caller.allows(scope) {
		return reply{}, fail(400, "ERROR_EVENT_NOT_FOUND", "Event not found")
	}
	if b.offline && b.event == "ONOFFLINEEVENT" {
		return reply{}, badArgument("Offline event cannot be registered for this event.", "")
	}
	if options, _ := c.param("OPTIONS"); b.event == "ONOFFLINEEVENT" {
		if v, ok := options.Get("minTimeout"); ok {
			b.minTimeout = max(intOf(v), 0)
		}
	}
	if len(b.handler) > maxColumn || len(b.event) > maxColumn || len(b.connector) > maxColumn {
		return reply{}, fail(500, "ERROR_CORE", "SQL query error!")
	}
	if p.quirks.RacingBinds {
		if slices.ContainsFunc(p.handlers.binding, b.equal) {
			return reply{}, fail(400, "ERROR_CORE", "Unable to set event handler: Process of binding the handler has already started")
		}
		p.handlers.binding = append(p.handlers.binding, b)
		p.runOthersLocked()
		p.handlers.binding = slices.DeleteFunc(p.handlers.binding, func(o *binding) bool { return o == b })
	}
	if !p.addBindingLocked(b) {
		return reply{}, fail(400, "ERROR_CORE", "Unable to set event handler: Handler already binded")
	}
	return done(phpform.Boolean(true))
}

func (p *Portal) eventUnbind(c *call) (reply, *apiError) {
	admin := c.caller.user.Admin
	authType, restricted := c.param("AUTH_TYPE")
	user := intOf(authType)
	if !admin {
		// The comparison is strict: it needs a number, never the text that form encoding makes of it.
		if restricted && (authType.Kind() != phpform.Number || user != c.caller.user.id) {
			return reply{}, denied(" Event unbinding with AUTH_TYPE requires administrator access rights")
		}
		user, restricted = c.caller.user.id, true
	}
	name := strings.ToUpper(c.str("EVENT"))
	if name == "" {
		return reply{}, missing("EVENT")
	}
	offline, apiErr := c.eventType()
	if apiErr != nil {
		return reply{}, apiErr
	}
	handler := c.str("HANDLER")
	switch {
	case offline && !admin:
		return reply{}, denied(" Offline events unbinding requires administrator access rights")
	case !offline && handler == "":
		return reply{}, missing("HANDLER")
	}
	before := len(p.handlers.bound)
	p.handlers.bound = slices.DeleteFunc(p.handlers.bound, func(b *binding) bool {
		if b.app != c.caller.app || b.event != name || b.offline != offline {
			return false
		}
		if offline {
			return b.connector == c.caller.connector
		}
		return b.handler == handler && (!restricted || b.user == user)
	})
	return done(phpform.Map(number("count", int64(before-len(p.handlers.bound)))))
}

func (p *Portal) eventGet(c *call) (reply, *apiError) {
	rows := []phpform.Value{}
	for _, b := range p.handlers.bound {
		switch {
		case b.app != c.caller.app || !c.caller.user.Admin && b.user != c.caller.user.id:
		case b.offline:
			rows = append(rows, phpform.Map(text("event", b.event), text("connector_id", b.connector), number("offline", 1)))
		default:
			rows = append(rows, phpform.Map(
				text("event", b.event), text("handler", b.handler), digits("auth_type", b.user), number("offline", 0),
			))
		}
	}
	return done(phpform.List(rows...))
}

func (p *Portal) eventTest(c *call) (reply, *apiError) {
	query, _ := take(c.params, "start")
	c.events.raise(occurrence{event: "ONAPPTEST", app: c.caller.app, user: c.caller.user.id, data: phpform.Map(
		kv("QUERY", query), text("LANGUAGE_ID", "en"),
	)})
	return done(phpform.Int(1))
}

// eventNames lists the names of events: of one scope, of all, or of those that the token has.
func (p *Portal) eventNames(c *call) (reply, *apiError) {
	scope, one := c.param("SCOPE")
	full, _ := c.param("FULL")
	wanted := func(s string) bool {
		if one {
			return s == scope.Scalar()
		}
		return truthy(full) || c.caller.allows(s)
	}
	var names []string
	for info := range event.Catalog() {
		if info.AutoSubscribed || !wanted(scopeOf(info)) {
			continue
		}
		stem, templated := strings.CutSuffix(info.Name, typeIDMark)
		if !templated {
			names = append(names, info.Name)
			continue
		}
		for _, id := range p.smartProcessIDsLocked() {
			names = append(names, stem+strconv.FormatInt(id, 10))
		}
	}
	for _, name := range sortedKeys(p.catalog.extraEvents) {
		if wanted(p.catalog.extraEvents[name]) {
			names = append(names, name)
		}
	}
	return done(texts(names))
}
