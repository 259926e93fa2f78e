package event_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

func TestHandlerURLs(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, url string
		says      string // part of the error; empty for a good URL
	}{
		{"public name", "https://example.com/bitrix24", ""},
		{"port", "https://example.com:8443/bitrix24", ""},
		{"greatest port", "https://example.com:65535/", ""},
		{"query", "https://example.com/b?tenant=7", ""},
		{"public address", "https://203.0.113.7/b", ""},
		{"name in another script", "https://пример.рф/b", ""},
		{"trailing dot", "https://example.com./b", ""},
		{"loopback in clear", "http://127.0.0.1:8080/b", ""},
		{"all of loopback", "http://127.255.0.9/b", ""},
		{"private network 10", "http://10.1.2.3/b", ""},
		{"private network 172.16", "http://172.31.255.255:81/b", ""},
		{"private network 192.168", "http://192.168.0.7/b", ""},
		{"below localhost in clear", "http://app.LocalHost:8080/b", ""},
		{"below localhost, trailing dot", "http://app.localhost.:8080/b", ""},

		{"public address in clear", "http://203.0.113.7/b", "https://"},
		{"outside the private network", "http://172.32.0.1/b", "https://"},
		{"shared address space in clear", "http://100.64.0.1/b", "https://"},
		{"public name in clear", "http://example.com/b", "https://"},
		{"name that begins like loopback", "http://127.0.0.1.example.com/b", "https://"},
		{"name that ends like localhost", "http://notlocalhost.example/b", "https://"},
		{"name of a private network in clear", "http://nas.local/b", "https://"},
		{"scheme in upper case", "HTTPS://example.com/b", "lower case"},
		{"another scheme", "ftp://example.com/b", "lower case"},
		{"no scheme", "example.com/b", "absolute"},
		{"no host", "https:///b", "absolute"},
		{"empty", "", "absolute"},
		{"credentials", "https://user:" + "secret@example.com/b", "credentials"},
		{"user alone", "https://user@example.com/b", "credentials"},
		{"fragment", "https://example.com/b#x", "fragment"},
		{"empty fragment", "https://example.com/b#", "fragment"},
		{"control byte in a fragment", "https://example.com#\x00", "print"},
		{"line feed in a fragment", "https://example.com/#\n- ONCRMDEALADD", "print"},
		{"escape in the path", "https://example.com/\x1b[2J", "print"},
		{"delete", "https://example.com/\x7f", "print"},
		{"space", "https://example.com/a b", "print"},
		{"space in front", " https://example.com/", "print"},
		{"C1 control", "https://example.com/\u009b31m", "print"},
		{"direction override", "https://example.com/\u202e", "print"},
		{"broken UTF-8", "https://example.com/\xff", "print"},
		{"port 0", "https://example.com:0/", "port"},
		{"port beyond 65535", "https://example.com:99999/", "port"},
		{"port beyond 64 bits", "https://example.com:99999999999999999999/", "port"},
		{"colon without port", "https://example.com:/", "colon"},
		{"localhost", "http://localhost/b", "dot"},
		{"leading dot", "https://.com/b", "dot"},
		{"IPv6", "https://[2001:db8::1]/b", "dot"},
		{"IPv6 loopback", "http://[::1]/b", "dot"},
		{"IPv6 link-local", "https://[fe80::1]/b", "dot"},
		{"IPv4 in IPv6", "http://[::ffff:127.0.0.1]/b", "dot"},
		{"this host", "http://0.0.0.0/b", "cannot post"},
		{"this network", "https://0.1.2.3/b", "cannot post"},
		{"link-local", "https://169.254.169.254/", "cannot post"},
		{"link-local in clear", "http://169.254.0.7/", "cannot post"},
		{"multicast", "https://224.0.0.1/", "cannot post"},
		{"reserved", "https://240.0.0.1/", "cannot post"},
		{"broadcast", "https://255.255.255.255/", "cannot post"},
		{"two numbers", "http://127.1/b", "unusual form"},
		{"hexadecimal", "https://0x7f.0x1/b", "unusual form"},
		{"octal", "https://0177.0.0.1/b", "unusual form"},
		{"link-local in two numbers", "https://169.254.43518/", "unusual form"},
		{"address with a trailing dot", "https://127.0.0.1./b", "unusual form"},
		{"two dots", "https://example../b", "unusual form"},
		{"too long", "https://example.com/" + strings.Repeat("x", 161), "longer than 180"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := event.Binding{Event: "ONCRMDEALADD", Handler: tc.url}.Validate()
			if tc.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, event.ErrConfig)
			require.ErrorContains(t, err, tc.says)
			require.True(t, strings.HasPrefix(err.Error(), "event: "), err)
			require.NotContains(t, err.Error(), "secret")
			if u, parseErr := url.Parse(tc.url); parseErr == nil && u.Host != "" && u.Host != "localhost" {
				require.NotContains(t, strings.ReplaceAll(err.Error(), "0.0.0.0", ""), u.Host, "errors hold no URL")
			}
		})
	}
}

