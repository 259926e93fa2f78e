package b24events_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/webhook"
)

const (
	hookToken   = "3333333333333333333333333333333c"
	installedOn = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// application is one that is installed on a portal with an application token. It cannot reach the
// portal.
func application(t *testing.T, store oauth.Store, clientID, member, token string) *oauth.Portals {
	t.Helper()
	_, err := store.Swap(t.Context(), oauth.Key{ClientID: clientID, MemberID: member}, "", oauth.Installation{
		MemberID: member, ClientEndpoint: "https://stored.bitrix24.com/rest/", ServerEndpoint: "https://oauth.bitrix.info/rest/",
		AccessToken: "access", RefreshToken: "refresh", ApplicationToken: event.Secret(token), Status: "L",
		Expires: time.Now().Add(time.Hour), InstalledAt: time.Now().Add(-time.Hour),
	})
	require.NoError(t, err)
	network := eventtest.NewNetwork()
	portals, err := oauth.NewPortals(oauth.Config{ClientID: clientID, ClientSecret: "secret"}, store, oauth.WithHTTPClient(network.Client()))
	require.NoError(t, err)
	return portals
}

func postForm(t *testing.T, h http.Handler, body string) int {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// signed is an event as somebody who knows the token can send it.
func signed(name, token string, more ...string) string {
	v := url.Values{"event": {name}, "ts": {"1727018926"}, "auth[member_id]": {installedOn}, "auth[application_token]": {token}}
	for pair := range slices.Chunk(more, 2) {
		v.Set(pair[0], pair[1])
	}
	return v.Encode()
}

// TestDocumentedBotsInAnApplication: the portal of a bot of the second version stands inside data
// only, and the token proves it.
func TestDocumentedBotsInAnApplication(t *testing.T) {
	t.Parallel()
	const member, token = "bac1cd5c8940947a75e0d71b1a84e348", "831c76b092f9f135d9b6b36c3a720757" //nolint:gosec // published
	files, err := filepath.Glob(filepath.Join("event", "testdata", "events", "ONIMBOTV2*.form"))
	require.NoError(t, err)
	tried := 0
	for _, file := range files {
		if strings.HasSuffix(file, ".2.form") { // these come by polling, and name no portal
			continue
		}
		tried++
		body, err := os.ReadFile(file) //nolint:gosec // one of ours
		require.NoError(t, err)
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			var got *event.Delivery
			mux := event.NewMux()
			mux.Unhandled(event.HandlerFunc(func(_ context.Context, d *event.Delivery) error {
				got = d
				return nil
			}))
			h, err := webhook.NewHandler(application(t, oauth.NewMemoryStore(), "local.app", member, token), mux, webhook.WithSync())
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, postForm(t, h, string(body)))
			require.True(t, got.ProvenFor("local.app"))
			require.Equal(t, member, got.MemberID())
			require.Equal(t, "https://stored.bitrix24.com/rest/", got.Auth.ClientEndpoint)
			require.Equal(t, "https://stored.bitrix24.com/rest/", got.Data.Get("bot", "auth", "client_endpoint").Text(), "what is stored, not what was sent")
			require.Equal(t, "stored.bitrix24.com", got.Data.Get("bot", "auth", "domain").Text())

			wrong, err := webhook.NewHandler(application(t, oauth.NewMemoryStore(), "local.app", member, hookToken), mux)
			require.NoError(t, err)
			require.Equal(t, http.StatusForbidden, postForm(t, wrong, string(body)))
		})
	}
	require.Equal(t, 8, tried)
}

