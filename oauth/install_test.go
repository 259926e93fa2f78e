package oauth_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
)

// receiver verifies the deliveries of a portal, and keeps the outcomes by event.
type receiver struct {
	*httptest.Server

	mu       sync.Mutex
	portals  *oauth.Portals
	outcomes map[string][]error
}

func newReceiver(tb testing.TB) *receiver {
	tb.Helper()
	r := &receiver{outcomes: make(map[string][]error)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		d, err := event.ParseRequest(req)
		if err == nil && d.Kind == event.KindFrame {
			_, err = r.portals.Install(req.Context(), d.Auth)
			r.outcomes["page"] = append(r.outcomes["page"], err)
			return
		}
		name := "unreadable"
		if err == nil {
			name, err = d.Name, errOf(r.portals.Verify(req.Context(), d))
		}
		r.outcomes[name] = append(r.outcomes[name], err)
	}))
	tb.Cleanup(r.Close)
	return r
}

func TestLifeOfAnApplication(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	rec := newReceiver(t)
	portal := eventtest.NewPortal(t)
	app, err := portal.AddApp(eventtest.App{ClientID: clientID, Scope: []string{"crm", "task"}, HandlerURL: rec.URL + "/b24"})
	require.NoError(t, err)
	w := &world{Portal: portal, app: app, store: oauth.NewMemoryStore()}
	rec.portals = w.portals(t, w.store)

	// Installed.
	require.NoError(t, app.Install(ctx))
	require.NoError(t, portal.Wait(ctx))
	require.Equal(t, map[string][]error{"ONAPPINSTALL": {nil}}, rec.outcomes)
	in := load(t, w.store, portal.MemberID())
	require.Equal(t, app.ApplicationToken(), in.ApplicationToken)
	require.Equal(t, portal.ClientEndpoint(), in.ClientEndpoint)
	require.Equal(t, portal.ServerEndpoint(), in.ServerEndpoint)
	require.Equal(t, []string{"crm", "task"}, in.Scope)
	require.Equal(t, eventtest.AdminID, in.UserID)
	require.Equal(t, "L", in.Status)
	require.WithinDuration(t, time.Now(), in.InstalledAt, time.Minute)
	body := string(portal.Deliveries()[0].Body)
	require.NotContains(t, body, string(in.AccessToken), "what is stored comes from the OAuth server")
	require.NotContains(t, body, string(in.RefreshToken))

	// The same delivery again. Its refresh token is spent, but it is not forged.
	require.NoError(t, portal.Resend(portal.Deliveries()[0]))
	require.NoError(t, portal.Wait(ctx))
	require.Equal(t, map[string][]error{"ONAPPINSTALL": {nil, nil}}, rec.outcomes)
	require.Equal(t, in, load(t, w.store, portal.MemberID()))

	// Access works, and is renewed.
	_, token, err := rec.portals.Access(ctx, portal.MemberID())
	require.NoError(t, err)
	portal.ExpireAccessTokens()
	_, fresh, err := rec.portals.Renew(ctx, portal.MemberID(), token)
	require.NoError(t, err)
	require.NotEqual(t, token, fresh)

	// Uninstalled, forgotten, and installed again.
	api, err := rest.NewClients(rec.portals, rest.WithInsecureHTTP())
	require.NoError(t, err)
	bind := map[string]any{"EVENT": "ONAPPUNINSTALL", "HANDLER": rec.URL + "/b24"}
	require.NoError(t, api.Portal(portal.MemberID()).Call(ctx, "event.bind", bind, nil))
	require.NoError(t, app.Uninstall(true))
	require.NoError(t, portal.Wait(ctx))
	require.Equal(t, []error{nil}, rec.outcomes["ONAPPUNINSTALL"])
	require.NoError(t, rec.portals.Forget(ctx, portal.MemberID()))
	requireEmpty(t, w.store, portal.MemberID())
	require.NoError(t, app.Install(ctx))
	require.NoError(t, portal.Wait(ctx))
	require.Equal(t, []error{nil, nil, nil}, rec.outcomes["ONAPPINSTALL"])
	require.NotEqual(t, in.RefreshToken, load(t, w.store, portal.MemberID()).RefreshToken)
}

func TestInstallationPage(t *testing.T) {
	t.Parallel()
	rec := newReceiver(t)
	portal := eventtest.NewPortal(t)
	app, err := portal.AddApp(eventtest.App{ClientID: clientID, Scope: []string{"crm"}, HandlerURL: rec.URL + "/install", UI: true})
	require.NoError(t, err)
	w := &world{Portal: portal, app: app, store: oauth.NewMemoryStore()}
	rec.portals = w.portals(t, w.store)

	require.NoError(t, app.Install(t.Context()))

	require.Equal(t, map[string][]error{"page": {nil}}, rec.outcomes)
	in := load(t, w.store, portal.MemberID())
	require.Equal(t, app.ApplicationToken(), in.ApplicationToken)
	require.Equal(t, portal.ClientEndpoint(), in.ClientEndpoint)
	require.Equal(t, portal.Domain(), in.Domain())
	require.Equal(t, []string{"crm"}, in.Scope)
}

func TestForgedInstallationsChangeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := newWorld(t) // the attacker's own portal, with the same application
	second, err := w.AddApp(eventtest.App{})
	require.NoError(t, err)
	require.NoError(t, second.Install(t.Context())) // another vendor's application on the victim's portal
	foreign, err := second.Grant(eventtest.AdminID)
	require.NoError(t, err)

	honest := func() event.Auth {
		a := authOf(w.grant(t))
		a.ApplicationToken = "0123456789abcdef0123456789abcdef"
		return a
	}
	tests := map[string]func() event.Auth{
		"made-up tokens": func() event.Auth {
			a := honest()
			a.AccessToken, a.RefreshToken = "made", "up"
			return a
		},
		"made-up access token": func() event.Auth {
			a := honest()
			a.AccessToken, a.RefreshToken = "made-up", ""
			return a
		},
		"no tokens": func() event.Auth {
			a := honest()
			a.AccessToken, a.RefreshToken = "", ""
			return a
		},
		"no application token": func() event.Auth {
			a := honest()
			a.ApplicationToken = ""
			return a
		},
		"no portal": func() event.Auth {
			a := honest()
			a.MemberID = ""
			return a
		},
		"odd portal": func() event.Auth {
			a := honest()
			a.MemberID = w.MemberID() + "\x00"
			return a
		},
		"another application's refresh token": func() event.Auth {
			a := authOf(foreign)
			a.ApplicationToken = "0123456789abcdef0123456789abcdef"
			return a
		},
		"another application's access token": func() event.Auth {
			a := authOf(foreign)
			a.RefreshToken, a.ApplicationToken = "", "0123456789abcdef0123456789abcdef"
			return a
		},
		"malformed address of the portal": func() event.Auth {
			a := honest()
			a.ClientEndpoint = "https://user@example.com/rest/"
			return a
		},
		"access token for another address": func() event.Auth {
			a := honest()
			a.RefreshToken, a.ClientEndpoint = "", "https://attacker.example/rest/"
			return a
		},
		"malformed domain": func() event.Auth {
			a := honest()
			a.ClientEndpoint, a.Domain = "", "evil.example/x?"
			return a
		},
	}
	for name, forge := range tests {
		for _, state := range []string{"unknown", "known"} {
			t.Run(name+" "+state, func(t *testing.T) {
				t.Parallel()
				store := oauth.NewMemoryStore()
				if state == "known" {
					_, err := store.Swap(t.Context(), w.key, "", installationOf(w.grant(t)))
					require.NoError(t, err)
				}
				before, _, missing := store.Load(t.Context(), w.key)

				err := errOf(w.portals(t, store).Verify(t.Context(), &event.Delivery{Kind: event.KindEvent, Name: "ONAPPINSTALL", Auth: forge()}))

				require.ErrorIs(t, err, event.ErrForbidden)
				require.ErrorIs(t, err, oauth.ErrUnverified)
				after, _, stillMissing := store.Load(t.Context(), w.key)
				require.Equal(t, missing, stillMissing)
				require.Equal(t, before, after)
			})
		}
	}
	t.Run("another portal's tokens", func(t *testing.T) {
		t.Parallel()
		// In reality one OAuth server knows both portals. Here the other portal's server is on the allow
		// list as well.
		app := other.app
		for _, withRefresh := range []bool{true, false} {
			g, err := app.Grant(eventtest.AdminID)
			require.NoError(t, err)
			a := authOf(g)
			a.MemberID = w.MemberID()
			if !withRefresh {
				a.RefreshToken = ""
			}
			store := oauth.NewMemoryStore()
			portals := w.portals(t, store, oauth.WithHosts(other.OAuthHost()))
			err = errOf(portals.Verify(t.Context(), &event.Delivery{Kind: event.KindEvent, Name: "ONAPPINSTALL", Auth: a}))
			require.ErrorIs(t, err, event.ErrForbidden)
			requireEmpty(t, store, w.MemberID())
		}
	})
}

