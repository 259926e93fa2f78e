package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
)

func TestRenamedPortal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.installed(t)
	portals := w.portals(t, w.store)
	api, err := rest.NewClients(portals, rest.WithInsecureHTTP())
	require.NoError(t, err)
	require.NoError(t, w.Rename(t.Context()))

	require.NoError(t, api.Portal(w.MemberID()).Call(t.Context(), "profile", nil, nil))

	require.NotEqual(t, before.ClientEndpoint, w.ClientEndpoint())
	in := load(t, w.store, w.MemberID())
	require.Equal(t, w.ClientEndpoint(), in.ClientEndpoint)
	require.Equal(t, before.RefreshToken, in.RefreshToken, "looking at the token was enough")
	require.NoError(t, portals.Moved(t.Context(), w.MemberID(), w.ClientEndpoint()))
	require.Len(t, w.OAuthCalls(), 1, "what is stored needs no confirmation")
}

func TestRenamedPortalWithAnExpiredToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.installed(t)
	portals := w.portals(t, w.store)
	require.NoError(t, w.Rename(t.Context()))
	w.ExpireAccessTokens()

	require.NoError(t, portals.Moved(t.Context(), w.MemberID(), w.ClientEndpoint()))

	in := load(t, w.store, w.MemberID())
	require.Equal(t, w.ClientEndpoint(), in.ClientEndpoint)
	require.NotEqual(t, before.RefreshToken, in.RefreshToken)
}

// TestRedirectToAnotherHost has an OAuth server that does not know the address that a portal
// redirects to.
func TestRedirectToAnotherHost(t *testing.T) {
	t.Parallel()
	var hits atomic.Int64
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer trap.Close()
	gone := eventtest.NewPortal(t)
	gone.Always(eventtest.AnyMethod, eventtest.Answer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, trap.URL+r.URL.Path, http.StatusFound) //nolint:gosec // that is the attack
	})))
	w := newWorld(t)
	in := installationOf(w.grant(t))
	in.ClientEndpoint = gone.ClientEndpoint()
	_, err := w.store.Swap(t.Context(), w.key, "", in)
	require.NoError(t, err)
	portals := w.portals(t, w.store)
	api, err := rest.NewClients(portals, rest.WithInsecureHTTP())
	require.NoError(t, err)

	for range 3 {
		require.ErrorIs(t, api.Portal(w.MemberID()).Call(t.Context(), "profile", nil, nil), rest.ErrMoved)
	}
	require.ErrorIs(t, portals.Moved(t.Context(), w.MemberID(), trap.URL+"/rest/"), oauth.ErrUnverified)

	require.Zero(t, hits.Load())
	require.Equal(t, in.ClientEndpoint, load(t, w.store, w.MemberID()).ClientEndpoint)
	require.Len(t, w.OAuthCalls(), 1, "an address that was not confirmed is not asked for again at once")
}

