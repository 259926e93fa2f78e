package eventtest_test

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

func TestMethodLookup(t *testing.T) {
	t.Parallel()
	_, c := newPortal(t)
	for _, tt := range []struct {
		name, path string
		status     int
	}{
		{"1.1 plain", "server.time", 200},
		{"1.1 any case", "Server.Time", 200},
		{"1.1 json", "server.time.json", 200},
		{"1.1 slash", "server.time/", 200},
		{"1.1 json and slash", "server.time.json/", 200},
		{"1.1 another tail is part of the name", "server.time.yaml", 404},
		{"1.1 unknown", "no.such.method", 404},
		{"1.1 upper-case suffix is part of the name", "server.time.JSON", 404},
		{"1.1 mixed-case suffix is part of the name", "server.time.Xml", 404},
		{"1.1 slash before the name", "/server.time", 404},
		{"1.1 slashes before the name", "//server.time", 404},
		{"1.1 slash twice", "server.time//", 404},
		{"1.1 dot before the name", "./server.time", 404},
		{"1.1 dots after the name", "server.time/../server.time", 404},
		{"1.1 out of the folder", "../rest/server.time", 404},
		{"1.1 no name", "", 404},
		{"1.8 REST 3.0 is another API", "api/server.time", 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := c.call(tt.path, nil)
			require.Equal(t, tt.status, a.Status)
			if tt.status == http.StatusNotFound {
				require.Equal(t, "ERROR_METHOD_NOT_FOUND", a.Error)
				require.Equal(t, "Method not found!", a.Description)
			}
		})
	}
}

// TestPathsAreNotCleaned covers the addresses around those of methods. The client does not follow
// redirects.
func TestPathsAreNotCleaned(t *testing.T) {
	t.Parallel()
	fallback := http.NewServeMux()
	fallback.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	p := eventtest.NewPortal(t, eventtest.WithFallback(fallback))
	c := install(t, p, eventtest.App{RedirectURL: "https://example.com/"})
	hook, err := p.AddIncomingWebhook(eventtest.AdminID)
	require.NoError(t, err)
	base := strings.TrimSuffix(string(hook), "/")
	user, secret, _ := strings.Cut(strings.TrimPrefix(base, p.ClientEndpoint()), "/")
	oauth := strings.TrimSuffix(p.ServerEndpoint(), "/rest/")
	authorize := "?client_id=" + c.app.ClientID() + "&state=x"
	for _, tt := range []struct {
		name, target string
		status       int
		code         string
	}{
		{"webhook", base + "/server.time", 200, ""},
		{"1.1 slash after the secret", base + "//server.time", 404, "ERROR_METHOD_NOT_FOUND"},
		{"1.1 no user", p.ClientEndpoint() + "/" + secret + "/server.time", 404, "ERROR_METHOD_NOT_FOUND"},
		{"1.1 no secret", p.ClientEndpoint() + user + "//server.time", 404, "ERROR_METHOD_NOT_FOUND"},
		{"1.1 slash before rest", p.URL() + "//rest/server.time", 404, "ERROR_METHOD_NOT_FOUND"},
		{"1.1 rest without the slash", p.URL() + "/rest", 404, "ERROR_METHOD_NOT_FOUND"},
		{"1.1 rest after dots", p.URL() + "/x/../rest/server.time", 404, "ERROR_METHOD_NOT_FOUND"},
		{"not below rest", p.URL() + "/restless", http.StatusTeapot, ""},
		{"authorization", p.URL() + "/oauth/authorize/" + authorize, 302, ""},
		{"authorization without the slash", p.URL() + "/oauth/authorize" + authorize, 302, ""},
		{"authorization with two", p.URL() + "/oauth/authorize//" + authorize, 404, ""},
		{"unknown page of authorization", p.URL() + "/oauth/x", 404, ""},
		{"token", oauth + "/oauth/token/", 400, "invalid_request"},
		{"token without the slash", oauth + "/oauth/token", 400, "invalid_request"},
		{"token with a slash too many", oauth + "/oauth//token/", 404, ""},
		{"token with a tail", oauth + "/oauth/token/x", 404, ""},
		{"token information", oauth + "/rest/app.info", 401, "NO_AUTH_FOUND"},
		{"token information after two slashes", oauth + "/rest//app.info", 404, "ERROR_METHOD_NOT_FOUND"},
		{"token information of a webhook", oauth + "/rest/1/x/app.info", 404, "ERROR_METHOD_NOT_FOUND"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, verb := range []string{http.MethodGet, http.MethodPost} {
				a := send(t, verb, tt.target, "", "")
				require.Equal(t, tt.status, a.Status, verb)
				require.Equal(t, tt.code, a.Error, verb)
			}
		})
	}
}

