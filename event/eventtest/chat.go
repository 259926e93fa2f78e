package eventtest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// editPeriod is how long the author of a message can change or delete it.
const editPeriod = 3 * 24 * time.Hour

// chatState holds the bots, commands and chats of the portal's messenger. Portal.mu guards it.
type chatState struct {
	bots     map[int64]*bot
	commands map[int64]*botCommand // slash commands by ID
	chats    map[[2]int64]int64    // IDs of private chats by their users; see pairOf
	tasks    map[int64]int64       // IDs of tasks by those of their chats
}

// pairOf returns the key of a private chat, in which the lower ID comes first.
func pairOf(a, b int64) [2]int64 { return [2]int64{min(a, b), max(a, b)} }

// betweenLocked returns the ID of the private chat of two users, and whether it has just been
// opened. Portal.mu must be held.
func (s *chatState) betweenLocked(p *Portal, a, b int64) (chat int64, opened bool) {
	pair := pairOf(a, b)
	if chat, ok := s.chats[pair]; ok {
		return chat, false
	}
	if s.chats == nil {
		s.chats = map[[2]int64]int64{}
	}
	s.chats[pair] = p.nextIDLocked("chat")
	return s.chats[pair], true
}

// forget removes the chats of a user.
func (s *chatState) forget(user int64) {
	for pair := range s.chats {
		if pair[0] == user || pair[1] == user {
			delete(s.chats, pair)
		}
	}
}

// message is the content of an object of the kind ChatMessage. to is 0 in the chat of a task.
type message struct {
	id, chat, author, to int64
	text                 string
}

func messageOf(o *object) message {
	return message{
		id: o.id, chat: intOf(o.get("CHAT_ID")), author: intOf(o.get("AUTHOR_ID")), to: intOf(o.get("TO_USER_ID")),
		text: o.get("MESSAGE").Scalar(),
	}
}

// newMessage is what a caller says about a message.
type newMessage struct {
	to, task int64
	chat     int64 // of a task
	body     string
	given    bool // there is a text, which may be empty
}

// readMessage reads the fields of a message: its recipient, or a task or its chat, and its text.
func readMessage(fields phpform.Value) (m newMessage) {
	for _, e := range fields.Entries() {
		value := strings.TrimSpace(e.Value.Scalar())
		switch snake(e.Key) {
		case "DIALOG_ID":
			if chat, ok := strings.CutPrefix(value, "chat"); ok {
				m.chat, _ = strconv.ParseInt(chat, 10, 64)
				continue
			}
			m.to, _ = strconv.ParseInt(value, 10, 64)
		case "TASK_ID":
			m.task, _ = strconv.ParseInt(value, 10, 64)
		case "MESSAGE":
			m.body, m.given = value, e.Value.Kind() != phpform.Null
		}
	}
	return m
}

// checkMessageLocked checks the fields of a new message by a user. It returns the ID of the task's
// chat, or 0 for a message to a user.
func (p *Portal) checkMessageLocked(m newMessage, user int64) (chat int64, err error) {
	if chat = m.chat; m.task != 0 && p.objects[Task][m.task] != nil {
		chat = intOf(p.objects[Task][m.task].get("CHAT_ID"))
	}
	switch inTask := m.chat != 0 || m.task != 0; {
	case user == 0:
		return 0, errors.New("eventtest: a chat message needs an author; give a user")
	case inTask && p.chat.tasks[chat] == 0:
		return 0, fmt.Errorf("%w: the task of a chat message; set TASK_ID to the ID of a task", ErrNotFound)
	case !inTask && p.accounts.users[m.to] == nil:
		return 0, fmt.Errorf("%w: the dialogue of a chat message; set DIALOG_ID to the ID of a bot", ErrNotFound)
	case !inTask && m.to == user:
		return 0, errors.New("eventtest: a chat message to oneself reaches no bot; set DIALOG_ID to the ID of a bot")
	case m.body == "":
		return 0, errors.New("eventtest: a chat message needs a MESSAGE")
	}
	return chat, nil
}