func TestEventNamesOfBindings(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]event.Binding{
		"control byte":         {Event: "ON\x1bX", Handler: handlerURL},
		"line feed, offline":   {Event: "ON\nX", Offline: true},
		"two words":            {Event: "ON X", Handler: handlerURL},
		"bound by the portal":  {Event: "onAppUserReady", Handler: handlerURL},
		"not in the queue":     {Event: "ONAPPUSERREADY", Offline: true},
		"spaces around a name": {Event: " onAppUserReady ", Handler: handlerURL},
	} {
		err := b.Validate()
		require.ErrorIs(t, err, event.ErrConfig, name)
		require.False(t, strings.ContainsFunc(err.Error(), unicode.IsControl), name)
	}
	require.NoError(t, event.Binding{Event: "ONAPPINSTALL", Handler: handlerURL}.Validate(), "an application with pages binds it")
}

// TestBindingStringPrintsNoControls covers what a portal may send in rows of event.get.
func TestBindingStringPrintsNoControls(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, want string
		give       event.Binding
	}{
		{"escape in a name", `ON\u001b[2JX https://e.com/`, event.Binding{Event: "ON\x1b[2JX", Handler: "https://e.com/"}},
		{"line feed in a URL", `ONX https://e.com/\u000a- ONY`, event.Binding{Event: "ONX", Handler: "https://e.com/\n- ONY"}},
		{"C1 in a connector", `ONX offline \u009bm`, event.Binding{Event: "ONX", Offline: true, Connector: "\u009bm"}},
		{"direction override", `ONX https://e.com/\u202e`, event.Binding{Event: "ONX", Handler: "https://e.com/\u202e"}},
		{"broken UTF-8", `ONX https://e.com/\xff`, event.Binding{Event: "ONX", Handler: "https://e.com/\xff"}},
		{"fragment", "ONX https://e.com/#…", event.Binding{Event: "ONX", Handler: "https://e.com/#key=secret"}},
		{"credentials", "ONX https://…@e.com/x", event.Binding{Event: "ONX", Handler: "https://user:" + "secret@e.com/x"}},
		{"no path", "ONX https://…@e.com", event.Binding{Event: "ONX", Handler: "https://u@e.com"}},
		{"an at sign in the path", "ONX https://e.com/@x", event.Binding{Event: "ONX", Handler: "https://e.com/@x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, tc.give.String())
			plan := event.Plan{Unbind: []event.Binding{tc.give}}
			require.Equal(t, "- "+tc.want+"\n", plan.String())
		})
	}
}

// platformsRows is a portal whose event.get lists bindings that the platform created, all with the
// application's URL.
func platformsRows(t *testing.T) (*eventtest.Portal, *event.API) {
	t.Helper()
	p, c := portal(t, eventtest.AdminID)
	answering(p, "event.get", `[
		{"event":"ONAPPINSTALL","handler":"`+handlerURL+`","auth_type":"0","offline":0},
		{"event":"ONAPPUSERREADY","handler":"`+handlerURL+`","auth_type":"0","offline":0},
		{"event":"ONIMBOTV2MESSAGEADD","handler":"`+handlerURL+`","auth_type":"0","offline":0},
		{"event":"ONAPPUNINSTALL","handler":"`+handlerURL+`","auth_type":"0","offline":0},
		{"event":"ONCRMLEADADD","handler":"`+handlerURL+`","auth_type":"0","offline":0},
		{"event":"ONAPPINSTALL","connector_id":"","offline":1}]`)
	return p, event.NewAPI(c)
}

