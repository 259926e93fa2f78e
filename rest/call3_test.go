package rest_test

import (
	"encoding/json"
	"math"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/rest"
)

const (
	task51   = `{"result":{"item":{"id":51,"title":"Report"}},"time":{"duration":0.5}}`
	refused3 = `{"error":{"code":"BITRIX_REST_V3_EXCEPTION_VALIDATION_REQUESTVALIDATIONEXCEPTION","message":"Request validation failed",` +
		`"validation":[{"message":"Required field ` + "`id`" + ` is missing","field":"id"},` +
		`{"field":"","message":"<b>Too</b> many s3cr3t/ACCESS+token=1"}]}}`
)

type found struct {
	Item struct {
		ID    int
		Title string
	}
}

func TestCall3OnTheWire(t *testing.T) {
	t.Parallel()
	client, portal := clientOf(t, says(200, task51))
	hook, err := rest.NewWebhook(portal.ClientEndpoint()+"1/s3cr3tHook/", rest.WithInsecureHTTP())
	require.NoError(t, err)
	under, err := rest.NewWebhook(portal.URL()+"/shop/rest/1/s3cr3tHook/", rest.WithInsecureHTTP())
	require.NoError(t, err)
	type query struct {
		ID     int      `json:"id"`
		Select []string `json:"select"`
		Note   *string  `json:"note"`
		hidden int
	}
	const auth = `,"auth":"` + secretToken + `"}`
	for name, test := range map[string]struct {
		client     *rest.Client
		params     any
		path, body string
	}{
		"application": {
			client,
			map[string]any{"id": 51, "select": []string{"id", "title"}},
			"/rest/api/tasks.task.get",
			`{"id":51,"select":["id","title"]` + auth,
		},
		"struct": {
			client, &query{ID: 51, Select: []string{}, hidden: 1}, "/rest/api/tasks.task.get", `{"id":51,"select":[],"note":null` + auth,
		},
		"no parameters": {client, nil, "/rest/api/tasks.task.get", `{"auth":"s3cr3t/ACCESS+token=1"}`},
		"empty":         {client, map[string]any{}, "/rest/api/tasks.task.get", `{"auth":"s3cr3t/ACCESS+token=1"}`},
		"nil pointer":   {client, (*query)(nil), "/rest/api/tasks.task.get", `{"auth":"s3cr3t/ACCESS+token=1"}`},
		"raw":           {client, json.RawMessage(` { "id" : 1 } `), "/rest/api/tasks.task.get", `{"id":1` + auth},
		"bytes":         {client, map[string]any{"fileContent": []byte("abc")}, "/rest/api/tasks.task.get", `{"fileContent":"YWJj"` + auth},
		"webhook":       {hook, map[string]any{"id": 51}, "/rest/api/1/s3cr3tHook/tasks.task.get", `{"id":51}`},
		"deeper":        {under, nil, "/shop/rest/api/1/s3cr3tHook/tasks.task.get", `{}`},
	} {
		before := len(portal.requests())
		var got found
		err := test.client.Call3(t.Context(), "tasks.task.get", test.params, &got)
		seen := portal.requests()[before:]
		require.Len(t, seen, 1, name)
		require.Equal(t, test.path, seen[0].path, name)
		require.Equal(t, test.body, seen[0].body, name)
		require.Empty(t, seen[0].query, name)
		require.Equal(t, "application/json", seen[0].contentType, name)
		require.Equal(t, "application/json", seen[0].header.Get("Accept"), name)
		require.NotContains(t, seen[0].header, "Idempotency-Key", name)
		require.NoError(t, err, name)
		require.Equal(t, 51, got.Item.ID, name)
	}

	got, err := rest.Call3[found](t.Context(), client, "tasks.task.get", nil)
	require.NoError(t, err)
	require.Equal(t, "Report", got.Item.Title)
}

