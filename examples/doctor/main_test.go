package main

import (
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/doctor"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/programtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

// serve starts the handler of an application that responds with a status.
func serve(t *testing.T, status int) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	t.Cleanup(srv.Close)
	return srv.URL + "/bitrix24/events"
}

// bind makes bindings as the application does.
func bind(t *testing.T, portal *eventtest.Portal, app *eventtest.Application, bindings ...event.Binding) {
	t.Helper()
	portals, err := oauth.NewPortals(oauth.Config{ClientID: app.ClientID(), ClientSecret: app.ClientSecret()}, oauth.NewMemoryStore(),
		oauth.WithHosts(portal.OAuthHost()), oauth.WithInsecureHTTP(), oauth.WithLogger(programtest.Silent()))
	require.NoError(t, err)
	g, err := app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	_, err = portals.Seed(t.Context(), oauth.Installation{
		MemberID: g.MemberID, ClientEndpoint: g.ClientEndpoint, ServerEndpoint: g.ServerEndpoint, AccessToken: g.AccessToken,
		RefreshToken: g.RefreshToken,
	})
	require.NoError(t, err)
	clients, err := rest.NewClients(portals, rest.WithInsecureHTTP(), rest.WithLogger(programtest.Silent()))
	require.NoError(t, err)
	require.NoError(t, event.NewAPI(clients.Portal(g.MemberID)).Reconcile(t.Context(), bindings))
}

// stored returns the environment of an application that has stored its installation: the tokens are
// in B24_DATA only.
func stored(t *testing.T, env programtest.Env) programtest.Env {
	t.Helper()
	v, err := oneportal.Parse("application", "", nil, env.Program())
	require.NoError(t, err)
	p, err := oneportal.Open(t.Context(), v, programtest.Silent(), nil)
	require.NoError(t, err)
	require.NoError(t, p.Close(t.Context()))
	env = env.With()
	for _, name := range []string{"B24_ACCESS_TOKEN", "B24_REFRESH_TOKEN", "B24_CLIENT_ENDPOINT", "B24_SERVER_ENDPOINT", "B24_MEMBER_ID"} {
		delete(env, name)
	}
	return env
}

// requireNoSecret checks that nothing secret was printed.
func requireNoSecret(t *testing.T, env programtest.Env, app *eventtest.Application, texts ...string) {
	t.Helper()
	for _, text := range texts {
		for _, secret := range []string{
			env["B24_CLIENT_SECRET"], env["B24_ACCESS_TOKEN"], env["B24_REFRESH_TOKEN"], string(app.ApplicationToken()), env["B24_APPLICATION_TOKEN"],
			env["B24_KEY"],
		} {
			if secret != "" {
				require.NotContains(t, text, secret)
			}
		}
	}
}

func TestSound(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t)
	env = stored(t, env.Seeded(t, app))
	url := serve(t, http.StatusBadRequest)
	bind(t, portal, app, event.Binding{Event: "ONCRMDEALADD", Handler: url}, event.Binding{Event: "ONCRMDEALADD", Offline: true})

	code, stdout, stderr := programtest.Run(t, run, env, "-events=onCrmDealAdd", "-handler="+url, "-offline", "-test")
	require.Zero(t, code, "%s%s", stdout, stderr)
	require.Empty(t, stderr)
	require.True(t, strings.HasSuffix(stdout, "\nnothing found\n"), stdout)
	require.Regexp(t, `(?m)^installation  ok       \S`, stdout)
	require.Regexp(t, `(?m)^test          -        \S`, stdout)
	requireNoSecret(t, env, app, stdout)

	code, stdout, stderr = programtest.Run(t, run, env.With("EVENTS", "ONCRMDEALADD", "PUBLIC_URL", url, "DOCTOR_JSON", "1", "DOCTOR_PROBE", "0"))
	require.Zero(t, code, "%s%s", stdout, stderr)
	lines := programtest.Lines(t, stdout)
	require.GreaterOrEqual(t, len(lines), 16)
	require.Equal(t, "installation", lines[0]["check"])
	require.Equal(t, "ok", lines[0]["status"])
	require.Equal(t, "clock", lines[len(lines)-1]["check"])
}

