package event_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// planted are the secrets of the bodies below. Each ends in a mark that the tests search for as it
// is, in hexadecimal and in upper case.
var planted = map[string]string{
	"access":      "access/token+1=PLANTED",
	"refresh":     "refresh-token-PLANTED",
	"application": "application-PLANTED",
	"bot":         "bot&access<token>\"é-PLANTED",
	"bot refresh": "bot-refresh-PLANTED",
	"confirm":     "method-confirm-PLANTED",
	"nested":      "nested-in-json-PLANTED",
	"webhook":     "incomingwebhookPLANTED",
}

// echoes repeats every secret in every form.
func echoes() string {
	var b strings.Builder
	for _, name := range []string{"access", "refresh", "application", "bot", "bot refresh", "confirm", "nested"} {
		secret := planted[name]
		doc, err := json.Marshal(secret)
		if err != nil {
			panic(err)
		}
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), string(doc), fmt.Sprintf("%q", secret)} {
			b.WriteString(" (" + form + ")")
		}
	}
	return b.String() + " https://p.example/rest/1/" + planted["webhook"] + "/profile?auth=an-unknown-PLANTED"
}

// leakBody is an event that has a secret in every field in which the platform sends one. A message,
// the application's own parameters and the names of other things repeat all of them.
func leakBody() url.Values {
	echo := echoes()
	return url.Values{
		"event": {"ONIMBOTV2CONTEXTGET"}, "event_handler_id": {"7"}, "ts": {"1700000000"},
		"auth[access_token]": {planted["access"]}, "auth[refresh_token]": {planted["refresh"]}, "auth[application_token]": {planted["application"]},
		"auth[member_id]": {"m\nlevel=ERROR msg=forged " + planted["access"]}, "auth[domain]": {"d\x1b[2J\u009b\u202e" + planted["application"]},
		"auth[scope]": {"crm," + planted["refresh"]}, "auth[client_endpoint]": {"https://p.example/rest/?auth=" + planted["access"]},
		"data[bot][id]": {"1"}, "data[bot][auth][access_token]": {planted["bot"]}, "data[bot][auth][refresh_token]": {planted["bot refresh"]},
		"data[bot][auth][domain]": {"p.example"},
		"data[TOKEN]":             {planted["confirm"]}, "data[context][PLACEMENT_OPTIONS]": {`{"access_token":"` + planted["nested"] + `","echo":1}`},
		"data[context][echo]": {echo}, "data[context][" + planted["confirm"] + "]": {"x"}, "data[dialogId]": {"chat\u009b1"},
	}
}

// prints returns v in every printed form.
func prints(t *testing.T, v any) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		all[verb] = fmt.Sprintf(verb, v)
	}
	var text, lines bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&text, nil), slog.NewJSONHandler(&lines, nil)} {
		log := slog.New(handler)
		log.LogAttrs(t.Context(), slog.LevelInfo, "value", slog.Any("v", v))
		log.WithGroup("outer").LogAttrs(t.Context(), slog.LevelInfo, "value", slog.Group("inner", slog.Any("v", v), slog.Any("list", []any{v})))
	}
	all["slog text"], all["slog JSON"] = text.String(), lines.String()
	if doc, err := json.Marshal(v); err == nil {
		all["JSON"] = string(doc)
	}
	if err, ok := v.(error); ok {
		all["error"] = err.Error()
	}
	return all
}

func requireNothingPlanted(t *testing.T, v any) {
	t.Helper()
	for how, text := range prints(t, v) {
		upper := strings.ToUpper(text)
		require.NotContains(t, upper, "PLANTED", "%s of %T", how, v)
		require.NotContains(t, upper, fmt.Sprintf("%X", "PLANTED"), "%s of %T", how, v)
	}
}