func TestCall3WithAKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var keys []string
		tr := newScript(t, func(sent) (int, string, error) {
			if len(keys) == 1 {
				return http.StatusServiceUnavailable, limited, nil
			}
			return http.StatusBadGateway, "<html>", nil
		})
		client := newHosts(t, on(light(tr, func(r *http.Request) error {
			for name, values := range r.Header {
				if strings.EqualFold(name, "Idempotency-Key") {
					keys = append(keys, values...)
				}
			}
			return drain(r)
		})), rest.WithRetries(3)).Portal(member)

		err := client.Call3(t.Context(), "tasks.task.add", nil, nil, rest.IdempotencyKey("9f1c1a7e-5f1b"), nil)
		require.ErrorIs(t, err, rest.ErrBadResponse)
		require.Equal(t, []string{"9f1c1a7e-5f1b", "9f1c1a7e-5f1b"}, keys, "a call that may still run is not repeated, in spite of its key")

		err = client.With(rest.Idempotent()).Call3(t.Context(), "tasks.task.add", nil, nil, rest.IdempotencyKey("k"))
		require.ErrorIs(t, err, rest.ErrBadResponse)
		require.Equal(t, []string{"k", "k", "k", "k"}, keys[2:])

		for _, key := range []string{"", "a b", "ключ", "a\r\nb", "a\x7f", strings.Repeat("k", 256)} {
			err := client.Call3(t.Context(), "tasks.task.add", nil, nil, rest.IdempotencyKey(key))
			require.ErrorIs(t, err, rest.ErrBadCall, key)
		}
		require.Len(t, keys, 6)
	})
}

func TestCall3Errors(t *testing.T) {
	t.Parallel()
	long := `{"error":{"code":"X","message":"m","validation":[` +
		strings.Repeat(`{"field":"f","message":"`+strings.Repeat("w", 90)+`"},`, 5000) + `{}]}}`
	for name, test := range map[string]struct {
		status int
		body   string
		want   rest.Error
	}{
		"access": {
			403, `{"error":{"code":"BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION","message":"Access denied"}}`,
			rest.Error{Code: rest.ErrV3AccessDenied, Description: "Access denied"},
		},
		"validation": {
			400, "\xef\xbb\xbf" + refused3,
			rest.Error{
				Code: rest.ErrV3Validation, Argument: "id",
				Description: "Request validation failed: id: Required field `id` is missing; Too many [redacted]",
			},
		},
		"odd validation":  {400, `{"error":{"code":"X","message":"m","validation":{"a":1}}}`, rest.Error{Code: "X", Description: "m"}},
		"odder":           {400, `{"error":{"code":"X","message":"m","validation":[1,{"field":{}}]}}`, rest.Error{Code: "X", Description: "m"}},
		"empty":           {400, `{"error":{"code":"X","message":"m","validation":[]}}`, rest.Error{Code: "X", Description: "m"}},
		"the older error": {401, `{"error":"NO_AUTH_FOUND","error_description":"Wrong"}`, rest.Error{Code: rest.ErrNoAuth, Description: "Wrong"}},
		"page":            {500, `<html>`, rest.Error{Code: rest.ErrBadResponse}},
		"long": {
			400, long, rest.Error{Code: "X", Argument: "f", Description: "m:" + strings.Repeat(" f: "+strings.Repeat("w", 90)+";", 20)[:998] + "…"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, portal := clientOf(t, says(test.status, test.body))
			err := client.Call3(t.Context(), "tasks.task.add", nil, nil)
			var e *rest.Error
			require.ErrorAs(t, err, &e)
			test.want.Method, test.want.Status = "tasks.task.add", test.status
			require.Equal(t, test.want, public(e))
			require.ErrorIs(t, err, test.want.Code)
			requireNoSecrets(t, err)
			require.Len(t, portal.requests(), 1)
		})
	}
}

type formatted struct{ event.Secret }

// unseen holds itself in a field that JSON does not show, because another has its name.
type unseen struct {
	Name string `json:"a"`
	*below
}

type below struct {
	Next *unseen `json:"a"`
}

type inner struct{ Token event.Secret }

