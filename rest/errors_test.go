package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/rest"
)

// requireNoSecrets prints a value in every way and looks for the token in it.
func requireNoSecrets(t *testing.T, v any) {
	t.Helper()
	doc, err := json.Marshal(v)
	require.NoError(t, err)
	for _, text := range []string{
		fmt.Sprintf("%v", v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v), fmt.Sprintf("%s %q", v, v), string(doc),
	} {
		require.NotContains(t, text, secretToken)
		require.NotContains(t, text, url.QueryEscape(secretToken))
		require.NotContains(t, text, "s3cr3t")
	}
}

func TestPortalErrors(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status int
		body   string
		want   rest.Error
	}{
		"method not found": {
			404, `{"error":"ERROR_METHOD_NOT_FOUND","error_description":"Method not found!"}`,
			rest.Error{Code: rest.ErrMethodNotFound, Description: "Method not found!"},
		},
		"argument": {
			400, `{"error":"ERROR_ARGUMENT","error_description":"Argument 'EVENT' is null or empty","argument":"EVENT"}`,
			rest.Error{Code: rest.ErrArgument, Description: "Argument 'EVENT' is null or empty", Argument: "EVENT"},
		},
		"case of the code differs": {401, `{"error":"INVALID_Token"}`, rest.Error{Code: "INVALID_Token"}},
		"empty description":        {400, `{"error":"ERROR_CORE","error_description":""}`, rest.Error{Code: rest.ErrCore}},
		"error with status 200":    {200, `{"error":"ERROR_CORE","result":{"a":1}}`, rest.Error{Code: rest.ErrCore}},
		"number for a code":        {400, `{"error":400,"error_description":17}`, rest.Error{Code: "400", Description: "17"}},
		"REST 3.0": {
			401, `{"error":{"code":"BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION","message":"Access denied"}}`,
			rest.Error{Code: "BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION", Description: "Access denied"},
		},
		"empty code":         {400, `{"error":"","error_description":"Not found"}`, rest.Error{Description: "Not found"}},
		"empty code, status": {200, `{"error":"","error_description":"Not found"}`, rest.Error{Description: "Not found"}},
		"array for an error": {400, `{"error":["x"]}`, rest.Error{Code: rest.ErrBadResponse}},
		"markup": {
			400, `{"error":"ERROR_CORE","error_description":"Fill <b class=\"x\">Title</b>&lt;<br/>1 < 2\u0000\u001b[31m\n\tend<script"}`,
			rest.Error{Code: rest.ErrCore, Description: "Fill Title &lt; 1 < 2 [31m end"},
		},
		"token echoed": {
			400,
			`{"error":"ERROR_CORE","error_description":"bad token s3cr3t/ACCESS+token=1 (s3cr3t%2FACCESS%2Btoken%3D1)",` +
				`"argument":"s3cr3t/ACCESS+token=1"}`,
			rest.Error{Code: rest.ErrCore, Description: "bad token [redacted] ([redacted])", Argument: "[redacted]"},
		},
		"token for a code": {400, `{"error":"s3cr3t/ACCESS+token=1"}`, rest.Error{Code: "[redacted]"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := clientOf(t, says(test.status, test.body))

			err := client.Call(t.Context(), "crm.deal.get", nil, nil)

			test.want.Method, test.want.Status = "crm.deal.get", test.status
			require.Equal(t, &test.want, err)
			require.ErrorIs(t, err, test.want.Code)
			require.ErrorIs(t, fmt.Errorf("wrapped: %w", err), rest.ErrorCode(strings.ToLower(string(test.want.Code))))
			require.NotErrorIs(t, err, rest.ErrQueryLimit)
			requireNoSecrets(t, err)
		})
	}
}

