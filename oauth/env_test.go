package oauth_test

import (
	"cmp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
)

func TestFromEnv(t *testing.T) {
	t.Parallel()
	const id, secret, hosts, insecure = "B24_CLIENT_ID", "B24_CLIENT_SECRET", "B24_OAUTH_HOSTS", "B24_INSECURE_HTTP" //nolint:gosec // names
	const script = "B24_JS_URL"
	for name, c := range map[string]struct {
		env   map[string]string
		allow bool // http on loopback and the host named
		bx24  string
		err   string
	}{
		"application":        {env: map[string]string{id: "app.1", secret: "s3cr3t"}},
		"development":        {env: map[string]string{id: "app.1", secret: "s3cr3t", hosts: " oauth.test:8025 ,,", insecure: "1"}, allow: true},
		"switched off":       {env: map[string]string{id: "app.1", secret: "s3cr3t", insecure: "0"}},
		"no ID":              {env: map[string]string{secret: "s3cr3t"}, err: id},
		"no secret":          {env: map[string]string{id: "app.1"}, err: secret},
		"neither on nor off": {env: map[string]string{id: "app.1", secret: "s3cr3t", insecure: "s3cr3t"}, err: insecure},
		"a host is no host":  {env: map[string]string{id: "app.1", secret: "s3cr3t", hosts: "oauth.test/x", insecure: "1"}, err: "host"},
		"a script":           {env: map[string]string{id: "app.1", secret: "s3cr3t", script: "https://a.example/s3cr3t"}, bx24: "https://a.example/s3cr3t"},
		"a script for tests": {
			env:   map[string]string{id: "app.1", secret: "s3cr3t", hosts: "oauth.test", insecure: "1", script: "http://127.0.0.1:8024/api/v1/"},
			allow: true, bx24: "http://127.0.0.1:8024/api/v1/",
		},
		"a script in clear":   {env: map[string]string{id: "app.1", secret: "s3cr3t", script: "http://127.0.0.1:8024/s3cr3t"}, err: script},
		"a relative script":   {env: map[string]string{id: "app.1", secret: "s3cr3t", script: "/s3cr3t"}, err: script},
		"a host, but no http": {env: map[string]string{id: "app.1", secret: "s3cr3t", hosts: "oauth.test"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, opts, err := oauth.FromEnv(func(key string) string { return c.env[key] })
			var portals *oauth.Portals
			if err == nil {
				portals, err = oauth.NewPortals(cfg, oauth.NewMemoryStore(), opts...)
			}
			if c.err != "" {
				require.ErrorIs(t, err, oauth.ErrConfig)
				require.ErrorContains(t, err, c.err)
				require.NotContains(t, err.Error(), "s3cr3t")
				return
			}
			require.NoError(t, err)
			require.Equal(t, oauth.Config{ClientID: "app.1", ClientSecret: "s3cr3t"}, cfg)
			require.Equal(t, c.allow, portals.AllowsHTTP("127.0.0.1", "8024"))
			require.Equal(t, c.allow, portals.AllowsHTTP("oauth.test", "8025"))
			require.False(t, portals.AllowsHTTP("other.test", ""))
			require.Equal(t, cmp.Or(c.bx24, oauth.DefaultScriptURL), portals.ScriptURL())
		})
	}
}

// TestInsecureHTTPIsGivenOnce: calls follow the option of the tokens.
func TestInsecureHTTPIsGivenOnce(t *testing.T) {
	t.Parallel()
	portal := eventtest.NewPortal(t)
	app, err := portal.AddApp(eventtest.App{Scope: []string{"crm"}})
	require.NoError(t, err)
	require.NoError(t, app.Install(t.Context()))
	grant, err := app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	env := map[string]string{
		"B24_CLIENT_ID": app.ClientID(), "B24_CLIENT_SECRET": string(app.ClientSecret()),
		"B24_OAUTH_HOSTS": portal.OAuthHost(), "B24_INSECURE_HTTP": "1",
	}
	cfg, opts, err := oauth.FromEnv(func(key string) string { return env[key] })
	require.NoError(t, err)
	portals, err := oauth.NewPortals(cfg, oauth.NewMemoryStore(), opts...)
	require.NoError(t, err)
	_, err = portals.Install(t.Context(), pageOf(grant))
	require.NoError(t, err)
	api, err := rest.NewClients(portals)
	require.NoError(t, err)
	bindings, err := event.NewAPI(api.Portal(portal.MemberID())).Bindings(t.Context())
	require.NoError(t, err)
	require.Empty(t, bindings)
}
