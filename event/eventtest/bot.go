package eventtest

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// Bot describes a chat bot of the old API (imbot without v2) to [Application.AddBot]. Every field
// may be left empty.
type Bot struct {
	Code string // unique within the application; "bot" if empty
	Name string // Code if empty
	// Type is B for an ordinary bot (the default), H for one that shows typing, S for a supervisor, O
	// for a bot of open channels.
	Type string
	// Webhook makes a bot of imbot.v2 in webhook mode: the portal sends its ONIMBOTV2* events to
	// this URL.
	Webhook string
	// Fetch makes a bot of imbot.v2 in fetch mode: its ONIMBOTV2* events wait for
	// imbot.v2.Event.get; see [Portal.EventLogs].
	Fetch bool
}

// bot is a chat bot. It also has a user, which only its tokens name. Portal.mu guards it.
type bot struct {
	Bot
	id       int64
	app      *Application
	openline bool
	deleted  bool // its subscriptions end when the pending events are sent
	v2       *botV2
}

// maxBots is the number of bots that an application can have.
const maxBots = 5

// AddBot registers a chat bot of the application as imbot.register does, but binds no handlers. Use
// event.bind for the events ONIMBOTMESSAGEADD, ONIMBOTMESSAGEUPDATE, ONIMBOTMESSAGEDELETE,
// ONIMBOTJOINCHAT and ONIMBOTDELETE. A bot with a Webhook is registered as imbot.v2.Bot.register
// does, which also subscribes it. So is a bot with Fetch, whose events wait to be polled.
//
// AddBot returns the ID of the bot. Users write to it by [Portal.Add] with the kind [ChatMessage].
// If the application already has a bot with the code, AddBot returns its ID. The errors are
// [ErrNotInstalled], [ErrClosed], [ErrConfig] for an unknown type, a bad Webhook, or both Webhook
// and Fetch, and one for a sixth bot.
func (a *Application) AddBot(b Bot) (int64, error) {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return 0, ErrClosed
	case !a.registered:
		return 0, ErrNotInstalled
	case b.Type != "" && botType(b.Type) != b.Type:
		return 0, misconfigured("the type of a bot is B, H, S or O")
	case b.Webhook != "" && b.Fetch:
		return 0, misconfigured("a bot has either a Webhook, or Fetch for one whose events are polled")
	}
	if b.Webhook != "" {
		if err := checkURL(b.Webhook, false); err != nil {
			return 0, err
		}
	}
	if b.Code == "" {
		b.Code = "bot"
	}
	if b.Name == "" {
		b.Name = b.Code
	}
	added, ok := p.registerBotLocked(a, b, User{Name: b.Name}, false)
	if !ok {
		return 0, fmt.Errorf("eventtest: an application can have at most %d bots", maxBots)
	}
	if (b.Webhook != "" || b.Fetch) && added.v2 == nil {
		added.v2 = &botV2{}
		p.subscribeLocked(added, b.Webhook)
	}
	p.signalChangeLocked()
	return added.id, nil
}

// Bots returns the chat bots of the application by ID, including those that it registered itself.
func (a *Application) Bots() map[int64]Bot {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	list := map[int64]Bot{}
	for id, b := range a.p.chat.bots {
		if b.app == a {
			shown := b.Bot
			shown.Name = a.p.accounts.users[id].fullName() // which its application may have changed
			list[id] = shown
		}
	}
	return list
}

// DeleteBot deletes a bot of the application as a user does in the portal's interface, and raises
// ONIMBOTDELETE. It returns [ErrNotFound] if the application has no such bot.
func (a *Application) DeleteBot(id, user int64) error {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.chat.bots[id]
	switch {
	case p.closed:
		return ErrClosed
	case b == nil || b.app != a:
		return fmt.Errorf("%w: bot %d", ErrNotFound, id)
	case user != 0 && p.accounts.users[user] == nil:
		return fmt.Errorf("%w: user %d", ErrNotFound, user)
	}
	ev := p.newPendingEvents(user)
	p.raiseBotDelete(ev, b, user)
	p.dropBotLocked(b)
	p.sendPending(ev)
	return nil
}

// botType returns the type that the platform uses for t. Unknown types become B.
func botType(t string) string {
	switch t {
	case "O", "H", "S":
		return t
	default:
		return "B"
	}
}

