package eventtest_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// dialog is a response of im.dialog.messages.get.
type dialog struct {
	ChatID   int64 `json:"chat_id"`
	Messages []struct {
		ID     int64  `json:"id"`
		ChatID int64  `json:"chat_id"`
		Author int64  `json:"author_id"`
		Text   string `json:"text"`
	} `json:"messages"`
	Users []struct {
		ID   int64  `json:"id"`
		Name string `json:"name"`
		Bot  bool   `json:"bot"`
	} `json:"users"`
	Files []any `json:"files"`
}

// dialog reads messages.
func (c *caller) dialog(params obj) dialog {
	c.t.Helper()
	var d dialog
	a := c.ok("im.dialog.messages.get", params)
	require.NoError(c.t, json.Unmarshal(a.Result, &d), a.Raw)
	require.NotNil(c.t, d.Messages, "a list, not null")
	return d
}

func (d dialog) ids() []int64 {
	ids := []int64{}
	for _, m := range d.Messages {
		ids = append(ids, m.ID)
	}
	return ids
}

// taskPortal returns a portal with task 1 and a caller with the scopes task and im.
func taskPortal(t *testing.T) (*eventtest.Portal, *caller) {
	t.Helper()
	p := eventtest.NewPortal(t)
	c := install(t, p, eventtest.App{Scope: []string{"task", "im", "imbot"}})
	_, err := p.Add(eventtest.Task, map[string]any{"TITLE": "x"}, eventtest.AdminID)
	require.NoError(t, err)
	return p, c
}

// chatOf returns the chat of a task, as tasks.task.get shows it.
func (c *caller) chatOf(task int64) int64 {
	c.t.Helper()
	var result struct {
		Task struct {
			ChatID int64 `json:"chatId"`
		} `json:"task"`
	}
	require.NoError(c.t, json.Unmarshal(c.ok("tasks.task.get", obj{"taskId": task}).Result, &result))
	require.Positive(c.t, result.Task.ChatID)
	return result.Task.ChatID
}

