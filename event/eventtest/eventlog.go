package eventtest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/phpform"
)

// logRetention is how long the portal keeps logged events that are not acknowledged.
const logRetention = 24 * time.Hour

// loggedEvent is an event that waits to be polled: of a bot in fetch mode, or of a user with a
// subscription. All logs share one sequence of IDs.
type loggedEvent struct {
	id   int64
	time time.Time
	bot  int64 // 0 for an event of a user
	user int64 // 0 for an event of a bot
	name string
	data phpform.Value
	size int // of the data as JSON, in bytes
}

// subscriber is whom im.v2.Event.subscribe subscribes: a user, for an application or an incoming
// webhook.
type subscriber struct {
	app  *Application
	hook *incomingWebhook
	user int64
}

// reaction is a user's reaction to a message.
type reaction struct {
	message, user int64
	name          string
}

// eventLog holds the events that wait to be polled. Portal.mu guards it.
type eventLog struct {
	events      []loggedEvent // in the order of their IDs
	bytes       int           // of their data
	subscribers map[subscriber]bool
	reactions   map[reaction]bool
}

// LoggedEvent is an event that waits to be polled with imbot.v2.Event.get or im.v2.Event.get.
type LoggedEvent struct {
	ID     int64
	BotID  int64 // the bot in fetch mode whose event it is; 0 for an event of a user
	UserID int64 // the user whose event it is; 0 for an event of a bot
	Event  string
	Data   event.Data
	Time   time.Time // by the portal's clock
}

// LoggedEvents returns the events that wait to be polled, in the order of their IDs. An event
// leaves the log when a call acknowledges it, and after 24 hours. Only the latest 20,000 are kept,
// of 64 MiB in all, so that a bot that never polls does not fill the memory.
func (p *Portal) LoggedEvents() []LoggedEvent {
	p.mu.Lock()
	p.dropOldEventsLocked()
	logged := slices.Clone(p.eventLog.events)
	p.mu.Unlock()
	list := make([]LoggedEvent, len(logged)) // without the lock, because converting the data takes time
	for i, e := range logged {
		list[i] = e.exported()
	}
	return list
}

// exported returns the event as callers see it.
func (e loggedEvent) exported() LoggedEvent {
	return LoggedEvent{ID: e.id, BotID: e.bot, UserID: e.user, Event: e.name, Data: dataOf(e.data), Time: e.time}
}

// RaiseForBot raises an event that only one bot of imbot.v2 gets, for example ONIMBOTV2CONTEXTGET
// or ONIMBOTV2COMMANDADD. A bot in fetch mode polls it, and one in webhook mode gets a delivery.
// data is what [Portal.Raise] takes; its key bot is replaced. user caused the event; 0 means no
// user.
//
// It returns [ErrNotFound] if the application has no such bot, or there is no such user, and
// [ErrConfig] for an event that is not one of bots of imbot.v2.
func (a *Application) RaiseForBot(id int64, name string, data any, user int64) error {
	action, ok := strings.CutPrefix(upperName(name), "ONIMBOTV2")
	if !ok || action == "" {
		return misconfigured("the event of a bot of imbot.v2 begins with ONIMBOTV2")
	}
	tree, err := treeOf(data)
	if err != nil {
		return err
	}
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.chat.bots[id]
	switch {
	case p.closed:
		return ErrClosed
	case b == nil || b.app != a || b.v2 == nil:
		return fmt.Errorf("%w: bot %d of imbot.v2", ErrNotFound, id)
	case user != 0 && p.accounts.users[user] == nil:
		return fmt.Errorf("%w: user %d", ErrNotFound, user)
	}
	rest, _ := take(tree, "bot")
	ev := p.newPendingEvents(user)
	p.raiseV2(ev, action, b, user, rest.Entries()...)
	p.sendPending(ev)
	return nil
}

// RaiseForUser logs an ONIMV2* event of a user, for example ONIMV2JOINCHAT, which nothing else
// causes here. data is what [Portal.Raise] takes. As on the platform, it is logged only if the user
// is subscribed with im.v2.Event.subscribe.
//
// It returns [ErrNotFound] if there is no such user, and [ErrConfig] for another event.
func (p *Portal) RaiseForUser(user int64, name string, data any) error {
	name = upperName(name)
	if !strings.HasPrefix(name, "ONIMV2") {
		return misconfigured("the event of a user begins with ONIMV2")
	}
	tree, err := treeOf(data)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return ErrClosed
	case p.accounts.users[user] == nil:
		return fmt.Errorf("%w: user %d", ErrNotFound, user)
	}
	p.logForUserLocked(user, name, tree)
	return nil
}

