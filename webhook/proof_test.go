package webhook_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// TestProofReachesTheHandler: every part of an identity that a handler reads is proven or empty, in
// all three modes.
func TestProofReachesTheHandler(t *testing.T) {
	t.Parallel()
	claim := body("ONIMBOTV2MESSAGEADD", fields{
		"auth[client_endpoint]": "http://169.254.169.254/", "auth[server_endpoint]": "http://evil/", "auth[domain]": "evil\nx",
		"data[bot][id]": "456", "data[bot][auth][access_token]": "x", "data[bot][auth][member_id]": member,
		"data[bot][auth][application_token]": token, "data[bot][auth][client_endpoint]": "https://evil.example/rest/", "data[bot][auth][domain]": "evil",
	})
	var queued []*event.Delivery
	for name, test := range map[string]struct {
		v    webhook.Verifier
		opts []webhook.Option
		want event.Proof
	}{
		"an application":    {anyPortal(), nil, installed(member)},
		"within a request":  {anyPortal(), []webhook.Option{webhook.WithSync()}, installed(member)},
		"a table of tokens": {app(clientID, table{member: token}), nil, event.Proof{By: event.ProofInstallation, ClientID: clientID, MemberID: member}},
		"a fixed token":     {webhook.Tokens(token), nil, event.Proof{By: event.ProofWebhook, MemberID: member}},
		"nobody":            {webhook.InsecureNoVerify(), nil, event.Proof{By: event.ProofInsecure, MemberID: member}},
		"handed on": {anyPortal(), []webhook.Option{webhook.WithQueue(queueFunc(func(_ context.Context, d *event.Delivery) error {
			queued = append(queued, d)
			return nil
		}))}, installed(member)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var rec recorder
			h, err := webhook.NewHandler(test.v, &rec, test.opts...)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, post(h, claim))
			shutdown(t, h)
			got := rec.deliveries()
			if name == "handed on" {
				got = queued
			}
			require.Len(t, got, 1)
			d := got[0]
			require.Equal(t, test.want, d.Proof)
			require.Equal(t, member, d.MemberID())
			u, err := url.Parse(test.want.ClientEndpoint)
			require.NoError(t, err)
			want := []string{test.want.ClientEndpoint, test.want.ServerEndpoint, u.Host}
			require.Equal(t, want, []string{d.Auth.ClientEndpoint, d.Auth.ServerEndpoint, d.Auth.Domain})
			var p event.BotV2Message
			require.NoError(t, d.Data.Decode(&p))
			require.Equal(t, []string{test.want.ClientEndpoint, u.Host, member, "x"}, []string{
				p.Bot.Auth.ClientEndpoint, p.Bot.Auth.Domain, p.Bot.Auth.MemberID, string(p.Bot.Auth.AccessToken),
			})
			require.NotContains(t, string(d.Data.JSON()), "evil")
		})
	}
}

// TestInnerAuthOfAnotherPortal is refused, counted, and its reason is in the log, not in the
// response.
func TestInnerAuthOfAnotherPortal(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		event string
		more  fields
		says  string
	}{
		"v2":              {"ONIMBOTV2MESSAGEADD", fields{"data[bot][auth][member_id]": portalB, "data[bot][auth][client_endpoint]": "https://evil.example/rest/"}, "names another portal"},
		"v1":              {"ONIMBOTMESSAGEADD", fields{"data[BOT][571][member_id]": portalB}, "names another portal"},
		"v1, AUTH":        {"ONIMBOTMESSAGEADD", fields{"data[BOT][571][AUTH][member_id]": portalB}, "names another portal"},
		"a command":       {"ONIMCOMMANDADD", fields{"data[COMMAND][9][AUTH][member_id]": portalB}, "names another portal"},
		"no outer portal": {"ONIMBOTMESSAGEADD", fields{"auth[member_id]": "", "data[BOT][571][member_id]": portalB}, "names another portal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log lines
			var rec recorder
			var lost drops
			h, err := webhook.NewHandler(webhook.Any(app(clientID, table{portalA: tokenA, portalB: tokenB}), webhook.Tokens(token)), &rec,
				webhook.WithLogger(slog.New(slog.NewTextHandler(&log, nil))), lost.option())
			require.NoError(t, err)
			w := fields{"auth[member_id]": portalA, "auth[application_token]": tokenA}
			if name == "no outer portal" {
				w = fields{"auth[application_token]": token}
			}
			maps.Copy(w, test.more)
			require.Equal(t, http.StatusForbidden, post(h, body(test.event, w)))
			shutdown(t, h)
			require.Empty(t, rec.deliveries())
			require.EqualValues(t, 1, h.Stats().Rejected[webhook.ReasonForbidden])
			require.Zero(t, h.Stats().Accepted)
			require.Contains(t, log.String(), "reason=forbidden")
			require.Contains(t, log.String(), test.says)
			require.NotContains(t, log.String(), portalB)
		})
	}
}