// TestFixedTokenChangesNoInstallation: the token of an outgoing webhook beside an application moves
// nothing of the application.
func TestFixedTokenChangesNoInstallation(t *testing.T) {
	t.Parallel()
	const member, token = installedOn, "1111111111111111111111111111111a"
	for _, name := range []string{"ONAPPPAYMENT", "ONAPPUPDATE", "ONAPPINSTALL", "ONAPPMETHODCONFIRM", "ONAPPUNINSTALL", "ONCRMDEALUPDATE"} {
		for kind, fixed := range map[string]*webhook.TokenVerifier{
			"unbound": webhook.Tokens(hookToken), "bound": webhook.TokensOf(member, hookToken),
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				store := oauth.NewMemoryStore()
				portals := application(t, store, "local.app", member, token)
				before, err := portals.Installation(t.Context(), member)
				require.NoError(t, err)
				mux := event.NewMux()
				ran := 0
				portals.Lifecycle(mux, oauth.Hooks{
					Installed:       func(context.Context, oauth.Installation, event.AppInstall) error { ran++; return nil },
					Updated:         func(context.Context, oauth.Installation, event.AppUpdate) error { ran++; return nil },
					Uninstalled:     func(context.Context, oauth.Installation, event.AppUninstall) error { ran++; return nil },
					Paid:            func(context.Context, oauth.Installation, event.AppPayment) error { ran++; return nil },
					MethodConfirmed: func(context.Context, oauth.Installation, event.AppMethodConfirm) error { ran++; return nil },
				})
				event.On(mux, event.OnCrmDealUpdate, func(ctx context.Context, d *event.Delivery, _ event.CRMEntity) error {
					_, _, err := portals.ActingOrApp(d).Access(ctx, d.MemberID())
					require.Error(t, err, "a fixed token's event gets no token of the application")
					require.False(t, d.ProvenFor("local.app"))
					ran++
					return nil
				})
				h, err := webhook.NewHandler(webhook.Any(portals, fixed), mux, webhook.WithSync())
				require.NoError(t, err)
				status := postForm(t, h, signed(name, hookToken, "auth[access_token]", "x", "data[STATUS]", "F", "data[FIELDS][ID]", "1"))
				if name == "ONCRMDEALUPDATE" && kind == "bound" {
					require.Equal(t, http.StatusOK, status)
					require.Equal(t, 1, ran)
				} else {
					// 503 when the OAuth server would have to confirm the tokens: it cannot be
					// reached here.
					require.Contains(t, []int{http.StatusForbidden, http.StatusServiceUnavailable}, status)
					require.Zero(t, ran)
				}
				after, err := portals.Installation(t.Context(), member)
				require.NoError(t, err)
				require.Equal(t, before, after)
			})
		}
	}
}

// TestTwoApplicationsBehindOneHandler: the removal of one leaves the other alone.
func TestTwoApplicationsBehindOneHandler(t *testing.T) {
	t.Parallel()
	const member, tokenA, tokenB = installedOn, "1111111111111111111111111111111a", "2222222222222222222222222222222b"
	store := oauth.NewMemoryStore()
	a := application(t, store, "app.a", member, tokenA)
	b := application(t, store, "app.b", member, tokenB)
	mux := event.NewMux()
	a.Lifecycle(mux, oauth.Hooks{Uninstalled: func(context.Context, oauth.Installation, event.AppUninstall) error {
		t.Error("the other application was removed")
		return nil
	}})
	var deals []string
	event.On(mux, event.OnCrmDealUpdate, func(_ context.Context, d *event.Delivery, _ event.CRMEntity) error {
		deals = append(deals, d.Proof.ClientID)
		return nil
	})
	h, err := webhook.NewHandler(webhook.Any(a, b), mux, webhook.WithSync())
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, postForm(t, h, signed("ONAPPUNINSTALL", tokenB)))
	require.Equal(t, http.StatusOK, postForm(t, h, signed("ONCRMDEALUPDATE", tokenB, "data[FIELDS][ID]", "1")))
	require.Equal(t, http.StatusOK, postForm(t, h, signed("ONCRMDEALUPDATE", tokenA, "data[FIELDS][ID]", "1")))
	require.Equal(t, http.StatusForbidden, postForm(t, h, signed("ONCRMDEALUPDATE", hookToken, "data[FIELDS][ID]", "1")))
	require.Equal(t, []string{"app.b", "app.a"}, deals)
	_, err = a.Installation(t.Context(), member)
	require.NoError(t, err)
}
