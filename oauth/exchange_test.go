package oauth_test

import (
	"context"
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
)

func TestExchange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	portals := w.portals(t, w.store)
	code, err := w.app.Code(eventtest.AdminID)
	require.NoError(t, err)

	in, err := portals.Exchange(t.Context(), oauth.Code{Code: code, ServerDomain: w.OAuthHost()})

	require.NoError(t, err)
	require.Equal(t, w.MemberID(), in.MemberID)
	require.Equal(t, in, load(t, w.store, w.MemberID()))
	require.Empty(t, in.ApplicationToken)
	_, token, err := portals.Access(t.Context(), w.MemberID())
	require.NoError(t, err)
	require.Equal(t, string(in.AccessToken), token)

	// Events are refused until an application token arrives.
	auth := authOf(w.grant(t))
	added := &event.Delivery{Name: "ONCRMDEALADD", Auth: auth}
	require.ErrorIs(t, errOf(portals.Verify(t.Context(), added)), event.ErrForbidden)
	require.NoError(t, errOf(portals.Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: auth})))
	require.NoError(t, errOf(portals.Verify(t.Context(), added)))

	// A later code leaves that token.
	code, err = w.app.Code(eventtest.AdminID)
	require.NoError(t, err)
	again, err := portals.Exchange(t.Context(), oauth.Code{Code: code, ServerDomain: w.OAuthHost()})
	require.NoError(t, err)
	require.Equal(t, auth.ApplicationToken, again.ApplicationToken)
	require.NoError(t, errOf(portals.Verify(t.Context(), added)))

	// Codes work once, and for half a minute.
	_, err = portals.Exchange(t.Context(), oauth.Code{Code: code, ServerDomain: w.OAuthHost()})
	require.ErrorIs(t, err, oauth.ErrReauthorize)
	code, err = w.app.Code(eventtest.AdminID)
	require.NoError(t, err)
	w.Advance(31 * time.Second)
	_, err = portals.Exchange(t.Context(), oauth.Code{Code: code, ServerDomain: w.OAuthHost()})
	require.ErrorIs(t, err, oauth.ErrReauthorize)
}

func TestExchangeOnTheWire(t *testing.T) {
	t.Parallel()
	s := &script{respond: says(200, pair("a2", "r2", nil))}

	_, err := scripted(t, oauth.NewMemoryStore(), s).Exchange(t.Context(), oauth.Code{Code: "c0de"})

	require.NoError(t, err)
	seen := s.requests()
	require.Len(t, seen, 1)
	require.Equal(t, "https://oauth.bitrix.info/oauth/token/", seen[0].url)
	require.Equal(t, "POST", seen[0].method)
	require.Empty(t, seen[0].authorization)
	require.Equal(t, url.Values{
		"grant_type": {"authorization_code"}, "code": {"c0de"}, "client_id": {clientID}, "client_secret": {"c1ient-secret"},
	}, seen[0].form)
}

func TestExchangeRefusals(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		server string
		body   string
		kind   oauth.ErrorKind
		calls  int
	}{
		"host not allowed":  {"evil.example", "", oauth.ErrHostNotAllowed, 0},
		"host with a trick": {"oauth.bitrix.info@evil.example", "", oauth.ErrEndpoint, 0},
		"host with a path":  {"oauth.bitrix.info/x", "", oauth.ErrEndpoint, 0},
		"no portal named":   {"oauth.bitrix24.tech", pair("a2", "r2", map[string]any{"member_id": nil}), oauth.ErrTemporary, 1},
		"odd portal named":  {"", pair("a2", "r2", map[string]any{"member_id": "a b"}), oauth.ErrTemporary, 1},
		"no address named":  {"", pair("a2", "r2", map[string]any{"client_endpoint": nil}), oauth.ErrTemporary, 1},
		"address not https": {
			"", pair("a2", "r2", map[string]any{"client_endpoint": "http://example.bitrix24.com/rest/"}), oauth.ErrTemporary, 1,
		},
		"code refused": {"", `{"error":"bad_verification_code"}`, oauth.ErrReauthorize, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{respond: says(200, test.body)}
			store := oauth.NewMemoryStore()
			_, err := scripted(t, store, s).Exchange(t.Context(), oauth.Code{Code: "c0de", ServerDomain: test.server})
			require.ErrorIs(t, err, test.kind)
			require.Len(t, s.requests(), test.calls)
			requireEmpty(t, store, member)
		})
	}
}

func TestExchangeWithAStoreOutOfOrder(t *testing.T) {
	t.Parallel()
	inner := stored(t)
	fail := true
	store := &faultyStore{Store: inner, load: func(context.Context) error {
		if fail {
			fail = false
			return errDisk
		}
		return nil
	}}
	in, err := scripted(t, store, &script{respond: says(200, pair("a2", "r2", nil))}).Exchange(t.Context(), oauth.Code{Code: "c0de"})
	require.NoError(t, errors.Join(err))
	require.Equal(t, "t1", string(in.ApplicationToken), "it is rebased on what the store turns out to have")
	require.Equal(t, "a2", string(load(t, inner, member).AccessToken))
}
