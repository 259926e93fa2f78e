package eventtest

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// BotMessage is a message that a user writes to a chat bot of an application.
type BotMessage struct {
	BotID    int64 // user identifier of the bot; 567 where 0
	BotCode  string
	ChatID   int64  // 1 where 0
	DialogID string // the writing user, as in a private chat, where empty
	Text     string
}

// BotMessage raises ONIMBOTMESSAGEADD for an application: the message of a user to its bot, with the bot's live tokens in the
// data, twice, as the platform sends them. Only handlers of that application get it. It returns [ErrNotFound] for an unknown
// user and [ErrNotInstalled].
func (p *Portal) BotMessage(a *Application, user int64, m BotMessage) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.users[user]
	switch {
	case p.closed:
		return ErrClosed
	case u == nil:
		return fmt.Errorf("%w: user %d", ErrNotFound, user)
	case !a.registered:
		return ErrNotInstalled
	}
	if m.BotID == 0 {
		m.BotID = 567
	}
	if m.ChatID == 0 {
		m.ChatID = 1
	}
	if m.BotCode == "" {
		m.BotCode = "bot"
	}
	if m.DialogID == "" {
		m.DialogID = userKey(user)
	}
	h := p.newHit(user)
	h.raise(occurrence{event: "ONIMBOTMESSAGEADD", app: a, user: user, data: phpform.Map(
		kv("BOT", phpform.Map(kv(userKey(m.BotID), p.botEntry(a, m)))),
		kv("PARAMS", phpform.Map(
			text("MESSAGE", m.Text),
			text("TEMPLATE_ID", templateID()),
			text("MESSAGE_TYPE", "P"),
			number("FROM_USER_ID", user),
			text("DIALOG_ID", m.DialogID),
			number("TO_CHAT_ID", m.ChatID),
			number("AUTHOR_ID", user),
			text("SYSTEM", "N"),
			number("TO_USER_ID", m.BotID),
			number("CHAT_USER_COUNT", 2),
			text("PLATFORM_CONTEXT", "web"),
			number("MESSAGE_ID", p.next("message")),
			text("CHAT_TYPE", "P"),
			text("LANGUAGE", "en"),
		)),
		kv("USER", phpform.Map(
			number("ID", user),
			text("NAME", strings.TrimSpace(u.Name+" "+u.LastName)),
			text("FIRST_NAME", u.Name),
			text("LAST_NAME", u.LastName),
			text("WORK_POSITION", ""),
			text("GENDER", ""),
			text("IS_BOT", "N"),
			text("IS_CONNECTOR", "N"),
			text("IS_NETWORK", "N"),
			text("IS_EXTRANET", "N"),
		)),
	)})
	p.finish(h)
	return nil
}

// botEntry is the bot with its own tokens, which stand both beside its fields and under AUTH. The bot is a user whom only the
// tokens name.
func (p *Portal) botEntry(a *Application, m BotMessage) phpform.Value {
	if p.users[m.BotID] == nil {
		p.users[m.BotID] = &user{id: m.BotID, User: User{Name: m.BotCode}}
	}
	g := p.issue(a, m.BotID, freshSession, true)
	auth := phpform.Map(
		text("access_token", string(g.AccessToken)),
		text("expires", strconv.FormatInt(g.Expires.Unix(), 10)),
		text("expires_in", strconv.FormatInt(int64(p.moods.TokenLifetime/time.Second), 10)),
		text("scope", strings.Join(g.Scope, ",")),
		text("domain", g.Domain),
		text("server_endpoint", g.ServerEndpoint),
		text("status", g.Status),
		text("client_endpoint", g.ClientEndpoint),
		text("member_id", g.MemberID),
		text("refresh_token", string(g.RefreshToken)),
		text("user_id", userKey(m.BotID)),
		text("client_id", a.spec.ClientID),
		text("application_token", string(g.ApplicationToken)),
	)
	entries := append([]phpform.Entry{}, auth.Entries()...)
	return phpform.Map(append(entries, kv("AUTH", auth), number("BOT_ID", m.BotID), text("BOT_CODE", m.BotCode))...)
}

// templateID is a random identifier in the form of a UUID.
func templateID() string {
	s := randomText(32, hexDigits)
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}