// TestListen: doctor stands in for the handler, and sees the test event arrive.
func TestListen(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t)
	env = stored(t, env.Seeded(t, app))
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	url := "http://" + addr + "/bitrix24/events"
	bind(t, portal, app, event.Binding{Event: "ONCRMDEALADD", Handler: url})
	before := len(portal.Bindings())

	token := string(app.ApplicationToken())
	args := []string{"-events=ONCRMDEALADD", "-handler=" + url, "-listen=" + addr}
	code, stdout, stderr := programtest.Run(t, run, env.With("B24_APPLICATION_TOKEN", token), args...)
	require.Zero(t, code, "%s%s", stdout, stderr)
	require.Contains(t, stdout, "it arrived after")
	require.Len(t, portal.Bindings(), before)
	requireNoSecret(t, env, app, stdout, stderr)

	other := "a-token-of-another-portal@" + portal.MemberID()
	code, stdout, stderr = programtest.Run(t, run, env.With("B24_APPLICATION_TOKEN", other, "DOCTOR_JSON", "1"), args...)
	require.Equal(t, 1, code)
	require.Equal(t, "doctor: events cannot arrive; see the checks that failed\n", stderr)
	require.Contains(t, stdout, string(doctor.WrongAppToken))
	requireNoSecret(t, env, app, stdout, stderr)
	require.NotContains(t, stdout, "a-token-of-another-portal")
}

// TestFindings: each cause is named, with a cure, and the program exits with 1. Package doctor
// tests the causes themselves.
func TestFindings(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(t *testing.T, portal *eventtest.Portal, app *eventtest.Application, env programtest.Env)
		events string
		bound  bool
		status int
		code   doctor.Code
		exit   int
	}{
		"nothing bound":   {events: "ONCRMDEALADD", code: doctor.BindingMissing, exit: 1},
		"misspelt":        {events: "ONCRMDEALADDED", code: doctor.UnknownEvent, exit: 1},
		"no permission":   {events: "ONBOOKINGADD", code: doctor.ScopeMissing, exit: 1},
		"handler fails":   {events: "ONCRMDEALADD", bound: true, status: 500, code: doctor.HandlerFails, exit: 1},
		"handler missing": {events: "ONCRMDEALADD", bound: true, status: 404, code: doctor.HandlerRefuses, exit: 1},
		"removed": {
			events: "ONCRMDEALADD", bound: true, code: doctor.AppRemoved, exit: 1,
			change: func(t *testing.T, _ *eventtest.Portal, app *eventtest.Application, _ programtest.Env) {
				t.Helper()
				require.NoError(t, app.Uninstall(true))
			},
		},
		"wrong secret": {
			events: "ONCRMDEALADD", bound: true, code: doctor.WrongCredentials, exit: 1,
			change: func(_ *testing.T, _ *eventtest.Portal, _ *eventtest.Application, env programtest.Env) {
				env["B24_CLIENT_SECRET"] = "not-the-secret-of-the-application"
			},
		},
		"revoked": {
			events: "ONCRMDEALADD", bound: true, code: doctor.TokenRefused, exit: 1,
			change: func(_ *testing.T, _ *eventtest.Portal, app *eventtest.Application, _ programtest.Env) {
				app.RevokeTokens()
			},
		},
		"unpaid": {
			events: "ONCRMDEALADD", bound: true, code: doctor.PaymentExpired, exit: 1,
			change: func(_ *testing.T, _ *eventtest.Portal, app *eventtest.Application, _ programtest.Env) {
				app.SetPaymentExpired(true)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			portal, app, env := programtest.Portal(t)
			env = stored(t, env.Seeded(t, app))
			url := serve(t, max(tc.status, 200))
			if tc.bound {
				bind(t, portal, app, event.Binding{Event: tc.events, Handler: url})
			}
			if tc.change != nil {
				tc.change(t, portal, app, env)
			}
			code, stdout, stderr := programtest.Run(t, run, env.With("EVENTS", tc.events, "PUBLIC_URL", url, "DOCTOR_JSON", "1"))
			require.Equal(t, tc.exit, code, "%s%s", stdout, stderr)
			lines := programtest.Lines(t, stdout)
			i := slices.IndexFunc(lines, func(l map[string]any) bool { return l["status"] == "failed" })
			require.GreaterOrEqual(t, i, 0, stdout)
			require.Equal(t, string(tc.code), lines[i]["code"], stdout)
			require.NotEmpty(t, lines[i]["cure"])
			require.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
			requireNoSecret(t, env, app, stdout, stderr)

			// The installation is still there, whatever was found.
			code, table, _ := programtest.Run(t, run, env.With("EVENTS", tc.events, "PUBLIC_URL", url))
			require.Equal(t, tc.exit, code, table)
			require.Contains(t, table, " FAILED ")
			require.Contains(t, table, "; begin with: ")
		})
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	_, app, env := programtest.Portal(t)
	env = env.Seeded(t, app).With("EVENTS", "ONCRMDEALADD", "PUBLIC_URL", "https://example.com/")
	outgoing := programtest.Env{} // without an application, as for an outgoing webhook
	for name, tc := range map[string]struct {
		env  programtest.Env
		args []string
		says string
	}{
		"no events":            {env.With("EVENTS", ""), nil, "EVENTS"},
		"no handler":           {env.With("PUBLIC_URL", ""), nil, "-handler"},
		"connector and online": {env, []string{"-connector=x"}, "CONNECTOR"},
		"test and offline":     {env.With("PUBLIC_URL", ""), []string{"-offline", "-test"}, "-handler"},
		"wait":                 {env, []string{"-wait=1ms"}, "-wait"},
		"token":                {env.With("B24_APPLICATION_TOKEN", "short"), nil, "B24_APPLICATION_TOKEN"},
		"no application":       {env.With("B24_CLIENT_ID", ""), nil, "B24_CLIENT_ID"},
		"no portal":            {env.With("B24_MEMBER_ID", "", "B24_ACCESS_TOKEN", "", "B24_REFRESH_TOKEN", ""), nil, "B24_MEMBER_ID"},
		"no endpoint":          {env.With("B24_CLIENT_ENDPOINT", ""), nil, "B24_CLIENT_ENDPOINT"},
		"outgoing webhook":     {outgoing.With("B24_APPLICATION_TOKEN", strings.Repeat("t", 32)), nil, "B24_APPLICATION_TOKEN"},
		"incoming webhook":     {outgoing.With("B24_INCOMING_WEBHOOK", "https://acme.bitrix24.com/rest/1/secret/"), nil, "Stats.Rejected"},
		"key":                  {env.With("B24_KEY", "secret"), nil, "B24_KEY"},
		"refresh token":        {env, []string{"-refresh-token=secret"}, "-refresh-token"},
		"log format":           {env, []string{"-log-format=xml"}, "log format"},
		"switch":               {env.With("DOCTOR_JSON", "maybe"), nil, "DOCTOR_JSON"},
		"not a flag":           {env, []string{"ONCRMDEALADD"}, "flags"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := programtest.Run(t, run, tc.env.With("B24_DATA", t.TempDir()), tc.args...)
			require.Equal(t, 2, code, stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, tc.says)
			require.Equal(t, 1, strings.Count(stderr, "\n"))
		})
	}
	// An outgoing webhook has no client ID. The error says so, and what to look at.
	code, stdout, stderr := programtest.Run(t, run, outgoing.With("B24_INCOMING_WEBHOOK", "https://acme.bitrix24.com/rest/1/secret/"))
	require.Equal(t, 2, code)
	require.Empty(t, stdout)
	for _, text := range []string{"B24_CLIENT_ID", "examines applications", "outgoing webhook", "log", "Stats.Rejected", "path", "B24_APPLICATION_TOKEN", "scope"} {
		require.Contains(t, stderr, text)
	}
	require.NotContains(t, stderr, "secret/")
	code, stdout, stderr = programtest.Run(t, run, env, "-h")
	require.Zero(t, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "usage: doctor")
}

