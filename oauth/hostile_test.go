package oauth_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
)

func isAny(err error, kinds ...error) bool {
	for _, kind := range kinds {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// TestHostileAddressesGetNothing puts the address of a listener in every place that an attacker, or
// a compromised portal, can write to. The listener counts connections, so the test also notices a
// TLS handshake.
func TestHostileAddressesGetNothing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	var hits atomic.Int64
	trap := httptest.NewUnstartedServer(http.NotFoundHandler())
	trap.Listener = countingListener{trap.Listener, &hits}
	trap.Start()
	defer trap.Close()
	evil, host := trap.URL+"/rest/", strings.TrimPrefix(trap.URL, "http://")

	w := newWorld(t)
	in := w.installed(t)
	ctx := t.Context()
	portals := w.portals(t, w.store)
	api, err := rest.NewClients(portals, rest.WithInsecureHTTP())
	require.NoError(t, err)
	g := w.grant(t)

	bodies := map[string]func(*event.Auth){
		"server_endpoint": func(a *event.Auth) { a.ServerEndpoint = evil },
		"client_endpoint": func(a *event.Auth) { a.ClientEndpoint = evil },
		"domain":          func(a *event.Auth) { a.ClientEndpoint, a.Domain = "", host },
		"all":             func(a *event.Auth) { a.ServerEndpoint, a.ClientEndpoint, a.Domain = evil, evil, host },
	}
	var claims sync.WaitGroup // a refused claim waits a little for its copy
	for name, change := range bodies {
		for _, known := range []bool{true, false} {
			auth := authOf(g)
			auth.AccessToken, auth.RefreshToken = planted, planted // useless, but they must not be sent either
			auth.ApplicationToken = "guess"
			change(&auth)
			if !known {
				auth.MemberID = "b223c6b3710f85df22e9377d6c4f7553"
			}
			claims.Go(func() {
				assert.ErrorIs(t, errOf(portals.Verify(ctx, &event.Delivery{Name: "ONAPPINSTALL", Auth: auth})), event.ErrForbidden, name)
			})
			claims.Go(func() {
				assert.ErrorIs(t, errOf(portals.Verify(ctx, &event.Delivery{Name: "ONAPPUPDATE", Auth: auth})), event.ErrForbidden, name)
			})
			for _, verify := range []func(context.Context, event.Auth) (oauth.Installation, error){
				portals.Install, portals.KeepUser, portals.VerifyPage,
			} {
				claims.Go(func() {
					_, err := verify(ctx, auth)
					assert.Error(t, err, name)
				})
			}
		}
	}
	claims.Wait()

	// A verified event has a planted address. The handler's calls go to the stored one.
	auth := authOf(g)
	auth.ClientEndpoint, auth.ServerEndpoint, auth.Domain = evil, evil, host
	auth.Expires = time.Time{}
	d := &event.Delivery{Name: "ONCRMDEALADD", Auth: auth}
	proof, err := portals.Verify(ctx, d)
	require.NoError(t, err)
	d.SetProof(proof)
	acting, err := rest.NewClients(portals.ActingOrApp(d), rest.WithInsecureHTTP())
	require.NoError(t, err)
	require.NoError(t, acting.Portal(w.MemberID()).Call(ctx, "profile", nil, nil))
	require.NoError(t, api.Portal(w.MemberID()).Call(ctx, "profile", nil, nil))

	_, err = portals.Exchange(ctx, oauth.Code{Code: planted, ServerDomain: host})
	require.ErrorIs(t, err, oauth.ErrHostNotAllowed)
	_, err = portals.ExchangeUser(ctx, oauth.Code{Code: planted, ServerDomain: host})
	require.ErrorIs(t, err, oauth.ErrHostNotAllowed)
	require.ErrorIs(t, portals.Moved(ctx, w.MemberID(), evil), oauth.ErrUnverified)
	_, err = portals.Seed(ctx,
		oauth.Installation{MemberID: "c", ClientEndpoint: in.ClientEndpoint, ServerEndpoint: evil, RefreshToken: planted})
	require.ErrorIs(t, err, oauth.ErrHostNotAllowed)

	// Something wrote the address into the store. The client secret and the refresh token are still
	// not sent there.
	stored, version, err := w.store.Load(ctx, w.key)
	require.NoError(t, err)
	require.Equal(t, in.ClientEndpoint, stored.ClientEndpoint)
	require.Equal(t, in.ServerEndpoint, stored.ServerEndpoint)
	stored.ServerEndpoint = evil
	_, err = w.store.Swap(ctx, w.key, version, stored)
	require.NoError(t, err)
	_, _, err = portals.Renew(ctx, w.MemberID(), string(stored.AccessToken))
	require.ErrorIs(t, err, oauth.ErrHostNotAllowed)
	require.ErrorIs(t, portals.Moved(ctx, w.MemberID(), evil), oauth.ErrUnverified)

	require.Zero(t, hits.Load())
}

// countingListener counts connections.
type countingListener struct {
	net.Listener

	n *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

// TestRedirectsOfTheOAuthServerAreNotFollowed lets the OAuth server redirect requests to a
// listener.
func TestRedirectsOfTheOAuthServerAreNotFollowed(t *testing.T) {
	t.Parallel()
	var hits atomic.Int64
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer trap.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := eventtest.NewPortal(t)
		for _, name := range []string{"oauth/token", "oauth/app.info"} {
			server.Always(name, eventtest.Answer(http.RedirectHandler(trap.URL, status)))
		}
		portals, err := oauth.NewPortals(oauth.Config{ClientID: clientID, ClientSecret: planted}, stored(t, func(in *oauth.Installation) {
			in.ServerEndpoint = server.ServerEndpoint()
		}), oauth.WithHosts(server.OAuthHost()), oauth.WithInsecureHTTP())
		require.NoError(t, err)
		_, _, err = portals.Renew(t.Context(), member, "a1")
		require.ErrorIs(t, err, oauth.ErrTemporary)
		auth := claim()
		auth.ServerEndpoint = server.ServerEndpoint()
		for _, verify := range []func() error{
			func() error { _, err := portals.Install(t.Context(), auth); return err },
			func() error { _, err := portals.KeepUser(t.Context(), auth); return err },
			func() error { _, err := portals.VerifyPage(t.Context(), auth); return err },
			func() error {
				_, err := portals.Exchange(t.Context(), oauth.Code{Code: "c0de", ServerDomain: server.OAuthHost()})
				return err
			},
			func() error { return portals.Moved(t.Context(), member, "https://new.bitrix24.com/rest/") },
		} {
			require.ErrorIs(t, verify(), oauth.ErrTemporary)
		}
	}
	require.Zero(t, hits.Load())
}