// PROTOCOL 10.5: comments of the new task card.
func TestCommentsOfTheNewTaskCard(t *testing.T) {
	t.Parallel()
	p, c := taskPortal(t)
	in := newInbox(t)
	for _, name := range []string{"ONTASKCOMMENTADD", "ONTASKCOMMENTUPDATE", "ONTASKCOMMENTDELETE"} {
		c.bind(obj{"event": name, "handler": in.URL})
	}
	c.bind(obj{"event": "ONTASKCOMMENTADD", "event_type": "offline"})
	eve := p.AddUser(eventtest.User{Name: "Eve"})
	id, err := p.Add(eventtest.ChatMessage, map[string]any{"TASK_ID": 1, "MESSAGE": "looks good"}, eve)
	require.NoError(t, err)
	wait(t, p)
	require.Equal(t, []string{"ONTASKCOMMENTADD"}, in.events(t))
	comment, err := event.OnTaskCommentAdd.Decode(parse(t, event.Secret(in.bodies[0])))
	require.NoError(t, err)
	require.Zero(t, comment.ID)
	require.Equal(t, int64(1), comment.TaskID)
	require.Equal(t, id, comment.MessageID)
	_, rows := c.offlineGet(nil)
	sample := readSample(t, "ONTASKCOMMENTADD.2")["EVENT_DATA"]
	require.Equal(t, shape(sample), shape(rows[0]["EVENT_DATA"]))
	require.Equal(t, "ERROR_CORE", c.raw("task.commentitem.get", "TASKID=1&ITEMID="+strconv.FormatInt(id, 10)).Error,
		"10.5 no method of the task scope reads it")

	chat := c.chatOf(comment.TaskID)
	d := c.dialog(obj{"DIALOG_ID": "chat" + strconv.FormatInt(chat, 10)})
	require.Equal(t, chat, d.ChatID)
	require.Equal(t, []int64{id}, d.ids())
	require.Equal(t, "looks good", d.Messages[0].Text)
	require.Equal(t, eve, d.Users[0].ID)

	require.NoError(t, p.Update(eventtest.ChatMessage, id, map[string]any{"MESSAGE": "looks better"}, eve))
	require.Equal(t, "looks better", c.dialog(obj{"DIALOG_ID": "chat" + strconv.FormatInt(chat, 10)}).Messages[0].Text)
	require.NoError(t, p.Delete(eventtest.ChatMessage, id, eve))
	c.ok("im.message.add", obj{"DIALOG_ID": "chat" + strconv.FormatInt(chat, 10), "MESSAGE": "by REST"})
	wait(t, p)
	require.Equal(t, []string{"ONTASKCOMMENTADD", "ONTASKCOMMENTADD"}, in.events(t), "changes raise no event")
	require.Equal(t, strconv.FormatInt(id+1, 10), in.forms(t)[1].Get("data[FIELDS_AFTER][MESSAGE_ID]"))
	c.ok("im.message.update", obj{"MESSAGE_ID": id + 1, "MESSAGE": "/by REST"})

	c.ok("tasks.task.update", obj{"taskId": 1, "fields": obj{"TITLE": "y", "CHAT_ID": 77}})
	require.Equal(t, chat, c.chatOf(1), "the chat stays")
	c.ok("tasks.task.add", obj{"fields": obj{"TITLE": "z", "RESPONSIBLE_ID": 1, "CHAT_ID": chat}})
	require.NotEqual(t, chat, c.chatOf(2), "each task has a chat of its own")
	c.ok("tasks.task.delete", obj{"taskId": 1})
	require.Equal(t, "ACCESS_ERROR", c.call("im.dialog.messages.get", obj{"DIALOG_ID": "chat" + strconv.FormatInt(chat, 10)}).Error)
	_, ok := p.Object(eventtest.ChatMessage, id+1)
	require.False(t, ok, "the messages go with the task")

	for name, fields := range map[string]map[string]any{
		"no such task": {"TASK_ID": 9, "MESSAGE": "x"}, "no such chat": {"DIALOG_ID": "chat99", "MESSAGE": "x"},
		"the chat of a deleted task": {"DIALOG_ID": "chat" + strconv.FormatInt(chat, 10), "MESSAGE": "x"},
	} {
		_, err := p.Add(eventtest.ChatMessage, fields, eve)
		require.ErrorIs(t, err, eventtest.ErrNotFound, name)
	}
	_, err = p.Add(eventtest.ChatMessage, map[string]any{"TASK_ID": 2}, eve)
	require.Error(t, err, "no text")
	_, err = p.Add(eventtest.ChatMessage, map[string]any{"TASK_ID": 2, "MESSAGE": "x"}, 0)
	require.Error(t, err, "nobody")
}

func TestDialogPages(t *testing.T) {
	t.Parallel()
	p, c := taskPortal(t)
	for i := range 60 {
		_, err := p.Add(eventtest.ChatMessage, map[string]any{"TASK_ID": 1, "MESSAGE": strconv.Itoa(i)}, eventtest.AdminID)
		require.NoError(t, err)
	}
	chat := "chat" + strconv.FormatInt(c.chatOf(1), 10)
	for _, tt := range []struct {
		name        string
		params      obj
		first, last int64 // of the response; 0 for none
		n           int
	}{
		{"the newest", nil, 60, 41, 20},
		{"limit", obj{"LIMIT": "3"}, 60, 58, 3},
		{"limit above the maximum", obj{"LIMIT": 1000}, 60, 11, 50},
		{"limit 0", obj{"LIMIT": 0}, 60, 41, 20},
		{"older", obj{"LAST_ID": 41}, 40, 21, 20},
		{"the oldest", obj{"LAST_ID": "4"}, 3, 1, 3},
		{"nothing older", obj{"LAST_ID": 1}, 0, 0, 0},
		{"newer", obj{"FIRST_ID": 10, "LIMIT": 2}, 11, 12, 2},
		{"from the beginning", obj{"FIRST_ID": 0, "LIMIT": 50}, 1, 50, 50},
		{"nothing newer", obj{"FIRST_ID": 60}, 0, 0, 0},
		{"newer than unknown", obj{"FIRST_ID": 1 << 40}, 0, 0, 0},
		{"older than unknown", obj{"LAST_ID": 61}, 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			params := obj{"DIALOG_ID": chat}
			maps.Copy(params, tt.params)
			ids := c.dialog(params).ids()
			require.Len(t, ids, tt.n)
			if tt.n > 0 {
				require.Equal(t, tt.first, ids[0])
				require.Equal(t, tt.last, ids[tt.n-1])
			}
		})
	}
}

