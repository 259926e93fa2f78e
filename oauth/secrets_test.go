package oauth_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
)

const planted = "planted-9d1e"

// requireNothingPlanted prints a value in every way and searches for what a test has planted.
func requireNothingPlanted(t *testing.T, v any) {
	t.Helper()
	doc, err := json.Marshal(v)
	require.NoError(t, err)
	for _, text := range []string{
		fmt.Sprintf("%v", v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v), fmt.Sprintf("%s %q %x", v, v, v), string(doc),
	} {
		require.NotContains(t, text, planted)
		require.NotContains(t, text, fmt.Sprintf("%x", planted))
	}
	for err, ok := v.(error); ok && err != nil; {
		require.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), planted)
		u, more := err.(interface{ Unwrap() error })
		if !more {
			return
		}
		err = u.Unwrap()
	}
}

func TestNothingPrintsASecret(t *testing.T) {
	t.Parallel()
	in := oauth.Installation{
		MemberID: member, AccessToken: planted, RefreshToken: planted, ApplicationToken: planted, PreviousApplicationToken: planted,
	}
	store := oauth.NewMemoryStore()
	_, err := store.Swap(t.Context(), oauth.Key{ClientID: clientID, MemberID: member}, "", in)
	require.NoError(t, err)
	cfg := oauth.Config{ClientID: clientID, ClientSecret: planted}
	portals, err := oauth.NewPortals(cfg, store)
	require.NoError(t, err)

	for _, v := range []any{in, &in, []oauth.Installation{in}, cfg, &cfg, store, portals, struct{ P *oauth.Portals }{portals}} {
		requireNothingPlanted(t, v)
	}
	out, logger := logs()
	_ = logger
	slog.New(slog.NewTextHandler(out, nil)).LogAttrs(t.Context(), slog.LevelInfo, "all",
		slog.Any("in", in), slog.Any("cfg", cfg), slog.Any("portals", portals), slog.Any("store", store))
	require.NotContains(t, out.String(), planted)
	require.Contains(t, out.String(), member)
}

// TestHostileResponsesStayOutOfErrorsAndLogs lets the OAuth server plant secrets in everything that
// it returns.
func TestHostileResponsesStayOutOfErrorsAndLogs(t *testing.T) {
	t.Parallel()
	members := []string{
		"access_token", "refresh_token", "scope", "domain", "server_endpoint", "status", "client_endpoint", "member_id",
		"user_id", "expires", "expires_in",
	}
	bodies := map[string]string{
		"error":       `{"error":"` + planted + `","error_description":"` + planted + `","error_uri":"` + planted + `"}`,
		"object":      `{"error":{"` + planted + `":"` + planted + `"}}`,
		"grant":       `{"error":"invalid_grant","error_description":"` + planted + `"}`,
		"not JSON":    planted,
		"half a pair": `{"access_token":"` + planted,
	}
	for _, name := range members {
		bodies["member "+name] = pair("a2", "r2", map[string]any{name: planted + "!"}) // which is not a valid member_id; valid ones are logged
	}
	for name, body := range bodies {
		for _, status := range []int{200, 302, 400, 500} {
			t.Run(fmt.Sprint(name, " ", status), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := &script{respond: says(status, body)}
					out, logger := logs()
					portals := scripted(t, stored(t), s, logger)

					_, _, err := portals.Renew(t.Context(), member, "a1")
					requireNothingPlanted(t, err)
					_, err = portals.Install(t.Context(), claim())
					requireNothingPlanted(t, err)
					auth := claim()
					auth.RefreshToken = ""
					auth.AccessToken = planted
					_, err = portals.Install(t.Context(), auth)
					requireNothingPlanted(t, err)
					_, err = portals.Exchange(t.Context(), oauth.Code{Code: planted})
					requireNothingPlanted(t, err)
					err = errOf(portals.Verify(t.Context(), &event.Delivery{Name: "ONAPPUPDATE", Auth: event.Auth{
						MemberID: member, ApplicationToken: planted, RefreshToken: planted, AccessToken: planted,
						ServerEndpoint: "https://" + planted + "/rest/",
					}}))
					require.ErrorIs(t, err, event.ErrForbidden)
					requireNothingPlanted(t, err)

					requireNothingPlanted(t, portals)
					require.NotContains(t, out.String(), planted)
				})
			})
		}
	}
}