func TestHostileServersGetNoRequest(t *testing.T) {
	t.Parallel()
	var hits int
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits++ }))
	t.Cleanup(func() {
		evil.Close()
		require.Zero(t, hits)
	})
	host := strings.TrimPrefix(evil.URL, "http://")
	w := newWorld(t)
	s := &script{respond: says(200, pair("a2", "r2", nil))}
	servers := []string{
		evil.URL + "/rest/", "https://" + host + "/rest/", "http://" + w.OAuthHost() + "@" + host + "/rest/",
		"http://" + host + "/rest/?" + w.OAuthHost(),
		"http://" + host + "/rest/#" + w.OAuthHost(), "http://" + host + "\\@" + w.OAuthHost() + "/rest/", "http://localhost:1/rest/",
		"https://oauth.bitrix.info.evil.example/rest/", "https://evil-oauth.bitrix.info/rest/", "https://x.oauth.bitrix.info/rest/",
		"https://oauth.bitrix.info@evil.example/rest/",
		"https://evil.example/oauth.bitrix.info/rest/", "https://oauth.bitrix.info:444/rest/", "https://oauth.bitrix.info:0443/rest/",
		"https://oauth.bitrix.info:/rest/",
		"https://OAUTH.bitrix.info/rest/", "HTTPS://oauth.bitrix.info/rest/", "https://oauth.bitrix.info./rest/",
		"https://oauth.bitrix%2einfo/rest/", "https://oauth\u3002bitrix.info/rest/",
		"https://\u043eauth.bitrix.info/rest/", "https://xn--auth-55d.bitrix.info/rest/", "https://oauth.bitrix.info\\.evil.example/rest/",
		"https://oauth.bitrix.info/rest/?x=1", "https://oauth.bitrix.info/rest/#x",
		"https://oauth.bitrix.info/rest", "http://oauth.bitrix.info/rest/", "ftp://oauth.bitrix.info/rest/", "//oauth.bitrix.info/rest/",
		"oauth.bitrix.info", "https:///rest/", "https://oauth.bitrix.info/",
		"https://oauth.bitrix.info/a/../rest/", "https://oauth.bitrix.info//rest/", "https://oauth.bitrix.info/rest//",
		"https://oauth.bitrix.info/%2e%2e/rest/", "https://oauth.bitrix.info/../x/rest/",
		" https://oauth.bitrix.info/rest/", "https://oauth.bitrix.info/rest/ ", "https://oauth.bitrix.info\n/rest/",
		"https://oauth.bitrix.info\x00.evil.example/rest/", "https://[::1]/rest/", "https://[oauth.bitrix.info]/rest/",
		"https://[::1%25eth0]/rest/", "https://" + strings.Repeat("a.", 300) + "info/rest/", "https://oauth.bitrix24.tech:80/rest/",
		"javascript://oauth.bitrix.info/rest/",
	}
	for _, server := range servers {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			auth := claim()
			auth.ServerEndpoint = server
			if server == "https://oauth.bitrix.info/rest" {
				return // the one harmless variant; see below
			}
			store := oauth.NewMemoryStore()
			portals := scripted(t, store, s, oauth.WithInsecureHTTP(), oauth.WithHosts(w.OAuthHost()))
			for _, refresh := range []event.Secret{"r0", ""} {
				auth.RefreshToken = refresh
				err := errOf(portals.Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: auth}))
				require.ErrorIs(t, err, event.ErrForbidden)
				require.True(t, errors.Is(err, oauth.ErrHostNotAllowed) || errors.Is(err, oauth.ErrEndpoint))
			}
			requireEmpty(t, store, member)
		})
	}
	t.Cleanup(func() { require.Empty(t, s.requests()) })
}

func TestServersThatAreAllowed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		server string // of the claim
		hosts  []string
		opts   []oauth.Option
		want   string // token address
	}{
		"official":             {official, nil, nil, "https://oauth.bitrix.info/oauth/token/"},
		"no slash":             {"https://oauth.bitrix.info/rest", nil, nil, "https://oauth.bitrix.info/oauth/token/"},
		"default port written": {"https://oauth.bitrix.info:443/rest/", nil, nil, "https://oauth.bitrix.info/oauth/token/"},
		"eastern":              {"https://oauth.bitrix24.tech/rest/", nil, nil, "https://oauth.bitrix24.tech/oauth/token/"},
		"none named":           {"", nil, nil, "https://oauth.bitrix.info/oauth/token/"},
		"own host": {
			"https://oauth.example.com/rest/", []string{"oauth.example.com"}, nil, "https://oauth.example.com/oauth/token/",
		},
		"own host and port": {
			"https://oauth.example.com:8443/rest/", []string{"oauth.example.com:8443"}, nil, "https://oauth.example.com:8443/oauth/token/",
		},
		"own host, port 443": {
			"https://oauth.example.com/rest/", []string{"oauth.example.com:443"}, nil, "https://oauth.example.com/oauth/token/",
		},
		"below a path": {
			"https://oauth.example.com/b24/rest/", []string{"oauth.example.com"}, nil, "https://oauth.example.com/b24/oauth/token/",
		},
		"http in development": {
			"http://oauth.example.com:81/rest/",
			[]string{"oauth.example.com:81"},
			[]oauth.Option{oauth.WithInsecureHTTP("oauth.example.com:81")},
			"http://oauth.example.com:81/oauth/token/",
		},
		"IPv6 in development": {
			"http://[::1]:81/rest/", []string{"[::1]:81"}, []oauth.Option{oauth.WithInsecureHTTP()}, "http://[::1]:81/oauth/token/",
		},
		"https for all of that": {"https://127.0.0.1:81/rest/", []string{"127.0.0.1:81"}, nil, "https://127.0.0.1:81/oauth/token/"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{respond: says(200, pair("a2", "r2", map[string]any{"server_endpoint": nil}))}
			auth := claim()
			auth.ServerEndpoint = test.server
			store := oauth.NewMemoryStore()

			_, err := scripted(t, store, s, append(test.opts, oauth.WithHosts(test.hosts...))...).Install(t.Context(), auth)

			require.NoError(t, err)
			require.Equal(t, test.want, s.requests()[0].url)
			require.Equal(t, strings.TrimSuffix(test.want, "oauth/token/")+"rest/", load(t, store, member).ServerEndpoint)
		})
	}
}

func TestInstallationArrivesManyTimesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	auth := authOf(w.grant(t))
	w.ResetRecords()
	one, two := w.portals(t, w.store), w.portals(t, w.store) // two processes

	errs := make([]error, 60)
	var wg sync.WaitGroup
	for i := range errs {
		p := one
		if i%2 == 0 {
			p = two
		}
		wg.Go(func() { errs[i] = errOf(p.Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: auth})) })
	}
	wg.Wait()

	require.NoError(t, errors.Join(errs...))
	in := load(t, w.store, w.MemberID())
	_, token, err := one.Renew(t.Context(), w.MemberID(), string(in.AccessToken))
	require.NoError(t, err, "the pair that was stored is the live one")
	require.NotEqual(t, string(in.AccessToken), token)
}

func TestSameTokensWithAnotherApplicationTokenAreAnotherClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		spent := false
		s := &script{respond: func(sent) (int, string) {
			<-release
			if spent {
				return 400, `{"error":"invalid_grant"}`
			}
			spent = true
			return 200, pair("a2", "r2", nil)
		}}
		store := oauth.NewMemoryStore()
		portals := scripted(t, store, s)
		verify := func(app event.Secret) chan error {
			auth := claim()
			auth.ApplicationToken = app
			done := make(chan error, 1)
			go func() { done <- errOf(portals.Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: auth})) }()
			synctest.Wait()
			return done
		}
		first, second, forged := verify("t1"), verify("t1"), verify("evil")
		release <- struct{}{}
		require.NoError(t, <-first)
		require.NoError(t, <-second)
		release <- struct{}{}
		require.ErrorIs(t, <-forged, event.ErrForbidden)
		require.Equal(t, "t1", string(load(t, store, member).ApplicationToken))
	})
}

func TestReinstallationRotatesTheApplicationToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	portals := w.portals(t, w.store)
	install := func(name string) oauth.Installation {
		require.NoError(t, errOf(portals.Verify(t.Context(), &event.Delivery{Name: name, Auth: authOf(w.grant(t))})))
		return load(t, w.store, w.MemberID())
	}
	accepts := func(token event.Secret) bool {
		err := errOf(portals.Verify(t.Context(),
			&event.Delivery{Name: "ONCRMDEALADD", Auth: event.Auth{MemberID: w.MemberID(), ApplicationToken: token}}))
		if err != nil {
			require.ErrorIs(t, err, event.ErrForbidden)
		}
		return err == nil
	}
	first := install("ONAPPINSTALL")
	require.Empty(t, first.PreviousApplicationToken)

	w.app.RotateApplicationToken()
	second := install("ONAPPINSTALL")
	require.Equal(t, w.app.ApplicationToken(), second.ApplicationToken)
	require.Equal(t, first.ApplicationToken, second.PreviousApplicationToken)
	require.NotEqual(t, first.RefreshToken, second.RefreshToken)
	require.True(t, accepts(first.ApplicationToken))
	require.True(t, accepts(second.ApplicationToken))
	tokens, err := portals.ApplicationTokens(t.Context(), w.MemberID())
	require.NoError(t, err)
	require.Equal(t, []event.Secret{second.ApplicationToken, first.ApplicationToken}, tokens)

	again := install("ONAPPINSTALL") // brings new tokens, and the application token as it was
	require.Equal(t, first.ApplicationToken, again.PreviousApplicationToken)
	require.NotEqual(t, second.RefreshToken, again.RefreshToken)

	w.app.RotateApplicationToken()
	third := install("ONAPPUPDATE")
	require.True(t, accepts(third.ApplicationToken))
	require.True(t, accepts(second.ApplicationToken))
	require.False(t, accepts(first.ApplicationToken))
}

