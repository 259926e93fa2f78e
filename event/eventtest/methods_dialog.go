package eventtest

import (
	"maps"
	"slices"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// Numbers of messages in a response of im.dialog.messages.get.
const (
	usualMessages = 20
	mostMessages  = 50
)

// wholeNumber reports whether a parameter is a whole number, as a number or as a text.
func wholeNumber(v phpform.Value) bool {
	return v.Kind() != phpform.Array && v.Scalar() != "" && strings.Trim(v.Scalar(), "0123456789") == ""
}

// dialogChat returns the chat that DIALOG_ID names, seen by the caller: a private chat by the other
// user, or the chat of a task. The chat is 0 if the two have not written to each other yet.
func (p *Portal) dialogChat(c *call) (chat int64, apiErr *apiError) {
	dialog := strings.TrimSpace(c.str("DIALOG_ID"))
	kind := strings.TrimRight(dialog, "0123456789")
	id := intOf(phpform.Text(strings.TrimPrefix(dialog, kind)))
	denied := fail(403, "ACCESS_ERROR", "You do not have access to the specified dialog")
	switch {
	case id <= 0 || !slices.Contains([]string{"", "chat", "sg"}, kind):
		return 0, fail(400, "DIALOG_ID_EMPTY", "Dialog ID can't be empty")
	case kind == "chat" && p.chat.tasks[id] != 0:
		return id, nil
	case kind != "" || p.accounts.users[id] == nil || id == c.caller.user.id:
		return 0, denied
	}
	return p.chat.chats[pairOf(id, c.caller.user.id)], nil
}

// dialogMessages returns messages of a chat: the newest, those before LAST_ID, or those after
// FIRST_ID, of which the oldest come first.
func (p *Portal) dialogMessages(c *call) (reply, *apiError) {
	chat, apiErr := p.dialogChat(c)
	if apiErr != nil {
		return reply{}, apiErr
	}
	first, after := c.param("FIRST_ID")
	last, _ := c.param("LAST_ID")
	switch {
	case after && !wholeNumber(first):
		return reply{}, fail(400, "FIRST_ID_STRING", "First ID can't be string")
	case last.Kind() != phpform.Null && !wholeNumber(last):
		return reply{}, fail(400, "LAST_ID_STRING", "Last ID can't be string")
	}
	limit := usualMessages
	if v, _ := c.param("LIMIT"); intOf(v) > 0 {
		limit = int(min(intOf(v), mostMessages))
	}
	ids := slices.Sorted(maps.Keys(p.objects[ChatMessage]))
	before := intOf(last)
	if before > p.seq["object "+string(ChatMessage)] {
		ids = nil // no such message
	}
	if !after {
		slices.Reverse(ids)
	}
	var rows, users []phpform.Value
	seen := map[int64]bool{}
	for _, id := range ids {
		o := p.objects[ChatMessage][id]
		m := messageOf(o)
		if m.chat != chat || after && id <= intOf(first) || !after && before > 0 && id >= before {
			continue
		}
		if rows = append(rows, dialogMessage(o)); !seen[m.author] {
			seen[m.author] = true
			users = append(users, p.dialogUserLocked(m.author))
		}
		if len(rows) == limit {
			break
		}
	}
	return done(phpform.Map(
		number("chat_id", chat), kv("messages", phpform.List(rows...)), kv("users", phpform.List(users...)), kv("files", phpform.List()),
	))
}

// dialogMessage returns a message as im.dialog.messages.get shows it.
func dialogMessage(o *object) phpform.Value {
	m := messageOf(o)
	return phpform.Map(
		number("id", m.id),
		number("chat_id", m.chat),
		number("author_id", m.author),
		kv("date", o.get("DATE")),
		text("text", m.text),
		kv("unread", phpform.Boolean(false)),
		kv("uuid", null()),
		kv("replaces", phpform.List()),
		kv("params", phpform.Map()),
		kv("disappearing_date", null()),
	)
}

// dialogUserLocked returns a user as im.dialog.messages.get shows it.
func (p *Portal) dialogUserLocked(id int64) phpform.Value {
	u := p.accounts.users[id]
	if u == nil {
		u = &user{id: id, dismissed: true} // a bot that was deleted
	}
	bot := p.chat.bots[id] != nil
	kind, signIn := "user", "default"
	if bot {
		kind, signIn = "bot", "bot"
	}
	no := phpform.Boolean(false)
	return phpform.Map(
		number("id", id),
		kv("active", phpform.Boolean(!u.dismissed)),
		text("name", u.fullName()),
		text("first_name", u.Name),
		text("last_name", u.LastName),
		text("work_position", ""),
		text("color", "#df532d"),
		text("avatar", ""),
		text("avatar_hr", ""),
		text("gender", "M"),
		text("birthday", ""),
		kv("extranet", phpform.Boolean(u.Type == Extranet)),
		kv("network", no),
		kv("bot", phpform.Boolean(bot)),
		kv("connector", phpform.Boolean(u.Type == ConnectorUser)),
		text("external_auth_id", signIn),
		text("status", "online"),
		kv("idle", no),
		text("last_activity_date", isoTime(p.nowLocked())),
		kv("mobile_last_date", no),
		kv("desktop_last_date", no),
		kv("absent", no),
		kv("departments", phpform.List(phpform.Int(1))),
		kv("phones", no),
		kv("bot_data", null()),
		text("type", kind),
		text("website", ""),
		text("email", u.Email),
	)
}