func TestCall3Refuses(t *testing.T) {
	t.Parallel()
	client, portal := clientOf(t, says(200, task51))
	b := rest.NewBatch()
	ref := rest.Add[int](b, "a", "m.get", nil).Ref()
	cycle := map[string]any{}
	cycle["a"] = cycle
	circle := &unseen{below: &below{}}
	circle.Next = circle
	file := fileOf("a", nil)
	for name, test := range map[string]struct {
		method string
		params any
		text   string
	}{
		"hidden cycle":     {"m", circle, "hold themselves"},
		"list":             {"m", []int{1}, "must be a map or a struct"},
		"number":           {"m", 5, "must be a map or a struct"},
		"text":             {"m", "planted", "must be a map or a struct"},
		"function":         {"m", map[string]any{"a": func() {}}, "func() cannot be sent"},
		"NaN":              {"m", map[string]any{"a": math.NaN()}, "not finite"},
		"cycle":            {"m", cycle, "holds itself"},
		"bad JSON":         {"m", json.RawMessage("{planted"), "does not marshal itself"},
		"auth":             {"m", map[string]any{"AUTH": "planted"}, "leave auth"},
		"access_token":     {"m", json.RawMessage(`{"access_token":"planted"}`), "leave auth"},
		"secret":           {"m", map[string]any{"a": []any{event.Secret("planted")}}, "event.Secret prints itself"},
		"secret field":     {"m", &struct{ A inner }{inner{"planted"}}, "event.Secret prints itself"},
		"embedded":         {"m", struct{ inner }{inner{"planted"}}, "event.Secret prints itself"},
		"embedded secret":  {"m", map[string]formatted{"a": {"planted"}}, "formatted prints itself"},
		"secret key":       {"m", map[event.Secret]int{"planted": 1}, "event.Secret prints itself"},
		"pointer's method": {"m", map[string]any{"a": big.NewInt(5)}, "big.Int prints itself"},
		"reference":        {"m", map[string]any{"a": ref}, "rest.Ref prints itself"},
		"file":             {"m", map[string]any{"a": file}, "send a []byte"},
		"file content":     {"m", map[string]any{"a": [1]rest.FileContent{file.Content()}}, "send a []byte"},
		"ordered":          {"m", rest.Ordered{rest.Arg("a", 1)}, "use a map"},
		"batch":            {"Batch", nil, "batch of REST 3.0"},
		"method":           {"a/b", nil, "a method's name"},
		"method with path": {"api/tasks.task.get", nil, "called by Call3, without api/"},
	} {
		err := client.Call3(t.Context(), test.method, test.params, nil)
		require.ErrorIs(t, err, rest.ErrBadCall, name)
		require.ErrorContains(t, err, test.text, name)
		require.NotContains(t, err.Error(), "planted", name)
	}
	require.ErrorIs(t, client.Call3(t.Context(), "m", nil, 5), rest.ErrBadCall, "the target")
	require.ErrorIs(t, client.With(rest.Retries(-1)).Call3(t.Context(), "m", nil, nil), rest.ErrBadCall, "the options")
	require.Empty(t, portal.requests())

	// Fields that JSON leaves out do not matter.
	require.NoError(t, client.Call3(t.Context(), "m", struct {
		A event.Secret `json:"-"`
		t time.Time
		B time.Time
		C *url.URL
	}{A: "x"}, nil))
	require.Len(t, portal.requests(), 1)
}

// Other ways of calling REST 3.0 are refused, and the error names Call3.
func TestOtherWaysToREST3(t *testing.T) {
	t.Parallel()
	client, portal := clientOf(t, says(200, task51))
	err := client.Call(t.Context(), "api/tasks.task.get", nil, nil)
	require.ErrorIs(t, err, rest.ErrBadCall)
	require.ErrorContains(t, err, "called by Call3")
	for _, end := range []string{"api", "api/"} {
		wrong := newClient(t, &tokens{endpoint: portal.ClientEndpoint() + end, token: secretToken})
		err = wrong.Call(t.Context(), "tasks.task.get", nil, nil)
		require.ErrorIs(t, err, rest.ErrBadEndpoint)
		require.ErrorContains(t, err, "called there by Call3")
	}
	_, err = rest.NewWebhook("https://x.example/rest/api/1/s3cr3t/")
	require.Error(t, err)
	require.Empty(t, portal.requests())
}

