package eventtest_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

const (
	noComment  = "TASKS_ERROR_EXCEPTION_#512; Check listitem not found or not accessible; 512/TE/ITEM_NOT_FOUND_OR_NOT_ACCESSIBLE.<br>"
	wrongBegin = "TASKS_ERROR_EXCEPTION_#256; "
	wrongEnd   = "; 256/TE/WRONG_ARGUMENTS.<br>"
)

// newComments returns a portal with two tasks of three comments each: task 1 has the comments 1, 3
// and 5, task 2 has 2, 4 and 6.
func newComments(t *testing.T) (*eventtest.Portal, *caller) {
	t.Helper()
	p, c := newPortal(t)
	for range 2 {
		_, err := p.Add(eventtest.Task, map[string]any{"TITLE": "x"}, 1)
		require.NoError(t, err)
	}
	for i := range 6 {
		_, err := p.Add(eventtest.TaskComment, map[string]any{"TASK_ID": 1 + i%2, "POST_MESSAGE": "comment " + strconv.Itoa(i+1)}, 1)
		require.NoError(t, err)
	}
	return p, c
}

// raw makes a call with an unchanged form, because the order of its parameters matters.
func (c *caller) raw(method, form string) answer {
	c.t.Helper()
	return send(c.t, http.MethodPost, c.p.ClientEndpoint()+method, "application/x-www-form-urlencoded", form+"&auth="+url.QueryEscape(c.token))
}

func TestCommentsByPosition(t *testing.T) {
	t.Parallel()
	_, c := newComments(t)
	for name, form := range map[string]string{
		"1.1 positional arguments": "TASKID=1&ITEMID=3",
		"10.5 names do not count":  "ITEMID=1&TASKID=3",
		"other names":              "a=1&b=3",
		"numbers for names":        "0=1&1=3",
		"more than are wanted":     "TASKID=1&ITEMID=3&start=0",
	} {
		a := c.raw("task.commentitem.get", form)
		require.Equal(t, http.StatusOK, a.Status, name)
		require.Equal(t, "comment 3", a.object(t)["POST_MESSAGE"], name)
	}
	a := c.raw("task.commentitem.get", "TASKID=1&ITEMID=3")
	require.Equal(t, "3", a.object(t)["ID"])
	require.Equal(t, "Ada Min", a.object(t)["AUTHOR_NAME"])
	for name, tt := range map[string]struct{ form, want string }{
		"10.5 a violated order is an error": {"ITEMID=3&TASKID=1", noComment},
		"comment of another task":           {"TASKID=1&ITEMID=2", noComment},
		"no such comment":                   {"TASKID=1&ITEMID=9", noComment},
		"no such task":                      {"TASKID=9&ITEMID=1", noComment},
		"no argument": {
			"",
			wrongBegin + "Param #0 (taskId) expected by method ctaskcommentitem::get(), but not given." + wrongEnd,
		},
		"one argument": {
			"TASKID=1",
			wrongBegin + "Param #1 (itemId) expected by method ctaskcommentitem::get(), but not given." + wrongEnd,
		},
		"no number": {
			"TASKID=x&ITEMID=1",
			wrongBegin + `Param #0 (taskId) for method ctaskcommentitem::get() expected to be of type "integer", ` +
				`but given something else.` + wrongEnd,
		},
	} {
		a := c.raw("task.commentitem.get", tt.form)
		require.Equal(t, http.StatusBadRequest, a.Status, name)
		require.Equal(t, "ERROR_CORE", a.Error, name)
		require.Equal(t, tt.want, a.Description, name)
	}
	batch := c.ok("batch", obj{"cmd": obj{
		"right": "task.commentitem.get?TASKID=1&ITEMID=3",
		"wrong": "task.commentitem.get?ITEMID=3&TASKID=1",
	}}).object(t)
	require.Contains(t, batch["result"], "right", "10.5 inside a batch the order counts too")
	require.NotContains(t, batch["result"], "wrong")
	require.Equal(t, obj{"wrong": obj{"error": "ERROR_CORE", "error_description": noComment}}, batch["result_error"])
}

