package eventtest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

// batchAnswer is the result of a batch with its raw sections.
type batchAnswer struct {
	Result json.RawMessage `json:"result"`
	Errors json.RawMessage `json:"result_error"`
	Total  json.RawMessage `json:"result_total"`
	Next   json.RawMessage `json:"result_next"`
	Time   json.RawMessage `json:"result_time"`
}

func (c *caller) batch(cmd, halt any) batchAnswer {
	c.t.Helper()
	a := c.ok("batch", obj{"cmd": cmd, "halt": halt})
	var b batchAnswer
	require.NoError(c.t, json.Unmarshal(a.Result, &b), a.Raw)
	return b
}

func TestBatch(t *testing.T) {
	t.Parallel()
	t.Run("1.5 named keys make objects, empty sections []", func(t *testing.T) {
		t.Parallel()
		_, c := newPortal(t)
		b := c.batch(obj{"a": "scope", "b": "user.admin"}, 0)
		require.JSONEq(t, `{"a":["crm","task","user","imbot","calendar"],"b":true}`, string(b.Result))
		for _, section := range []json.RawMessage{b.Errors, b.Total, b.Next} {
			require.Equal(t, "[]", string(section))
		}
		var times obj
		require.NoError(t, json.Unmarshal(b.Time, &times))
		require.Len(t, times, 2)
	})
	t.Run("1.5 contiguous numbers make lists, gaps objects", func(t *testing.T) {
		t.Parallel()
		_, c := newPortal(t)
		require.JSONEq(t, `[true,true]`, string(c.batch([]string{"user.admin", "user.admin"}, 0).Result))
		b := c.batch([]string{"user.admin", "no.such", "user.admin"}, 0)
		require.JSONEq(t, `{"0":true,"2":true}`, string(b.Result))
		require.JSONEq(t, `{"1":{"error":"ERROR_METHOD_NOT_FOUND","error_description":"Method not found!"}}`, string(b.Errors))
		b = c.batch([]string{"no.such"}, 0)
		require.JSONEq(t, `[{"error":"ERROR_METHOD_NOT_FOUND","error_description":"Method not found!"}]`, string(b.Errors))
		require.Equal(t, "[]", string(b.Result))
		require.Equal(t, "[]", string(b.Time), "1.5 only successful items have a time")
	})
	t.Run("1.5 fifty items", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		cmd := make([]any, 53)
		for i := range cmd {
			cmd[i] = "crm.deal.add?fields[TITLE]=x"
		}
		cmd[3] = 7 // not a text: skipped silently, but counted
		b := c.batch(cmd, 0)
		var results, failures map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(b.Result, &results))
		require.NoError(t, json.Unmarshal(b.Errors, &failures))
		require.Len(t, results, 49)
		require.Len(t, failures, 3)
		require.JSONEq(t, `{"error":"ERROR_BATCH_LENGTH_EXCEEDED","error_description":"Max batch length exceeded"}`, string(failures["50"]))
		require.Equal(t, 49, p.CallCount("crm.deal.add"))
	})
	t.Run("1.5 no batch in a batch", func(t *testing.T) {
		t.Parallel()
		_, c := newPortal(t)
		b := c.batch(obj{"a": "batch?cmd[0]=scope"}, 0)
		require.JSONEq(t, `{"a":{"error":"ERROR_BATCH_METHOD_NOT_ALLOWED","error_description":"Method is not allowed for batch usage"}}`,
			string(b.Errors))
	})
	t.Run("1.5 halt", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		cmd := []string{"crm.deal.add?fields[TITLE]=1", "no.such", "crm.deal.add?fields[TITLE]=2"}
		c.batch(cmd, true)
		require.Equal(t, 1, p.CallCount("crm.deal.add"))
		c.batch(cmd, "0")
		require.Equal(t, 3, p.CallCount("crm.deal.add"))
	})
	t.Run("1.5 references", func(t *testing.T) {
		t.Parallel()
		_, c := newPortal(t)
		b := c.batch(obj{
			"1add":  "crm.deal.add?fields[TITLE]=first",
			"2get":  "crm.deal.get?id=$result[1add]",
			"3text": "crm.deal.add?fields[TITLE]=copy+of+$result[2get][TITLE]!",
			"4all":  "crm.deal.list?order[ID]=DESC&select[]=TITLE",
			"5deep": "crm.deal.add?fields[TITLE]=$result[4all][0][TITLE]+of+$total[4all]",
			"6none": "crm.deal.add?fields[TITLE]=x$result[nothing][here]y",
			"7enc":  "crm.deal.get?id=%24result%5B5deep%5D",
		}, 0)
		require.Equal(t, "[]", string(b.Errors))
		var results map[string]any
		require.NoError(t, json.Unmarshal(b.Result, &results))
		require.Equal(t, "copy of first! of 2", results["7enc"].(obj)["TITLE"]) //nolint:forcetypeassert // the test's point
		deal := c.ok("crm.deal.get", obj{"id": results["6none"]}).object(t)
		require.Equal(t, "xy", deal["TITLE"])
		require.JSONEq(t, `{"4all":2}`, string(b.Total))
	})
	t.Run("1.5 next and total only of lists", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		for range 51 {
			addDeal(t, p)
		}
		b := c.batch(obj{"a": "crm.deal.list", "b": "scope"}, 0)
		require.JSONEq(t, `{"a":51}`, string(b.Total))
		require.JSONEq(t, `{"a":50}`, string(b.Next))
	})
	t.Run("1.2 the outer auth is copied over the items'", func(t *testing.T) {
		t.Parallel()
		_, c := newPortal(t)
		b := c.batch(obj{"a": "user.admin?auth=dead&access_token=dead"}, 0)
		require.JSONEq(t, `{"a":true}`, string(b.Result))
	})
	t.Run("1.4 scope errors of items have no text", func(t *testing.T) {
		t.Parallel()
		p := eventtest.NewPortal(t)
		c := install(t, p, eventtest.App{})
		b := c.batch(obj{"a": "crm.deal.get?id=1"}, 0)
		require.JSONEq(t, `{"a":{"error":"insufficient_scope","error_description":""}}`, string(b.Errors))
	})
	t.Run("1.5 event methods work, arguments are named", func(t *testing.T) {
		t.Parallel()
		_, c := newPortal(t)
		b := c.batch(obj{"a": "event.bind?event=ONCRMDEALADD&handler=" + handlerURL, "b": "event.get", "c": "event.bind"}, 0)
		require.JSONEq(t, `{"c":{"error":"ERROR_ARGUMENT","error_description":"Argument 'EVENT' is null or empty","argument":"EVENT"}}`,
			string(b.Errors))
	})
	t.Run("1.5 webhooks", func(t *testing.T) {
		t.Parallel()
		p := eventtest.NewPortal(t)
		hook, err := p.AddIncomingWebhook(1)
		require.NoError(t, err)
		a := send(t, http.MethodPost, string(hook)+"batch", "application/json", `{"cmd":{"a":"event.get","b":"user.admin"}}`)
		require.Equal(t, http.StatusOK, a.Status)
		require.Equal(t, "WRONG_AUTH_TYPE", a.object(t)["result_error"].(obj)["a"].(obj)["error"]) //nolint:forcetypeassert // the test's point
	})
	t.Run("1.5 cmd by form", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		body := fmt.Sprintf("auth=%s&halt=0&cmd[a]=crm.deal.add%%3Ffields%%255BTITLE%%255D%%3Dform"+
			"&cmd[b]=crm.deal.get%%3Fid%%3D%%2524result%%255Ba%%255D", c.token)
		a := send(t, http.MethodPost, p.ClientEndpoint()+"batch", "application/x-www-form-urlencoded", body)
		require.Equal(t, http.StatusOK, a.Status)
		require.Equal(t, "form", a.object(t)["result"].(obj)["b"].(obj)["TITLE"], a.Raw) //nolint:forcetypeassert // the test's point
	})
}