// TestSettings: each setting has a flag and a variable, and the flag wins.
func TestSettings(t *testing.T) {
	t.Parallel()
	base := programtest.Env{"EVENTS": "ONCRMDEALADD", "PUBLIC_URL": "https://example.com/"}
	for name, tc := range map[string]struct {
		variable, value, flag string
		want                  func(config) any
		byDefault             any
		byVariable            any
		byFlag                any
	}{
		"events":     {"EVENTS", "ONTASKADD", "-events=onTaskUpdate", func(c config) any { return c.want[0].Event }, "ONCRMDEALADD", "ONTASKADD", "ONTASKUPDATE"},
		"handler":    {"PUBLIC_URL", "https://a/", "-handler=https://b/", func(c config) any { return c.want[0].Handler }, "https://example.com/", "https://a/", "https://b/"},
		"offline":    {"DOCTOR_OFFLINE", "1", "-offline=0", func(c config) any { return len(c.want) }, 1, 2, 1},
		"probe":      {"DOCTOR_PROBE", "0", "-probe", func(c config) any { return c.On("probe") }, true, false, true},
		"test":       {"DOCTOR_TEST", "1", "-test=false", func(c config) any { return c.On("test") }, false, true, false},
		"json":       {"DOCTOR_JSON", "true", "-json=0", func(c config) any { return c.On("json") }, false, true, false},
		"listen":     {"DOCTOR_LISTEN", ":1", "-listen=:2", func(c config) any { return c.listen }, "", ":1", ":2"},
		"listen off": {"DOCTOR_LISTEN", ":1", "-listen=", func(c config) any { return c.listen }, "", ":1", ""},
		"wait":       {"DOCTOR_WAIT", "3s", "-wait=5s", func(c config) any { return c.wait }, 20 * time.Second, 3 * time.Second, 5 * time.Second},
		"installations": {
			"DOCTOR_INSTALLATIONS", "a", "-installations=b", func(c config) any { return c.Values["installations"] }, "", "a", "b",
		},
		// The receiver's own address is not that of doctor.
		"address of the application": {"LISTEN", ":8080", "-listen=", func(c config) any { return c.listen }, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			with := base.With(tc.variable, tc.value)
			for _, step := range []struct {
				env  programtest.Env
				args []string
				want any
			}{{base, nil, tc.byDefault}, {with, nil, tc.byVariable}, {with, []string{tc.flag}, tc.byFlag}} {
				cfg, err := configure(step.env.Program(step.args...))
				require.NoError(t, err)
				require.Equal(t, step.want, tc.want(cfg))
			}
		})
	}
}