// storeMessage stores a message without its events. Its ID in m does not matter.
func (p *Portal) storeMessage(m message) *object {
	o := &object{id: p.nextIDLocked("object " + string(ChatMessage))}
	o.fields = []phpform.Entry{
		digits("ID", o.id), digits("CHAT_ID", m.chat), digits("AUTHOR_ID", m.author), digits("TO_USER_ID", m.to),
		text("DATE", isoTime(p.nowLocked())), text("MESSAGE", m.text),
	}
	if p.objects[ChatMessage] == nil {
		p.objects[ChatMessage] = map[int64]*object{}
	}
	p.objects[ChatMessage][o.id] = o
	return o
}

// addMessage adds a message to the private chat of two users. If it opens a chat with a bot, the
// bot first gets the event for that.
func (p *Portal) addMessage(ev *pendingEvents, author, to int64, body string) *object {
	chat, opened := p.chat.betweenLocked(p, author, to)
	o := p.storeMessage(message{chat: chat, author: author, to: to, text: body})
	if b := p.chat.bots[to]; b != nil && opened && p.chat.bots[author] == nil {
		p.raiseJoin(ev, b, author)
	}
	if !p.raiseCommands(ev, o) {
		p.raiseMessage(ev, "ADD", o)
	}
	p.logMessageLocked("ADD", o)
	return o
}

// addTaskMessage adds a message to the chat of a task. It is a comment in the new task card.
func (p *Portal) addTaskMessage(ev *pendingEvents, author, chat int64, body string) *object {
	o := p.storeMessage(message{chat: chat, author: author, text: body})
	none := phpform.Text("undefined")
	ev.raise(occurrence{event: "ONTASKCOMMENTADD", user: author, data: phpform.Map(
		kv("FIELDS_BEFORE", none),
		kv("FIELDS_AFTER", phpform.Map(number("ID", 0), number("TASK_ID", p.chat.tasks[chat]), number("MESSAGE_ID", o.id))),
		kv("IS_ACCESSIBLE_BEFORE", none), kv("IS_ACCESSIBLE_AFTER", none),
	)})
	return o
}

// openTaskChatLocked gives a new task its chat, and returns the chat's ID.
func (p *Portal) openTaskChatLocked(task int64) int64 {
	if p.chat.tasks == nil {
		p.chat.tasks = map[int64]int64{}
	}
	chat := p.nextIDLocked("chat")
	p.chat.tasks[chat] = task
	return chat
}

// dropTaskChatLocked removes the chat of a deleted task with its messages.
func (p *Portal) dropTaskChatLocked(chat int64) {
	delete(p.chat.tasks, chat)
	for id, o := range p.objects[ChatMessage] {
		if messageOf(o).chat == chat {
			delete(p.objects[ChatMessage], id)
		}
	}
}

// updateMessage changes the text of a message. An empty text deletes it.
func (p *Portal) updateMessage(ev *pendingEvents, o *object, body string) {
	if body == "" {
		p.deleteMessage(ev, o)
		return
	}
	o.set("MESSAGE", phpform.Text(body))
	p.raiseMessage(ev, "UPDATE", o)
	p.logMessageLocked("UPDATE", o)
}

// deleteMessage deletes a message. Bots get no text of it.
func (p *Portal) deleteMessage(ev *pendingEvents, o *object) {
	delete(p.objects[ChatMessage], o.id)
	when := o.get("DATE").Scalar()
	if t, err := time.Parse(time.RFC3339, when); err == nil {
		when = t.Format("01/02/2006 15:04:05")
	}
	o.set("MESSAGE", phpform.Text("Message from "+when+" has been deleted"))
	p.raiseMessage(ev, "DELETE", o)
	p.logMessageLocked("DELETE", o)
}

// editableByLocked reports whether a user may still change a message. Users may change their own
// messages for three days.
func (p *Portal) editableByLocked(o *object, user int64) bool {
	written, err := time.Parse(time.RFC3339, o.get("DATE").Scalar())
	return messageOf(o).author == user && err == nil && p.nowLocked().Sub(written) <= editPeriod
}
