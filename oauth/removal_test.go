package oauth_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
)

// tokenOnly is a portal that refuses the token, and says nothing about the application.
func tokenOnly(string, sent) (int, string) { return 401, `{"error":"expired_token"}` }

// uninstalls passes an uninstallation to the lifecycle. It returns the outcome and whether the hook
// ran.
func uninstalls(t *testing.T, portals *oauth.Portals) (outcome event.Outcome, hook bool) {
	t.Helper()
	mux := event.NewMux()
	portals.Lifecycle(mux, oauth.Hooks{
		Uninstalled: func(context.Context, oauth.Installation, event.AppUninstall) error { hook = true; return nil },
	})
	outcome, _ = event.OutcomeOf(mux.HandleEvent(t.Context(), happened(t, event.OnAppUninstall, map[string]any{"CLEAN": 1})))
	return outcome, hook
}

// TestUninstallWithoutRefreshToken checks that a missing refresh token proves nothing about the
// portal.
func TestUninstallWithoutRefreshToken(t *testing.T) {
	t.Parallel()
	store := stored(t, func(in *oauth.Installation) { in.RefreshToken, in.Expires = "", time.Now().Add(-time.Hour) })
	outcome, hook := uninstalls(t, scripted(t, store, &script{respond: says(500, ""), portal: tokenOnly}))
	require.Equal(t, event.OutcomeRetried, outcome)
	require.False(t, hook)
	load(t, store, member)
}

// TestUninstallWithWrongSecret changes the client secret while the process runs. That looks like an
// application that is not installed, until the OAuth server accepts the secret again.
func TestUninstallWithWrongSecret(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := stored(t)
		var changed atomic.Bool // whether the secret was changed; the portal is asked in the background too
		s := &script{portal: tokenOnly, respond: func(r sent) (int, string) {
			switch {
			case r.form.Get("refresh_token") == "other":
				return 200, pair("a3", "r3", map[string]any{"member_id": "b223c6b3710f85df22e9377d6c4f7553"})
			case changed.Load():
				return 401, `{"error":"invalid_client"}`
			default:
				return 200, pair("a2", "r2", nil)
			}
		}}
		portals := scripted(t, store, s)
		_, _, err := portals.Renew(t.Context(), member, "a1")
		require.NoError(t, err, "the secret is right")
		pass(time.Minute)
		changed.Store(true)
		for range 3 {
			outcome, hook := uninstalls(t, portals)
			require.Equal(t, event.OutcomeRetried, outcome)
			require.False(t, hook)
			pass(4 * time.Minute)
		}
		_, err = portals.Seed(t.Context(), oauth.Installation{
			MemberID: "b223c6b3710f85df22e9377d6c4f7553", ClientEndpoint: "https://other.bitrix24.com/rest/", RefreshToken: "other",
		})
		require.NoError(t, err)
		_, _, err = portals.Access(t.Context(), "b223c6b3710f85df22e9377d6c4f7553")
		require.NoError(t, err, "the secret is right, so the portal is gone")
		outcome, hook := uninstalls(t, portals)
		require.Equal(t, event.OutcomeDefault, outcome)
		require.True(t, hook)
		requireEmpty(t, store, member)
	})
}

// TestUninstallOfARenamedPortal has a portal whose old address only redirects.
func TestUninstallOfARenamedPortal(t *testing.T) {
	t.Parallel()
	store := stored(t)
	s := &script{
		respond: says(200, pair("a2", "r2", map[string]any{"client_endpoint": "https://renamed.bitrix24.com/rest/"})),
		portal: func(method string, r sent) (int, string) {
			if r.url == "https://renamed.bitrix24.com/rest/"+method {
				return withoutApp(method, r)
			}
			return 302, "https://renamed.bitrix24.com/rest/" + method
		},
	}
	outcome, hook := uninstalls(t, scripted(t, store, s))
	require.Equal(t, event.OutcomeDefault, outcome)
	require.True(t, hook)
	requireEmpty(t, store, member)
}

// TestUninstallOvertakenByAnInstallation installs the application again while the hook of its
// removal runs, and the store cannot take that.
func TestUninstallOvertakenByAnInstallation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &faultyStore{Store: stored(t)}
		s := &script{respond: says(200, pair("a2", "r2", nil)), portal: func(method string, r sent) (int, string) {
			if method == "app.info" {
				return withoutApp(method, r)
			}
			return 200, `{"result":true}`
		}}
		portals, mux := scripted(t, store, s), event.NewMux()
		portals.Lifecycle(mux, oauth.Hooks{Uninstalled: func(ctx context.Context, _ oauth.Installation, _ event.AppUninstall) error {
			pass(time.Second)
			store.set(func(s *faultyStore) { s.swap = failing })
			err := errOf(portals.Verify(ctx, &event.Delivery{Name: "ONAPPINSTALL", Auth: claim()}))
			require.ErrorIs(t, err, oauth.ErrStore)
			store.set(func(s *faultyStore) { s.swap = nil })
			return nil
		}})
		require.NoError(t, mux.HandleEvent(t.Context(), happened(t, event.OnAppUninstall, nil)))
		require.NoError(t, portals.Shutdown(t.Context()))
		require.Equal(t, "r2", string(load(t, store, member).RefreshToken))
	})
}
