package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/programtest"
)

// TestHostileWebsites plays the websites that a developer visits while the portal runs.
func TestHostileWebsites(t *testing.T) {
	t.Parallel()
	p := start(t, programtest.Env{"DEVPORTAL_HOSTS": "devbox.local"})
	const body = `{"url":"http://127.0.0.1:9/","events":"ONX"}`
	for name, c := range map[string]struct {
		method, path string
		headers      []string
		status       int
	}{
		"the page itself":       {"POST", "/api/webhooks", []string{"Origin", p.page, "Sec-Fetch-Site", "same-origin"}, 200},
		"a script":              {"POST", "/api/webhooks", nil, 200},
		"localhost":             {"POST", "/api/webhooks", []string{"Host", "localhost:8024"}, 200},
		"a name that was given": {"POST", "/api/webhooks", []string{"Host", "DevBox.local:8024"}, 200},
		"a foreign origin":      {"POST", "/api/webhooks", []string{"Origin", "https://evil.example"}, 403},
		"the origin of a file":  {"POST", "/api/webhooks", []string{"Origin", "null"}, 403},
		"cross-site":            {"POST", "/api/webhooks", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"another port of this machine": {
			"POST", "/api/webhooks",
			[]string{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:3000"},
			403,
		},
		"a form":                        {"POST", "/api/webhooks", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415},
		"a form with text":              {"POST", "/api/webhooks", []string{"Content-Type", "text/plain"}, 415},
		"no type":                       {"POST", "/api/webhooks", []string{"Content-Type", ""}, 415},
		"a name that was made to point": {"POST", "/api/webhooks", []string{"Host", "rebind.evil.example:8024"}, 421},
		"reading by such a name":        {"GET", "/api/state", []string{"Host", "rebind.evil.example"}, 421},
		"the page by such a name":       {"GET", "/", []string{"Host", "127.0.0.1.evil.example"}, 421},
		"reading across sites":          {"GET", "/api/state", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"the stream across sites":       {"GET", "/api/stream", []string{"Sec-Fetch-Site", "same-site"}, 403},
		"opened by a link":              {"GET", "/", []string{"Sec-Fetch-Site", "cross-site"}, 200},
		"an address of the machine":     {"GET", "/", []string{"Host", "[::1]:8024"}, 200},
		"a preflight": {
			"OPTIONS", "/api/webhooks",
			[]string{"Origin", "https://evil.example", "Access-Control-Request-Method", "POST"},
			404,
		},
		"another method":               {"PUT", "/api/webhooks", nil, 404},
		"a command by GET":             {"GET", "/api/tokens/expire", nil, 404},
		"nothing there":                {"GET", "/favicon.ico", nil, 404},
		"out of the files":             {"GET", "/static/../main.go", nil, 404},
		"a delivery that is not there": {"GET", "/api/deliveries/1", nil, 404},
		"a delivery without a number":  {"GET", "/api/deliveries/x", nil, 400},
		"a number that is too long":    {"GET", "/api/deliveries/99999999999999999999", nil, 400},
	} {
		status, headers, text := p.request(c.method, c.path, body, c.headers...)
		require.Equal(t, c.status, status, name+": "+text)
		require.Empty(t, headers.Get("Access-Control-Allow-Origin"), name)
		if status != http.StatusTemporaryRedirect {
			require.Contains(t, headers.Get("Content-Security-Policy"), "default-src 'self'", name)
			require.Contains(t, headers.Get("Content-Security-Policy"), "frame-ancestors 'none'", name)
			require.Equal(t, "nosniff", headers.Get("X-Content-Type-Options"), name)
		}
	}
	require.Len(t, p.state("").Webhooks, 4, "one of each that was accepted")
}

func TestBadBodies(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	for name, c := range map[string]struct {
		path, body string
		status     int
	}{
		"no JSON":           {"/api/raise", `event=ONX`, 400},
		"half of it":        {"/api/raise", `{"event":`, 400},
		"more than one":     {"/api/raise", `{"event":"ONX"}{"event":"ONY"}`, 400},
		"an unknown member": {"/api/raise", `{"event":"ONX","evil":1}`, 400},
		"a wrong type":      {"/api/raise", `{"event":1}`, 400},
		"too much":          {"/api/raise", `{"event":"` + strings.Repeat("X", maxRequest) + `"}`, 413},
		"too deep":          {"/api/raise", `{"event":"ONX","data":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, 400},
		"much, and often":   {"/api/raise", `{"event":"ONX","times":1000,"data":"` + strings.Repeat("x", 10_000) + `"}`, 400},
		"objects like that": {
			"/api/objects",
			`{"kind":"deal","action":"add","times":1000,"fields":{"A":"` + strings.Repeat("x", 10_000) + `"}}`, 400,
		},
		"a long member":  {"/api/raise", `{"` + strings.Repeat("x", 100_000) + `":1}`, 400},
		"a bad URL":      {"/api/webhooks", `{"url":"javascript:alert(1)","events":"ONX"}`, 400},
		"no event":       {"/api/webhooks", `{"url":"http://127.0.0.1:9/"}`, 400},
		"a bad handler":  {"/api/apps", `{"handler":"//x"}`, 400},
		"a step upwards": {"/api/apps", `{"client_id":".."}`, 400},
		"a page nowhere": {"/api/apps", `{"in_browser":true}`, 400},
		"a long secret":  {"/api/apps", `{"client_secret":"` + strings.Repeat("x", 1000) + `"}`, 400},
	} {
		status, _, text := p.request(http.MethodPost, c.path, c.body)
		require.Equal(t, c.status, status, name+": "+text)
		require.Contains(t, text, `{"error":"`, name)
		require.Less(t, len(text), 500, name)
	}
	require.Empty(t, p.state("").Deliveries.Shown)
	require.Empty(t, p.state("").Apps)
}

// TestBounds reaches the limits of what can be added.
func TestBounds(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	for range maxApps {
		p.post("/api/apps", `{}`)
	}
	for range maxWebhooks {
		p.post("/api/webhooks", `{"url":"http://127.0.0.1:9/","events":"ONX"}`)
	}
	for _, c := range []struct{ path, body string }{{"/api/apps", `{}`}, {"/api/webhooks", `{"url":"http://127.0.0.1:9/","events":"ONX"}`}} {
		status, _, text := p.request(http.MethodPost, c.path, c.body)
		require.Equal(t, http.StatusBadRequest, status)
		require.Contains(t, text, "too many")
	}
	p.post("/api/raise", `{"event":"ONX","times":20,"data":{"ID":1,"LONG":"`+strings.Repeat("x", maxParsed)+`"}}`)
	s := p.await("?limit=100000", func(s snapshot) bool { return s.Deliveries.Failed == 1000 })
	require.Len(t, s.Deliveries.Shown, maxShown)
	require.Equal(t, 1000, s.Deliveries.Matching)
	require.Empty(t, s.Deliveries.Shown[0].Entity, "too long to look into")
}