func TestInstallationWithoutARefreshToken(t *testing.T) {
	t.Parallel()
	const here = "https://example.bitrix24.com"
	tests := map[string]struct {
		result string
		stored func(*oauth.Installation) // nil if the portal is not known
		app    event.Secret              // that the claim carries
		ok     bool
	}{
		"all of it": {
			`{"client_id":"` + clientID + `","member_id":"` + member + `","client_endpoint":"` + here + `/rest/"}`, nil, "t1", true,
		},
		"in install": {
			`{"install":{"client_id":"` + clientID + `","member_id":"` + member + `","client_endpoint":"` + here + `/rest/"}}`, nil, "t1", true,
		},
		"uri": {
			`{"client_id":"` + clientID + `","install":{"member_id":"` + member + `","uri":"` + here + `"}}`, nil, "t1", true,
		},
		"uri with /rest/": {
			`{"client_id":"` + clientID + `","install":{"member_id":"` + member + `","uri":"` + here + `/rest/"}}`, nil, "t1", true,
		},
		"domain": {
			`{"client_id":"` + clientID + `","install":{"member_id":"` + member + `","domain":"Example.bitrix24.com"}}`, nil, "t1", true,
		},
		"upper case": {
			`{"client_id":"` + clientID + `","install":{"member_id":"` + member + `","uri":"https://EXAMPLE.bitrix24.com/"}}`, nil, "t1", true,
		},
		"no portal":                  {`{"client_id":"` + clientID + `"}`, nil, "t1", false},
		"no address":                 {`{"member_id":"` + member + `"}`, nil, "t1", false},
		"no address, known":          {`{"client_id":"` + clientID + `","member_id":"` + member + `"}`, same, "t9", true},
		"address alone":              {`{"client_id":"` + clientID + `","client_endpoint":"` + here + `/rest/"}`, nil, "t1", false},
		"address alone, known":       {`{"client_id":"` + clientID + `","client_endpoint":"` + here + `/rest/"}`, same, "t9", true},
		"other address alone, known": {`{"client_id":"` + clientID + `","client_endpoint":"` + here + `/rest/"}`, elsewhere, "t9", false},
		"no application, known":      {`{"member_id":"` + member + `","client_endpoint":"` + here + `/rest/"}`, same, "t9", false},
		"no application, same token": {`{"member_id":"` + member + `","client_endpoint":"` + here + `/rest/"}`, same, "t1", true},
		"no application":             {`{"install":{"member_id":"` + member + `","uri":"` + here + `"}}`, nil, "t1", false},
		"other application": {
			`{"client_id":"local.other","member_id":"` + member + `","client_endpoint":"` + here + `/rest/"}`, nil, "t1", false,
		},
		"other portal":  {`{"member_id":"other","client_endpoint":"` + here + `/rest/"}`, nil, "t1", false},
		"other address": {`{"member_id":"` + member + `","client_endpoint":"https://other.example/rest/"}`, nil, "t1", false},
		"contradiction": {`{"member_id":"` + member + `","install":{"member_id":"other","uri":"` + here + `"}}`, nil, "t1", false},
		"contradiction on address": {
			`{"member_id":"` + member + `","client_endpoint":"https://a.example/rest/","install":{"client_endpoint":"` + here + `/rest/"}}`, nil,
			"t1", false,
		},
		"contradiction on app": {
			`{"member_id":"` + member + `","client_id":"x","install":{"client_id":"` + clientID + `","uri":"` + here + `"}}`, nil, "t1", false,
		},
		"http address":                {`{"member_id":"` + member + `","client_endpoint":"http://example.bitrix24.com/rest/"}`, nil, "t1", false},
		"arrays for objects":          {`{"member_id":"` + member + `","install":[],"scope":[]}`, nil, "t1", false},
		"numbers in place of strings": {`{"member_id":5,"client_endpoint":7}`, nil, "t1", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{identifies: true, respond: says(200, `{"result":`+test.result+`}`)}
			store := oauth.NewMemoryStore()
			if test.stored != nil {
				store = stored(t, test.stored)
			}
			auth := claim()
			auth.RefreshToken, auth.ApplicationToken = "", test.app

			err := errOf(scripted(t, store, s).Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: auth}))

			seen := s.requests()
			require.Len(t, seen, 1)
			require.Equal(t, "POST", seen[0].method)
			require.Equal(t, official+"app.info", seen[0].url)
			require.Equal(t, map[string][]string{"auth": {"a0"}}, map[string][]string(seen[0].form))
			if !test.ok {
				require.ErrorIs(t, err, event.ErrForbidden)
				if test.stored != nil {
					require.Equal(t, "a1", string(load(t, store, member).AccessToken))
				} else {
					requireEmpty(t, store, member)
				}
				return
			}
			require.NoError(t, err)
			in := load(t, store, member)
			if !strings.Contains(test.result, "client_id") {
				require.Equal(t, "a1", string(in.AccessToken), "the token may be another application's on the portal")
				return
			}
			require.Equal(t, "a0", string(in.AccessToken))
			require.Equal(t, here+"/rest/", in.ClientEndpoint)
			require.Equal(t, test.app, in.ApplicationToken)
			require.Equal(t, []string{"crm", "task"}, in.Scope)
			if test.stored != nil {
				require.Equal(t, "r1", string(in.RefreshToken), "a stored refresh token is better than none")
			}
		})
	}
}