// React adds a user's reaction, such as like, to a message of a chat that the user is in, or takes
// it back. A reaction that is there already, or not there, changes nothing. The bot of imbot.v2
// that wrote the message gets ONIMBOTV2REACTIONCHANGE, and subscribed users of the chat get
// ONIMV2REACTIONCHANGE.
//
// It returns [ErrNotFound] for an unknown message or user, and [ErrConfig] for a user who is not in
// the chat, or an empty reaction.
func (p *Portal) React(messageID, user int64, name string, add bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.objects[ChatMessage][messageID]
	switch {
	case p.closed:
		return ErrClosed
	case o == nil:
		return fmt.Errorf("%w: message %d", ErrNotFound, messageID)
	case p.accounts.users[user] == nil:
		return fmt.Errorf("%w: user %d", ErrNotFound, user)
	case name == "":
		return misconfigured("a reaction has a name, such as like")
	}
	m := messageOf(o)
	if user != m.author && user != m.to {
		return misconfigured("user %d is not in the chat of message %d", user, messageID)
	}
	key := reaction{messageID, user, name}
	if p.eventLog.reactions[key] == add {
		return nil
	}
	action := "delete"
	if add {
		action = "add"
		if p.eventLog.reactions == nil {
			p.eventLog.reactions = map[reaction]bool{}
		}
		p.eventLog.reactions[key] = true
	} else {
		delete(p.eventLog.reactions, key)
	}
	about := []phpform.Entry{text("reaction", name), text("action", action), kv("message", messageV2(o))}
	ev := p.newPendingEvents(user)
	if b := p.chat.bots[m.author]; b != nil && b.v2 != nil && b.id != user {
		p.raiseV2(ev, "REACTIONCHANGE", b, user, p.aboutChatV2(about, m.chat, user, user)...)
	}
	p.logForMembersLocked("REACTIONCHANGE", m, user, about)
	p.sendPending(ev)
	return nil
}

// logMessageLocked logs what happened to a message for the subscribed users of its chat. action is
// ADD, UPDATE or DELETE.
func (p *Portal) logMessageLocked(action string, o *object) {
	m := messageOf(o)
	about := []phpform.Entry{kv("message", messageV2(o))}
	if action == "DELETE" {
		about = []phpform.Entry{number("messageId", m.id)}
		for key := range p.eventLog.reactions {
			if key.message == m.id {
				delete(p.eventLog.reactions, key)
			}
		}
	}
	p.logForMembersLocked("MESSAGE"+action, m, m.author, about)
}

// logForMembersLocked logs an event for both users of a private chat. by is the user that the event
// names.
func (p *Portal) logForMembersLocked(action string, m message, by int64, about []phpform.Entry) {
	for _, member := range []int64{m.author, m.to} {
		other := m.author + m.to - member // dialogs are named after the counterpart
		if p.subscribedLocked(member) && p.accounts.users[by] != nil {
			p.logForUserLocked(member, "ONIMV2"+action, phpform.Map(p.aboutChatV2(about, m.chat, other, by)...))
		}
	}
}

// aboutChatV2 adds to the data of an event what all events about a private chat end with. with is
// the counterpart of the one who gets the event, by the user that the event names.
func (p *Portal) aboutChatV2(about []phpform.Entry, chat, with, by int64) []phpform.Entry {
	u := p.accounts.users[by]
	return append(slices.Clone(about), kv("chat", p.chatV2(chat, with)), kv("user", u.valueV2(p.chat.bots[by] != nil)), text("language", "en"))
}

// subscribedLocked reports whether any application has subscribed a user.
func (p *Portal) subscribedLocked(user int64) bool {
	for s := range p.eventLog.subscribers {
		if s.user == user {
			return true
		}
	}
	return false
}

// logForUserLocked logs an event of a user who is subscribed.
func (p *Portal) logForUserLocked(user int64, name string, data phpform.Value) {
	if p.subscribedLocked(user) {
		p.logEventLocked(loggedEvent{user: user, name: name, data: data})
	}
}

// logForBotLocked logs an event of a bot in fetch mode. Its data has the whole bot, without tokens.
func (p *Portal) logForBotLocked(b *bot, name string, data []phpform.Entry) {
	p.logEventLocked(loggedEvent{
		bot: b.id, name: name, data: phpform.Map(append([]phpform.Entry{kv("bot", b.valueV2())}, data...)...),
	})
}

func (p *Portal) logEventLocked(e loggedEvent) {
	p.dropOldEventsLocked()
	e.id, e.time, e.size = p.nextIDLocked("logged event"), p.nowLocked(), len(e.data.AppendJSON(nil))
	p.eventLog.events, p.eventLog.bytes = append(p.eventLog.events, e), p.eventLog.bytes+e.size
	for len(p.eventLog.events) > maxRecords || p.eventLog.bytes > maxRecordBytes && len(p.eventLog.events) > 1 {
		p.dropOldestEventLocked()
	}
	p.signalChangeLocked()
}

func (p *Portal) dropOldestEventLocked() {
	p.eventLog.bytes -= p.eventLog.events[0].size
	p.eventLog.events[0] = loggedEvent{} // so that its data is freed
	p.eventLog.events = p.eventLog.events[1:]
}

// dropOldEventsLocked drops events that have waited for too long.
func (p *Portal) dropOldEventsLocked() {
	oldest := p.nowLocked().Add(-logRetention)
	for len(p.eventLog.events) > 0 && p.eventLog.events[0].time.Before(oldest) {
		p.dropOldestEventLocked()
	}
}

// dropEventsLocked drops the logged events that match.
func (p *Portal) dropEventsLocked(match func(*loggedEvent) bool) {
	before := len(p.eventLog.events)
	p.eventLog.events = slices.DeleteFunc(p.eventLog.events, func(e loggedEvent) bool {
		gone := match(&e)
		if gone {
			p.eventLog.bytes -= e.size
		}
		return gone
	})
	if len(p.eventLog.events) != before {
		p.signalChangeLocked()
	}
}

// dropSubscribersLocked ends the subscriptions of an application. What was logged stays.
func (p *Portal) dropSubscribersLocked(a *Application) {
	for s := range p.eventLog.subscribers {
		if s.app == a {
			delete(p.eventLog.subscribers, s)
		}
	}
}
