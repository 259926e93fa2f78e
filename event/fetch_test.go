package event_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// recording is a caller that returns the same result for every call and keeps the calls.
type recording struct {
	result string
	err    error
	method string
	params string // as JSON, in order
	calls  int
}

func (r *recording) Call(_ context.Context, method string, params, result any) error {
	r.calls++
	doc, err := json.Marshal(params)
	if err != nil {
		return err
	}
	r.method, r.params = method, string(doc)
	if r.err != nil {
		return r.err
	}
	*result.(*json.RawMessage) = json.RawMessage(r.result) //nolint:forcetypeassert // what Fetch passes
	return nil
}

func parsed(t *testing.T, body string) *event.Delivery {
	t.Helper()
	d, err := event.Parse("", []byte(body))
	require.NoError(t, err)
	return d
}

// TestFetchSends: the call for an event, and the object in its result.
func TestFetchSends(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, body, method, params, result, object string }{
		{
			"positional", "event=ONTASKCOMMENTADD&data[FIELDS_AFTER][ID]=3157&data[FIELDS_AFTER][TASK_ID]=8017",
			"task.commentitem.get", `{"TASKID":"8017","ITEMID":"3157"}`, `{"ID":"3157"}`, `{"ID":"3157"}`,
		},
		{
			"the object itself", "event=ONCRMDEALUPDATE&data[FIELDS][ID]=7",
			"crm.deal.get", `{"id":"7"}`, `{"ID":"7"}`, `{"ID":"7"}`,
		},
		{
			"type in the name", "event=ONCRMDYNAMICITEMUPDATE_147&data[FIELDS][ID]=9",
			"crm.item.get", `{"entityTypeId":"147","id":"9"}`, `{"item":{"id":9}}`, `{"id":9}`,
		},
		{
			"type in the data", "event=ONCRMDYNAMICITEMUPDATE&data[FIELDS][ID]=9&data[FIELDS][ENTITY_TYPE_ID]=31",
			"crm.item.get", `{"entityTypeId":"31","id":"9"}`, `{"item":{"id":9}}`, `{"id":9}`,
		},
		{
			"task", "event=ONTASKUPDATE&data[FIELDS_AFTER][ID]=5",
			"tasks.task.get", `{"taskId":"5"}`, `{"task":{"id":"5","title":"x"}}`, `{"id":"5","title":"x"}`,
		},
		{
			"list, every group", "event=ONSONETGROUPUPDATE&data[FIELDS][ID]=77",
			"sonet_group.get", `{"GROUP_ID":"77","IS_ADMIN":"Y"}`, `[{"ID":"77"}]`, `{"ID":"77"}`,
		},
		{
			"literal first", "event=ONCRMTYPEUSERFIELDADD&data[FIELDS][ID]=3",
			"userfieldconfig.get", `{"moduleId":"crm","id":"3"}`, `{"field":{"id":"3"}}`, `{"id":"3"}`,
		},
		{
			"list with a gap", "event=ONSONETGROUPUPDATE&data[FIELDS][ID]=77",
			"sonet_group.get", `{"GROUP_ID":"77","IS_ADMIN":"Y"}`, `{"0":{"ID":"77"},"2":{}}`, `{"ID":"77"}`,
		},
		{
			"any user", "event=ONUSERADD&data[ID]=3",
			"user.get", `{"FILTER":{"ID":"3"},"ADMIN_MODE":"True"}`, `[{"ID":"3"}]`, `{"ID":"3"}`,
		},
		{
			"nested", "event=ONCRMADDRESSREGISTER&data[FIELDS][TYPE_ID]=1&data[FIELDS][ENTITY_TYPE_ID]=8&data[FIELDS][ENTITY_ID]=5",
			"crm.address.list", `{"filter":{"TYPE_ID":"1","ENTITY_TYPE_ID":"8","ENTITY_ID":"5"}}`, `[{"TYPE_ID":"1"}]`, `{"TYPE_ID":"1"}`,
		},
		{
			"second element", "event=ONSESSIONSTART&data[DATA][1][session][id]=42",
			"imopenlines.dialog.get", `{"SESSION_ID":"42"}`, `{"id":1777}`, `{"id":1777}`,
		},
		{"nothing to name", "event=ONAPPUPDATE", "app.info", `null`, `{"ID":5}`, `{"ID":5}`},
		{
			"field of an old invoice", "event=ONCRMINVOICEUSERFIELDADD&data[id]=5",
			"crm.invoice.userfield.get", `{"id":"5"}`, `{"ID":"5"}`, `{"ID":"5"}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := &recording{result: tc.result}
			got, err := event.Fetch[json.RawMessage](t.Context(), c, parsed(t, tc.body))
			require.NoError(t, err)
			require.Equal(t, tc.method, c.method)
			require.Equal(t, tc.params, c.params)
			require.Equal(t, tc.object, string(got))
		})
	}
}

func TestFetchCallFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body string
		want error
	}{
		"deleted":    {"event=ONCRMDEALDELETE&data[FIELDS][ID]=21", event.ErrGone},
		"no method":  {"event=ONCALENDARSECTIONADD&data[id]=21", event.ErrUnknown},
		"unknown":    {"event=ONWHATEVER&data[FIELDS][ID]=21", event.ErrUnknown},
		"missing id": {"event=ONCRMDEALUPDATE", event.ErrMalformed},
	} {
		_, _, err := parsed(t, tc.body).FetchCall()
		require.ErrorIs(t, err, tc.want, name)
		_, err = event.Fetch[any](t.Context(), nil, parsed(t, tc.body))
		require.ErrorIs(t, err, tc.want, name)
	}
}

// TestFetchOfANewCardComment: no method of the task scope reads it. That is neither a malformed
// event nor a deletion.
func TestFetchOfANewCardComment(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"event=ONTASKCOMMENTADD&data[FIELDS_AFTER][ID]=0&data[FIELDS_AFTER][MESSAGE_ID]=48760&data[FIELDS_AFTER][TASK_ID]=2536",
		"event=ONTASKCOMMENTADD&data[FIELDS_AFTER][MESSAGE_ID]=48760&data[FIELDS_AFTER][TASK_ID]=2536",
		"event=ONTASKCOMMENTUPDATE&data[FIELDS_AFTER][ID]=0&data[FIELDS_AFTER][MESSAGE_ID]=48760&data[FIELDS_AFTER][TASK_ID]=2536",
	} {
		c := &recording{}
		_, err := event.Fetch[any](t.Context(), c, parsed(t, body))
		require.ErrorIs(t, err, event.ErrUnknown)
		require.NotErrorIs(t, err, event.ErrMalformed)
		require.NotErrorIs(t, err, event.ErrGone)
		require.ErrorContains(t, err, "message 48760")
		require.ErrorContains(t, err, "im.dialog.messages.get")
		require.Zero(t, c.calls)
		outcome, _ := event.OutcomeOf(err)
		require.Equal(t, event.OutcomeDropped, outcome, "no retry changes it")
	}
	payload, err := event.OnTaskCommentAdd.Decode(parsed(t, "event=ONTASKCOMMENTADD&data[FIELDS_AFTER][ID]=0&data[FIELDS_AFTER][MESSAGE_ID]=48760"))
	require.NoError(t, err)
	require.EqualValues(t, 48760, payload.MessageID)

	for _, body := range []string{
		"event=ONTASKCOMMENTADD&data[FIELDS_AFTER][ID]=0&data[FIELDS_AFTER][TASK_ID]=2536",
		"event=ONTASKCOMMENTADD&data[FIELDS_AFTER][ID]=0&data[FIELDS_AFTER][TASK_ID]=5&data[FIELDS_AFTER][MESSAGE_ID]=planted",
		"event=ONCRMDEALUPDATE&data[FIELDS][ID]=0",
		"event=ONCRMDEALUPDATE&data[FIELDS][TITLE]=planted",
		"event=ONCRMDEALUPDATE&data=undefined",
	} {
		_, err := event.Fetch[any](t.Context(), &recording{}, parsed(t, body))
		var misfit *event.DecodeError
		require.ErrorAs(t, err, &misfit, body)
		require.ErrorIs(t, err, event.ErrMalformed)
		require.NotContains(t, err.Error(), "planted")
	}
}

// TestFetchMethodIsFixed: the scopes of a token never change which T fits. They only decide whether
// Fetch makes the call.
func TestFetchMethodIsFixed(t *testing.T) {
	t.Parallel()
	fetch := func(scope []string, body string, opts ...event.FetchOption) (*recording, error) {
		d := parsed(t, body)
		d.Auth.Scope = event.ScopeOf(scope...)
		c := &recording{result: `{"product":{"id":1},"item":{"id":1},"ID":"1"}`}
		_, err := event.Fetch[any](t.Context(), c, d, opts...)
		return c, err
	}
	const product, dialog = "event=ONCRMPRODUCTUPDATE&data[FIELDS][ID]=1", "event=ONIMCONNECTORDIALOGSTART&data[DATA][0][session][id]=1"
	for _, scope := range [][]string{nil, {"crm"}, {"crm", "catalog"}, {"app"}} {
		c, err := fetch(scope, product)
		require.NoError(t, err)
		require.Equal(t, "crm.product.get", c.method, scope)
		c, err = fetch(scope, product, nil, event.WithMethod("catalog.product.get"))
		require.NoError(t, err)
		require.Equal(t, "catalog.product.get", c.method, "the caller may have another token: %v", scope)
	}
	for _, scope := range [][]string{nil, {"imconnector", "IMOPENLINES"}, {"app"}, {"crm"}} {
		c, err := fetch(scope, dialog)
		require.NoError(t, err, "a list without the event's own scope tells nothing: %v", scope)
		require.Equal(t, "imopenlines.dialog.get", c.method)
	}
	c, err := fetch([]string{"imconnector"}, dialog)
	var missing *event.ScopeError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, event.ScopeError{Event: "ONIMCONNECTORDIALOGSTART", Method: "imopenlines.dialog.get", Missing: []string{"imopenlines"}}, *missing)
	require.ErrorContains(t, err, "needs the scope imopenlines")
	require.Zero(t, c.calls)
	outcome, _ := event.OutcomeOf(err)
	require.Equal(t, event.OutcomeDropped, outcome)
	c, err = fetch([]string{"imconnector"}, dialog, event.WithMethod("imopenlines.dialog.get"))
	require.NoError(t, err)
	require.Equal(t, 1, c.calls)

	_, err = fetch(nil, product, event.WithMethod("crm.deal.get"))
	require.ErrorIs(t, err, event.ErrConfig)
	require.NotErrorIs(t, err, event.ErrUnknown, "the offline queue would take a mistake of the program for an object that nobody can read")
	outcome, _ = event.OutcomeOf(err)
	require.Equal(t, event.OutcomeDropped, outcome)
	_, err = fetch(nil, product, event.WithMethod(""))
	require.ErrorIs(t, err, event.ErrConfig)
}

// TestFetchIsRefusedForAScope: the portal's error names no scope, but the catalogue does.
func TestFetchIsRefusedForAScope(t *testing.T) {
	t.Parallel()
	p, c := portal(t, eventtest.AdminID)
	p.Once("userfieldconfig.get", eventtest.Fail(401, "insufficient_scope", "The request requires higher privileges"))
	_, err := event.Fetch[any](t.Context(), c, parsed(t, "event=ONCRMTYPEUSERFIELDUPDATE&data[FIELDS][ID]=5"))
	var missing *event.ScopeError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, []string{"userfieldconfig", "crm"}, missing.Missing)
	var refusal event.CallError
	require.ErrorAs(t, err, &refusal)
}

type fetchedDeal struct {
	ID     int64 // text in one method, a number in the other
	Title  string
	Sum    float64   `json:"opportunity"`
	Open   bool      `json:"opened"`
	Closes time.Time `json:"closedate"`
	Tags   []string  `json:"tags"`
}

func TestFetchDecodesByTheRulesForPayloads(t *testing.T) {
	t.Parallel()
	d := parsed(t, "event=ONCRMDEALUPDATE&data[FIELDS][ID]=7")
	item := event.WithMethod("crm.item.get")
	want := fetchedDeal{ID: 7, Title: "Boat", Sum: 12.5, Open: true, Closes: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
	got, err := event.Fetch[fetchedDeal](t.Context(), &recording{result: `{"item":{"id":7,"title":"Boat","opportunity":12.5,"opened":"Y",
		"closedate":"2026-01-02T03:00:00+03:00","tags":false}}`}, d, item)
	require.NoError(t, err)
	require.True(t, want.Closes.Equal(got.Closes))
	got.Closes = want.Closes
	require.Equal(t, want, got)
	got, err = event.Fetch[fetchedDeal](t.Context(), &recording{result: `{"ID":"7","TITLE":"Boat","OPPORTUNITY":"12.50","OPENED":"1",
		"CLOSEDATE":"2026-01-02T03:00:00+03:00","TAGS":[]}`}, d)
	require.NoError(t, err)
	got.Closes, want.Tags = want.Closes, []string{} // an empty list is not nil
	require.Equal(t, want, got)

	c := &recording{result: `{"item":{"id":7,"ufCrm_1":["a"]}}`}
	data, err := event.Fetch[event.Data](t.Context(), c, d, item)
	require.NoError(t, err)
	require.JSONEq(t, `{"id":7,"ufCrm_1":["a"]}`, string(data.JSON()))
	tree, err := event.Fetch[map[string]any](t.Context(), c, d, item)
	require.NoError(t, err)
	require.Equal(t, map[string]any{"id": 7.0, "ufCrm_1": []any{"a"}}, tree)
	pointer, err := event.Fetch[*fetchedDeal](t.Context(), c, d, item)
	require.NoError(t, err)
	require.EqualValues(t, 7, pointer.ID)
}

func TestFetchOfAnotherShape(t *testing.T) {
	t.Parallel()
	d := parsed(t, "event=ONCRMDYNAMICITEMUPDATE_147&data[FIELDS][ID]=7")
	for name, tc := range map[string]struct{ result, path, want string }{
		"whole":       {`"planted"`, "result.item", "present"},
		"not wrapped": {`{"ID":"7","TITLE":"planted"}`, "result.item", "present"},
		"a text":      {`{"item":"planted"}`, "result", "an object"},
		"member":      {`{"item":{"ID":"planted"}}`, "result.ID", "an integer of 64 bits"},
		"deep":        {`{"item":{"OWNER":{"ID":"planted"}}}`, "result.OWNER.ID", "an integer of 64 bits"},
		"none fits":   {`{"item":{"stageId":"planted","planted text":1}}`, "result", "a event_test.deal: it has stageId, and the type reads none of its members"},
		"not JSON":    {`{"item":`, "result.item", "present"},
	} {
		got, err := event.Fetch[deal](t.Context(), &recording{result: tc.result}, d)
		var misfit *event.DecodeError
		require.ErrorAs(t, err, &misfit, name)
		require.Equal(t, event.DecodeError{Event: d.Name, Entity: event.Entity{Kind: "crm.item", ID: "147:7"}, Path: tc.path, Want: tc.want}, *misfit, name)
		require.NotContains(t, err.Error(), "planted", name)
		require.Zero(t, got, name)
	}
	long := `{"item":{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1}}`
	_, err := event.Fetch[deal](t.Context(), &recording{result: long}, d)
	require.ErrorContains(t, err, "it has a, and the type reads none of its members")
	_, err = event.Fetch[struct{}](t.Context(), &recording{result: long}, d)
	require.NoError(t, err, "it asks for nothing")
	_, err = event.Fetch[any](t.Context(), &recording{result: `"x"`}, parsed(t, "event=ONUSERADD&data[ID]=1"))
	require.ErrorIs(t, err, event.ErrMalformed, "a list is due")

	_, err = event.Fetch[deal](t.Context(), &recording{}, d)
	require.ErrorContains(t, err, "returned no result")
	require.NotErrorIs(t, err, event.ErrGone, "an adapter that drops results must not delete everything")
}

type deal struct {
	ID    int64
	Owner struct{ ID int64 } `json:"OWNER"`
}

func TestFetchByID(t *testing.T) {
	t.Parallel()
	c := &recording{result: `{"item":{"id":42,"title":"Boat"},"task":{"id":"5","title":"Boat"},"title":"Boat","ID":42}`}
	got, err := event.FetchByID[fetchedDeal](t.Context(), c, event.OnCrmDealUpdate, 42)
	require.NoError(t, err)
	require.Equal(t, "Boat", got.Title)
	require.JSONEq(t, `{"id":"42"}`, c.params)

	for name, tc := range map[string]struct {
		fetch  func() (fetchedDeal, error)
		method string
		params string
	}{
		"text": {func() (fetchedDeal, error) {
			return event.FetchByID[fetchedDeal](t.Context(), c, event.OnCrmCurrencyUpdate, "EUR")
		}, "crm.currency.get", `{"id":"EUR"}`},
		"one smart process": {func() (fetchedDeal, error) {
			return event.FetchByID[fetchedDeal](t.Context(), c, event.OnCrmDynamicItemUpdateOf(147), int64(42))
		}, "crm.item.get", `{"entityTypeId":"147","id":"42"}`},
		"type and ID": {func() (fetchedDeal, error) {
			return event.FetchByID[fetchedDeal](t.Context(), c, event.OnCrmDynamicItemUpdate, "147:42")
		}, "crm.item.get", `{"entityTypeId":"147","id":"42"}`},
		"positional": {func() (fetchedDeal, error) {
			return event.FetchByID[fetchedDeal](t.Context(), c, event.OnTaskCommentAdd, "8017:3157")
		}, "task.commentitem.get", `{"TASKID":"8017","ITEMID":"3157"}`},
		"another method": {func() (fetchedDeal, error) {
			return event.FetchByID[fetchedDeal](t.Context(), c, event.OnCrmDealUpdate, 42, event.WithMethod("crm.item.get"))
		}, "crm.item.get", `{"entityTypeId":"2","id":"42"}`},
		"with a literal": {func() (fetchedDeal, error) {
			return event.FetchByID[fetchedDeal](t.Context(), &recording{result: `[{"ID":1}]`}, event.OnSonetGroupUpdate, 1)
		}, "", ""},
	} {
		_, err := tc.fetch()
		require.NoError(t, err, name)
		if tc.method != "" {
			require.Equal(t, tc.method, c.method, name)
			require.Equal(t, tc.params, c.params, name)
		}
	}

	before := c.calls
	for _, id := range []string{"", "0", "147", "147:", "147:0", ":42", "1:2:3"} {
		_, err := event.FetchByID[fetchedDeal](t.Context(), c, event.OnCrmDynamicItemUpdate, id)
		require.ErrorIs(t, err, event.ErrMalformed, id)
	}
	// PHP would read "147:42" as 147, and return another object.
	for _, id := range []string{"", "0", "147:42", ":", " 42", "42\n"} {
		_, err := event.FetchByID[fetchedDeal](t.Context(), c, event.OnCrmDealUpdate, id)
		require.ErrorIs(t, err, event.ErrMalformed, id)
		_, err = event.FetchByID[fetchedDeal](t.Context(), c, event.OnCrmDynamicItemUpdateOf(147), id)
		require.ErrorIs(t, err, event.ErrMalformed, id)
	}
	_, err = event.FetchByID[fetchedDeal](t.Context(), c, event.OnCrmDealDelete, 42)
	require.ErrorIs(t, err, event.ErrUnknown, "it has no method")
	_, err = event.FetchByID[fetchedDeal](t.Context(), c, event.Define[event.Data]("ONMYEVENT"), 42)
	require.ErrorIs(t, err, event.ErrUnknown)
	_, err = event.FetchByID[fetchedDeal](t.Context(), c, event.OnAppUpdate, 42)
	require.ErrorIs(t, err, event.ErrUnknown)
	_, err = event.FetchByID[fetchedDeal](t.Context(), c, event.OnCrmDealUpdate, 42, event.WithMethod(""))
	require.ErrorIs(t, err, event.ErrConfig)
	_, err = event.FetchByID[fetchedDeal](t.Context(), nil, event.OnCrmDealUpdate, 42)
	require.ErrorIs(t, err, event.ErrConfig)
	require.Equal(t, before, c.calls)

	p, client := portal(t, eventtest.AdminID)
	id, err := p.Add(eventtest.Deal, map[string]any{"TITLE": "Boat"}, eventtest.AdminID)
	require.NoError(t, err)
	got, err = event.FetchByID[fetchedDeal](t.Context(), client, event.OnCrmDealUpdate, id)
	require.NoError(t, err)
	require.Equal(t, "Boat", got.Title)
	require.NoError(t, p.Delete(eventtest.Deal, id, eventtest.AdminID))
	_, err = event.FetchByID[fetchedDeal](t.Context(), client, event.OnCrmDealUpdate, id)
	require.ErrorIs(t, err, event.ErrGone)
}

// FuzzFetchResult: no response of a portal makes Fetch panic, return an object from nothing, or
// quote a value.
func FuzzFetchResult(f *testing.F) {
	for _, result := range []string{`{"item":{"id":7}}`, `[]`, `{"item":[]}`, `{"item":{"ID":"SECRETSECRET"}}`, `[[`, `{"item":{"OWNER":{"0":{}}}}`, "null"} {
		f.Add(result)
	}
	f.Fuzz(func(t *testing.T, result string) {
		for _, body := range []string{"event=ONCRMDEALUPDATE&data[FIELDS][ID]=7", "event=ONUSERADD&data[ID]=7", "event=ONCRMDYNAMICITEMUPDATE_147&data[FIELDS][ID]=7"} {
			d := parsed(t, body)
			c := &recording{result: result}
			_, err := event.Fetch[deal](t.Context(), c, d)
			if err != nil && strings.Contains(err.Error(), "SECRETSECRET") && !strings.Contains(result, `"SECRETSECRET":`) {
				t.Fatal(err)
			}
			raw, err := event.Fetch[json.RawMessage](t.Context(), c, d)
			if err == nil && (!json.Valid(raw) || strings.TrimSpace(string(raw)) == "null") {
				t.Fatalf("%q is no object", raw)
			}
			if errors.Is(err, event.ErrGone) {
				t.Fatal("a result proves no deletion")
			}
		}
	})
}
