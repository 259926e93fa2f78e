package eventtest_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

// taskOf returns the task in a response.
func taskOf(t *testing.T, a answer) obj {
	t.Helper()
	task, ok := a.object(t)["task"].(obj)
	require.True(t, ok, a.Raw)
	return task
}

func TestTasks(t *testing.T) {
	t.Parallel()
	_, c := newPortal(t)
	got := taskOf(t, c.ok("tasks.task.add", obj{"fields": obj{"TITLE": "x", "RESPONSIBLE_ID": 1}}))
	require.Equal(t, "1", got["id"], "texts in camel case")
	require.Equal(t, "1", got["responsibleId"])
	require.Equal(t, "y", taskOf(t, c.ok("tasks.task.update", obj{"taskId": 1, "fields": obj{"TITLE": "y"}}))["title"])
	require.Equal(t, "y", taskOf(t, c.ok("tasks.task.get", obj{"taskId": 1}))["title"])
	require.Equal(t, true, c.ok("tasks.task.delete", obj{"taskId": 1}).object(t)["task"])
	require.Equal(t, "[]", string(c.ok("tasks.task.get", obj{"taskId": 1}).Result), "a missing task is an empty array")
	require.Equal(t, "1048582", c.call("tasks.task.update", obj{"taskId": 1, "fields": obj{}}).Error)
	require.Equal(t, "1048582", c.call("tasks.task.delete", obj{"taskId": 1}).Error)
	require.Equal(t, "100", c.call("tasks.task.get", nil).Error)
	require.Equal(t, "0", c.call("tasks.task.get", obj{"taskId": "x"}).Error)
}

func TestTaskChecks(t *testing.T) {
	t.Parallel()
	_, c := newPortal(t)
	for range 2 {
		c.ok("tasks.task.add", obj{"fields": obj{"TITLE": "x", "RESPONSIBLE_ID": 1}})
	}
	c.ok("tasks.task.update", obj{"taskId": 2, "fields": obj{"PARENT_ID": 1}})
	const missing = "Could not find value for parameter {fields} (internal error)"
	for _, tt := range []struct {
		name, method string
		fields       any
		code, want   string
	}{
		{"no fields", "add", nil, "100", missing},
		{"empty fields", "add", obj{}, "100", missing},
		{"no fields to change", "update", nil, "100", missing},
		{"no title", "add", obj{"RESPONSIBLE_ID": 1}, "ERROR_CORE", "Task title not specified<br>"},
		{"title taken away", "update", obj{"TITLE": " "}, "ERROR_CORE", "Task title not specified<br>"},
		{"nobody", "add", obj{"TITLE": "x"}, "ERROR_CORE", "Assignee not specified<br>"},
		{"stranger", "update", obj{"RESPONSIBLE_ID": 99}, "ERROR_CORE", `User specified in the "Assignee" field not found<br>`},
		{"status", "update", obj{"STATUS": 9}, "ERROR_CORE", "Invalid status<br>"},
		{
			"no parent", "add",
			obj{"TITLE": "x", "RESPONSIBLE_ID": 1, "PARENT_ID": 9},
			"ERROR_CORE",
			`Task specified in the "Parent Task" field not found<br>`,
		},
		{"its own parent", "update", obj{"PARENT_ID": 1}, "ERROR_CORE", "Cannot bind the node to itself<br>"},
		{"its child's child", "update", obj{"PARENT_ID": 2}, "ERROR_CORE", "Creating cyclic links in tasks is prohibited<br>"},
		{
			"plan backwards", "update",
			obj{"START_DATE_PLAN": "2026-02-02", "END_DATE_PLAN": "2026-02-01"},
			"ERROR_CORE",
			"End date specified earlier than start date in scheduling<br>",
		},
	} {
		params := obj{"fields": tt.fields}
		if tt.method == "update" {
			params["taskId"] = 1
		}
		a := c.call("tasks.task."+tt.method, params)
		require.Equal(t, http.StatusBadRequest, a.Status, tt.name)
		require.Equal(t, tt.code, a.Error, tt.name)
		require.Equal(t, tt.want, a.Description, tt.name)
	}
	require.Len(t, c.ok("tasks.task.list", nil).object(t)["tasks"], 2, "nothing was added")
}

func TestTaskList(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	for range 60 {
		_, err := p.Add(eventtest.Task, map[string]any{"TITLE": "x"}, 1)
		require.NoError(t, err)
	}
	require.NoError(t, p.Update(eventtest.Task, 7, map[string]any{"STATUS": 5}, 1))
	ids := func(params obj) (string, answer) {
		a := c.ok("tasks.task.list", params)
		var got []string
		for _, task := range a.object(t)["tasks"].([]any) { //nolint:forcetypeassert // the test's point
			got = append(got, task.(obj)["id"].(string)) //nolint:forcetypeassert // the test's point
		}
		return strings.Join(got, " "), a
	}
	got, a := ids(nil)
	require.True(t, strings.HasPrefix(got, "60 59"), "the newest first: %s", got)
	require.Equal(t, 60, *a.Total)
	require.Equal(t, 50, *a.Next)
	got, a = ids(obj{"start": 50, "order": obj{"ID": "asc"}})
	require.Equal(t, "51 52 53 54 55 56 57 58 59 60", got)
	require.Nil(t, a.Next)
	got, _ = ids(obj{"filter": json.RawMessage(`{"REAL_STATUS":5,"::SUBFILTER-PARAMS":{"FAVORITE":"Y"}}`)})
	require.Equal(t, "7", got)
	got, _ = ids(obj{"filter": obj{"!REAL_STATUS": 2, ">ID": 1}, "order": obj{"REAL_STATUS": "desc"}})
	require.Equal(t, "7", got)
	row := c.ok("tasks.task.list", obj{"filter": obj{"ID": 1}, "select": []string{"ID", "RESPONSIBLE_ID"}}).object(t)["tasks"]
	require.Equal(t, []any{obj{"id": "1", "responsibleId": "1"}}, row)
	bad := c.call("tasks.task.list", obj{"order": obj{"NAME": "asc"}})
	require.Equal(t, "0", bad.Error)
	require.Equal(t, "Invalid sorting key (internal error)", bad.Description)
}