// Renewal, redirects and limits are those of other calls.
func TestCall3IsLikeOtherCalls(t *testing.T) {
	t.Parallel()
	fresh := newPortal(t, says(200, task51))
	n := 0
	old := newPortal(t, func(w http.ResponseWriter, r *http.Request) {
		if n++; n == 1 {
			says(401, `{"error":{"code":"expired_token","message":"The access token provided has expired"}}`)(w, r)
			return
		}
		http.Redirect(w, r, fresh.URL()+r.URL.Path, http.StatusFound) //nolint:gosec // what a test is about
	})
	creds := &movable{
		tokens:  &tokens{endpoint: old.ClientEndpoint(), token: "first", renewals: []string{"second"}},
		vouches: func(endpoint string) bool { return endpoint == fresh.ClientEndpoint() },
	}
	require.NoError(t, newClient(t, creds).Call3(t.Context(), "tasks.task.get", map[string]any{"id": 1}, nil))
	require.Equal(t, []string{"first"}, creds.refused)
	require.Len(t, old.requests(), 2)
	seen := fresh.requests()
	require.Len(t, seen, 1)
	require.Equal(t, "/rest/api/tasks.task.get", seen[0].path)
	require.JSONEq(t, `{"id":1,"auth":"second"}`, seen[0].body)
}

func TestCall3Limits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newScript(t, func(sent) (int, string, error) {
			return 429, `{"error":{"code":"BITRIX_REST_V3_EXCEPTION_RATELIMITEXCEPTION","message":"Too many"}}`, nil
		})
		client := newHosts(t, on(tr), rest.WithRateLimit(1, 1), rest.WithRetries(1)).Portal(member)
		err := client.Call3(t.Context(), "tasks.task.add", nil, nil)
		require.Equal(t, 2, tr.count())
		_, again := rest.Retryable(err)
		require.True(t, again)
		began := time.Now()
		err = client.With(rest.Timeout(time.Millisecond)).Call3(t.Context(), "tasks.task.add", nil, nil)
		require.ErrorIs(t, err, rest.ErrQueryLimit)
		require.Zero(t, time.Since(began))
	})
}

// Package net/http retries a POST with an Idempotency-Key by itself if a connection that was used
// before breaks. The portal may still be working on the first request then.
func TestConnectionBreaksUnderAKey(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	client, portal := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 2 {
			panic(http.ErrAbortHandler)
		}
		says(200, task51)(w, r)
	})
	add := func(key string) error {
		return client.Call3(t.Context(), "tasks.task.add", nil, nil, rest.IdempotencyKey(key))
	}
	require.NoError(t, add("a"))
	err := add("b")
	require.Error(t, err)
	var keys []string
	for _, r := range portal.requests() {
		keys = append(keys, r.header.Get("Idempotency-Key"))
	}
	require.Equal(t, []string{"a", "b"}, keys, "it is not sent again")
	var e interface{ NotRun() bool }
	require.ErrorAs(t, err, &e)
	require.False(t, e.NotRun())
	_, again := rest.Retryable(err)
	require.False(t, again)
}

// If REST 3.0 refuses a call before the method runs, the error says so, as in the older API.
func TestRefusalsOfREST3(t *testing.T) {
	t.Parallel()
	for code, notRun := range map[rest.ErrorCode]bool{
		rest.ErrV3MethodNotFound: true, rest.ErrV3Scope: true, rest.ErrV3AccessDenied: false, rest.ErrV3NotFound: false,
		rest.ErrV3KeyReused: false,
	} {
		client, _ := clientOf(t, says(http.StatusForbidden, `{"error":{"code":"`+string(code)+`","message":"m"}}`))
		err := client.Call3(t.Context(), "tasks.task.add", nil, nil)
		var e *rest.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, notRun, e.NotRun(), code)
		_, again := rest.Retryable(err)
		require.False(t, again, code)
	}
}