func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	d := delivery(t, leakBody().Encode())
	require.Equal(t, event.Secret(planted["access"]), d.Auth.AccessToken)
	payload, err := event.OnImBotV2ContextGet.Decode(d)
	require.NoError(t, err)
	require.Equal(t, event.Secret(planted["bot"]), payload.Bot.Auth.AccessToken)
	confirm := delivery(t, url.Values{
		"event": {"ONAPPMETHODCONFIRM"}, "data[TOKEN]": {planted["confirm"]}, "data[METHOD]": {"user.get"},
	}.Encode())
	confirmed, err := event.OnAppMethodConfirm.Decode(confirm)
	require.NoError(t, err)
	old := delivery(t, url.Values{
		"event": {"ONIMBOTMESSAGEADD"}, "data[BOT][5][access_token]": {planted["bot"]}, "data[BOT][5][BOT_ID]": {"5"},
		"data[BOT][5][AUTH][refresh_token]": {planted["bot refresh"]},
	}.Encode())
	var bots event.BotMessage
	require.NoError(t, old.Data.Decode(&bots))
	ready := delivery(t, url.Values{
		"event": {"ONAPPUSERREADY"}, "data[access_token]": {planted["bot"]}, "data[refresh_token]": {planted["bot refresh"]},
		"data[domain]": {"oauth.example " + planted["bot"]},
	}.Encode())
	user, err := event.OnAppUserReady.Decode(ready)
	require.NoError(t, err)
	require.Equal(t, event.Secret(planted["bot refresh"]), user.RefreshToken)
	user.Domain = "" // a text of the sender, which the payload by itself cannot tell from others
	frame := delivery(t, url.Values{
		"AUTH_ID": {planted["access"]}, "REFRESH_ID": {planted["refresh"]}, "APPLICATION_TOKEN": {planted["application"]}, "DOMAIN": {"p"},
		"PLACEMENT": {"DEFAULT"}, "PLACEMENT_OPTIONS": {`{"auth":"` + planted["nested"] + `","m":"` + planted["access"] + `"}`},
	}.Encode())
	record, err := event.ParseRecord([]byte(`{"EVENT_NAME":"ONAPPTEST","ID":1,"EVENT_DATA":{"QUERY":{"token":"` + planted["nested"] + `","x":"` + planted["nested"] + `"}}}`))
	require.NoError(t, err)
	built, err := event.NewData(map[string]any{"password": planted["nested"], "m": "it is " + planted["nested"]})
	require.NoError(t, err)
	panicked := event.NewPanicError(planted["access"], []byte("stack"))
	type holder struct {
		D event.Delivery
		P *event.Delivery
		A event.Auth
		V event.Data
		S event.Secret
		E error
	}
	all := holder{D: *d, P: d, A: d.Auth, V: d.Data, S: d.Auth.AccessToken, E: panicked}
	for _, v := range []any{
		d, *d, d.Auth, &d.Auth, d.Data, &d.Data, payload, &payload, payload.Context, &payload.Context, payload.Bot,
		d.Data.Get("context"), d.Data.Get("context", "echo"), d.Data.Get("TOKEN"), d.Data.Get("bot", "auth", "access_token"),
		confirm, *confirm, confirm.Data, confirmed, &confirmed, confirm.Data.Get("TOKEN"),
		ready, *ready, ready.Data, user, &user, old, *old, old.Data, bots, &bots, frame, *frame, frame.Auth, frame.Data, frame.Data.Get("PLACEMENT_OPTIONS"),
		record, *record, record.Data, built, &built, built.Get("m"), built.Get("password"),
		d.Auth.AccessToken, &d.Auth.AccessToken,
		[]event.Secret{d.Auth.AccessToken},
		map[string]event.Secret{"a": d.Auth.AccessToken},
		all, &all,
		[]holder{all},
		[]*event.Delivery{d},
		map[string]event.Delivery{"d": *d},
		panicked, *panicked, event.Drop(panicked), fmt.Errorf("wrapped: %w", panicked),
		event.NewPanicError(errors.New(planted["access"]), nil), event.NewPanicError(d, nil), event.NewPanicError(*d, nil),
	} {
		requireNothingPlanted(t, v)
	}
	require.Equal(t, planted["access"], panicked.Value())
	requireNothingPlanted(t, d.Redact(echoes()))
	requireNothingPlanted(t, d.RedactExcerpt("it ends in "+planted["bot refresh"][:len(planted["bot refresh"])-1]))
	requireNothingPlanted(t, (&url.Error{Op: "Post", URL: d.Redact("https://p.example/?auth=" + url.QueryEscape(planted["bot"])), Err: io.EOF}))

	doc, err := json.Marshal(d)
	require.NoError(t, err)
	require.Contains(t, string(doc), `"PLACEMENT_OPTIONS":"{\"access_token\":\"[redacted]\",\"echo\":1}"`, "what is no secret stays")
	require.Contains(t, string(doc), `"dialogId":"chat\u009b1"`)
	require.Equal(t, -1, strings.IndexFunc(string(doc), unicode.IsControl))
	require.NotContains(t, string(doc), "\u202e")
	inClear, err := d.MarshalUnredacted()
	require.NoError(t, err)
	require.Contains(t, string(inClear), planted["nested"])
}

