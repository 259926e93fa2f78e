package batch_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/batch"
)

func TestParams(t *testing.T) {
	t.Parallel()
	own := map[string]any{"process_id": "p", "message_id": []string{"a", "b&c"}, batch.Connector: "erp"}
	params, err := batch.Params([]batch.Command{
		{Method: "event.offline.clear", Params: own},
		{Method: "event.offline.get", Params: map[string]any{"clear": 0, "limit": 50, batch.Connector: "erp"}},
		{Method: "app.info"},
	})
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"halt": 0, "auth_connector": "erp",
		"cmd": map[string]any{
			"c00": "event.offline.clear?message_id%5B0%5D=a&message_id%5B1%5D=b%26c&process_id=p",
			"c01": "event.offline.get?clear=0&limit=50",
			"c02": "app.info",
		},
	}, params)
	require.Contains(t, own, batch.Connector, "the caller's map is left alone")
	for _, x := range []any{func() {}, "planted $result[c00][x]"} {
		_, err = batch.Params([]batch.Command{{Method: "m", Params: map[string]any{"x": x}}})
		require.Error(t, err)
		require.NotContains(t, err.Error(), "planted")
	}
}

// Callers send a map in the order of its keys, which must be the order of the commands.
func TestNamesSortInTheOrderOfTheCommands(t *testing.T) {
	t.Parallel()
	commands := make([]batch.Command, batch.Max)
	for i := range commands {
		commands[i] = batch.Command{Method: "m", Params: map[string]any{"i": i}}
	}
	params, err := batch.Params(commands)
	require.NoError(t, err)
	cmd, ok := params["cmd"].(map[string]any)
	require.True(t, ok)
	names := make([]string, 0, len(cmd))
	for name := range cmd {
		names = append(names, name)
	}
	slices.Sort(names)
	require.Equal(t, "m?i=10", cmd[names[10]])
	require.Equal(t, "m?i=9", cmd[names[9]])
}

func TestReply(t *testing.T) {
	t.Parallel()
	var r batch.Reply
	require.NoError(t, json.Unmarshal([]byte(`{"result":{"c00":true,"c03":[]},"result_error":{"c01":{"error":"ERROR_CORE","error_description":"d"},
		"c04":7},"result_total":{"c03":"12","c00":"x"},"result_next":[],"result_time":[]}`), &r))
	result, err := r.Answer(0, "a")
	require.NoError(t, err)
	require.JSONEq(t, `true`, string(result))
	_, err = r.Answer(1, "b")
	var refused *batch.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, batch.Error{Method: "b", Code: "ERROR_CORE", Description: "d"}, *refused)
	_, err = r.Answer(2, "c")
	require.ErrorIs(t, err, batch.ErrMissing)
	_, err = r.Answer(4, "e")
	require.ErrorAs(t, err, &refused)
	require.NotEmpty(t, refused.ErrorCode())
	total, ok := r.Total(3)
	require.True(t, ok)
	require.Equal(t, 12, total)
	for _, i := range []int{0, 1} {
		_, ok = r.Total(i)
		require.False(t, ok)
	}
}

func TestSections(t *testing.T) {
	t.Parallel()
	for doc, ok := range map[string]bool{
		`{"result":[],"result_error":[]}`:  true,
		`{"result":{},"result_error":{}}`:  true,
		`{}`:                               true,
		`{"result":[1],"result_error":[]}`: true,
		`{"result":7}`:                     false,
		`{"result":"x"}`:                   false,
	} {
		var r batch.Reply
		require.Equal(t, ok, json.Unmarshal([]byte(doc), &r) == nil, doc)
	}
	var s batch.Section
	require.NoError(t, json.Unmarshal([]byte(` [{"a":1}, 2]`), &s))
	require.Equal(t, batch.Section{"0": json.RawMessage(`{"a":1}`), "1": json.RawMessage(`2`)}, s, "names that PHP takes for positions")
}

// TestRefusalsAreCleaned covers the texts of a portal's error, which appear in errors and logs.
func TestRefusalsAreCleaned(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ refusal, code, description string }{
		"escape sequences": {
			`{"error":"\u001b]0;pwn\u0007\u001b[2J\rFAKE\u009b31m","error_description":"a\nb\u202ec"}`, "]0;pwn [2J FAKE 31m", "a b c",
		},
		"tags":          {`{"error":"E","error_description":"<b>Handler</b> already binded"}`, "E", "Handler already binded"},
		"credentials":   {`{"error":"E?auth=0123456789","error_description":"token=x"}`, "E?auth=[redacted]", "token=[redacted]"},
		"only controls": {`{"error":"\u0007"}`, "an error that is not understood", ""},
		"long": {
			`{"error":"` + strings.Repeat("é", 5000) + `","error_description":"` + strings.Repeat("é", 5000) + `"}`,
			strings.Repeat("é", 200) + "…", strings.Repeat("é", 1000) + "…",
		},
		"odd types": {`{"error":7,"error_description":"x"}`, "an error that is not understood", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r batch.Reply
			require.NoError(t, json.Unmarshal([]byte(`{"result":[],"result_error":{"c00":`+tc.refusal+`}}`), &r))
			_, err := r.Answer(0, "m")
			var e *batch.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, tc.code, e.ErrorCode())
			require.Equal(t, tc.description, e.ErrorDescription())
			require.EqualError(t, err, "m: the portal returned "+tc.code)
		})
	}
}