func TestCommentList(t *testing.T) {
	t.Parallel()
	_, c := newComments(t)
	ids := func(form string) []string {
		var rows []struct {
			ID string `json:"ID"`
		}
		require.NoError(t, json.Unmarshal(c.raw("task.commentitem.getlist", form).Result, &rows))
		var got []string
		for _, row := range rows {
			got = append(got, row.ID)
		}
		return got
	}
	require.Equal(t, []string{"5", "3", "1"}, ids("TASKID=1"), "the newest first")
	require.Equal(t, []string{"1", "3", "5"}, ids("TASKID=1&ORDER[ID]=asc"))
	require.Equal(t, []string{"5"}, ids("TASKID=1&ORDER[ID]=asc&FILTER[>ID]=3"))
	require.Equal(t, []string{"3", "1"}, ids("TASKID=1&ORDER=&FILTER[<%3DID]=3"), "an empty text keeps the place of the order")
	require.Empty(t, ids("TASKID=1&ORDER[ID]=asc&FILTER[AUTHOR_ID]=2"))
	for form, want := range map[string]string{
		"TASKID=1&FILTER[>%3DPOST_DATE]=2026": `Param #1 (arOrder) for method ctaskcommentitem::getlist() ` +
			`must not contain key ">=POST_DATE".`,
		"TASKID=1&ORDER[ID]=asc&FILTER[%25POST_DATE]=x": `Param #2 (arFilter) for method ctaskcommentitem::getlist() ` +
			`must not contain key "%POST_DATE".`,
		"TASKID=1&ORDER=x": `Param #1 (arOrder) for method ctaskcommentitem::getlist() ` +
			`expected to be of type "array", but given something else.`,
		"FILTER[AUTHOR_ID]=1&ORDER[ID]=asc&TASKID=1": `Param #0 (taskId) for method ctaskcommentitem::getlist() ` +
			`expected to be of type "integer", but given something else.`,
	} {
		a := c.raw("task.commentitem.getlist", form)
		require.Equal(t, "ERROR_CORE", a.Error, form)
		require.Equal(t, wrongBegin+want+wrongEnd, a.Description, form)
	}
	require.Equal(t, "TASKS_ERROR_EXCEPTION_#8; Action failed; 8/TE/ACTION_FAILED_TO_BE_PROCESSED.<br>",
		c.raw("task.commentitem.getlist", "TASKID=9").Description)
}

func TestCommentEvents(t *testing.T) {
	t.Parallel()
	p, in := eventtest.NewPortal(t), newInbox(t)
	c := install(t, p, eventtest.App{Scope: []string{"task"}})
	for _, name := range []string{"ONTASKCOMMENTADD", "ONTASKCOMMENTUPDATE", "ONTASKCOMMENTDELETE"} {
		c.bind(obj{"event": name, "handler": in.URL})
	}
	_, err := p.Add(eventtest.TaskComment, map[string]any{"TASK_ID": 1}, 1)
	require.Error(t, err, "there is no such task")
	_, err = p.Add(eventtest.Task, map[string]any{"TITLE": "x"}, 1)
	require.NoError(t, err)
	id, err := p.Add(eventtest.TaskComment, map[string]any{"TASK_ID": 1, "POST_MESSAGE": "a"}, 1)
	require.NoError(t, err)
	require.NoError(t, p.Update(eventtest.TaskComment, id, map[string]any{"POST_MESSAGE": "b", "TASK_ID": 9}, 1))
	require.NoError(t, p.Delete(eventtest.TaskComment, id, 1))
	wait(t, p)
	forms := in.forms(t)
	require.Len(t, forms, 3)
	require.Equal(t, "undefined", forms[0].Get("data[FIELDS_BEFORE]"))
	for i, action := range []string{"", "EDIT", "DEL"} {
		require.Equal(t, "1", forms[i].Get("data[FIELDS_AFTER][ID]"))
		require.Equal(t, "1", forms[i].Get("data[FIELDS_AFTER][TASK_ID]"), "the task stays")
		require.Equal(t, action, forms[i].Get("data[FIELDS_AFTER][ACTION]"))
	}
	require.Equal(t, event.OnTaskCommentAdd.Name(), forms[0].Get("event"))
}