// registerBotLocked adds a bot, or returns the application's bot with the same code. It reports
// false if the application has too many bots.
func (p *Portal) registerBotLocked(a *Application, b Bot, profile User, openline bool) (added *bot, ok bool) {
	mine := 0
	for _, other := range p.chat.bots {
		if other.app != a {
			continue
		}
		if other.Code == b.Code {
			return other, true
		}
		mine++
	}
	if mine >= maxBots {
		return nil, false
	}
	b.Type = botType(b.Type)
	added = &bot{Bot: b, id: p.nextIDLocked("user"), app: a, openline: openline || b.Type == "O"}
	if p.chat.bots == nil {
		p.chat.bots = map[int64]*bot{}
	}
	p.chat.bots[added.id] = added
	p.accounts.users[added.id] = &user{id: added.id, User: profile}
	return added, true
}

// dropBotLocked removes a bot with its tokens and its dialogues. Its subscriptions stay until the
// pending events are sent, because they get its last event.
func (p *Portal) dropBotLocked(b *bot) {
	b.deleted = true
	delete(p.chat.bots, b.id)
	delete(p.accounts.users, b.id)
	p.dropTokensLocked(func(_ *Application, user int64) bool { return user == b.id })
	p.chat.forget(b.id)
	maps.DeleteFunc(p.chat.commands, func(_ int64, cmd *botCommand) bool { return cmd.bot == b })
	p.dropEventsLocked(func(e *loggedEvent) bool { return e.bot == b.id })
	for id, o := range p.objects[ChatMessage] {
		if m := messageOf(o); m.author == b.id || m.to == b.id {
			delete(p.objects[ChatMessage], id)
		}
	}
}

// dropBotsLocked removes the bots of an application.
func (p *Portal) dropBotsLocked(a *Application) {
	for _, b := range p.chat.bots {
		if b.app == a {
			p.dropBotLocked(b)
		}
	}
}

// raiseMessage raises the event for a message to a bot. action is ADD, UPDATE or DELETE.
func (p *Portal) raiseMessage(ev *pendingEvents, action string, o *object) {
	m := messageOf(o)
	b, u := p.chat.bots[m.to], p.accounts.users[m.author]
	if b == nil || u == nil || p.chat.bots[m.author] != nil {
		return // bots do not get messages from bots
	}
	if b.v2 != nil {
		p.raiseMessageV2(ev, action, b, o)
		return
	}
	params := p.messageParams(m)
	if action != "ADD" {
		params = changedParams(m)
	}
	ev.raise(occurrence{event: "ONIMBOTMESSAGE" + action, app: b.app, user: m.author, data: phpform.Map(
		kv("BOT", phpform.Map(kv(userKey(b.id), p.botEntryLocked(b)))),
		kv("PARAMS", params),
		kv("USER", phpform.Map(append(u.chatEntries(),
			text("IS_BOT", "N"), text("IS_CONNECTOR", "N"), text("IS_NETWORK", "N"), text("IS_EXTRANET", "N"))...)),
	)})
}

// raiseJoin raises the event for a user who opened a private chat with a bot.
func (p *Portal) raiseJoin(ev *pendingEvents, b *bot, by int64) {
	if b.v2 != nil {
		p.raiseJoinV2(ev, b, by)
		return
	}
	ev.raise(occurrence{event: "ONIMBOTJOINCHAT", app: b.app, user: by, data: phpform.Map(
		kv("BOT", phpform.Map(kv(userKey(b.id), p.botEntryLocked(b)))),
		kv("PARAMS", phpform.Map(
			text("CHAT_TYPE", "P"),
			text("MESSAGE_TYPE", "P"),
			number("BOT_ID", b.id),
			number("USER_ID", by),
			number("TO_USER_ID", by),
			number("FROM_USER_ID", b.id),
			digits("DIALOG_ID", by),
			text("LANGUAGE", "en"),
		)),
		kv("USER", phpform.Map(p.accounts.users[by].chatEntries()...)),
	)})
}

// raiseBotDelete raises the event for a deleted bot.
func (p *Portal) raiseBotDelete(ev *pendingEvents, b *bot, by int64) {
	if b.v2 != nil {
		p.raiseDeleteV2(ev, b, by)
		return
	}
	ev.raise(occurrence{event: "ONIMBOTDELETE", app: b.app, user: by, data: phpform.Map(
		number("BOT_ID", b.id), text("BOT_CODE", b.Code),
	)})
}

