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

const (
	portalA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	portalB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	tokenA  = "1111111111111111111111111111111a"
	tokenB  = "2222222222222222222222222222222b"
	hookKey = "3333333333333333333333333333333c"
)

func delivery(member, token string) *event.Delivery {
	return &event.Delivery{
		Kind: event.KindEvent, Name: "ONCRMDEALADD",
		Auth: event.Auth{MemberID: member, ApplicationToken: event.Secret(token)},
	}
}

func named(name string, d *event.Delivery) *event.Delivery {
	d.Name = name
	return d
}

func TestTokens(t *testing.T) {
	t.Parallel()
	v := webhook.Tokens(tokenA, " "+tokenB+"\n")
	require.NoError(t, v.Validate())
	for sent, want := range map[string]error{
		tokenA: nil, tokenB: nil,
		"": event.ErrForbidden, tokenA[1:]: event.ErrForbidden, tokenA + tokenB: event.ErrForbidden,
		strings.ToUpper(tokenA): event.ErrForbidden, tokenB + "\n": event.ErrForbidden,
	} {
		proof, err := v.Verify(t.Context(), delivery(member, sent))
		require.ErrorIs(t, err, want, "%q", sent)
		if want == nil {
			require.Equal(t, event.Proof{By: event.ProofWebhook, MemberID: member}, proof)
		} else {
			require.Zero(t, proof)
		}
	}
}

