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

// chatState holds the bots and chats of the portal's messenger. Portal.mu guards it.
type chatState struct {
	bots  map[int64]*bot
	chats map[[2]int64]int64 // IDs of private chats by their two users, the lower ID first
}

// betweenLocked returns the ID of the private chat of two users, and whether it has just been
// opened. Portal.mu must be held.
func (s *chatState) betweenLocked(p *Portal, a, b int64) (chat int64, opened bool) {
	pair := [2]int64{min(a, b), max(a, b)}
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

// message is the content of an object of the kind ChatMessage.
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

// messageFields reads the fields of a new message: its recipient and its text. given reports
// whether there is a text, which may be empty.
func messageFields(fields phpform.Value) (to int64, body string, given bool) {
	for _, e := range fields.Entries() {
		switch snake(e.Key) {
		case "DIALOG_ID":
			to, _ = strconv.ParseInt(strings.TrimSpace(e.Value.Scalar()), 10, 64)
		case "MESSAGE":
			body, given = strings.TrimSpace(e.Value.Scalar()), e.Value.Kind() != phpform.Null
		}
	}
	return to, body, given
}

// checkMessageLocked checks the fields of a new message by a user.
func (p *Portal) checkMessageLocked(fields phpform.Value, user int64) error {
	to, body, _ := messageFields(fields)
	switch {
	case user == 0:
		return errors.New("eventtest: a chat message needs an author; give a user")
	case p.accounts.users[to] == nil:
		return fmt.Errorf("%w: the dialogue of a chat message; set DIALOG_ID to the ID of a bot", ErrNotFound)
	case to == user:
		return errors.New("eventtest: a chat message to oneself reaches no bot; set DIALOG_ID to the ID of a bot")
	case body == "":
		return errors.New("eventtest: a chat message needs a MESSAGE")
	}
	return nil
}

// addMessage adds a message to the private chat of two users. If it opens a chat with a bot, the
// bot first gets the event for that.
func (p *Portal) addMessage(ev *pendingEvents, author, to int64, body string) *object {
	o := &object{id: p.nextIDLocked("object " + string(ChatMessage))}
	chat, opened := p.chat.betweenLocked(p, author, to)
	o.fields = []phpform.Entry{
		digits("ID", o.id), digits("CHAT_ID", chat), digits("AUTHOR_ID", author), digits("TO_USER_ID", to),
		text("DATE", isoTime(p.nowLocked())), text("MESSAGE", body),
	}
	if p.objects[ChatMessage] == nil {
		p.objects[ChatMessage] = map[int64]*object{}
	}
	p.objects[ChatMessage][o.id] = o
	if b := p.chat.bots[to]; b != nil && opened && p.chat.bots[author] == nil {
		p.raiseJoin(ev, b, author)
	}
	p.raiseMessage(ev, "ADD", o)
	return o
}

// updateMessage changes the text of a message. An empty text deletes it.
func (p *Portal) updateMessage(ev *pendingEvents, o *object, body string) {
	if body == "" {
		p.deleteMessage(ev, o)
		return
	}
	o.set("MESSAGE", phpform.Text(body))
	p.raiseMessage(ev, "UPDATE", o)
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
}

// editableByLocked reports whether a user may still change a message. Users may change their own
// messages for three days.
func (p *Portal) editableByLocked(o *object, user int64) bool {
	written, err := time.Parse(time.RFC3339, o.get("DATE").Scalar())
	return messageOf(o).author == user && err == nil && p.nowLocked().Sub(written) <= editPeriod
}
