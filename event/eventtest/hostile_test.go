package eventtest_test

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

// TestMethodsSurvive calls every method with parameters of the wrong kind, alone and in a batch.
func TestMethodsSurvive(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("methods.go")
	require.NoError(t, err)
	var methods []string
	for _, found := range regexp.MustCompile(`(?m)^\t\t"([a-z.]+)":`).FindAllStringSubmatch(string(source), -1) {
		methods = append(methods, found[1])
	}
	for _, action := range []string{"add", "get", "list", "update", "delete"} {
		methods = append(methods, "crm.deal."+action)
	}
	require.Greater(t, len(methods), 40)
	require.True(t, slices.Contains(methods, "imbot.register"))

	names := strings.Fields(`id ID taskId entityTypeId fields FIELDS filter order select start limit MESSAGE MESSAGE_ID DIALOG_ID BOT_ID
		CODE TYPE
		EVENT HANDLER EVENT_TYPE AUTH_TYPE OPTIONS EVENT_HANDLER PROPERTIES process_id message_id type ownerId name from to section attendees
		is_meeting cmd halt clear error SCOPE FULL auth_connector COMMAND COMMAND_ID EVENT_COMMAND_ADD LANG FIRST_ID LAST_ID TASK_ID`)
	deep := strings.Repeat("[", 60) + strings.Repeat("]", 60)
	p := eventtest.NewPortal(t)
	c := install(t, p, eventtest.App{Scope: []string{"crm", "task", "user", "calendar", "im", "imbot"}})
	_, err = c.app.AddBot(eventtest.Bot{})
	require.NoError(t, err)
	for _, value := range []string{
		`null`, `true`, `-1`, `0`, `1`, `2`, `1e300`, `"x"`, `""`, `"1"`, `"-9223372036854775808"`,
		`[]`, `{}`, `[[1]]`, `{"ID":{"x":[null]},"<":"","%ID":[1],"":1}`,
		`{"TITLE":{"a":1},"NAME":[],"0":0}`, `"\u0000\ud83d\ude00"`, deep,
	} {
		params := obj{}
		for _, name := range names {
			params[name] = json.RawMessage(value)
		}
		for _, method := range methods {
			if method == "imbot.unregister" {
				continue // the bot is needed below
			}
			a := c.call(method, params)
			require.Less(t, a.Status, http.StatusInternalServerError, "%s %s: %s", method, value, a.Raw)
			require.True(t, json.Valid([]byte(a.Raw)), "%s %s: %s", method, value, a.Raw)
		}
	}
	for _, kind := range []eventtest.Kind{
		eventtest.Deal, eventtest.Task, eventtest.CalendarEvent, eventtest.SmartProcess(31),
		eventtest.ChatMessage,
	} {
		for _, fields := range []map[string]any{
			nil,
			{"": nil},
			{"DIALOG_ID": []int{1}, "MESSAGE": map[string]any{"x": 1}},
			{"from": 1, "attendees": "x", "type": []any{}},
		} {
			if id, err := p.Add(kind, fields, eventtest.AdminID); err == nil {
				require.NoError(t, p.Update(kind, id, fields, 0))
				require.NoError(t, p.Delete(kind, id, 0))
			}
		}
	}
	c.ok("profile", nil)
}