// TestRefusalsSayWhy: the log line has a key for what the operator can fix, and a text if there is
// more to say. The response is the same for all.
func TestRefusalsSayWhy(t *testing.T) {
	t.Parallel()
	page := url.Values{"DOMAIN": {"p.bitrix24.com"}, "AUTH_ID": {"x"}, "APP_SID": {"y"}, "member_id": {member}}.Encode()
	ofB := fields{"auth[member_id]": portalB, "auth[application_token]": tokenB}
	for name, test := range map[string]struct {
		v       webhook.Verifier
		body    string
		status  int
		refusal webhook.Refusal // empty if the status is another
		says    string          // empty: only the keys
	}{
		"a token beside an application": {
			webhook.Any(webhook.Tokens(token), app(clientID, table{member: tokenA})), dealUpdate(1), 403, webhook.RefusalUnboundToken,
			"bind the token to the portal: TokensOf, or token@member_id in B24_APPLICATION_TOKEN",
		},
		"an application event": {
			webhook.Tokens(token), body("ONAPPINSTALL", nil), 403, webhook.RefusalOfApplication, "it proves no event of an application",
		},
		"another portal": {webhook.TokensOf(portalA, token), dealUpdate(1), 403, webhook.RefusalOtherPortal, "it belongs to another portal"},
		"another portal of several": {
			webhook.Any(webhook.TokensOf(portalA, tokenA), webhook.TokensOf(portalB, tokenB)),
			body("ONCRMDEALADD", fields{"auth[member_id]": portalA, "auth[application_token]": tokenB}), 403, webhook.RefusalOtherPortal,
			"it belongs to another portal",
		},
		"an odd portal": {
			webhook.Tokens(token), body("ONCRMDEALADD", fields{"auth[member_id]": "no portal"}), 403, webhook.RefusalOtherPortal,
			"it belongs to another portal",
		},
		"two portals": {
			app(clientID, table{portalB: tokenB}), body("ONIMBOTMESSAGEADD", fields{
				"auth[member_id]": portalB, "auth[application_token]": tokenB, "data[BOT][571][member_id]": portalA,
			}), 403, webhook.RefusalOtherPortal, "names another portal",
		},
		"unknown portal":              {app(clientID, table{}), dealUpdate(1), 403, webhook.RefusalUnknownPortal, ""},
		"no portal":                   {app(clientID, table{}), body("ONCRMDEALADD", fields{"auth[member_id]": ""}), 403, webhook.RefusalUnknownPortal, ""},
		"unknown to both":             {webhook.Any(webhook.Tokens(token), app(clientID, table{})), body("ONCRMDEALADD", ofB), 403, webhook.RefusalUnknownPortal, ""},
		"a wrong token":               {webhook.Tokens(tokenA), dealUpdate(1), 403, webhook.RefusalUnknownToken, ""},
		"a wrong token of a portal":   {webhook.TokensOf(member, tokenA), dealUpdate(1), 403, webhook.RefusalUnknownToken, ""},
		"a forgery":                   {app(clientID, table{member: tokenA}), dealUpdate(1), 403, webhook.RefusalUnknownToken, ""},
		"a forgery beside a token":    {webhook.Any(webhook.Tokens(tokenB), app(clientID, table{member: tokenA})), dealUpdate(1), 403, webhook.RefusalUnknownToken, ""},
		"no token":                    {webhook.Tokens(token), body("ONCRMDEALADD", fields{"auth[application_token]": ""}), 403, webhook.RefusalNoToken, ""},
		"no token of an installation": {app(clientID, table{member: tokenA}), body("ONCRMDEALADD", fields{"auth[application_token]": ""}), 403, webhook.RefusalNoToken, ""},
		"a reason of the verifier's own": {
			answering(fmt.Errorf("%w: the vault says no", event.ErrForbidden)), dealUpdate(1), 403, webhook.RefusalUnproven, "the vault says no",
		},
		"an application page": {webhook.Tokens(token), page, 400, "", "oauth.PageHandler"},
		"something else":      {webhook.Tokens(token), "hello=world", 400, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newRecords()
			h, err := webhook.NewHandler(test.v, nothing(), webhook.WithLogger(slog.New(log)))
			require.NoError(t, err)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, request(test.body))
			require.Equal(t, test.status, w.Code)
			if test.status == http.StatusForbidden {
				require.Equal(t, "forbidden\n", w.Body.String())
				require.Equal(t, http.Header{
					"Content-Type": {"text/plain; charset=utf-8"}, "X-Content-Type-Options": {"nosniff"},
				}, w.Header(), "nothing tells the sender which it was")
			}
			all := log.lines(t)
			require.Len(t, all, 1)
			refusal, _ := all[0][webhook.KeyRefusal].(string)
			require.Equal(t, test.refusal, webhook.Refusal(refusal))
			text, _ := all[0][webhook.KeyError].(string)
			require.Contains(t, text, test.says)
			require.Equal(t, test.says == "", text == "")
			for _, secret := range []string{token, tokenA, tokenB} {
				require.NotContains(t, fmt.Sprint(all[0]), secret)
			}
		})
	}
}

