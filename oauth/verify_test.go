package oauth_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	rotated := func(in *oauth.Installation) {
		in.PreviousApplicationToken, in.RotatedAt = "t0", time.Now().Add(-59*time.Minute)
	}
	longAgo := func(in *oauth.Installation) {
		in.PreviousApplicationToken, in.RotatedAt = "t0", time.Now().Add(-61*time.Minute)
	}
	extra := func(in *oauth.Installation) { in.ExtraApplicationTokens = []event.Secret{"t7", "t8"} }
	byCode := func(in *oauth.Installation) { in.ApplicationToken = "" }
	tests := map[string]struct {
		stored func(*oauth.Installation)
		d      *event.Delivery
		ok     bool
	}{
		"current token":                 {same, delivery("ONCRMDEALADD", member, "t1"), true},
		"previous token":                {rotated, delivery("ONCRMDEALADD", member, "t0"), true},
		"previous token, an hour later": {longAgo, delivery("ONCRMDEALADD", member, "t0"), false},
		"previous token of old": {
			func(in *oauth.Installation) { in.PreviousApplicationToken = "t0" }, delivery("ONCRMDEALADD", member, "t0"), false,
		},
		"another token of the portal":  {extra, delivery("ONCRMDEALADD", member, "t8"), true},
		"own token beside others":      {extra, delivery("ONCRMDEALADD", member, "t1"), true},
		"no token beside others":       {extra, delivery("ONCRMDEALADD", member, ""), false},
		"current one after a rotation": {rotated, delivery("ONCRMDEALADD", member, "t1"), true},
		"uninstall":                    {same, delivery("ONAPPUNINSTALL", member, "t1"), true},
		"page": {
			same, &event.Delivery{Kind: event.KindFrame, Auth: event.Auth{MemberID: member, ApplicationToken: "t1"}}, true,
		},
		"wrong token":                   {same, delivery("ONCRMDEALADD", member, "t2"), false},
		"longer token":                  {same, delivery("ONCRMDEALADD", member, "t11"), false},
		"empty token":                   {same, delivery("ONCRMDEALADD", member, ""), false},
		"empty token, none stored":      {byCode, delivery("ONCRMDEALADD", member, ""), false},
		"a token, none stored":          {byCode, delivery("ONCRMDEALADD", member, "t1"), false},
		"unknown portal":                {same, delivery("ONCRMDEALADD", "b223c6b3710f85df22e9377d6c4f7553", "t1"), false},
		"no portal":                     {same, delivery("ONCRMDEALADD", "", "t1"), false},
		"odd portal":                    {same, delivery("ONCRMDEALADD", "x\x00' OR 1=1", "t1"), false},
		"uninstall with a wrong token":  {same, delivery("ONAPPUNINSTALL", member, "t2"), false},
		"update with the current token": {same, delivery("ONAPPUPDATE", member, "t1"), true},
		"update that proves nothing":    {same, delivery("ONAPPUPDATE", member, "t2"), false},
		"nothing":                       {same, nil, false},
		"empty":                         {same, &event.Delivery{}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{respond: says(400, `{"error":"invalid_grant"}`)}
			store := stored(t, test.stored)
			before := load(t, store, member)

			err := errOf(scripted(t, store, s).Verify(t.Context(), test.d))

			if test.ok {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, event.ErrForbidden)
			}
			require.Equal(t, before, load(t, store, member))
			require.Empty(t, s.requests())
		})
	}
}

func delivery(name, memberID string, token event.Secret) *event.Delivery {
	return &event.Delivery{Kind: event.KindEvent, Name: name, Auth: event.Auth{MemberID: memberID, ApplicationToken: token}}
}

// proven returns a delivery that the verifier of the application has accepted.
func proven(d *event.Delivery) *event.Delivery {
	d.SetProof(event.Proof{By: event.ProofInstallation, ClientID: clientID, MemberID: d.Auth.MemberID})
	return d
}

func TestUnknownPortalIsToldFromAWrongToken(t *testing.T) {
	t.Parallel()
	portals := scripted(t, stored(t), counting())
	wrong := errOf(portals.Verify(t.Context(), delivery("ONCRMDEALADD", member, "t2")))
	unknown := errOf(portals.Verify(t.Context(), delivery("ONCRMDEALADD", "b223c6b3710f85df22e9377d6c4f7553", "t1")))
	require.ErrorIs(t, wrong, event.ErrForbidden)
	require.ErrorIs(t, unknown, event.ErrUnknownPortal)
	require.ErrorIs(t, unknown, event.ErrForbidden)
}

func TestVerifyCannotTellWithoutAStore(t *testing.T) {
	t.Parallel()
	store := &faultyStore{Store: stored(t), load: func(context.Context) error { return errDisk }}
	for _, name := range []string{"ONCRMDEALADD", "ONAPPUPDATE", "ONAPPUNINSTALL"} {
		err := errOf(scripted(t, store, counting()).Verify(t.Context(), delivery(name, member, "t1")))
		require.ErrorIs(t, err, errDisk)
		require.ErrorIs(t, err, oauth.ErrStore)
		require.NotErrorIs(t, err, event.ErrForbidden)
	}
}

func TestUpdateOfAnUnknownPortalIsAnInstallation(t *testing.T) {
	t.Parallel()
	store := oauth.NewMemoryStore()
	s := &script{respond: says(200, pair("a2", "r2", nil))}

	require.NoError(t, errOf(scripted(t, store, s).Verify(t.Context(), &event.Delivery{Name: "ONAPPUPDATE", Auth: claim()})))

	require.Equal(t, "t1", string(load(t, store, member).ApplicationToken))
}