func same(*oauth.Installation) {}

func elsewhere(in *oauth.Installation) { in.ClientEndpoint = "https://elsewhere.example/rest/" }

func TestInstallationThatCannotBeJudged(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status int
		body   string
		kind   oauth.ErrorKind
	}{
		"page":               {503, "<html>", oauth.ErrTemporary},
		"redirect":           {302, "https://evil.example/", oauth.ErrTemporary},
		"unknown code":       {400, `{"error":"verification_needed"}`, oauth.ErrTemporary},
		"payment":            {400, `{"error":"PAYMENT_REQUIRED"}`, oauth.ErrPayment},
		"wrong credentials":  {401, `{"error":"invalid_client"}`, oauth.ErrCredentials},
		"no connection":      {0, "", oauth.ErrTemporary},
		"array for an error": {500, `{"error":[]}`, oauth.ErrTemporary},
	}
	for name, test := range tests {
		for _, refresh := range []event.Secret{"r0", ""} {
			t.Run(name+" "+string(refresh), func(t *testing.T) {
				t.Parallel()
				store := oauth.NewMemoryStore()
				auth := claim()
				auth.RefreshToken = refresh

				err := errOf(scripted(t, store, &script{identifies: refresh == "", respond: says(test.status, test.body)}).Verify(t.Context(),
					&event.Delivery{Name: "ONAPPINSTALL", Auth: auth}))

				require.ErrorIs(t, err, test.kind)
				require.NotErrorIs(t, err, event.ErrForbidden)
				requireEmpty(t, store, member)
			})
		}
	}
}

func TestStoreFailsAtAnInstallation(t *testing.T) {
	t.Parallel()
	t.Run("reading", func(t *testing.T) {
		t.Parallel()
		s := &script{respond: says(200, pair("a2", "r2", nil))}
		store := &faultyStore{Store: oauth.NewMemoryStore(), load: func(context.Context) error { return errDisk }}
		err := errOf(scripted(t, store, s).Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: claim()}))
		require.ErrorIs(t, err, oauth.ErrStore)
		require.NotErrorIs(t, err, event.ErrForbidden)
		require.Empty(t, s.requests(), "the refresh token is not spent in vain")
	})
	t.Run("writing", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			n := 0
			s := &script{respond: func(sent) (int, string) {
				if n++; n > 1 {
					return 400, `{"error":"invalid_grant"}`
				}
				return 200, pair("a2", "r2", nil)
			}}
			inner := oauth.NewMemoryStore()
			store := &faultyStore{Store: inner, swap: failing}
			portals := scripted(t, store, s)
			install := &event.Delivery{Name: "ONAPPINSTALL", Auth: claim()}

			err := errOf(portals.Verify(t.Context(), install))
			require.ErrorIs(t, err, oauth.ErrStore)
			require.NotErrorIs(t, err, event.ErrForbidden)

			// Nothing is lost as long as the process lives.
			require.NoError(t, errOf(portals.Verify(t.Context(), install)))
			require.NoError(t, errOf(portals.Verify(t.Context(), &event.Delivery{Name: "ONCRMDEALADD", Auth: claim()})))
			_, token, err := portals.Access(t.Context(), member)
			require.NoError(t, err)
			require.Equal(t, "a2", token)
			requireEmpty(t, inner, member)
			store.set(func(s *faultyStore) { s.swap = nil })
			pass(time.Second)
			_, _, err = portals.Access(t.Context(), member)
			require.NoError(t, err)
			require.Equal(t, "r2", string(load(t, inner, member).RefreshToken))
		})
	})
	t.Run("writing only seemed to fail", func(t *testing.T) {
		t.Parallel()
		inner := oauth.NewMemoryStore()
		store := &faultyStore{Store: inner, after: errDisk}
		s := &script{respond: says(200, pair("a2", "r2", nil))}
		require.NoError(t, errOf(scripted(t, store, s).Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: claim()})))
		require.Equal(t, "r2", string(load(t, inner, member).RefreshToken))
	})
}