// TestPathsOnANetwork covers the same rules on a network in memory, without a server that parses
// the addresses.
func TestPathsOnANetwork(t *testing.T) {
	t.Parallel()
	n := eventtest.NewNetwork()
	p := eventtest.NewPortal(t, eventtest.WithNetwork(n))
	for target, want := range map[string]int{
		p.ClientEndpoint() + "/server.time":     http.StatusNotFound,
		p.ClientEndpoint() + "server.time":      http.StatusUnauthorized,
		"https://oauth.bitrix.info/oauth/token": http.StatusBadRequest,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, http.NoBody)
		require.NoError(t, err)
		resp, err := n.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, want, resp.StatusCode, target)
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	var multi bytes.Buffer
	form := multipart.NewWriter(&multi)
	require.NoError(t, form.WriteField("auth", c.token))
	require.NoError(t, form.WriteField("fields[TITLE]", "from body"))
	require.NoError(t, form.Close())
	fields := url.Values{"auth": {c.token}, "fields[TITLE]": {"from body"}}.Encode()
	doc := `{"auth":"` + c.token + `","fields":{"TITLE":"from body"}}`
	for _, tt := range []struct {
		name, verb, query, contentType, body string
		title                                string // empty if the call fails
	}{
		{"1.1 GET", "GET", "?" + strings.ReplaceAll(fields, "body", "query"), "", "", "from query"},
		{"1.1 form", "POST", "", "application/x-www-form-urlencoded", fields, "from body"},
		{"1.1 form with charset", "POST", "", "application/x-www-form-urlencoded; charset=utf-8", fields, "from body"},
		{"1.1 multipart", "POST", "", form.FormDataContentType(), multi.String(), "from body"},
		{"1.1 JSON", "POST", "", "application/json", doc, "from body"},
		{"1.1 +json", "POST", "", "application/vnd.x+json; charset=utf-8", doc, "from body"},
		{"1.1 body wins over query", "POST", "?fields[TITLE]=query&auth=dead", "application/json", doc, "from body"},
		{"1.1 bad JSON is dropped", "POST", "", "application/json", doc[:len(doc)-1], ""},
		{"1.1 the query of a bad body counts", "POST", "?" + strings.ReplaceAll(fields, "body", "query"), "application/json", "{", "from query"},
		{"1.1 no content type", "POST", "", "", doc, ""},
		{"1.1 JSON that is no object", "POST", "", "application/json", `"x"`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := send(t, tt.verb, p.ClientEndpoint()+"crm.deal.add"+tt.query, tt.contentType, tt.body)
			if tt.title == "" {
				require.Equal(t, http.StatusUnauthorized, a.Status)
				require.Equal(t, "NO_AUTH_FOUND", a.Error)
				return
			}
			require.Equal(t, http.StatusOK, a.Status, a.Raw)
			deal := c.ok("crm.deal.get", obj{"id": a.Result})
			require.Equal(t, tt.title, deal.object(t)["TITLE"])
		})
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	spent, err := c.app.Grant(1)
	require.NoError(t, err)
	get := func(query, header string) answer {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.ClientEndpoint()+"server.time"+query, http.NoBody)
		require.NoError(t, err)
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		return roundTrip(t, r)
	}
	for _, tt := range []struct {
		name, query, header, code string
	}{
		{"1.2 header", "", "Bearer " + c.token, ""},
		{"1.2 header wins", "?auth=dead", "bearer " + c.token, ""},
		{"1.2 dead header wins too", "?auth=" + c.token, "Bearer dead", "invalid_token"},
		{"1.2 auth", "?auth=" + c.token, "", ""},
		{"1.2 auth wins over access_token", "?access_token=dead&auth=" + c.token, "", ""},
		{"1.2 access_token", "?access_token=" + c.token, "", ""},
		{"1.4 none", "", "", "NO_AUTH_FOUND"},
		{"1.4 another scheme", "", "Basic " + c.token, "NO_AUTH_FOUND"},
		{"1.4 unknown", "?auth=dead", "", "invalid_token"},
	} {
		a := get(tt.query, tt.header)
		require.Equal(t, tt.code, a.Error, tt.name)
		if tt.code != "" {
			require.Equal(t, http.StatusUnauthorized, a.Status, tt.name)
			require.Nil(t, a.Time, "1.3 errors have no time")
		}
	}
	p.ExpireAccessTokens()
	a := get("?auth="+string(spent.AccessToken), "")
	require.Equal(t, "expired_token", a.Error)
	require.Equal(t, http.StatusUnauthorized, a.Status)
	require.Equal(t, "ERROR_METHOD_NOT_FOUND", c.call("no.such", nil).Error, "1.2 the method is looked for before the token")
	require.Equal(t, "expired_token", c.call("event.get", nil).Error)

	fresh := as(t, p, c.app, 1)
	c.app.SetActive(false)
	a = fresh.call("server.time", nil)
	require.Equal(t, "APPLICATION_NOT_FOUND", a.Error)
	require.Equal(t, http.StatusUnauthorized, a.Status)
	c.app.SetActive(true)
	fresh.ok("server.time", nil)
}

