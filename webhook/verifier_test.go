package webhook_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

func delivery(member, token string) *event.Delivery {
	return &event.Delivery{
		Kind: event.KindEvent, Name: "ONCRMDEALADD",
		Auth: event.Auth{MemberID: member, ApplicationToken: event.Secret(token)},
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	v := webhook.Tokens("old", " new\n")
	require.NoError(t, v.Validate())
	for sent, want := range map[string]error{
		"old": nil, "new": nil,
		"": event.ErrForbidden, "ol": event.ErrForbidden, "oldnew": event.ErrForbidden, "OLD": event.ErrForbidden, "new\n": event.ErrForbidden,
	} {
		require.ErrorIs(t, v.Verify(t.Context(), delivery(member, sent)), want, "%q", sent)
	}
}

func TestBadVerifiers(t *testing.T) {
	t.Parallel()
	var missing *webhook.TokenVerifier
	var fn verifierFunc
	var lookup *portals
	for name, v := range map[string]webhook.Verifier{
		"nil":                  nil,
		"nil pointer":          missing,
		"nil function":         fn,
		"no tokens":            webhook.Tokens(),
		"empty token":          webhook.Tokens(""),
		"blank token":          webhook.Tokens("\t \n"),
		"one of them empty":    webhook.Tokens("a", ""),
		"no lookup":            webhook.Installations(nil),
		"nil lookup":           webhook.Installations(lookup),
		"any of none":          webhook.Any(),
		"any of nil":           webhook.Any(webhook.Tokens("a"), nil),
		"any of nil pointer":   webhook.Any(webhook.Tokens("a"), missing),
		"any of empty token":   webhook.Any(webhook.InsecureNoVerify(), webhook.Tokens("")),
		"any of any of no one": webhook.Any(webhook.Any()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, err := webhook.NewHandler(v, nothing())
			require.ErrorIs(t, err, webhook.ErrConfig)
			require.Nil(t, h)
		})
	}
}

// TestMisusedVerifiers: those that nobody validated accept nothing, and do not say "forged" either.
func TestMisusedVerifiers(t *testing.T) {
	t.Parallel()
	var missing *webhook.TokenVerifier
	for name, v := range map[string]webhook.Verifier{
		"zero": &webhook.TokenVerifier{}, "nil": missing, "no tokens": webhook.Tokens(), "empty": webhook.Tokens(""), "any": webhook.Any(),
		"lookup": webhook.Installations(nil),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := v.Verify(t.Context(), delivery(member, ""))
			require.Error(t, err)
			require.NotErrorIs(t, err, event.ErrForbidden)
		})
	}
	h, err := webhook.NewHandler(&webhook.TokenVerifier{}, nothing())
	require.Error(t, err)
	require.Nil(t, h)
}

// portals is a token lookup in memory.
type portals struct {
	tokens map[string][]event.Secret
	err    error
	asked  []string
}

func (p *portals) ApplicationTokens(_ context.Context, memberID string) ([]event.Secret, error) {
	p.asked = append(p.asked, memberID)
	return p.tokens[memberID], p.err
}

func TestInstallations(t *testing.T) {
	t.Parallel()
	down := errors.New("database down")
	known := map[string][]event.Secret{"a": {"token-a"}, "b": {"old-b", "token-b"}, "empty": {""}, "none": nil}
	for name, test := range map[string]struct {
		member, token string
		down, want    error
		asks          bool
	}{
		"right token":              {member: "a", token: "token-a", asks: true},
		"second token":             {member: "b", token: "token-b", asks: true},
		"token of another portal":  {member: "a", token: "token-b", want: event.ErrForbidden, asks: true},
		"unknown portal":           {member: "c", token: "token-a", want: event.ErrForbidden, asks: true},
		"portal without a token":   {member: "none", token: "x", want: event.ErrForbidden, asks: true},
		"empty token":              {member: "a", token: "", want: event.ErrForbidden},
		"empty token stored":       {member: "empty", token: "", want: event.ErrForbidden},
		"empty stored, other sent": {member: "empty", token: "x", want: event.ErrForbidden, asks: true},
		"no member":                {member: "", token: "token-a", want: event.ErrForbidden},
		"long member":              {member: strings.Repeat("a", 129), token: "token-a", want: event.ErrForbidden},
		"odd member":               {member: "a\n", token: "token-a", want: event.ErrForbidden},
		"lookup down":              {member: "a", token: "token-a", down: down, want: down, asks: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lookup := &portals{tokens: known, err: test.down}
			err := webhook.Installations(lookup).Verify(t.Context(), delivery(test.member, test.token))
			require.ErrorIs(t, err, test.want)
			require.Equal(t, test.asks, len(lookup.asked) == 1)
			if test.want != nil {
				require.Equal(t, errors.Is(test.want, event.ErrForbidden), errors.Is(err, event.ErrForbidden))
			}
		})
	}
}