func TestUnreadableResponses(t *testing.T) {
	t.Parallel()
	const planted = "planted-in-the-body"
	tests := map[string]struct {
		status int
		body   string
	}{
		"overload page":            {503, "<html><body>" + planted + "</body></html>"},
		"limit page":               {429, "<h1>Too many " + planted + "</h1>"},
		"empty body":               {200, ""},
		"cut off":                  {200, `{"result":{"x":"` + planted},
		"no result":                {200, `{"time":{},"x":"` + planted + `"}`},
		"not an object":            {200, `["` + planted + `"]`},
		"null":                     {200, `null`},
		"two documents":            {200, `{"result":1}{"result":"` + planted + `"}`},
		"result with a bad status": {500, `{"result":"` + planted + `"}`},
		"deeper than JSON may be":  {200, `{"result":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := clientOf(t, says(test.status, test.body))

			err := client.Call(t.Context(), "crm.deal.get", nil, nil)

			var e *rest.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, rest.Error{Method: "crm.deal.get", Status: test.status, Code: rest.ErrBadResponse}, public(e))
			require.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), planted)
		})
	}
}

// public returns the error without its unexported fields.
func public(e *rest.Error) rest.Error {
	return rest.Error{
		Method: e.Method, Status: e.Status, Code: e.Code, Description: e.Description, Argument: e.Argument, Hint: e.Hint,
	}
}

func TestLongDescriptions(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ж", 5000)
	client, _ := clientOf(t, says(400, `{"error":"`+long+`","error_description":"`+long+`","argument":"`+long+`"}`))

	err := client.Call(t.Context(), "crm.deal.get", nil, nil)

	var e *rest.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, 1001, utf8.RuneCountInString(e.Description))
	require.Less(t, utf8.RuneCountInString(err.Error()), 700)
	require.True(t, utf8.ValidString(err.Error()))
}

func TestErrorForOtherPackages(t *testing.T) {
	t.Parallel()
	var err error = &rest.Error{
		Method: "event.bind", Status: 400, Code: rest.ErrCore, Description: "Unable to set event handler: Handler already binded",
	}
	var other interface {
		ErrorCode() string
		ErrorDescription() string
	}
	require.ErrorAs(t, fmt.Errorf("wrapped: %w", err), &other)
	require.Equal(t, "ERROR_CORE", other.ErrorCode())
	require.Equal(t, "Unable to set event handler: Handler already binded", other.ErrorDescription())
	require.NotErrorIs(t, err, http.ErrServerClosed)
	require.NotEmpty(t, (&rest.Error{}).Error())
}

// valueCredentials holds its secret in a struct value, which fmt would print through an interface.
type valueCredentials struct{ *tokens }

func TestNothingPrintsATokenOrLogsOne(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newPortal(t, func(w http.ResponseWriter, r *http.Request) {
		status := map[bool]int{true: 401, false: 400}[r.URL.Path == "/rest/expired"]
		code := map[bool]string{true: "expired_token", false: r.Form.Get("auth")}[status == 401]
		w.WriteHeader(status)
		echo := r.Form.Get("auth")
		_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": echo, "argument": echo})
	})
	creds := valueCredentials{&tokens{endpoint: p.ClientEndpoint(), token: secretToken, renewals: []string{"s3cr3t-two"}}}
	log := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	api, err := rest.NewClients(creds, rest.WithInsecureHTTP(), rest.WithLogger(log))
	require.NoError(t, err)
	client := api.Portal(member)

	requireNoSecrets(t, api)
	requireNoSecrets(t, client)
	requireNoSecrets(t, client.Call(t.Context(), "other", nil, nil))
	requireNoSecrets(t, client.Call(t.Context(), "expired", nil, nil))
	log.LogAttrs(t.Context(), slog.LevelInfo, "planted", slog.Any("api", api), slog.Any("client", client))

	require.Len(t, p.requests(), 3)
	require.Equal(t, 4, strings.Count(out.String(), "\n"))
	require.Contains(t, out.String(), `"method":"other"`)
	require.NotContains(t, out.String(), "s3cr3t")
	require.Equal(t, member, client.MemberID())
}

// TestRefusalsInABatchOfACaller covers a batch that a caller puts together by itself, as package
// event does: the client knows the token, the caller does not.
func TestRefusalsInABatchOfACaller(t *testing.T) {
	t.Parallel()
	const response = `{"result":{"result":{"b":{"x":1.50,"m":"<b> of s3cr3t/ACCESS+token=1"}},` +
		`"result_error":{"a":{"error":"bad s3cr3t/ACCESS+token=1",` +
		`"error_description":"?auth=s3cr3t%2FACCESS%2Btoken%3D1 s3cr3t\/ACCESS+token=1"}},"result_total":[]}}`
	for name, call := range map[string]string{"batch": "batch", "upper case": "BATCH"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := clientOf(t, says(200, response))
			var result struct {
				Result map[string]json.RawMessage `json:"result"`
				Errors json.RawMessage            `json:"result_error"`
				Total  json.RawMessage            `json:"result_total"`
			}
			require.NoError(t, client.Call(t.Context(), call, map[string]any{"cmd": map[string]any{"a": "profile"}}, &result))
			require.JSONEq(t, `{"a":{"error":"bad [redacted]","error_description":"?auth=[redacted] [redacted]"}}`, string(result.Errors))
			require.JSONEq(t, `{"x":1.50,"m":"<b> of s3cr3t/ACCESS+token=1"}`, string(result.Result["b"]), "a result is not the client's to change")
			require.Equal(t, "[]", string(result.Total))
		})
	}

	client, _ := clientOf(t, says(200, response))
	_, err := event.NewAPI(client).Features(t.Context())
	require.Error(t, err)
	requireNoSecrets(t, fmt.Sprint(err))
}

// echoingCredentials fail with an error that quotes the token which they were to renew.
type echoingCredentials struct{ *tokens }

func (echoingCredentials) Renew(_ context.Context, _, refused string) (endpoint, token string, err error) {
	return "", "", errors.New("no renewal of " + refused + "\nlevel=ERROR " + url.QueryEscape(refused) + "\x1b[2J")
}

func TestErrorsOfCredentialsAreOneLine(t *testing.T) {
	t.Parallel()
	p := newPortal(t, says(401, `{"error":"expired_token"}`))
	err := newClient(t, echoingCredentials{&tokens{endpoint: p.ClientEndpoint(), token: secretToken}}).Call(t.Context(), "profile", nil, nil)
	require.EqualError(t, err, "rest: profile: renewing access to the portal: no renewal of [redacted] level=ERROR [redacted] [2J")
	requireNoSecrets(t, fmt.Sprintf("%v %+v %#v", err, err, err))
}

// TestTextsOfAPortalAreOneLine covers every text of a refusal, also inside a batch.
func TestTextsOfAPortalAreOneLine(t *testing.T) {
	t.Parallel()
	const hostile = `\u001b]0;pwn\u0007\r\nlevel=ERROR\u009b31m\u202e\u2028\u007f<b>x</b>`
	refusal := `{"error":"` + hostile + `","error_description":"` + hostile + `","argument":"` + hostile + `"}`
	client, _ := clientOf(t, says(400, refusal))
	whole := client.Call(t.Context(), "profile", nil, nil)
	client, _ = clientOf(t, says(200, `{"result":{"result":[],"result_error":{"a":`+refusal+`}}}`))
	b := rest.NewBatch()
	a := rest.Add[any](b, "a", "profile", nil)
	require.NoError(t, client.Batch(t.Context(), b))
	_, item := a.Result()
	for _, err := range []error{whole, item} {
		var e *rest.Error
		require.ErrorAs(t, err, &e)
		for _, text := range []string{err.Error(), string(e.Code), e.Description, e.Argument} {
			require.Contains(t, text, "]0;pwn level=ERROR 31m x")
			require.Equal(t, -1, strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }), "%q", text)
		}
	}
}

// TestNotRunOfREST3: codes of REST 3.0 that are checked before a method runs.
func TestNotRunOfREST3(t *testing.T) {
	t.Parallel()
	for code, want := range map[rest.ErrorCode]bool{
		rest.ErrV3Scope: true, rest.ErrV3MethodNotFound: true, rest.ErrV3Validation: false, rest.ErrV3NotFound: false, rest.ErrV3KeyReused: false,
	} {
		t.Run(string(code), func(t *testing.T) {
			t.Parallel()
			client, _ := clientOf(t, says(400, `{"error":{"code":"`+string(code)+`","message":"m"}}`))
			var e *rest.Error
			require.ErrorAs(t, client.Call3(t.Context(), "tasks.task.add", nil, nil), &e)
			require.Equal(t, want, e.NotRun())
		})
	}
}
