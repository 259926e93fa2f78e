package oauth_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
)

func TestNothingOfAUserPrintsASecret(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testNothingOfAUserPrintsASecret) // in a bubble, because fmt reads the fields, and no flight may write them meanwhile
}

func testNothingOfAUserPrintsASecret(t *testing.T) {
	t.Helper()
	d := delivery("ONCRMDEALADD", member, planted)
	d.Auth.AccessToken, d.Auth.RefreshToken = planted, planted
	store := withUser(t, stored(t, func(in *oauth.Installation) { in.AccessToken, in.RefreshToken = planted, planted }))
	broken := &faultyStore{Store: store, swap: failing}
	portals := scripted(t, broken, &script{respond: func(r sent) (int, string) {
		if r.form.Get("refresh_token") == planted {
			return 200, pair(planted+"2", planted+"2", nil)
		}
		return 400, `{"error":"invalid_client"}`
	}})
	_, _, err := portals.Renew(t.Context(), member, planted) // stays in memory
	require.NoError(t, err)
	_, _, err = portals.User(7).Renew(t.Context(), member, "u1") // is remembered as refused
	require.ErrorIs(t, err, oauth.ErrCredentials)
	synctest.Wait()
	acting, user := portals.Acting(d), portals.User(7)
	hooks := oauth.Hooks{}
	for _, v := range []any{
		acting, portals.ActingOrApp(d),
		struct{ A *oauth.UserCredentials }{acting},
		[]*oauth.UserCredentials{acting},
		user, *user,
		struct{ U *oauth.User }{user},
	} {
		requireNothingPlanted(t, v)
	}
	// A field that is not exported prints without its methods.
	for _, v := range []any{
		struct{ a *oauth.UserCredentials }{acting},
		struct{ u *oauth.User }{user},
		struct{ p *oauth.Portals }{portals},
		struct{ s *oauth.MemoryStore }{store},
	} {
		text := fmt.Sprintf("%v %+v %#v %s %q %x", v, v, v, v, v, v)
		require.NotContains(t, text, planted)
		require.NotContains(t, text, fmt.Sprintf("%x", planted))
	}
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", hooks, hooks, hooks), planted)
	_, _, err = acting.Renew(t.Context(), member, planted)
	require.ErrorIs(t, err, oauth.ErrNoUserToken)
	requireNothingPlanted(t, err)
}

// TestHostileResponsesStayOutOfWhatUsersSee lets the OAuth server plant secrets in everything that
// it returns about users and addresses.
func TestHostileResponsesStayOutOfWhatUsersSee(t *testing.T) {
	t.Parallel()
	bodies := map[string]string{
		"error":       `{"error":"` + planted + `","error_description":"` + planted + `"}`,
		"grant":       `{"error":"invalid_grant","error_description":"` + planted + `"}`,
		"pair":        pair("u2", "ur2", map[string]any{"member_id": planted + "!"}),
		"endpoint":    pair("u2", "ur2", map[string]any{"client_endpoint": "https://" + planted + "/" + planted + "/rest/", "user_id": 7}),
		"nobody":      pair("u2", "ur2", map[string]any{"user_id": planted}),
		"contradicts": `{"result":{"member_id":"` + planted + `","install":{"member_id":"b` + planted + `"}}}`,
		"info": `{"result":{"member_id":"` + planted + `","client_id":"` + planted + `",` +
			`"client_endpoint":"` + planted + `","user_id":"` + planted + `"}}`,
		"not JSON": planted,
	}
	for name, body := range bodies {
		for _, status := range []int{200, 302, 400, 500} {
			t.Run(fmt.Sprint(name, " ", status), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := &script{respond: says(status, body)}
					store := withUser(t, stored(t, func(in *oauth.Installation) {
						in.Expires = time.Now().Add(-160 * day)
					}))
					out, logger := logs()
					portals := scripted(t, store, s, logger)
					auth := claim()
					auth.AccessToken, auth.RefreshToken = planted, planted

					_, err := portals.VerifyPage(t.Context(), auth)
					requireNothingPlanted(t, err)
					_, err = portals.KeepUser(t.Context(), auth)
					requireNothingPlanted(t, err)
					_, err = portals.ExchangeUser(t.Context(), oauth.Code{Code: planted})
					requireNothingPlanted(t, err)
					_, err = portals.ExchangeUser(t.Context(), oauth.Code{Code: "c0de", ServerDomain: planted + ".example"})
					requireNothingPlanted(t, err)
					requireNothingPlanted(t, portals.Moved(t.Context(), member, "https://"+planted+".example/rest/"))
					requireNothingPlanted(t, portals.Moved(t.Context(), member, "http://"+planted+"@example.com/"+planted+"/rest/"))
					_, _, err = portals.User(7).Renew(t.Context(), member, "u1")
					requireNothingPlanted(t, err)
					_, err = portals.Seed(t.Context(), oauth.Installation{MemberID: planted + "/", ClientEndpoint: planted, AccessToken: planted})
					requireNothingPlanted(t, err)
					_, err = portals.Seed(t.Context(),
						oauth.Installation{MemberID: "c", ClientEndpoint: "https://" + planted + "/x", AccessToken: planted})
					requireNothingPlanted(t, err)
					for _, query := range []string{
						"code=" + planted + "&state=" + planted, "code=c&state=STATE&server_domain=" + planted + ".example",
						"%zz" + planted,
					} {
						states := (&session{}).states(t, portals)
						query = strings.ReplaceAll(query, "STATE", authorize(t, states))
						r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/back?"+query, nil)
						built(t)(oauth.RedirectHandler(portals.Exchange, states,
							func(_ http.ResponseWriter, _ *http.Request, _ oauth.Installation, err error) {
								requireNothingPlanted(t, err)
							})).ServeHTTP(httptest.NewRecorder(), r)
					}
					mux := lifecycleOf(portals,
						oauth.Hooks{MethodConfirmed: func(context.Context, oauth.Installation, event.AppMethodConfirm) error { return nil }})
					require.NoError(t, mux.HandleEvent(t.Context(), happened(t, event.OnAppMethodConfirm, map[string]any{"TOKEN": planted})))
					ctx, stop := context.WithTimeout(t.Context(), 3*day)
					defer stop()
					require.NoError(t, portals.KeepAlive(ctx))

					require.NotContains(t, out.String(), planted)
				})
			})
		}
	}
}