// TestFixedTokensProveOnePortal: a token proves no application, and no other portal than its own.
func TestFixedTokensProveOnePortal(t *testing.T) {
	t.Parallel()
	type sent struct {
		d    *event.Delivery
		want string // the proven portal, or why it is refused
	}
	const refused = "not authenticated: "
	for name, test := range map[string]struct {
		v    webhook.Verifier
		sent []sent
	}{
		"the first portal is the portal": {webhook.Tokens(hookKey), []sent{
			{delivery(portalA, hookKey), portalA},
			{delivery(portalB, hookKey), refused + "the token of an outgoing webhook is right, but an earlier delivery named another portal"},
			{delivery(portalA, hookKey), portalA},
			{delivery("", hookKey), ""},
		}},
		"a wrong token binds nothing": {webhook.Tokens(hookKey), []sent{
			{delivery(portalB, tokenB), "not authenticated"}, {delivery(portalA, hookKey), portalA},
		}},
		"a refused event binds nothing": {webhook.Tokens(hookKey), []sent{
			{named("ONAPPUNINSTALL", delivery(portalB, hookKey)), "proves no event of an application"}, {delivery(portalA, hookKey), portalA},
		}},
		"two tokens are of one webhook": {webhook.Tokens(tokenA, tokenB), []sent{
			{delivery(portalA, tokenA), portalA},
			{delivery(portalA, tokenB), portalA},
			{delivery(portalB, tokenA), "bind each token to its portal: TokensOf"},
			{delivery(portalB, tokenB), "bind each token to its portal: TokensOf"},
		}},
		"named portals": {webhook.Any(webhook.TokensOf(portalA, tokenA), webhook.TokensOf(portalB, tokenB)), []sent{
			{delivery(portalB, tokenB), portalB},
			{delivery(portalB, tokenA), "belongs to another portal"},
			{delivery(portalA, tokenB), "belongs to another portal"},
			{delivery("", tokenA), portalA},
			{delivery(portalA, tokenA), portalA},
			{delivery(portalA, hookKey), "unknown portal"},
		}},
		"a named portal beside a plain token": {webhook.Any(webhook.Tokens(hookKey), webhook.TokensOf(portalA, tokenA)), []sent{
			{delivery(portalA, hookKey), "TokensOf, or token@member_id"},
			{delivery(portalA, tokenA), portalA},
			{delivery(portalB, hookKey), portalB},
		}},
		"events of applications": {webhook.TokensOf(portalA, tokenA), []sent{
			{named("ONAPPINSTALL", delivery(portalA, tokenA)), "proves no event of an application"},
			{named("onAppUpdate", delivery(portalA, tokenA)), "proves no event of an application"},
			{named("ONAPPUSERREADY", delivery(portalA, tokenA)), "proves no event of an application"},
			{named("ONOFFLINEEVENT", delivery(portalA, tokenA)), "proves no event of an application"},
			{named("ONAPPINSTALL", delivery(portalA, tokenB)), "not authenticated"},
		}},
		"member IDs that are none": {webhook.Tokens(hookKey), []sent{
			{delivery("a b", hookKey), "not authenticated"},
			{delivery(strings.Repeat("a", 129), hookKey), "not authenticated"},
			{delivery("..", hookKey), "not authenticated"},
			{delivery("x\nlevel=ERROR", hookKey), "not authenticated"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i, s := range test.sent {
				proof, err := test.v.Verify(t.Context(), s.d)
				if strings.Contains(s.want, " ") {
					require.ErrorIs(t, err, event.ErrForbidden, "delivery %d", i)
					require.ErrorContains(t, err, s.want, "delivery %d", i)
					require.Zero(t, proof)
					continue
				}
				require.NoError(t, err, "delivery %d", i)
				require.Equal(t, event.Proof{By: event.ProofWebhook, MemberID: s.want}, proof)
			}
		})
	}
}

type nilMap map[string]event.Secret

func (nilMap) ApplicationTokens(context.Context, string) ([]event.Secret, error) { return nil, nil }

func TestBadVerifiers(t *testing.T) {
	t.Parallel()
	var missing *webhook.TokenVerifier
	var fn verifierFunc
	var lookup *portals
	var table nilMap
	for name, v := range map[string]webhook.Verifier{
		"nil":                  nil,
		"nil pointer":          missing,
		"nil function":         fn,
		"no tokens":            webhook.Tokens(),
		"empty token":          webhook.Tokens(""),
		"blank token":          webhook.Tokens("\t \n"),
		"one of them empty":    webhook.Tokens(token, ""),
		"15 characters":        webhook.Tokens("123456789012345"),
		"15 and white space":   webhook.Tokens(" 123456789012345 "),
		"one of them short":    webhook.Tokens(token, "short"),
		"no portal":            webhook.TokensOf("", token),
		"a dot for a portal":   webhook.TokensOf(".", token),
		"a short one's portal": webhook.TokensOf(member, "short"),
		"a portal's none":      webhook.TokensOf(member),
		"no client ID":         webhook.Installations("", &portals{}),
		"no lookup":            webhook.Installations(clientID, nil),
		"nil lookup":           webhook.Installations(clientID, lookup),
		"nil map":              webhook.Installations(clientID, table),
		"any of none":          webhook.Any(),
		"any of nil":           webhook.Any(webhook.Tokens(token), nil),
		"any of nil pointer":   webhook.Any(webhook.Tokens(token), missing),
		"any of nil function":  webhook.Any(webhook.Tokens(token), fn),
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
	for name, v := range map[string]webhook.Verifier{
		"16 characters": webhook.Tokens("1234567890123456"), "a portal's": webhook.TokensOf(member, token),
	} {
		_, err := webhook.NewHandler(v, nothing())
		require.NoError(t, err, name)
	}
}

// TestMisusedVerifiers: verifiers that nobody validated accept nothing, and do not return "forged"
// either.
func TestMisusedVerifiers(t *testing.T) {
	t.Parallel()
	var missing *webhook.TokenVerifier
	for name, v := range map[string]webhook.Verifier{
		"zero": &webhook.TokenVerifier{}, "nil": missing, "no tokens": webhook.Tokens(), "empty": webhook.Tokens(""), "any": webhook.Any(),
		"lookup": webhook.Installations(clientID, nil), "no portal": webhook.TokensOf("", token),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proof, err := v.Verify(t.Context(), delivery(member, ""))
			require.Error(t, err)
			require.NotErrorIs(t, err, event.ErrForbidden)
			require.Zero(t, proof)
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

// app is an application that is installed on some portals.
func app(clientID string, tokens map[string]event.Secret) webhook.Verifier {
	return webhook.Installations(clientID, table(tokens))
}

// table is a token lookup that may be used concurrently.
type table map[string]event.Secret

func (t table) ApplicationTokens(_ context.Context, memberID string) ([]event.Secret, error) {
	if token, ok := t[memberID]; ok {
		return []event.Secret{token}, nil
	}
	return nil, nil
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
		"unknown portal":           {member: "c", token: "token-a", want: event.ErrUnknownPortal, asks: true},
		"portal without a token":   {member: "none", token: "x", want: event.ErrUnknownPortal, asks: true},
		"empty token":              {member: "a", token: "", want: event.ErrForbidden},
		"empty token stored":       {member: "empty", token: "", want: event.ErrForbidden},
		"empty stored, other sent": {member: "empty", token: "x", want: event.ErrForbidden, asks: true},
		"no member":                {member: "", token: "token-a", want: event.ErrUnknownPortal},
		"long member":              {member: strings.Repeat("a", 129), token: "token-a", want: event.ErrUnknownPortal},
		"odd member":               {member: "a\n", token: "token-a", want: event.ErrUnknownPortal},
		"the folder above":         {member: "..", token: "token-a", want: event.ErrUnknownPortal},
		"lookup down":              {member: "a", token: "token-a", down: down, want: down, asks: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lookup := &portals{tokens: known, err: test.down}
			proof, err := webhook.Installations(clientID, lookup).Verify(t.Context(), delivery(test.member, test.token))
			require.ErrorIs(t, err, test.want)
			require.Equal(t, test.asks, len(lookup.asked) == 1)
			if test.want == nil {
				require.Equal(t, event.Proof{By: event.ProofInstallation, ClientID: clientID, MemberID: test.member}, proof)
				return
			}
			require.Zero(t, proof)
			require.Equal(t, errors.Is(test.want, event.ErrForbidden), errors.Is(err, event.ErrForbidden))
			require.Equal(t, errors.Is(test.want, event.ErrUnknownPortal), errors.Is(err, event.ErrUnknownPortal))
		})
	}
}

// TestForgedEvents posts what an attacker can post: another portal's valid token, and a new
// installation.
func TestForgedEvents(t *testing.T) {
	t.Parallel()
	var rec recorder
	h, err := webhook.NewHandler(app(clientID, table{"a": "token-a", "b": "token-b"}), &rec)
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

// proving is a verifier of one's own that returns a proof of that kind.
type proving event.ProofKind

func (p proving) Verify(_ context.Context, d *event.Delivery) (event.Proof, error) {
	return event.Proof{By: event.ProofKind(p), MemberID: d.ClaimedMemberID()}, nil
}

func TestAny(t *testing.T) {
	t.Parallel()
	down, slow := errors.New("down"), errors.New("slow")
	yes, no, unknown := answering(nil), answering(event.ErrForbidden), answering(event.ErrUnknownPortal)
	hook, bound, elsewhere := webhook.Tokens(token), webhook.TokensOf(member, token), webhook.TokensOf(portalB, token)
	for name, test := range map[string]struct {
		of   []webhook.Verifier
		by   event.ProofKind // of the accepting one
		want []error         // none: accepted
		says string          // in the refusal
	}{
		"one accepts":                       {of: []webhook.Verifier{no, yes}, by: event.ProofInstallation},
		"one accepts, one is down":          {of: []webhook.Verifier{answering(down), yes}, by: event.ProofInstallation},
		"all refuse":                        {of: []webhook.Verifier{no, no}, want: []error{event.ErrForbidden}},
		"nobody knows it":                   {of: []webhook.Verifier{unknown, unknown}, want: []error{event.ErrUnknownPortal}},
		"one refuses, one is down":          {of: []webhook.Verifier{no, answering(down)}, want: []error{down}},
		"one is down, one refuses":          {of: []webhook.Verifier{answering(down), no}, want: []error{down}},
		"both down":                         {of: []webhook.Verifier{answering(down), answering(slow)}, want: []error{down, slow}},
		"nested":                            {of: []webhook.Verifier{webhook.Any(no), webhook.Any(no, yes)}, by: event.ProofInstallation},
		"single":                            {of: []webhook.Verifier{no}, want: []error{event.ErrForbidden}},
		"token, portal unknown":             {of: []webhook.Verifier{hook, unknown}, by: event.ProofWebhook},
		"token, portal known":               {of: []webhook.Verifier{hook, no}, want: []error{event.ErrForbidden}, says: "TokensOf, or token@member_id"},
		"token before, portal known":        {of: []webhook.Verifier{unknown, hook, no}, want: []error{event.ErrForbidden}, says: "TokensOf"},
		"token nested, portal known":        {of: []webhook.Verifier{webhook.Any(hook), webhook.Any(no)}, want: []error{event.ErrForbidden}, says: "TokensOf"},
		"token, application unsure":         {of: []webhook.Verifier{hook, answering(down)}, want: []error{down}},
		"token, application accepts":        {of: []webhook.Verifier{hook, yes}, by: event.ProofInstallation},
		"bound token, portal known":         {of: []webhook.Verifier{bound, no}, by: event.ProofWebhook},
		"bound token, application unsure":   {of: []webhook.Verifier{answering(down), bound}, by: event.ProofWebhook},
		"bound and unbound, portal known":   {of: []webhook.Verifier{hook, bound, no}, by: event.ProofWebhook},
		"bound elsewhere":                   {of: []webhook.Verifier{elsewhere, unknown}, want: []error{event.ErrForbidden}, says: "belongs to another portal"},
		"insecure, portal unknown":          {of: []webhook.Verifier{webhook.InsecureNoVerify(), unknown}, by: event.ProofInsecure},
		"insecure, portal known":            {of: []webhook.Verifier{webhook.InsecureNoVerify(), no}, want: []error{event.ErrForbidden}},
		"insecure, application unsure":      {of: []webhook.Verifier{webhook.InsecureNoVerify(), answering(down)}, want: []error{down}},
		"insecure, application accepts":     {of: []webhook.Verifier{webhook.InsecureNoVerify(), yes}, by: event.ProofInstallation},
		"insecure, token accepts":           {of: []webhook.Verifier{webhook.InsecureNoVerify(), hook}, by: event.ProofWebhook},
		"own fixed token, portal known":     {of: []webhook.Verifier{proving(event.ProofWebhook), no}, want: []error{event.ErrForbidden}},
		"own fixed token, portal unknown":   {of: []webhook.Verifier{unknown, proving(event.ProofWebhook)}, by: event.ProofWebhook},
		"own kind of proof":                 {of: []webhook.Verifier{proving("mtls"), no}, want: []error{event.ErrForbidden}},
		"no proof":                          {of: []webhook.Verifier{proving(""), unknown}, want: []error{webhook.Error("webhook: the verifier returned no proof and no error")}},
		"no proof, but another accepts":     {of: []webhook.Verifier{proving(""), yes}, by: event.ProofInstallation},
		"proof by a call":                   {of: []webhook.Verifier{no, proving(event.ProofCall)}, by: event.ProofCall},
		"unsure and forged in one":          {of: []webhook.Verifier{answering(errors.Join(down, event.ErrForbidden)), hook}, want: []error{event.ErrForbidden}},
		"an application's own words remain": {of: []webhook.Verifier{answering(errors.Join(event.ErrForbidden, slow)), no}, want: []error{event.ErrForbidden, slow}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := webhook.Any(test.of...)
			test.of[0] = nil // the verifier has a copy
			proof, err := v.Verify(t.Context(), delivery(member, token))
			if test.want == nil {
				require.NoError(t, err)
				require.Equal(t, test.by, proof.By)
				require.Equal(t, member, proof.MemberID)
				return
			}
			require.Zero(t, proof)
			for _, want := range test.want {
				require.ErrorIs(t, err, want)
			}
			require.ErrorContains(t, err, test.says)
			require.Equal(t, errors.Is(test.want[0], event.ErrForbidden), errors.Is(err, event.ErrForbidden))
		})
	}
}

// TestTwoApplications: on a portal that has both, each proves its own deliveries, and not those of
// the other.
func TestTwoApplications(t *testing.T) {
	t.Parallel()
	var rec recorder
	h, err := webhook.NewHandler(webhook.Any(
		app("app.1", table{portalA: tokenA}), app("app.2", table{portalA: tokenB, portalB: hookKey}),
	), &rec, webhook.WithSync())
	require.NoError(t, err)
	status := func(member, token string) int {
		return post(h, body("ONAPPUNINSTALL", fields{"auth[member_id]": member, "auth[application_token]": token}))
	}
	require.Equal(t, http.StatusOK, status(portalA, tokenA))
	require.Equal(t, http.StatusOK, status(portalA, tokenB))
	require.Equal(t, http.StatusOK, status(portalB, hookKey))
	require.Equal(t, http.StatusForbidden, status(portalB, tokenA))
	require.Equal(t, http.StatusForbidden, status(portalA, hookKey))
	got := rec.deliveries()
	require.Len(t, got, 3)
	require.True(t, got[0].ProvenFor("app.1"))
	require.False(t, got[0].ProvenFor("app.2"))
	require.True(t, got[1].ProvenFor("app.2"), "the removal of one application is not that of the other")
	require.False(t, got[1].ProvenFor("app.1"))
	require.NotEqual(t, got[0].Key(), got[1].Key())
	require.True(t, got[2].ProvenFor("app.2"))
	require.Equal(t, portalB, got[2].MemberID())
}

// TestFixedTokenBesideAnApplication: with the webhook's token no event of an application is
// accepted, and it proves no portal that has the application.
func TestFixedTokenBesideAnApplication(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		event, member, token string
		fixed                webhook.Verifier
		status               int
	}{
		"payment":                     {"ONAPPPAYMENT", portalA, hookKey, webhook.Tokens(hookKey), http.StatusForbidden},
		"update":                      {"ONAPPUPDATE", portalA, hookKey, webhook.Tokens(hookKey), http.StatusForbidden},
		"install":                     {"ONAPPINSTALL", portalA, hookKey, webhook.Tokens(hookKey), http.StatusForbidden},
		"install of a stranger":       {"ONAPPINSTALL", portalB, hookKey, webhook.Tokens(hookKey), http.StatusForbidden},
		"method confirmed":            {"ONAPPMETHODCONFIRM", portalA, hookKey, webhook.Tokens(hookKey), http.StatusForbidden},
		"uninstall":                   {"ONAPPUNINSTALL", portalA, hookKey, webhook.Tokens(hookKey), http.StatusForbidden},
		"uninstall, token bound":      {"ONAPPUNINSTALL", portalA, hookKey, webhook.TokensOf(portalA, hookKey), http.StatusForbidden},
		"change":                      {"ONCRMDEALUPDATE", portalA, hookKey, webhook.Tokens(hookKey), http.StatusForbidden},
		"change, token bound":         {"ONCRMDEALUPDATE", portalA, hookKey, webhook.TokensOf(portalA, hookKey), http.StatusOK},
		"change, portal has no app":   {"ONCRMDEALUPDATE", portalB, hookKey, webhook.Tokens(hookKey), http.StatusOK},
		"change, bound elsewhere":     {"ONCRMDEALUPDATE", portalA, hookKey, webhook.TokensOf(portalB, hookKey), http.StatusForbidden},
		"change of the application":   {"ONCRMDEALUPDATE", portalA, tokenA, webhook.Tokens(hookKey), http.StatusOK},
		"payment of the application":  {"ONAPPPAYMENT", portalA, tokenA, webhook.Tokens(hookKey), http.StatusOK},
		"application token elsewhere": {"ONCRMDEALUPDATE", portalB, tokenA, webhook.Tokens(hookKey), http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var rec recorder
			h, err := webhook.NewHandler(webhook.Any(app(clientID, table{portalA: tokenA}), test.fixed), &rec, webhook.WithSync())
			require.NoError(t, err)
			require.Equal(t, test.status, post(h, body(test.event, fields{
				"auth[member_id]": test.member, "auth[application_token]": test.token, "auth[access_token]": "x",
			})))
			if test.status != http.StatusOK {
				require.Empty(t, rec.deliveries())
				return
			}
			d := rec.deliveries()[0]
			require.Equal(t, test.member, d.MemberID())
			require.Equal(t, test.token == tokenA, d.ProvenFor(clientID))
		})
	}
}

func TestInsecureNoVerify(t *testing.T) {
	t.Parallel()
	var rec recorder
	h, err := webhook.NewHandler(webhook.InsecureNoVerify(), &rec)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, post(h, "event=ONCRMDEALADD&auth[member_id]="+portalA+"&auth[client_endpoint]=http://evil/"))
	shutdown(t, h)
	d := rec.deliveries()[0]
	require.Equal(t, event.Proof{By: event.ProofInsecure, MemberID: portalA}, d.Proof)
	require.False(t, d.ProvenFor(""))
	require.Empty(t, d.Auth.ClientEndpoint)
}
