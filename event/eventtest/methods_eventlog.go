package eventtest

import (
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// The number of events in a response of imbot.v2.Event.get and im.v2.Event.get.
const (
	defaultLogLimit = 100
	maxLogLimit     = 1000
)

// flag reads a boolean parameter of imbot.v2, which may be a JSON boolean, Y or N.
func (c *call) flag(name string) bool {
	v, _ := c.param(name)
	return yes(v)
}

// yes reports whether a boolean of imbot.v2 is true.
func yes(v phpform.Value) bool {
	return truthy(v) && !strings.EqualFold(strings.TrimSpace(v.Scalar()), "N")
}

// subscriber returns whom im.v2.Event.subscribe would subscribe.
func (c *call) subscriber() subscriber {
	return subscriber{app: c.caller.app, hook: c.caller.webhook, user: c.caller.user.id}
}

// botEventGet returns the events of a bot in fetch mode, and with withUserEvents those of the
// calling user. It acknowledges those below offset.
func (p *Portal) botEventGet(c *call) (reply, *apiError) {
	b, apiErr := p.botV2(c)
	if apiErr != nil {
		return reply{}, apiErr
	}
	user := int64(0)
	if c.flag("withUserEvents") {
		user = c.caller.user.id
		switch {
		case !c.caller.allows("im"):
			return reply{}, fail(403, "SCOPE_ERROR", "Scope error")
		case !p.eventLog.subscribers[c.subscriber()]:
			return reply{}, fail(400, "USER_NOT_SUBSCRIBED", "User not subscribed")
		}
	}
	return p.pollLocked(c, func(e *loggedEvent) bool { return e.bot == b.id || (user != 0 && e.user == user) })
}

// userEventGet returns the events of the calling user, from the log that all applications share. It
// acknowledges those below offset for all of them.
func (p *Portal) userEventGet(c *call) (reply, *apiError) {
	user := c.caller.user.id
	return p.pollLocked(c, func(e *loggedEvent) bool { return e.user == user })
}

// pollLocked acknowledges those of the matching events that are below offset, and returns the first
// of the others.
func (p *Portal) pollLocked(c *call, match func(*loggedEvent) bool) (reply, *apiError) {
	p.dropOldEventsLocked()
	v, given := c.param("offset")
	offset := max(0, intOf(v))
	limit := int64(defaultLogLimit)
	if v, ok := c.param("limit"); ok {
		limit = min(max(1, intOf(v)), maxLogLimit)
	}
	if given {
		p.dropEventsLocked(func(e *loggedEvent) bool { return e.id < offset && match(e) })
	}
	events, more := []phpform.Value{}, false
	for i := range p.eventLog.events {
		e := &p.eventLog.events[i]
		if !match(e) {
			continue
		}
		if int64(len(events)) == limit {
			more = true
			break
		}
		events = append(events, phpform.Map(
			number("eventId", e.id), text("type", e.name), text("date", isoTime(e.time)), kv("data", e.data),
		))
		offset = e.id + 1
	}
	return done(phpform.Map(
		kv("events", phpform.List(events...)), number("nextOffset", offset), kv("hasMore", phpform.Boolean(more)),
	))
}

func (p *Portal) userEventSubscribe(c *call) (reply, *apiError) {
	if p.eventLog.subscribers == nil {
		p.eventLog.subscribers = map[subscriber]bool{}
	}
	p.eventLog.subscribers[c.subscriber()] = true
	return done(phpform.Boolean(true))
}

// userEventUnsubscribe ends a subscription. What was logged stays.
func (p *Portal) userEventUnsubscribe(c *call) (reply, *apiError) {
	delete(p.eventLog.subscribers, c.subscriber())
	return done(phpform.Boolean(true))
}

// botV2Send sends a message of a bot to a user.
func (p *Portal) botV2Send(c *call) (reply, *apiError) {
	b, apiErr := p.botV2(c)
	if apiErr != nil {
		return reply{}, apiErr
	}
	to := intOf(phpform.Text(c.str("dialogId")))
	body := strings.TrimSpace(c.fieldV2("message"))
	switch {
	case to <= 0 || to == b.id || p.accounts.users[to] == nil:
		return reply{}, fail(403, "ACCESS_DENIED", "Access denied")
	case body == "":
		return reply{}, fail(400, "EMPTY_MESSAGE", "Message is empty")
	}
	return done(phpform.Map(number("id", p.addMessage(c.events, b.id, to, body).id), kv("uuidMap", phpform.Map())))
}
