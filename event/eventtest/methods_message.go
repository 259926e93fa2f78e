package eventtest

import (
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// messageAdd adds a message of the calling user to a private chat or to the chat of a task. Other
// group chats are not emulated.
func (p *Portal) messageAdd(c *call) (reply, *apiError) {
	body := readMessage(c.params).body
	if body == "" {
		return reply{}, fail(400, "MESSAGE_EMPTY", "Message can't be empty")
	}
	dialog := strings.TrimSpace(c.str("DIALOG_ID"))
	if chat, ok := strings.CutPrefix(dialog, "chat"); ok {
		switch id := intOf(phpform.Text(chat)); {
		case id <= 0:
			return reply{}, fail(400, "CHAT_ID_EMPTY", "Chat ID can't be empty")
		case p.chat.tasks[id] == 0:
			return reply{}, fail(403, "ACCESS_ERROR", "Action unavailable")
		default:
			return done(phpform.Int(p.addTaskMessage(c.events, c.caller.user.id, id, body).id))
		}
	}
	to, from := intOf(phpform.Text(dialog)), c.caller.user.id
	switch {
	case to <= 0:
		return reply{}, fail(400, "USER_ID_EMPTY", "User ID can't be empty")
	case p.accounts.users[to] == nil:
		return reply{}, fail(400, "USER_NOT_FOUND", "User not found")
	case to == from:
		return reply{}, fail(403, "ACCESS_ERROR", "Action unavailable")
	}
	return done(phpform.Int(p.addMessage(c.events, from, to, body).id))
}

func (p *Portal) messageUpdate(c *call) (reply, *apiError) {
	return p.messageChange(c, c.caller.user.id, p.updateMessage)
}

func (p *Portal) messageDelete(c *call) (reply, *apiError) {
	return p.messageChange(c, c.caller.user.id, nil)
}

// messageChange changes the message that MESSAGE_ID names, for its author. If update is nil, it
// deletes the message. Without a text it does nothing.
func (p *Portal) messageChange(c *call, author int64, update func(*pendingEvents, *object, string)) (reply, *apiError) {
	v, _ := c.param("MESSAGE_ID")
	id := intOf(v)
	if id <= 0 {
		return reply{}, fail(400, "MESSAGE_ID_ERROR", "Message ID can't be empty")
	}
	m := readMessage(c.params)
	o := p.objects[ChatMessage][id]
	switch {
	case update != nil && !m.given:
	case o == nil || !p.editableByLocked(o, author):
		return reply{}, fail(403, "CANT_EDIT_MESSAGE", "Time has expired for modification or you don't have access")
	case update == nil:
		p.deleteMessage(c.events, o)
	default:
		update(c.events, o, m.body)
	}
	return done(phpform.Boolean(true))
}