// TestForgedEvents posts what an attacker can: another portal's valid token, and a new installation.
func TestForgedEvents(t *testing.T) {
	t.Parallel()
	var rec recorder
	h, err := webhook.NewHandler(webhook.Installations(&portals{tokens: map[string][]event.Secret{"a": {"token-a"}, "b": {"token-b"}}}), &rec)
	require.NoError(t, err)
	status := func(name, member, token string) int {
		return post(h, body(name, fields{"auth[member_id]": member, "auth[application_token]": token}))
	}
	require.Equal(t, http.StatusForbidden, status("ONCRMDEALADD", "b", "token-a"))
	require.Equal(t, http.StatusForbidden, status("ONAPPINSTALL", "new", "token-new"))
	require.Equal(t, http.StatusForbidden, status("ONAPPINSTALL", "a", "token-new"))
	require.Equal(t, http.StatusForbidden, status("ONAPPUNINSTALL", "a", "token-b"))
	require.Equal(t, http.StatusOK, status("ONAPPUNINSTALL", "a", "token-a"))
	shutdown(t, h)
	require.Len(t, rec.deliveries(), 1)
	require.EqualValues(t, 4, h.Stats().Rejected[webhook.ReasonForbidden])
}

func TestAny(t *testing.T) {
	t.Parallel()
	down, slow := errors.New("down"), errors.New("slow")
	yes, no := answering(nil), answering(event.ErrForbidden)
	for name, test := range map[string]struct {
		of   []webhook.Verifier
		want []error // none: accepted
	}{
		"one accepts":               {of: []webhook.Verifier{no, yes}},
		"one accepts, one is down":  {of: []webhook.Verifier{answering(down), yes}},
		"all refuse":                {of: []webhook.Verifier{no, no}, want: []error{event.ErrForbidden}},
		"one refuses, one is down":  {of: []webhook.Verifier{no, answering(down)}, want: []error{down}},
		"one is down, one refuses":  {of: []webhook.Verifier{answering(down), no}, want: []error{down}},
		"both down":                 {of: []webhook.Verifier{answering(down), answering(slow)}, want: []error{down, slow}},
		"nested":                    {of: []webhook.Verifier{webhook.Any(no), webhook.Any(no, yes)}},
		"single":                    {of: []webhook.Verifier{no}, want: []error{event.ErrForbidden}},
		"tokens and something else": {of: []webhook.Verifier{webhook.Tokens(token), no}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := webhook.Any(test.of...)
			test.of[0] = nil // the verifier has a copy
			err := v.Verify(t.Context(), delivery(member, token))
			if test.want == nil {
				require.NoError(t, err)
				return
			}
			for _, want := range test.want {
				require.ErrorIs(t, err, want)
			}
			require.Equal(t, errors.Is(test.want[0], event.ErrForbidden), errors.Is(err, event.ErrForbidden))
		})
	}
}

func TestInsecureNoVerify(t *testing.T) {
	t.Parallel()
	var rec recorder
	h, err := webhook.NewHandler(webhook.InsecureNoVerify(), &rec)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, post(h, "event=ONCRMDEALADD"))
	shutdown(t, h)
	require.Len(t, rec.deliveries(), 1)
}