func TestInstallationWinsOverARenewalUnderWay(t *testing.T) {
	t.Parallel()
	store := stored(t)
	s := &script{respond: func(sent) (int, string) {
		otherProcess(t, store, func(in *oauth.Installation) { in.AccessToken, in.RefreshToken = "a7", "r7" })
		return 200, pair("a2", "r2", nil)
	}}
	auth := claim()
	auth.ApplicationToken = "t2"

	in, err := scripted(t, store, s).Install(t.Context(), auth)

	require.NoError(t, err)
	require.Equal(t, "a2", string(in.AccessToken))
	require.Equal(t, in, load(t, store, member))
	require.Equal(t, "t1", string(in.PreviousApplicationToken))
}

func TestInstallationSurvivesItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		store := oauth.NewMemoryStore()
		portals := scripted(t, store, &script{respond: func(sent) (int, string) {
			<-release
			return 200, pair("a2", "r2", nil)
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- errOf(portals.Verify(ctx, &event.Delivery{Name: "ONAPPINSTALL", Auth: claim()})) }()
		synctest.Wait()
		cancel()
		err := <-done
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, event.ErrForbidden)
		close(release)
		synctest.Wait()
		require.Equal(t, "r2", string(load(t, store, member).RefreshToken))
	})
}

// TestFloodOfInstallations lets unknown senders post installations. A genuine one is still stored,
// and the application does not send its secret all the time.
func TestFloodOfInstallations(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	const (
		perSecond = 200
		seconds   = 20
		latency   = 200 * time.Millisecond
	)
	stranger := func() event.Auth {
		a := claim()
		a.ApplicationToken = "made-up"
		return a
	}
	for name, forge := range map[string]func(i int) event.Auth{
		"both tokens": func(i int) event.Auth {
			a := stranger()
			a.AccessToken, a.RefreshToken = event.Secret("forged"+strconv.Itoa(i)), event.Secret("forged-r"+strconv.Itoa(i))
			return a
		},
		"refresh tokens alone": func(i int) event.Auth {
			a := stranger()
			a.AccessToken, a.RefreshToken = "", event.Secret("forged-r"+strconv.Itoa(i))
			return a
		},
		"the application token of the portal": func(i int) event.Auth {
			a := claim()
			a.AccessToken, a.RefreshToken = "", event.Secret("forged-r"+strconv.Itoa(i))
			return a
		},
		"the live token of another portal": func(i int) event.Auth {
			a := stranger()
			a.AccessToken, a.RefreshToken, a.MemberID = "elsewhere", event.Secret("forged-r"+strconv.Itoa(i)), "b223c6b3710f85df22e9377d6c4f7553"
			return a
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var withSecret atomic.Int64
				s := &script{identifies: true, respond: func(r sent) (int, string) {
					pass(latency)
					if r.form.Has("client_secret") {
						withSecret.Add(1)
						if r.form.Get("refresh_token") == "r0" {
							return 200, pair("a2", "r2", nil)
						}
						return 400, `{"error":"invalid_grant"}`
					}
					switch r.form.Get("auth") {
					case "a0":
						return 200, `{"result":{"client_id":"` + clientID + `","member_id":"` + member + `"}}`
					case "elsewhere":
						return 200, `{"result":{"client_id":"` + clientID + `","member_id":"b223c6b3710f85df22e9377d6c4f7553"}}`
					default:
						return 401, `{"error":"invalid_token"}`
					}
				}}
				store := oauth.NewMemoryStore()
				portals := scripted(t, store, s)
				verify := func(a event.Auth) error {
					return errOf(portals.Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: a}))
				}
				var flood sync.WaitGroup
				forged := 0
				flow := func(seconds int) {
					for range seconds * perSecond {
						a := forge(forged)
						forged++
						flood.Go(func() { _ = verify(a) }) // a copy of the genuine one may pass, but changes nothing
						pass(time.Second / perSecond)
					}
				}

				flow(seconds / 2)
				began := time.Now()
				genuine := make(chan error, 1)
				var took time.Duration
				flood.Go(func() { err := verify(claim()); took = time.Since(began); genuine <- err })
				flow(seconds / 2)

				require.NoError(t, <-genuine)
				require.Less(t, took, 4*time.Second)
				require.Equal(t, "r2", string(load(t, store, member).RefreshToken))
				flood.Wait()
				require.Less(t, withSecret.Load(), int64(5*seconds))
			})
		})
	}
}