// TestBodyTakenByAMiddleware: a middleware that calls ParseForm keeps the form. If another one
// reads the body, the log says so.
func TestBodyTakenByAMiddleware(t *testing.T) {
	t.Parallel()
	t.Run("by ParseForm", func(t *testing.T) {
		t.Parallel()
		var rec recorder
		h := newHandler(t, &rec)
		r := request(dealUpdate(7))
		require.Empty(t, r.FormValue("_method"))
		w := &sink{header: make(http.Header)}
		h.ServeHTTP(w, r)
		require.Equal(t, http.StatusOK, w.status)
		shutdown(t, h)
		require.Len(t, rec.deliveries(), 1)
		require.Equal(t, "7", rec.deliveries()[0].Data.Get("FIELDS", "ID").Text())
	})
	t.Run("more than the limit", func(t *testing.T) {
		t.Parallel()
		h := newHandler(t, nothing(), webhook.WithMaxBodyBytes(2048))
		r := request(dealUpdate(7))
		require.NoError(t, r.ParseForm())
		r.PostForm.Set("data[x]", strings.Repeat("x", 4096))
		w := &sink{header: make(http.Header)}
		h.ServeHTTP(w, r)
		require.Equal(t, http.StatusRequestEntityTooLarge, w.status)
	})
	t.Run("by reading", func(t *testing.T) {
		t.Parallel()
		var log lines
		h := newHandler(t, nothing(), webhook.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		r := request(dealUpdate(1))
		_, err := io.Copy(io.Discard, r.Body)
		require.NoError(t, err)
		w := &sink{header: make(http.Header)}
		h.ServeHTTP(w, r)
		require.Equal(t, http.StatusBadRequest, w.status)
		require.Contains(t, log.String(), "the body was read before")
	})
}

// TestQueryIsNoEvent: tokens in an address end up in access logs, so an event comes only in the
// body.
func TestQueryIsNoEvent(t *testing.T) {
	t.Parallel()
	var rec recorder
	h := newHandler(t, &rec)
	r := request("x=1")
	r.URL.RawQuery = dealUpdate(1)
	w := &sink{header: make(http.Header)}
	h.ServeHTTP(w, r)
	require.Equal(t, http.StatusBadRequest, w.status)
	shutdown(t, h)
	require.Empty(t, rec.deliveries())
}

// botSamples are the documented bodies of bots of the second version, by file. Their auth block
// names no portal; data.bot.auth does.
func botSamples(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "event", "testdata", "events", "ONIMBOTV2*.form"))
	require.NoError(t, err)
	samples := map[string]string{}
	for _, file := range files {
		if name := filepath.Base(file); strings.Count(name, ".") == 1 { // those with .2 come by polling
			content, err := os.ReadFile(file) //nolint:gosec // one of ours
			require.NoError(t, err)
			samples[name] = string(content)
		}
	}
	require.Len(t, samples, 8)
	return samples
}