func TestIncomingWebhook(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t)
	hook, err := p.AddIncomingWebhook(1, "crm")
	require.NoError(t, err)
	_, err = p.AddIncomingWebhook(99)
	require.ErrorIs(t, err, eventtest.ErrNotFound)

	a := send(t, http.MethodGet, string(hook)+"crm.deal.add.json/?fields[TITLE]=x", "", "")
	require.Equal(t, http.StatusOK, a.Status, a.Raw)
	a = send(t, http.MethodGet, p.ClientEndpoint()+"1/wrong/server.time", "", "")
	require.Equal(t, "INVALID_CREDENTIALS", a.Error)
	require.Equal(t, http.StatusUnauthorized, a.Status)
	a = send(t, http.MethodGet, string(hook)+"tasks.task.get?taskId=1", "", "")
	require.Equal(t, "insufficient_scope", a.Error)
	require.Equal(t, "The request requires higher privileges than provided by the webhook token", a.Description)
	require.Equal(t, http.StatusUnauthorized, a.Status)
}

func TestScope(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t)
	c := install(t, p, eventtest.App{Scope: []string{"task"}})
	a := c.call("crm.deal.get", obj{"id": 1})
	require.Equal(t, http.StatusUnauthorized, a.Status)
	require.Equal(t, "insufficient_scope", a.Error)
	require.Equal(t, "The request requires higher privileges than provided by the access token", a.Description)
	_, err := p.AddApp(eventtest.App{Scope: []string{"crm,task"}})
	require.ErrorIs(t, err, eventtest.ErrConfig)
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	a := c.ok("server.time", nil)
	for _, key := range []string{"start", "finish", "duration", "processing", "operating", "operating_reset_at"} {
		require.IsType(t, 0.0, a.Time[key], key)
	}
	start, finish := a.Time["start"].(float64), a.Time["finish"].(float64) //nolint:forcetypeassert // checked above
	require.InDelta(t, float64(int64(start)), start, 0, "1.3 start is whole in current builds")
	require.InDelta(t, finish-start, a.Time["duration"], 0.001)
	require.InDelta(t, float64(p.Now().Unix()), finish, 5)
	_, err := time.Parse(time.RFC3339, a.Time["date_start"].(string)) //nolint:forcetypeassert // the test's point
	require.NoError(t, err)
	require.Equal(t, c.app.ClientID(), a.Header.Get("X-Bitrix-Rest-Application"))
	require.Equal(t, "*", a.Header.Get("Access-Control-Allow-Origin"))
	require.Nil(t, a.Total, "1.3 only lists have a total")
	require.Nil(t, a.Next)
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t, eventtest.WithRateLimit(0.002, 5), eventtest.WithTokenLifetime(100*time.Hour)) // slower than any machine
	for range 5 {
		c.ok("batch", obj{"cmd": []string{"server.time", "server.time"}})
	}
	a := c.call("server.time", nil)
	require.Equal(t, http.StatusServiceUnavailable, a.Status)
	require.Equal(t, "QUERY_LIMIT_EXCEEDED", a.Error)
	require.Equal(t, "Too many requests", a.Description)
	require.Equal(t, "QUERY_LIMIT_EXCEEDED", c.call("no.such", nil).Error, "1.6 the frontend knows no methods")
	p.Advance(1000 * time.Second)
	c.ok("server.time", nil)
	c.ok("server.time", nil)
	require.Equal(t, http.StatusServiceUnavailable, c.call("server.time", nil).Status)
	p.Advance(30 * time.Hour)
	for range 5 {
		c.ok("server.time", nil)
	}
	require.Equal(t, http.StatusServiceUnavailable, c.call("server.time", nil).Status, "the bucket holds no more")
}