// TestPrintedLinesAreNotForged covers what a sender writes into the parts of a delivery that are
// printed.
func TestPrintedLinesAreNotForged(t *testing.T) {
	t.Parallel()
	const forged = "m\nlevel=ERROR msg=forged \x1b[2J\u009b31m\u202e\u2028 entity=x:1"
	d := delivery(t, url.Values{
		"event": {"ONCRMDEALADD"}, "data[FIELDS][ID]": {forged}, "auth[member_id]": {forged}, "auth[domain]": {forged},
		"auth[application_token]": {"0123456789abcdef"},
	}.Encode())
	for _, v := range []any{d, *d, d.Auth, &d.Auth} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			text := fmt.Sprintf(verb, v)
			require.Equal(t, -1, strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }), "%s of %T: %q", verb, v, text)
			require.NotContains(t, text, " level=ERROR msg=forged entity", "%s of %T", verb, v)
			require.Contains(t, text, `member="m level=ERROR`, "it stands in quotes")
		}
		for _, attr := range slog.AnyValue(v).Resolve().Group() {
			require.Equal(t, -1, strings.IndexFunc(attr.Value.String(), func(r rune) bool { return !unicode.IsPrint(r) }), attr.Key)
		}
	}
	b := event.Binding{Event: "ONX\x1b[2J", Handler: "https://a.example/\u202e\nx?token=0123456789", AuthType: 1}
	require.Equal(t, `ONX\u001b[2J https://a.example/\u202e\u000ax?… user 1`, b.String())
	require.Equal(t, `ONX offline a\u000ab`, event.Binding{Event: "ONX", Offline: true, Connector: "a\nb"}.String())
}

// TestSecretsHaveNoBinaryEncoding covers encoders that would write a secret, or a mark in its
// place, to disk or to a wire.
func TestSecretsHaveNoBinaryEncoding(t *testing.T) {
	t.Parallel()
	d := delivery(t, leakBody().Encode())
	type job struct {
		Name  string       `xml:"name"`
		Token event.Secret `xml:"token"`
	}
	for name, v := range map[string]any{
		"secret":   d.Auth.AccessToken,
		"pointer":  &d.Auth.AccessToken,
		"struct":   job{"x", d.Auth.AccessToken},
		"auth":     d.Auth,
		"delivery": d,
		"value":    *d,
		"data":     d.Data,
		"payload":  event.BotAuth{AccessToken: "x"},
		"list":     []event.Secret{"x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			require.Error(t, gob.NewEncoder(&out).Encode(v))
			require.NotContains(t, out.String(), "PLANTED")
		})
	}
	var out bytes.Buffer
	require.ErrorIs(t, gob.NewEncoder(&out).Encode(job{"x", "secret"}), event.ErrSecret)
	require.NoError(t, gob.NewEncoder(&out).Encode(job{Name: "x"}), "there is none")
	_, err := d.Auth.AccessToken.MarshalBinary()
	require.ErrorIs(t, err, event.ErrSecret)
	text, err := d.Auth.AccessToken.MarshalText()
	require.NoError(t, err)
	require.Equal(t, "[redacted]", string(text))
	doc, err := xml.Marshal(job{"x", d.Auth.AccessToken})
	require.NoError(t, err)
	require.NotContains(t, string(doc), "PLANTED")
	require.Equal(t, "ab", string(event.Secret("a")+"b"), "it is a string to Go")
}

// refusing returns an error with a text for each command of a batch.
func refusing(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		refusals := make(map[string]any)
		for key := range r.PostForm {
			if name, ok := strings.CutPrefix(key, "cmd["); ok {
				refusals[strings.TrimSuffix(name, "]")] = map[string]any{"error": text, "error_description": text}
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"result": map[string]any{"result": []any{}, "result_error": refusals}})
	})
}

// TestRefusalsInABatchAreOneLine: a portal's code and description are cleaned before they are
// printed.
func TestRefusalsInABatchAreOneLine(t *testing.T) {
	t.Parallel()
	p, caller := portal(t, eventtest.AdminID)
	p.Always("batch", eventtest.Answer(refusing("\x1b]0;pwn\a\x1b[2J\rFAKE\u009b31m\u202e ?auth=an-unknown-PLANTED&"+strings.Repeat("A", 5000))))
	api := event.NewAPI(caller)
	_, features := api.Features(t.Context())
	apply := api.Apply(t.Context(), event.Plan{Bind: []event.Binding{{Event: "ONCRMDEALADD", Offline: true}}})
	for _, err := range []error{features, apply} {
		require.Error(t, err)
		var refusal event.CallError
		require.ErrorAs(t, err, &refusal)
		for _, text := range []string{err.Error(), refusal.ErrorCode(), refusal.ErrorDescription()} {
			require.Equal(t, -1, strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }), "%q", text)
			require.Less(t, len(text), 1200)
			require.Contains(t, text, "FAKE")
		}
		requireNothingPlanted(t, err)
	}
}
