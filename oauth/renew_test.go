package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
)

func TestAccessLeavesALiveTokenAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := w.installed(t)

	endpoint, token, err := w.portals(t, w.store).Access(t.Context(), w.MemberID())

	require.NoError(t, err)
	require.Equal(t, w.ClientEndpoint(), endpoint)
	require.Equal(t, string(in.AccessToken), token)
	require.Zero(t, w.renewals())
}

func TestRenewOnTheWire(t *testing.T) {
	t.Parallel()
	s := &script{respond: says(200, pair("a2", "r2", nil))}
	store := stored(t)

	endpoint, token, err := scripted(t, store, s).Renew(t.Context(), member, "a1")

	require.NoError(t, err)
	require.Equal(t, "https://example.bitrix24.com/rest/", endpoint)
	require.Equal(t, "a2", token)
	seen := s.requests()
	require.Len(t, seen, 1, "no probing for the way to authenticate")
	require.Equal(t, "POST", seen[0].method)
	require.Equal(t, "https://oauth.bitrix.info/oauth/token/", seen[0].url)
	require.Equal(t, "application/x-www-form-urlencoded", seen[0].contentType)
	require.Empty(t, seen[0].authorization)
	require.Equal(t, map[string][]string{
		"grant_type": {"refresh_token"}, "refresh_token": {"r1"}, "client_id": {clientID}, "client_secret": {"c1ient-secret"},
	}, map[string][]string(seen[0].form))
	in := load(t, store, member)
	require.Equal(t, "r2", string(in.RefreshToken))
	require.Equal(t, "t1", string(in.ApplicationToken))
	require.Equal(t, []string{"crm"}, in.Scope, `a scope of "app" tells nothing`)
	require.WithinDuration(t, time.Now().Add(time.Hour), in.Expires, time.Minute)
	require.WithinDuration(t, time.Now(), in.UpdatedAt, time.Minute)
}

func TestThousandCallersOneRenewal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := w.installed(t)
	w.ExpireAccessTokens()
	portals := w.portals(t, w.store)

	tokens := make([]string, 1000)
	errs := make([]error, len(tokens))
	var wg sync.WaitGroup
	for i := range tokens {
		wg.Go(func() {
			_, tokens[i], errs[i] = portals.Renew(t.Context(), w.MemberID(), string(in.AccessToken))
		})
	}
	wg.Wait()

	require.NoError(t, errors.Join(errs...))
	require.Equal(t, 1, w.renewals())
	fresh := string(load(t, w.store, w.MemberID()).AccessToken)
	require.NotEqual(t, string(in.AccessToken), fresh)
	for _, token := range tokens {
		require.Equal(t, fresh, token)
	}
}

func TestManyProcessesEndWithOneToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := string(w.installed(t).AccessToken)
	for range 5 { // five rounds of expiry
		w.ExpireAccessTokens()
		var wg sync.WaitGroup
		tokens := make([]string, 8*20)
		errs := make([]error, len(tokens))
		for process := range 8 {
			portals := w.portals(t, w.store)
			for i := range 20 {
				at := process*20 + i
				wg.Go(func() { _, tokens[at], errs[at] = portals.Renew(t.Context(), w.MemberID(), old) })
			}
		}
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
		fresh := string(load(t, w.store, w.MemberID()).AccessToken)
		for _, token := range tokens {
			require.Equal(t, fresh, token)
		}
		require.NotEqual(t, old, fresh)
		old = fresh
	}
}

func TestCallersThatLeaveLoseNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &script{respond: func(sent) (int, string) {
			<-release
			return 200, pair("a2", "r2", nil)
		}}
		store := stored(t)
		portals := scripted(t, store, s)
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		for range 10 {
			go func() {
				_, _, err := portals.Renew(ctx, member, "a1")
				result <- err
			}()
		}
		synctest.Wait() // the request is with the server

		cancel()
		for range 10 {
			require.ErrorIs(t, <-result, context.Canceled)
		}
		close(release)
		synctest.Wait()

		require.Equal(t, "r2", string(load(t, store, member).RefreshToken))
		_, token, err := portals.Renew(t.Context(), member, "a1")
		require.NoError(t, err)
		require.Equal(t, "a2", token)
		require.Len(t, s.requests(), 1)

		_, _, err = portals.Renew(ctx, member, "a2")
		require.ErrorIs(t, err, context.Canceled)
		require.Len(t, s.requests(), 1, "who has left before coming starts nothing")
	})
}

func TestJoiningTheRenewalOfAnOlderToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		arrived, release := make(chan struct{}, 2), make(chan struct{})
		n := 1
		s := &script{respond: func(sent) (int, string) {
			arrived <- struct{}{}
			<-release
			n++
			return 200, pair("a"+strconv.Itoa(n), "r"+strconv.Itoa(n), nil)
		}}
		portals := scripted(t, stored(t), s)
		results := make(chan string)
		for _, refused := range []string{"a1", "a2"} { // the second call already had a2, which was refused as well
			go func() {
				_, token, err := portals.Renew(t.Context(), member, refused)
				results <- fmt.Sprint(token, " ", err)
			}()
			synctest.Wait()
		}
		close(release)
		got := []string{<-results, <-results}
		require.ElementsMatch(t, []string{"a2 <nil>", "a3 <nil>"}, got)
		require.Len(t, s.requests(), 2)
	})
}

// otherProcess writes to the store like another replica. It bypasses every wrapper.
func otherProcess(t *testing.T, store oauth.Store, change func(*oauth.Installation)) {
	t.Helper()
	in, version, err := store.Load(t.Context(), oauth.Key{ClientID: clientID, MemberID: member})
	require.NoError(t, err)
	change(&in)
	_, err = store.Swap(t.Context(), oauth.Key{ClientID: clientID, MemberID: member}, version, in)
	require.NoError(t, err)
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		meanwhile func(*oauth.Installation)
		token     string // that the caller gets
		refresh   string // that is stored in the end
		app       string
	}{
		"the winner is adopted": {
			func(in *oauth.Installation) { in.AccessToken, in.RefreshToken = "a9", "r9" }, "a9", "r9", "t1",
		},
		"a change of something else is kept": {
			func(in *oauth.Installation) { in.ApplicationToken = "t9" }, "a2", "r2", "t9",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inner := stored(t)
			s := &script{respond: func(sent) (int, string) {
				otherProcess(t, inner, test.meanwhile)
				return 200, pair("a2", "r2", nil)
			}}

			_, token, err := scripted(t, inner, s).Renew(t.Context(), member, "a1")

			require.NoError(t, err)
			require.Equal(t, test.token, token)
			in := load(t, inner, member)
			require.Equal(t, test.token, string(in.AccessToken))
			require.Equal(t, test.refresh, string(in.RefreshToken))
			require.Equal(t, test.app, string(in.ApplicationToken))
			require.Len(t, s.requests(), 1)
		})
	}
}

func TestRefusalIsHeldAgainstTheStore(t *testing.T) {
	t.Parallel()
	for name, delay := range map[string]time.Duration{"written before": 0, "written a second later": time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := stored(t)
				win := func() {
					otherProcess(t, store, func(in *oauth.Installation) { in.AccessToken, in.RefreshToken = "a9", "r9" })
				}
				s := &script{respond: func(sent) (int, string) {
					if delay == 0 {
						win()
					} else {
						time.AfterFunc(delay, win)
					}
					return 400, `{"error":"invalid_grant"}`
				}}

				_, token, err := scripted(t, store, s).Renew(t.Context(), member, "a1")

				require.NoError(t, err)
				require.Equal(t, "a9", token)
				require.Len(t, s.requests(), 1)
			})
		})
	}
}

func TestRefusalsAreNotRepeatedForAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{respond: says(400, `{"error":"invalid_grant"}`)}
		store := stored(t)
		portals := scripted(t, store, s)

		for range 100 {
			_, _, err := portals.Renew(t.Context(), member, "a1")
			require.ErrorIs(t, err, oauth.ErrReauthorize)
		}
		require.Len(t, s.requests(), 1)

		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock
		_, _, err := portals.Renew(t.Context(), member, "a1")
		require.ErrorIs(t, err, oauth.ErrReauthorize)
		require.Len(t, s.requests(), 2)

		// Another refresh token is not affected.
		otherProcess(t, store, func(in *oauth.Installation) { in.RefreshToken = "r5" })
		_, _, err = portals.Renew(t.Context(), member, "a1")
		require.ErrorIs(t, err, oauth.ErrReauthorize)
		require.Len(t, s.requests(), 3)
	})
}

func TestErrorsOfTheOAuthServer(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status int
		body   string
		kind   oauth.ErrorKind
		code   string
	}{
		"invalid_grant":  {400, `{"error":"invalid_grant"}`, oauth.ErrReauthorize, "invalid_grant"},
		"in a 200":       {200, `{"error":"invalid_grant"}`, oauth.ErrReauthorize, "invalid_grant"},
		"other case":     {400, `{"error":"INVALID_GRANT"}`, oauth.ErrReauthorize, "INVALID_GRANT"},
		"invalid_client": {401, `{"error":"invalid_client"}`, oauth.ErrCredentials, "invalid_client"},
		"wrong_client":   {401, `{"error":"wrong_client"}`, oauth.ErrCredentials, "wrong_client"},
		"payment":        {402, `{"error":"PAYMENT_REQUIRED"}`, oauth.ErrPayment, "PAYMENT_REQUIRED"},
		"subscription ended": {
			400, `{"error":"ERROR_OAUTH","error_description":"Subscription has been ended"}`, oauth.ErrPayment, "ERROR_OAUTH",
		},
		"not installed": {
			400, `{"error":"ERROR_OAUTH","error_description":"Application not installed"}`, oauth.ErrReauthorize, "ERROR_OAUTH",
		},
		"other ERROR_OAUTH":     {400, `{"error":"ERROR_OAUTH","error_description":"x"}`, oauth.ErrTemporary, "ERROR_OAUTH"},
		"verification":          {400, `{"error":"verification_needed"}`, oauth.ErrTemporary, "verification_needed"},
		"unknown code":          {400, `{"error":"something_new"}`, oauth.ErrTemporary, "something_new"},
		"code that is none":     {400, `{"error":"planted-9d1e"}`, oauth.ErrTemporary, ""},
		"code that echoes":      {400, `{"error":"r_one_secret"}`, oauth.ErrTemporary, ""},
		"long code":             {400, `{"error":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}`, oauth.ErrTemporary, ""},
		"page":                  {503, `<html>planted-9d1e</html>`, oauth.ErrTemporary, ""},
		"page in a 200":         {200, `<html>planted-9d1e</html>`, oauth.ErrTemporary, ""},
		"empty":                 {200, ``, oauth.ErrTemporary, ""},
		"no access token":       {200, `{"refresh_token":"planted-9d1e"}`, oauth.ErrTemporary, ""},
		"cut off":               {200, `{"access_token":"planted-9d1e`, oauth.ErrTemporary, ""},
		"redirect":              {302, `https://evil.example/planted-9d1e`, oauth.ErrTemporary, ""},
		"redirect that resends": {307, `https://evil.example/planted-9d1e`, oauth.ErrTemporary, ""},
		"no connection":         {0, ``, oauth.ErrTemporary, ""},
		"another portal's pair": {200, pair("a2", "r2", map[string]any{"member_id": "another"}), oauth.ErrReauthorize, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &script{respond: says(test.status, test.body)}
				store := stored(t, func(in *oauth.Installation) { in.RefreshToken = "r_one_secret" })

				portals := scripted(t, store, s)
				_, token, err := portals.Renew(t.Context(), member, "a1")
				require.NoError(t, portals.Shutdown(t.Context())) // it may check whether the application was removed

				require.ErrorIs(t, err, test.kind)
				var e *oauth.Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, test.kind, e.Kind)
				require.Equal(t, test.code, e.Code)
				require.Empty(t, token)
				require.Len(t, s.requests(), 1)
				requireNothingPlanted(t, err)
				in := load(t, store, member)
				require.Equal(t, "a1", string(in.AccessToken))
				require.Equal(t, "r_one_secret", string(in.RefreshToken))
			})
		})
	}
}