// TestTable: what a portal writes is only shown.
func TestTable(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	r := doctor.Report{Checks: []doctor.Check{
		{Name: "token", Status: doctor.Failed, Code: doctor.TokenRefused, Cause: "bad\x1b[31m\u202e", Cure: "two\nlines"},
		{Name: "plan", Status: doctor.Warning, Code: doctor.NoReservations, Cause: "small", Cure: "grow"},
	}}
	require.NoError(t, write(&b, r, false, false))
	require.Equal(t, "token         FAILED   bad [31m \n                       → two; lines\nplan          WARNING  small\n"+
		"                       → grow\n\n1 failed, 1 warning; begin with: bad [31m \n", b.String())
	b.Reset()
	require.NoError(t, write(&b, r, true, false))
	require.NotContains(t, b.String(), "\u202e")
	require.Len(t, programtest.Lines(t, b.String()), 2)
}

// TestStopped: a report that was cut short does not say that nothing was found.
func TestStopped(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t)
	env = stored(t, env.Seeded(t, app))
	asked := make(chan struct{})
	portal.Once("event.get", eventtest.Before(func(r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	p := programtest.Start(t, run, env.With("EVENTS", "ONCRMDEALADD", "PUBLIC_URL", serve(t, 400)))
	<-asked
	p.Signals <- os.Interrupt
	require.Equal(t, 1, p.Wait(t))
	require.Equal(t, "doctor: stopped before the last check\n", p.Stderr.String())
	require.True(t, strings.HasSuffix(p.Stdout.String(), "\nstopped before the last check; nothing found so far\n"), p.Stdout)
}

// TestListenInUse: the handler still has the address.
func TestListenInUse(t *testing.T) {
	t.Parallel()
	_, app, env := programtest.Portal(t)
	env = stored(t, env.Seeded(t, app))
	url := serve(t, 400)
	at := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/bitrix24/events")
	code, stdout, stderr := programtest.Run(t, run, env, "-events=ONCRMDEALADD", "-handler="+url, "-listen="+at)
	require.Equal(t, 1, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "stop the handler first")
}

// TestProcess: the program in a process of its own.
func TestProcess(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t)
	env = stored(t, env.Seeded(t, app))
	url := serve(t, http.StatusBadRequest)
	bind(t, portal, app, event.Binding{Event: "ONCRMDEALADD", Handler: url})
	c := programtest.Env{"PATH": os.Getenv("PATH"), "HOME": t.TempDir(), "EVENTS": "ONCRMDEALADD", "PUBLIC_URL": url}
	maps.Copy(c, env)
	e := programtest.StartExec(t, programtest.ExecConfig{Env: c})
	require.Zero(t, e.Wait(t), "%s%s", e.Stdout, e.Stderr)
	require.Contains(t, e.Stdout.String(), "nothing found")
	e = programtest.StartExec(t, programtest.ExecConfig{Env: c.With("EVENTS", "ONCRMDEALUPDATE")})
	require.Equal(t, 1, e.Wait(t))
	e = programtest.StartExec(t, programtest.ExecConfig{Env: c.With("EVENTS", "")})
	require.Equal(t, 2, e.Wait(t))
}