// messageParams returns the PARAMS of an event for a new message in a private chat.
func (p *Portal) messageParams(m message) phpform.Value {
	return phpform.Map(
		text("MESSAGE", m.text),
		text("TEMPLATE_ID", templateID()),
		text("MESSAGE_TYPE", "P"),
		number("FROM_USER_ID", m.author),
		digits("DIALOG_ID", m.author),
		number("TO_CHAT_ID", m.chat),
		number("AUTHOR_ID", m.author),
		text("SYSTEM", "N"),
		number("TO_USER_ID", m.to),
		text("PUSH", "Y"),
		text("PUSH_IMPORTANT", "N"),
		text("RECENT_SKIP_AUTHOR", "N"),
		text("CONVERT", "N"),
		text("SKIP_COMMAND", "N"),
		text("SKIP_COUNTER_INCREMENTS", "N"),
		text("SILENT_CONNECTOR", "N"),
		text("SKIP_CONNECTOR", "N"),
		text("IMPORTANT_CONNECTOR", "N"),
		text("NO_SESSION_OL", "N"),
		number("FAKE_RELATION", 0),
		text("SKIP_URL_INDEX", "N"),
		text("COMMAND_CONTEXT", "TEXTAREA"),
		number("CHAT_USER_COUNT", 2),
		text("PLATFORM_CONTEXT", "web"),
		number("MESSAGE_ID", m.id),
		text("CHAT_TYPE", "P"),
		text("LANGUAGE", "en"),
	)
}

// changedParams returns the PARAMS of an event for an edited or deleted message in a private chat.
func changedParams(m message) phpform.Value {
	return phpform.Map(
		number("ID", m.id),
		number("CHAT_ID", m.chat),
		number("AUTHOR_ID", m.author),
		text("MESSAGE", m.text),
		text("MESSAGE_TYPE", "P"),
		number("CHAT_AUTHOR_ID", m.to),
		text("CHAT_ENTITY_ID", ""),
		text("CHAT_ENTITY_DATA_1", ""),
		text("CHAT_ENTITY_DATA_2", ""),
		text("CHAT_ENTITY_DATA_3", ""),
		number("FROM_USER_ID", m.author),
		number("TO_USER_ID", m.to),
		number("CHAT_USER_COUNT", 2),
		text("PLATFORM_CONTEXT", "web"),
		digits("DIALOG_ID", m.author),
		number("MESSAGE_ID", m.id),
		text("CHAT_TYPE", "P"),
		text("LANGUAGE", "en"),
	)
}

// botEntryLocked returns the bot with live tokens of its own. They stand next to its fields and
// again, as texts, under AUTH.
func (p *Portal) botEntryLocked(b *bot) phpform.Value {
	g := p.issueForEventLocked(b.app, b.id, maxEventChain, true)
	entries := append(p.tokenEntriesLocked(g),
		text("refresh_token", string(g.RefreshToken)),
		number("user_id", b.id),
		text("client_id", b.app.spec.ClientID),
		text("application_token", string(g.ApplicationToken)),
	)
	auth := make([]phpform.Entry, len(entries))
	for i, e := range entries {
		auth[i] = text(e.Key, e.Value.Scalar())
	}
	return phpform.Map(append(entries, kv("AUTH", phpform.Map(auth...)), number("BOT_ID", b.id), text("BOT_CODE", b.Code))...)
}

// tokenEntriesLocked returns the fields that the token blocks of all bots begin with.
func (p *Portal) tokenEntriesLocked(g Grant) []phpform.Entry {
	return []phpform.Entry{
		text("access_token", string(g.AccessToken)),
		number("expires", g.Expires.Unix()),
		number("expires_in", int64(p.quirks.TokenLifetime/time.Second)),
		text("scope", strings.Join(g.Scope, ",")),
		text("domain", g.Domain),
		text("server_endpoint", g.ServerEndpoint),
		text("status", g.Status),
		text("client_endpoint", g.ClientEndpoint),
		text("member_id", g.MemberID),
	}
}

// chatEntries returns a user as the events of bots show it.
func (u *user) chatEntries() []phpform.Entry {
	return []phpform.Entry{
		number("ID", u.id),
		text("NAME", u.fullName()),
		text("FIRST_NAME", u.Name),
		text("LAST_NAME", u.LastName),
		text("WORK_POSITION", ""),
		text("GENDER", ""),
	}
}