func TestPlanSparesWhatThePlatformBinds(t *testing.T) {
	t.Parallel()
	done := func(context.Context, *event.Delivery) error { return nil }
	mux := event.NewMux()
	for _, name := range []string{"ONAPPINSTALL", "ONAPPUSERREADY", "ONIMBOTV2MESSAGEADD", "ONCRMDEALADD"} {
		mux.Handle(name, event.HandlerFunc(done))
	}
	require.Equal(t, []event.Binding{
		{Event: "ONAPPINSTALL", Handler: handlerURL},
		{Event: "ONCRMDEALADD", Handler: handlerURL},
	}, mux.Bindings(handlerURL), "what the platform alone binds is left out")
	require.Equal(t, []event.Binding{
		{Event: "ONAPPINSTALL", Offline: true},
		{Event: "ONCRMDEALADD", Offline: true},
	}, mux.OfflineBindings(""))

	_, api := platformsRows(t)
	plan, err := api.Plan(t.Context(), mux.Bindings(handlerURL))
	require.NoError(t, err)
	require.Equal(t, event.Plan{
		Bind: []event.Binding{{Event: "ONCRMDEALADD", Handler: handlerURL}},
		Unbind: []event.Binding{
			{Event: "ONAPPUNINSTALL", Handler: handlerURL},
			{Event: "ONCRMLEADADD", Handler: handlerURL},
		},
		Keep: []event.Binding{{Event: "ONAPPINSTALL", Handler: handlerURL}},
	}, plan)

	plan, err = api.Plan(t.Context(), []event.Binding{{Event: "ONCRMLEADADD", Handler: handlerURL}}, event.WithOwnedPrefix("https://app.example.com"))
	require.NoError(t, err)
	require.Equal(t, []event.Binding{{Event: "ONAPPUNINSTALL", Handler: handlerURL}}, plan.Unbind, "nor below an owned prefix")

	plan, err = api.Plan(t.Context(), []event.Binding{{Event: "ONCRMDEALADD", Offline: true}})
	require.NoError(t, err)
	require.Equal(t, []event.Binding{{Event: "ONAPPINSTALL", Offline: true}}, plan.Unbind, "a row of the queue is the application's own")

	_, err = api.Plan(t.Context(), []event.Binding{{Event: "ONAPPUSERREADY", Handler: handlerURL}})
	require.ErrorContains(t, err, "ONAPPUSERREADY")
}

func TestUnbindAllSparesWhatThePlatformBinds(t *testing.T) {
	t.Parallel()
	p, api := platformsRows(t)
	_, err := api.UnbindAll(t.Context())
	require.NoError(t, err)
	var ended []string
	for _, call := range p.Calls() {
		if call.Method == "event.unbind" {
			ended = append(ended, call.Params.Get("event").Text())
		}
	}
	require.Equal(t, []string{"ONAPPUNINSTALL", "ONCRMLEADADD", "ONAPPINSTALL"}, ended, "the last is the queue's")
}

// TestOwnedPrefixInClear: bindings to http can be cleaned up.
func TestOwnedPrefixInClear(t *testing.T) {
	t.Parallel()
	_, c := portal(t, eventtest.AdminID)
	api := event.NewAPI(c)
	require.NoError(t, c.Call(t.Context(), "event.bind", map[string]any{"event": "ONCRMDEALADD", "handler": "http://203.0.113.7/b/v1"}, nil))
	want := []event.Binding{{Event: "ONCRMDEALADD", Handler: handlerURL}}
	require.NoError(t, api.Reconcile(t.Context(), want, event.WithOwnedPrefix("http://203.0.113.7/b")))
	have, err := api.Bindings(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, have)
	_, err = api.Plan(t.Context(), want, event.WithOwnedPrefix("http://203.0.113.7/b#x"))
	require.ErrorIs(t, err, event.ErrConfig)
}

func TestAppUserReady(t *testing.T) {
	t.Parallel()
	r, err := eventtest.Body(event.OnAppUserReady, map[string]any{
		"access_token": "a", "refresh_token": "r", "expires_in": 3600, "scope": "crm,task", "domain": "oauth.bitrix.info",
		"server_endpoint": "https://oauth.bitrix.info/rest/", "client_endpoint": "https://acme.bitrix24.com/rest/",
		"member_id": "m", "user_id": 512, "client_id": "app.1", "status": "L", "LANGUAGE_ID": "de", "date_finish": "1767225600",
	})
	require.NoError(t, err)
	d, err := event.Parse("", r)
	require.NoError(t, err)
	got, err := event.OnAppUserReady.Decode(d)
	require.NoError(t, err)
	require.Equal(t, event.AppUserReady{
		AccessToken: "a", RefreshToken: "r", ExpiresIn: 3600, Scope: "crm,task", Domain: "oauth.bitrix.info",
		ServerEndpoint: "https://oauth.bitrix.info/rest/", ClientEndpoint: "https://acme.bitrix24.com/rest/",
		MemberID: "m", UserID: 512, ClientID: "app.1", Status: "L", LanguageID: "de", DateFinish: "1767225600",
	}, got)
	require.Equal(t, event.Entity{Kind: "app"}, d.Entity(), "it waits for the application's other events")
}

// TestValidateHandlerURL: the function has the rules of bindings, and repeats nothing of the URL.
func TestValidateHandlerURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"https://example.com/bitrix24", "http://127.0.0.1:8080/b", "example.com/b", "http://example.com/b", "https://localhost/b",
		"https://example.com/b#x", "https://example.com/" + strings.Repeat("x", 200), "",
	} {
		bound := event.Binding{Event: "ONCRMDEALADD", Handler: url}.Validate()
		err := event.ValidateHandlerURL(url)
		require.Equal(t, bound == nil, err == nil, url)
		if err != nil {
			require.ErrorIs(t, err, event.ErrConfig, url)
		}
	}
	require.NotContains(t, event.ValidateHandlerURL("http://planted.example/b?planted").Error(), "planted")
}
