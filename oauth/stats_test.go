package oauth_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth"
)

// counts returns the stats without times.
func counts(p *oauth.Portals) oauth.Stats {
	s := p.Stats()
	s.Took, s.LastRenewed = oauth.Latency{}, time.Time{}
	return s
}

// TestStats: what installations, renewals and removals count as.
func TestStats(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.portals(t, w.store)
	require.Zero(t, counts(p))

	claim := authOf(w.grant(t))
	in, err := p.Install(t.Context(), claim)
	require.NoError(t, err)
	_, err = p.Install(t.Context(), claim) // a copy
	require.NoError(t, err)
	claim = authOf(w.grant(t))
	claim.AccessToken, claim.RefreshToken = "wrong", "wrong"
	claim.ApplicationToken = "wrong"
	_, err = p.Install(t.Context(), claim)
	require.ErrorIs(t, err, oauth.ErrUnverified)
	require.Equal(t, oauth.Stats{Installed: 1, Refused: 1}, counts(p))

	_, _, err = p.Renew(t.Context(), w.MemberID(), string(in.AccessToken))
	require.NoError(t, err)
	_, _, err = p.Renew(t.Context(), w.MemberID(), string(in.AccessToken)) // it was renewed
	require.NoError(t, err)
	require.Equal(t, oauth.Stats{Installed: 1, Refused: 1, Renewed: 1, Adopted: 1}, counts(p))
	require.EqualValues(t, 1, p.Stats().Took.Count())
	require.WithinDuration(t, time.Now(), p.Stats().LastRenewed, time.Minute)

	w.app.RevokeTokens()
	token := string(load(t, w.store, w.MemberID()).AccessToken)
	for range 3 { // the second and third are refused without a request
		_, _, err = p.Renew(t.Context(), w.MemberID(), token)
		require.ErrorIs(t, err, oauth.ErrReauthorize)
	}
	require.Equal(t, oauth.Stats{Installed: 1, Refused: 1, Renewed: 1, Adopted: 1, Failed: 1, Reauthorize: 1}, counts(p))

	require.NoError(t, p.Forget(t.Context(), "0123456789abcdef0123456789abcdef")) // nothing is stored
	require.Zero(t, p.Stats().Removed)
	require.NoError(t, p.Forget(t.Context(), w.MemberID()))
	require.EqualValues(t, 1, p.Stats().Removed)
}

// sickStore is a store that takes no changes.
type sickStore struct{ *oauth.MemoryStore }

func (sickStore) Swap(context.Context, oauth.Key, oauth.Version, oauth.Installation) (oauth.Version, error) {
	return "", errors.New("full")
}

// TestStatsOfUnsavedTokens: tokens that the store did not take are counted as long as they are in
// memory.
func TestStatsOfUnsavedTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := w.installed(t)
	p := w.portals(t, sickStore{w.store})
	_, _, err := p.Renew(t.Context(), w.MemberID(), string(in.AccessToken))
	require.NoError(t, err)
	require.Equal(t, oauth.Stats{Renewed: 1, Unsaved: 1}, counts(p))
}

type observedKey struct{}

// TestRenewalObserver: an observer gets each renewal, with the values of the first caller. One that
// panics is logged, and the renewal succeeds.
func TestRenewalObserver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := w.installed(t)
	var got []oauth.RenewalInfo
	var values []any
	log, option := logs()
	p := w.portals(t, w.store, option,
		oauth.WithObserver(func(context.Context, oauth.RenewalInfo) { panic("the-secret") }),
		oauth.WithObserver(func(ctx context.Context, info oauth.RenewalInfo) {
			require.NotNil(t, ctx)
			values = append(values, ctx.Value(observedKey{}))
			info.Took = 0
			got = append(got, info)
		}))
	ctx := context.WithValue(t.Context(), observedKey{}, "caller")
	for range 2 {
		_, _, err := p.Renew(ctx, w.MemberID(), string(in.AccessToken))
		require.NoError(t, err)
	}
	w.app.RevokeTokens()
	_, _, err := p.Renew(ctx, w.MemberID(), string(load(t, w.store, w.MemberID()).AccessToken))
	require.Len(t, got, 3)
	require.Equal(t, oauth.RenewalInfo{MemberID: w.MemberID()}, got[0])
	require.Equal(t, oauth.RenewalInfo{MemberID: w.MemberID(), Adopted: true}, got[1])
	require.Equal(t, err, got[2].Err)
	require.Equal(t, "invalid_grant", got[2].Code)
	require.Equal(t, []any{"caller", "caller", "caller"}, values)
	require.Contains(t, log.String(), "an observer of bitrix24 renewals panicked")
	require.NotContains(t, log.String(), "the-secret")
}