func TestPrivateDialogs(t *testing.T) {
	t.Parallel()
	p, c, _, bot := botPortal(t)
	eve := p.AddUser(eventtest.User{Name: "Eve"})
	require.Equal(t, dialog{Messages: c.dialog(obj{"DIALOG_ID": eve}).Messages, Users: c.dialog(obj{"DIALOG_ID": eve}).Users, Files: []any{}},
		c.dialog(obj{"DIALOG_ID": eve}), "the two have no chat yet")
	tell(t, p, bot, eventtest.AdminID, "hello")
	c.ok("imbot.message.add", obj{"BOT_ID": bot, "DIALOG_ID": 1, "MESSAGE": "hi"})
	tell(t, p, eve, eventtest.AdminID, "not for the bot")
	d := c.dialog(obj{"DIALOG_ID": strconv.FormatInt(bot, 10)})
	require.Equal(t, []int64{2, 1}, d.ids())
	require.Len(t, d.Users, 2)
	require.True(t, d.Users[0].Bot)
	require.Equal(t, "Helper", d.Users[0].Name)
	require.Equal(t, d.ChatID, d.Messages[0].ChatID)
	theirs := as(t, p, c.app, eve)
	require.Empty(t, theirs.dialog(obj{"DIALOG_ID": bot}).ids(), "private chats are of two")
	require.Equal(t, []int64{3}, theirs.dialog(obj{"DIALOG_ID": 1}).ids())

	for _, tt := range []struct {
		name   string
		params obj
		status int
		code   string
	}{
		{"no dialogue", nil, 400, "DIALOG_ID_EMPTY"},
		{"a word", obj{"DIALOG_ID": "x"}, 400, "DIALOG_ID_EMPTY"},
		{"an array", obj{"DIALOG_ID": []int{1}}, 400, "DIALOG_ID_EMPTY"},
		{"chat alone", obj{"DIALOG_ID": "chat"}, 400, "DIALOG_ID_EMPTY"},
		{"negative", obj{"DIALOG_ID": -1}, 400, "DIALOG_ID_EMPTY"},
		{"words for FIRST_ID", obj{"DIALOG_ID": eve, "FIRST_ID": "x"}, 400, "FIRST_ID_STRING"},
		{"words for LAST_ID", obj{"DIALOG_ID": eve, "LAST_ID": "1x"}, 400, "LAST_ID_STRING"},
		{"an array for LAST_ID", obj{"DIALOG_ID": eve, "LAST_ID": []int{1}}, 400, "LAST_ID_STRING"},
		{"nobody", obj{"DIALOG_ID": 99}, 403, "ACCESS_ERROR"},
		{"oneself", obj{"DIALOG_ID": 1}, 403, "ACCESS_ERROR"},
		{"a private chat by its number", obj{"DIALOG_ID": "chat1"}, 403, "ACCESS_ERROR"},
		{"the chat of a group", obj{"DIALOG_ID": "sg1"}, 403, "ACCESS_ERROR"},
	} {
		a := c.call("im.dialog.messages.get", tt.params)
		require.Equal(t, tt.status, a.Status, tt.name)
		require.Equal(t, tt.code, a.Error, tt.name)
	}
	require.Equal(t, http.StatusUnauthorized, install(t, p, eventtest.App{}).call("im.dialog.messages.get", obj{"DIALOG_ID": 1}).Status)
}