// TestInstallationArrivesTwiceAtASlowPortal sends an installation as page and as event at the same
// time. The portal is slow to say whether the user is an administrator.
func TestInstallationArrivesTwiceAtASlowPortal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		used := false
		s := &script{
			respond: func(sent) (int, string) {
				if used {
					return 400, `{"error":"invalid_grant"}`
				}
				used = true
				return 200, pair("a2", "r2", nil)
			},
			portal: func(string, sent) (int, string) {
				pass(5 * time.Second)
				return 200, `{"result":true}`
			},
		}
		portals := scripted(t, oauth.NewMemoryStore(), s)
		var both sync.WaitGroup
		both.Go(func() {
			page := claim()
			page.ClientEndpoint = ""
			_, err := portals.Install(t.Context(), page)
			require.NoError(t, err)
		})
		pass(time.Second)
		proof, err := portals.Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: claim()})
		require.NoError(t, err)
		require.Equal(t, event.ProofInstallation, proof.By)
		both.Wait()
	})
}

// TestFloodWhereNobodyNamesThePortal has an OAuth server that names the address of a live token's
// portal, or only says that the token lives. Unknown senders without a live token do not keep such
// an installation from being stored.
func TestFloodWhereNobodyNamesThePortal(t *testing.T) {
	t.Parallel()
	for name, install := range map[string]string{"address": `,"install":{"uri":"https://example.bitrix24.com"}`, "nothing": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &script{identifies: true, respond: func(r sent) (int, string) {
					pass(200 * time.Millisecond)
					switch {
					case !r.form.Has("client_secret"):
						return 200, `{"result":{"client_id":"` + clientID + `"` + install + `}}`
					case r.form.Get("refresh_token") == "r0":
						return 200, pair("a2", "r2", nil)
					default:
						return 400, `{"error":"invalid_grant"}`
					}
				}}
				portals := scripted(t, oauth.NewMemoryStore(), s)
				verify := func(a event.Auth) error {
					return errOf(portals.Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: a}))
				}
				var flood sync.WaitGroup
				for i := range 2000 {
					a := claim()
					a.AccessToken, a.RefreshToken = "", event.Secret("forged"+strconv.Itoa(i))
					flood.Go(func() { _ = verify(a) })
					pass(5 * time.Millisecond)
				}
				began := time.Now()
				require.NoError(t, verify(claim()))
				require.Less(t, time.Since(began), 4*time.Second)
				flood.Wait()
			})
		})
	}
}

// TestEmployeeCannotStarveOtherPortals posts many pages with the application token of a portal,
// which everybody on the portal knows.
func TestEmployeeCannotStarveOtherPortals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const theirs = "b223c6b3710f85df22e9377d6c4f7553"
		s := &script{identifies: true, respond: func(r sent) (int, string) {
			pass(2 * time.Second)
			if r.form.Get("auth") == "a9" {
				return 200, `{"result":{"client_id":"` + clientID + `","member_id":"` + member + `","user_id":7}}`
			}
			return 401, `{"error":"invalid_token"}`
		}}
		portals := scripted(t, stored(t), s)
		_, err := portals.Seed(t.Context(), oauth.Installation{
			MemberID: theirs, ClientEndpoint: "https://theirs.bitrix24.com/rest/", AccessToken: "b1", ApplicationToken: "their-token",
		})
		require.NoError(t, err)
		var flood sync.WaitGroup
		for i := range 500 {
			a := claim()
			a.MemberID, a.ApplicationToken, a.AccessToken, a.ClientEndpoint = theirs, "their-token", event.Secret("made-up"+strconv.Itoa(i)), ""
			flood.Go(func() { _, _ = portals.VerifyPage(t.Context(), a) })
		}
		pass(time.Second)
		page := claim()
		page.AccessToken = "a9"
		began := time.Now()
		in, err := portals.VerifyPage(t.Context(), page)
		require.NoError(t, err)
		require.Equal(t, int64(7), in.UserID)
		require.Less(t, time.Since(began), 4*time.Second)
		flood.Wait()
	})
}

// TestPathsOfTheOfficialServers checks that a claim cannot send the client secret to other paths of
// these servers.
func TestPathsOfTheOfficialServers(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"https://oauth.bitrix.info/x/rest/", "https://oauth.bitrix24.tech/rest/rest/"} {
		s := counting()
		auth := claim()
		auth.ServerEndpoint = at
		err := errOf(scripted(t, oauth.NewMemoryStore(), s).Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: auth}))
		require.ErrorIs(t, err, event.ErrForbidden, at)
		require.Empty(t, s.requests(), at)
	}
}

// TestRefusedClaimIsRememberedForAMinute checks that a refused claim costs no second request.
func TestRefusedClaimIsRememberedForAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{respond: says(400, `{"error":"invalid_grant"}`)}
		portals := scripted(t, oauth.NewMemoryStore(), s)
		verify := func() error {
			return errOf(portals.Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: claim()}))
		}
		require.ErrorIs(t, verify(), event.ErrForbidden)
		require.ErrorIs(t, verify(), event.ErrForbidden)
		require.Len(t, s.requests(), 1)
		pass(time.Minute)
		require.ErrorIs(t, verify(), event.ErrForbidden)
		require.Len(t, s.requests(), 2)
	})
}