func TestMovedRefusals(t *testing.T) {
	t.Parallel()
	const there = "https://new.bitrix24.com/rest/"
	info := func(members string) string {
		return `{"result":{"client_id":"` + clientID + `","user_id":1,"install":{` + members + `}}}`
	}
	old := `"member_id":"` + member + `","client_endpoint":"https://example.bitrix24.com/rest/"`
	tests := map[string]struct {
		endpoint string
		info     string
		token    string
		kind     oauth.ErrorKind
		calls    int
	}{
		"not https":         {"http://new.bitrix24.com/rest/", "", "", oauth.ErrEndpoint, 0},
		"a user in it":      {"https://a@new.bitrix24.com/rest/", "", "", oauth.ErrEndpoint, 0},
		"a query":           {"https://new.bitrix24.com/rest/?a=b", "", "", oauth.ErrEndpoint, 0},
		"a deeper path":     {"https://new.bitrix24.com/x/rest/", "", "", oauth.ErrEndpoint, 0},
		"a webhook's path":  {"https://new.bitrix24.com/rest/1/abc/", "", "", oauth.ErrEndpoint, 0},
		"empty":             {"", "", "", oauth.ErrEndpoint, 0},
		"still the old one": {there, info(old), "", oauth.ErrUnverified, 1},
		"another portal":    {there, info(`"member_id":"b","client_endpoint":"` + there + `"`), "", oauth.ErrUnverified, 1},
		"renewal says old":  {there, info(`"status":"L"`), pair("a2", "r2", nil), oauth.ErrUnverified, 2},
		"renewal says none": {
			there, `{"error":"expired_token"}`, pair("a2", "r2", map[string]any{"client_endpoint": nil}), oauth.ErrUnverified, 2,
		},
		"tokens are void":     {there, `{"error":"invalid_token"}`, `{"error":"invalid_grant"}`, oauth.ErrReauthorize, 2},
		"server out of order": {there, `oops`, "", oauth.ErrTemporary, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &script{identifies: true, respond: func(r sent) (int, string) {
					if r.form.Has("grant_type") {
						return 200, test.token
					}
					return 200, test.info
				}}
				store := stored(t)

				err := scripted(t, store, s).Moved(t.Context(), member, test.endpoint)

				require.ErrorIs(t, err, test.kind)
				require.Equal(t, "https://example.bitrix24.com/rest/", load(t, store, member).ClientEndpoint)
				require.Len(t, s.requests(), test.calls)
				for _, r := range s.requests() {
					require.NotContains(t, r.url, "new.bitrix24.com")
				}
			})
		})
	}
}

func TestMovedIsAskedAgainAfterAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		endpoint := "https://example.bitrix24.com/rest/"
		s := &script{identifies: true, respond: func(sent) (int, string) {
			return 200, `{"result":{"member_id":"` + member + `","client_endpoint":"` + endpoint + `"}}`
		}}
		store := stored(t)
		portals := scripted(t, store, s)
		const there = "https://new.bitrix24.com/rest/"
		require.ErrorIs(t, portals.Moved(t.Context(), member, there), oauth.ErrUnverified)
		endpoint = there // the OAuth server knows it by now
		require.ErrorIs(t, portals.Moved(t.Context(), member, there), oauth.ErrUnverified)
		require.Len(t, s.requests(), 1)
		pass(time.Minute)
		require.NoError(t, portals.Moved(t.Context(), member, there))
		require.Equal(t, there, load(t, store, member).ClientEndpoint)
	})
}

func TestMovedManyTimesAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const there = "https://new.bitrix24.com/rest/"
		s := &script{identifies: true, respond: func(sent) (int, string) {
			pass(time.Second)
			return 200, `{"result":{"member_id":"` + member + `","client_endpoint":"` + there + `"}}`
		}}
		portals := scripted(t, stored(t), s)
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { require.NoError(t, portals.Moved(t.Context(), member, there)) })
		}
		all.Wait()
		require.Len(t, s.requests(), 1)
	})
}

func TestMovedOfAnUnknownPortal(t *testing.T) {
	t.Parallel()
	err := scripted(t, oauth.NewMemoryStore(), counting()).Moved(t.Context(), eventtest.SampleMemberID, "https://new.bitrix24.com/rest/")
	require.ErrorIs(t, err, oauth.ErrNotFound)
}

func TestMovedWithAStoreThatCannotWrite(t *testing.T) {
	t.Parallel()
	const there = "https://new.bitrix24.com/rest/"
	s := &script{identifies: true, respond: says(200, `{"result":{"member_id":"`+member+`","client_endpoint":"`+there+`"}}`)}
	inner := stored(t)
	store := &faultyStore{Store: inner, swap: failing}
	require.ErrorIs(t, scripted(t, store, s).Moved(t.Context(), member, there), oauth.ErrStore)
	require.Equal(t, "https://example.bitrix24.com/rest/", load(t, inner, member).ClientEndpoint)
}
