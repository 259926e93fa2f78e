package rest_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
)

// TestManyCallsOneRenewal is the whole way: portal, OAuth server, store, client.
func TestManyCallsOneRenewal(t *testing.T) {
	t.Parallel()
	portal := eventtest.NewPortal(t)
	app, err := portal.AddApp(eventtest.App{Scope: []string{"crm"}})
	require.NoError(t, err)
	require.NoError(t, app.Install(t.Context()))
	code, err := app.Code(eventtest.AdminID)
	require.NoError(t, err)
	portals, err := oauth.NewPortals(oauth.Config{ClientID: app.ClientID(), ClientSecret: app.ClientSecret()}, oauth.NewMemoryStore(),
		oauth.WithHosts(portal.OAuthHost()), oauth.WithInsecureHTTP())
	require.NoError(t, err)
	_, err = portals.Exchange(t.Context(), oauth.Code{Code: code, ServerDomain: portal.OAuthHost()})
	require.NoError(t, err)
	api, err := rest.NewClients(portals, rest.WithInsecureHTTP(), rest.WithoutRateLimit())
	require.NoError(t, err)
	client := api.Portal(portal.MemberID())
	portal.ExpireAccessTokens()
	portal.ResetRecords()

	errs := make([]error, 200)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = client.Call(t.Context(), "server.time", nil, nil) })
	}
	wg.Wait()

	require.NoError(t, errors.Join(errs...))
	require.Len(t, portal.OAuthCalls(), 1)

	require.NoError(t, app.Uninstall(true))
	require.ErrorIs(t, client.Call(t.Context(), "server.time", nil, nil), rest.ErrApplicationMissing)
	require.ErrorIs(t, api.Portal("unknown").Call(t.Context(), "server.time", nil, nil), oauth.ErrNotFound)
}