func TestExpiryIsClamped(t *testing.T) {
	t.Parallel()
	year2235 := int64(8362483200)
	tests := map[string]struct {
		expires, expiresIn any
		want               func(now time.Time) time.Time
	}{
		"unix time":             {func(now time.Time) any { return now.Unix() + 1800 }, 3600, after(30 * time.Minute)},
		"unix time in quotes":   {func(now time.Time) any { return strconv.FormatInt(now.Unix()+1800, 10) }, 3600, after(30 * time.Minute)},
		"lifetime only":         {nil, 600, after(10 * time.Minute)},
		"lifetime in quotes":    {nil, "600", after(10 * time.Minute)},
		"nothing":               {nil, nil, after(time.Hour)},
		"in the past":           {func(now time.Time) any { return now.Unix() - 1 }, nil, after(time.Hour)},
		"in 2235":               {year2235, year2235, after(time.Hour)},
		"in 2235 with lifetime": {year2235, 3000, after(50 * time.Minute)},
		"negative":              {-5, -5, after(time.Hour)},
		"beyond numbers":        {1e300, nil, after(time.Hour)},
		"not a number":          {[]any{}, nil, after(time.Hour)},
		"a day and a second":    {func(now time.Time) any { return now.Unix() + 86401 }, 86401, after(time.Hour)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				expires := test.expires
				if f, ok := expires.(func(time.Time) any); ok {
					expires = f(time.Now())
				}
				s := &script{respond: says(200, pair("a2", "r2", map[string]any{"expires": expires, "expires_in": test.expiresIn}))}
				store := stored(t)

				_, _, err := scripted(t, store, s).Renew(t.Context(), member, "a1")

				require.NoError(t, err)
				require.WithinDuration(t, test.want(time.Now()), load(t, store, member).Expires, 0)
			})
		})
	}
}

func after(d time.Duration) func(time.Time) time.Time {
	return func(now time.Time) time.Time { return now.Add(d) }
}

func TestAccessRenewsWhatHasClearlyExpired(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*oauth.Installation)
		want   string
		err    error
		calls  int
	}{
		"ends now":          {func(in *oauth.Installation) { in.Expires = time.Now() }, "a1", nil, 0},
		"ended a while ago": {func(in *oauth.Installation) { in.Expires = time.Now().Add(-time.Minute) }, "a2", nil, 1},
		"end unknown":       {func(in *oauth.Installation) { in.Expires = time.Time{} }, "a1", nil, 0},
		"no access token":   {func(in *oauth.Installation) { in.AccessToken = "" }, "a2", nil, 1},
		"no refresh token": {
			func(in *oauth.Installation) { in.Expires, in.RefreshToken = time.Now().Add(-time.Minute), "" }, "", oauth.ErrReauthorize, 0,
		},
		"host not allowed": {
			func(in *oauth.Installation) {
				in.Expires, in.ServerEndpoint = time.Now().Add(-time.Minute), "https://evil.example/rest/"
			}, "", oauth.ErrHostNotAllowed, 0,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &script{respond: says(200, pair("a2", "r2", nil))}
				_, token, err := scripted(t, stored(t, test.change), s).Access(t.Context(), member)
				require.ErrorIs(t, err, test.err)
				require.Equal(t, test.want, token)
				require.Len(t, s.requests(), test.calls)
			})
		})
	}
}

