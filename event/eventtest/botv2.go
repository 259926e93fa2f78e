package eventtest

import (
	"fmt"
	"slices"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/phpform"
)

// botV2 holds what only a bot of imbot.v2 has.
type botV2 struct {
	token            string       // botToken; empty for a bot that uses its application's tokens
	applicationToken event.Secret // signs its deliveries once it has a botToken
}

// botV2Events returns the events that a bot of imbot.v2 in webhook mode is subscribed to.
func botV2Events() []string {
	return []string{
		"ONIMBOTV2MESSAGEADD", "ONIMBOTV2MESSAGEUPDATE", "ONIMBOTV2MESSAGEDELETE", "ONIMBOTV2JOINCHAT",
		"ONIMBOTV2DELETE", "ONIMBOTV2CONTEXTGET", "ONIMBOTV2COMMANDADD", "ONIMBOTV2REACTIONCHANGE",
	}
}

// applicationTokenLocked returns the token that signs the bot's deliveries: the application's, or
// the bot's own. Portal.mu must be held.
func (b *bot) applicationTokenLocked() event.Secret {
	if b.v2 != nil && b.v2.applicationToken != "" {
		return b.v2.applicationToken
	}
	return b.app.token
}

// setToken gives the bot a botToken, and its subscriptions a new application token.
func (v *botV2) setToken(botToken string) {
	v.token, v.applicationToken = botToken, event.Secret(randomText(32, hexDigits))
}

// RotateBotToken replaces the botToken of a bot of imbot.v2, as imbot.v2.Bot.update does with
// fields.botToken. It returns the application token that the bot's ONIMBOTV2* events carry from now
// on. Other events of the application keep theirs. It returns [ErrNotFound] if the application has
// no such bot.
func (a *Application) RotateBotToken(id int64) (event.Secret, error) {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.chat.bots[id]
	if b == nil || b.app != a || b.v2 == nil {
		return "", fmt.Errorf("%w: bot %d of imbot.v2", ErrNotFound, id)
	}
	b.v2.setToken(randomText(32, base36))
	p.signalChangeLocked()
	return b.v2.applicationToken, nil
}

// subscribeLocked replaces the subscriptions of a bot by eight to url. If url is empty, the bot is
// in fetch mode.
func (p *Portal) subscribeLocked(b *bot, url string) {
	p.handlers.bound = slices.DeleteFunc(p.handlers.bound, func(have *binding) bool { return have.bot == b })
	b.Webhook, b.Fetch = url, url == ""
	if url == "" {
		return
	}
	for _, name := range botV2Events() {
		p.addBindingLocked(&binding{app: b.app, bot: b, event: name, handler: url, minTimeout: -1})
	}
}

// unsubscribeGoneLocked ends the subscriptions of deleted bots.
func (p *Portal) unsubscribeGoneLocked() {
	p.handlers.bound = slices.DeleteFunc(p.handlers.bound, func(b *binding) bool { return b.bot != nil && b.bot.deleted })
}

// raiseV2 raises an event of a bot of imbot.v2: a delivery with fresh tokens of the bot, or, in
// fetch mode, an event to be polled.
func (p *Portal) raiseV2(ev *pendingEvents, action string, b *bot, by int64, data ...phpform.Entry) {
	if b.Webhook == "" {
		p.logForBotLocked(b, "ONIMBOTV2"+action, data)
		return
	}
	g := p.issueForEventLocked(b.app, b.id, maxEventChain, true)
	entries := []phpform.Entry{kv("bot", phpform.Map(
		number("id", b.id), text("code", b.Code),
		kv("auth", phpform.Map(append(p.tokenEntriesLocked(g),
			number("user_id", b.id),
			text("refresh_token", string(g.RefreshToken)),
			text("application_token", string(g.ApplicationToken)),
		)...)),
	))}
	ev.raise(occurrence{event: "ONIMBOTV2" + action, app: b.app, bot: b, user: by, data: phpform.Map(append(entries, data...)...)})
}

// raiseMessageV2 does what raiseMessage does, for a bot of imbot.v2.
func (p *Portal) raiseMessageV2(ev *pendingEvents, action string, b *bot, o *object) {
	m := messageOf(o)
	about := kv("message", messageV2(o))
	if action == "DELETE" {
		about = number("messageId", m.id)
	}
	p.raiseV2(ev, "MESSAGE"+action, b, m.author,
		about, kv("chat", p.chatV2(m.chat, m.author)), kv("user", p.accounts.users[m.author].valueV2(false)), text("language", "en"))
}

// messageV2 returns a message as imbot.v2 and im.v2 show it.
func messageV2(o *object) phpform.Value {
	m := messageOf(o)
	return phpform.Map(
		number("id", m.id),
		number("chatId", m.chat),
		number("authorId", m.author),
		kv("date", o.get("DATE")),
		text("text", m.text),
		kv("isSystem", phpform.Boolean(false)),
		text("uuid", ""),
		kv("viewedByOthers", phpform.Boolean(false)),
	)
}

func (p *Portal) raiseJoinV2(ev *pendingEvents, b *bot, by int64) {
	chat, _ := p.chat.betweenLocked(p, b.id, by)
	p.raiseV2(ev, "JOINCHAT", b, by,
		digits("dialogId", by), kv("chat", p.chatV2(chat, by)), kv("user", p.accounts.users[by].valueV2(false)), text("language", "en"))
}

func (p *Portal) raiseDeleteV2(ev *pendingEvents, b *bot, by int64) { p.raiseV2(ev, "DELETE", b, by) }

// chatV2 returns the private chat of a bot and a user.
func (p *Portal) chatV2(id, user int64) phpform.Value {
	return phpform.Map(
		number("id", id),
		digits("dialogId", user),
		text("type", "private"),
		text("name", ""),
		text("entityType", ""),
		number("owner", user),
		text("avatar", ""),
		text("color", "#ab7761"),
	)
}

// valueV2 returns a user as imbot.v2 shows it.
func (u *user) valueV2(bot bool) phpform.Value {
	kind, signIn := "employee", "default"
	if bot {
		kind, signIn = "bot", "bot"
	}
	return phpform.Map(
		number("id", u.id),
		kv("active", phpform.Boolean(!u.dismissed)),
		text("name", u.fullName()),
		text("firstName", u.Name),
		text("lastName", u.LastName),
		text("workPosition", ""),
		text("gender", "M"),
		kv("extranet", phpform.Boolean(false)),
		kv("bot", phpform.Boolean(bot)),
		kv("connector", phpform.Boolean(false)),
		text("externalAuthId", signIn),
		text("status", "online"),
		kv("departments", phpform.List(phpform.Int(1))),
		text("type", kind),
	)
}