// What the documentation's samples name.
const (
	botPortal = "bac1cd5c8940947a75e0d71b1a84e348"
	botToken  = "831c76b092f9f135d9b6b36c3a720757" //nolint:gosec // published
)

func TestDocumentedBotsOfTheSecondVersion(t *testing.T) {
	t.Parallel()
	for file, sample := range botSamples(t) {
		for name, v := range map[string]webhook.Verifier{
			"installations": app(clientID, table{botPortal: botToken}),
			"fixed token":   webhook.Tokens(botToken),
			"bound token":   webhook.TokensOf(botPortal, botToken),
		} {
			t.Run(file+", "+name, func(t *testing.T) {
				t.Parallel()
				var rec recorder
				h, err := webhook.NewHandler(v, &rec, webhook.WithSync())
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, post(h, sample))
				d := rec.deliveries()[0]
				require.Equal(t, botPortal, d.MemberID())
				require.Equal(t, name == "installations", d.ProvenFor(clientID))
				require.Empty(t, d.Auth.Domain)
			})
		}
		for name, v := range map[string]webhook.Verifier{
			"another token":  app(clientID, table{botPortal: tokenA}),
			"another portal": app(clientID, table{portalA: botToken}),
			"bound to one":   webhook.TokensOf(portalA, botToken),
		} {
			t.Run(file+", "+name, func(t *testing.T) {
				t.Parallel()
				h, err := webhook.NewHandler(v, nothing())
				require.NoError(t, err)
				require.Equal(t, http.StatusForbidden, post(h, sample))
			})
		}
	}
}

// TestLanesAreOfTheProvenPortal: objects of two portals with the same ID are two objects, whatever
// the senders claim.
func TestLanesAreOfTheProvenPortal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var rec recorder
		rec.then = slow(time.Second)
		h, err := webhook.NewHandler(webhook.Any(
			app("app.1", table{portalA: tokenA}), app("app.2", table{portalA: tokenB}), webhook.TokensOf(portalB, hookKey),
		), &rec, webhook.WithCoalescing(event.OnCrmDealUpdate))
		require.NoError(t, err)
		deal := func(member, token string) {
			require.Equal(t, http.StatusOK, post(h, body("ONCRMDEALUPDATE", fields{
				"auth[member_id]": member, "auth[application_token]": token, "data[FIELDS][ID]": "7",
			})))
		}
		for range 3 {
			deal(portalA, tokenA)
			deal(portalA, tokenB)
			deal(portalB, hookKey)
			deal("", hookKey) // the token proves the portal
			synctest.Wait()   // the first of each has begun
		}
		require.Equal(t, 3, h.Stats().Running, "an object of each application and portal at the same time")
		shutdown(t, h)
		s := h.Stats()
		require.EqualValues(t, 12, s.Accepted)
		require.EqualValues(t, 6, s.Handled, "the first of each, and the last")
		require.EqualValues(t, 6, s.Coalesced)
	})
}

// TestVerifierOfAnotherPortal: the proof counts, not the claim.
func TestVerifierOfAnotherPortal(t *testing.T) {
	t.Parallel()
	var rec recorder
	h, err := webhook.NewHandler(elsewhere{}, &rec, webhook.WithSync())
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
	require.Equal(t, portalB, rec.deliveries()[0].MemberID())
	require.Equal(t, portalB, rec.deliveries()[0].Auth.MemberID)
}

// elsewhere proves another portal than the one claimed, as an OAuth server may.
type elsewhere struct{}

func (elsewhere) Verify(context.Context, *event.Delivery) (event.Proof, error) {
	return installed(portalB), nil
}

func TestProofWithoutAKind(t *testing.T) {
	t.Parallel()
	h, err := webhook.NewHandler(proving(""), nothing())
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, post(h, dealUpdate(1)))
	require.EqualValues(t, 1, h.Stats().Rejected[webhook.ReasonUnavailable])
}