func TestUnknownPortals(t *testing.T) {
	t.Parallel()
	s := &script{respond: says(200, pair("a2", "r2", nil))}
	portals := scripted(t, stored(t), s)
	for _, id := range []string{"", "b223c6b3710f85df22e9377d6c4f7553", "x\x00y", "a b", member + member + member} {
		_, _, err := portals.Access(t.Context(), id)
		require.ErrorIs(t, err, oauth.ErrNotFound)
		_, _, err = portals.Renew(t.Context(), id, "a1")
		require.ErrorIs(t, err, oauth.ErrNotFound)
		_, err = portals.Installation(t.Context(), id)
		require.ErrorIs(t, err, oauth.ErrNotFound)
		tokens, err := portals.ApplicationTokens(t.Context(), id)
		require.NoError(t, err)
		require.Empty(t, tokens)
		require.NoError(t, portals.Forget(t.Context(), id))
	}
	require.Empty(t, s.requests())
}

func TestRenewalBringsTheNewAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := w.installed(t)
	old := w.ClientEndpoint()
	require.NoError(t, w.Rename(t.Context()))
	w.ExpireAccessTokens()

	endpoint, _, err := w.portals(t, w.store).Renew(t.Context(), w.MemberID(), string(in.AccessToken))

	require.NoError(t, err)
	require.NotEqual(t, old, endpoint)
	require.Equal(t, w.ClientEndpoint(), endpoint)
	stored := load(t, w.store, w.MemberID())
	require.Equal(t, w.Domain(), stored.Domain())
	require.Equal(t, w.ServerEndpoint(), stored.ServerEndpoint)
}

func TestOddAddressesInARenewalCostNoTokens(t *testing.T) {
	t.Parallel()
	s := &script{respond: says(200, pair("a2", "r2", map[string]any{
		"client_endpoint": "http://example.bitrix24.com/rest/", "server_endpoint": "https://evil.example/rest/", "member_id": nil,
		"scope": []any{"crm", "im", 5},
	}))}
	store := stored(t)

	endpoint, token, err := scripted(t, store, s).Renew(t.Context(), member, "a1")

	require.NoError(t, err)
	require.Equal(t, "https://example.bitrix24.com/rest/", endpoint)
	require.Equal(t, "a2", token)
	in := load(t, store, member)
	require.Equal(t, official, in.ServerEndpoint)
	require.Equal(t, []string{"crm", "im"}, in.Scope)
}

func TestFaultsOfTheOAuthServer(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	tests := map[string]struct {
		fault eventtest.Fault
		first error
		again error // of a second try
	}{
		"page":          {eventtest.HTML(502), oauth.ErrTemporary, nil},
		"limit":         {eventtest.Fail(503, "QUERY_LIMIT_EXCEEDED", "Too many requests"), oauth.ErrTemporary, nil},
		"reset":         {eventtest.Reset(), oauth.ErrTemporary, nil},
		"lost response": {eventtest.LoseAnswer(), oauth.ErrTemporary, oauth.ErrReauthorize}, // the token is used up, and nobody has the new one
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			in := w.installed(t)
			portals := w.portals(t, w.store)
			w.Once("oauth/token", test.fault)

			_, _, err := portals.Renew(t.Context(), w.MemberID(), string(in.AccessToken))
			require.ErrorIs(t, err, test.first)
			asked := w.renewals()
			_, _, err = portals.Renew(t.Context(), w.MemberID(), string(in.AccessToken))
			require.ErrorIs(t, err, test.first)
			require.Equal(t, asked, w.renewals(), "it is not asked again at once")
			_, _, err = w.portals(t, w.store).Renew(t.Context(), w.MemberID(), string(in.AccessToken)) // another process
			require.ErrorIs(t, err, test.again)
		})
	}
}