func TestRename(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	old := p.ClientEndpoint()
	require.NoError(t, p.Rename(t.Context()))
	require.NotEqual(t, old, p.ClientEndpoint())
	a := send(t, http.MethodPost, old+"server.time?x=1", "application/json", `{"auth":"`+c.token+`"}`)
	require.Equal(t, http.StatusFound, a.Status, "1.7 the old host answers 302")
	require.Equal(t, p.ClientEndpoint()+"server.time?x=1", a.Header.Get("Location"))
	c.ok("server.time", nil)
	g, err := c.app.Grant(1)
	require.NoError(t, err)
	require.Equal(t, p.Domain(), g.Domain)
	require.Equal(t, p.ClientEndpoint(), g.ClientEndpoint)
	require.NoError(t, p.Rename(t.Context()))
	require.Equal(t, http.StatusFound, send(t, http.MethodGet, old+"server.time", "", "").Status)
}

func TestRecords(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	p.ResetRecords()
	c.ok("crm.deal.add", obj{"fields": obj{"TITLE": "x"}})
	c.ok("batch", obj{"cmd": []string{"Crm.Deal.Get?id=1", "crm.deal.get?id=2"}})
	c.call("no.such", nil)
	calls := p.Calls()
	require.Len(t, calls, 5)
	require.Equal(t, "crm.deal.add", calls[0].Method)
	require.Equal(t, "x", calls[0].Params.Get("fields", "TITLE").Text())
	require.True(t, calls[0].Params.Get("auth").IsZero(), "no credentials")
	require.Equal(t, c.app.ClientID(), calls[0].ClientID)
	require.Equal(t, int64(1), calls[0].UserID)
	require.True(t, calls[1].Batch)
	require.Empty(t, calls[1].ErrorCode)
	require.Equal(t, eventtest.EmptyCode, calls[2].ErrorCode)
	require.Equal(t, http.StatusOK, calls[2].Status)
	require.Equal(t, "batch", calls[3].Method)
	require.Equal(t, http.StatusNotFound, calls[4].Status)
	require.Equal(t, 2, p.CallCount("crm.deal.GET"))
	require.Equal(t, map[string]int{"crm.deal.add": 1, "crm.deal.get": 2, "batch": 1, "no.such": 1}, p.CallCounts())
	require.Equal(t, eventtest.Requests{REST: 3}, p.Requests())
}
