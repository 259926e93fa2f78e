package eventtest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// TestBatchDoesNotExplode sends batches of a few hundred bytes whose references double with each
// item.
func TestBatchDoesNotExplode(t *testing.T) {
	t.Parallel()
	ten := strings.Repeat("$result[c%[1]d][item][title]", 10)
	for name, tt := range map[string]struct{ first, step string }{
		"texts":  {"title=" + strings.Repeat("x", 100), "title=" + ten},
		"arrays": {"ufCrmA[]=x", "ufCrmA=$result[c%[1]d][item]&ufCrmB=$result[c%[1]d][item]&ufCrmC=$result[c%[1]d][item]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, c := newPortal(t)
			fields := func(text string) string {
				parts := strings.Split(text, "&")
				for i, part := range parts {
					key, value, _ := strings.Cut(part, "=")
					open, rest, _ := strings.Cut(key, "[")
					if rest != "" {
						rest = "[" + rest
					}
					parts[i] = "fields[" + open + "]" + rest + "=" + value
				}
				return "crm.item.add?entityTypeId=2&" + strings.Join(parts, "&")
			}
			cmd := obj{"c00": fields(tt.first)}
			previous := "c00"
			for i := 1; i < 50; i++ {
				key := fmt.Sprintf("c%02d", i)
				cmd[key] = fields(strings.ReplaceAll(tt.step, "c%[1]d", previous))
				previous = key
			}
			a := c.ok("batch", obj{"cmd": cmd})
			require.Less(t, len(a.Raw), 256<<20)
			require.Contains(t, a.Raw, "INTERNAL_SERVER_ERROR", "what is too much is refused")
			c.ok("profile", nil)
		})
	}
}

// TestManyFields sends an object with as many fields as fit.
func TestManyFields(t *testing.T) {
	t.Parallel()
	_, c := newPortal(t)
	var fields strings.Builder
	for i := range 150_000 {
		fields.WriteString(`,"UF_CRM_` + strconv.Itoa(i) + `":1`)
	}
	start := time.Now()
	a := send(t, http.MethodPost, c.p.ClientEndpoint()+"crm.deal.add", "application/json",
		`{"auth":"`+c.token+`","fields":{"TITLE":"x"`+fields.String()+`}}`)
	require.Equal(t, http.StatusOK, a.Status)
	require.Less(t, time.Since(start), 20*time.Second)
}

// TestRecordsAreBounded fills the records with large calls.
func TestRecordsAreBounded(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	p, c := newPortal(t)
	large := strings.Repeat("x", 1<<19)
	for range 150 {
		require.Equal(t, "ERROR_METHOD_NOT_FOUND", c.call("no.such.method", obj{"x": large}).Error)
	}
	kept := 0
	for _, call := range p.Calls() {
		kept += len(call.Params.JSON())
	}
	require.LessOrEqual(t, kept, 64<<20)
	require.Equal(t, 150, p.CallCount("no.such.method"))
	require.Greater(t, kept, 32<<20, "and much of it is there")
}

func TestCredentialsOfItemsAreNotRecorded(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	c.ok("batch", obj{"cmd": obj{"a": "profile?auth=" + c.token + "&x=1", "b": "profile?x=2&access%5Ftoken=" + c.token, "c": "profile"}})
	for _, call := range p.Calls() {
		require.NotContains(t, string(call.Params.JSON()), c.token, call.Method)
	}
	batch := p.Calls()[3].Params
	require.Equal(t, "profile?x=1", batch.Get("cmd", "a").Text())
	require.Equal(t, "profile?x=2", batch.Get("cmd", "b").Text())
}

func TestSecretsOfPathsAreNotRecorded(t *testing.T) {
	t.Parallel()
	p, _ := newPortal(t)
	hook, err := p.AddIncomingWebhook(eventtest.AdminID)
	require.NoError(t, err)
	parts := strings.Split(strings.TrimSuffix(string(hook), "/"), "/")
	secret := parts[len(parts)-1]
	for _, path := range []string{"", "crm/deal.add", "x/y/z"} {
		require.Equal(t, "ERROR_METHOD_NOT_FOUND", send(t, http.MethodGet, string(hook)+path, "", "").Error)
	}
	require.NotContains(t, fmt.Sprintf("%+v %v", p.Calls(), p.CallCounts()), secret)
}

// TestTokensAreBounded changes a message to a bot very often within seconds, so that no token
// expires. Each change issues tokens of the bot, even if no handler is bound.
//
//nolint:paralleltest // it measures the memory of the process
func TestTokensAreBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	const kept = 20_000 // pairs of tokens that a portal keeps
	p, c, in, bot := botPortal(t)
	id, err := p.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": bot, "MESSAGE": "x"}, eventtest.AdminID)
	require.NoError(t, err)
	wait(t, p)
	added := parse(t, event.Secret(in.bodies[1]))
	of := func(token string) string { // the error of a call with it
		return (&caller{t: t, p: p, token: token}).call("server.time", nil).Error
	}
	bots, users := added.Data.Get("BOT", strconv.FormatInt(bot, 10), "access_token").Text(), string(added.Auth.AccessToken)
	for _, name := range botEvents {
		c.ok("event.unbind", obj{"event": name, "handler": in.URL})
	}
	change := func(times int) (heap int64) { // the memory in use afterwards
		for range times {
			require.NoError(t, p.Update(eventtest.ChatMessage, id, map[string]any{"MESSAGE": "y"}, eventtest.AdminID))
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc) //nolint:gosec // far below the limit
	}
	change(kept / 2)
	require.Empty(t, of(bots))
	require.Empty(t, of(users))
	before := change(kept + kept/2)
	require.Equal(t, "invalid_token", of(bots), "the oldest is forgotten")
	require.Equal(t, "invalid_token", of(users))
	require.Less(t, change(2*kept)-before, int64(4<<20), "bytes")
	c.ok("server.time", nil) // what the application stored stays
}

// TestRefreshesDoNotPushOutStoredTokens refreshes one pair of tokens often, while another
// application does nothing.
func TestRefreshesDoNotPushOutStoredTokens(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	n := eventtest.NewNetwork()
	p := eventtest.NewPortal(t, eventtest.WithNetwork(n))
	grant := func() (*eventtest.Application, eventtest.Grant) {
		app, err := p.AddApp(eventtest.App{})
		require.NoError(t, err)
		require.NoError(t, app.Install(t.Context()))
		g, err := app.Grant(eventtest.AdminID)
		require.NoError(t, err)
		return app, g
	}
	refresh := func(app *eventtest.Application, token event.Secret) event.Secret {
		got, err := get(t, n, "https://oauth.bitrix.info/oauth/token/?"+url.Values{
			"grant_type": {"refresh_token"}, "client_id": {app.ClientID()}, "client_secret": {string(app.ClientSecret())},
			"refresh_token": {string(token)},
		}.Encode())
		require.NoError(t, err)
		var pair struct {
			Refresh event.Secret `json:"refresh_token"`
		}
		require.NoError(t, json.Unmarshal([]byte(got.body), &pair), got.body)
		require.NotEmpty(t, pair.Refresh)
		return pair.Refresh
	}
	idle, stored := grant()
	busy, g := grant()
	token := g.RefreshToken
	for range 40_500 {
		token = refresh(busy, token)
	}
	refresh(idle, stored.RefreshToken)
}

// TestNewTokensStay issues a token without a refresh token after many that have one.
func TestNewTokensStay(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	p, c, in, bot := botPortal(t)
	id, err := p.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": bot, "MESSAGE": "x"}, eventtest.AdminID)
	require.NoError(t, err)
	for _, name := range botEvents {
		c.ok("event.unbind", obj{"event": name, "handler": in.URL})
	}
	for range 39_990 {
		require.NoError(t, p.Update(eventtest.ChatMessage, id, map[string]any{"MESSAGE": "y"}, eventtest.AdminID))
	}
	c.bind(obj{"event": "ONUSERADD", "handler": in.URL})
	wait(t, p)
	p.ResetRecords()
	for range 20 {
		require.NoError(t, p.Raise("ONUSERADD", nil, eventtest.AdminID))
	}
	wait(t, p)
	for _, a := range p.Deliveries() {
		(&caller{t: t, p: p, token: string(parse(t, a.Body).Auth.AccessToken)}).ok("server.time", nil)
	}
}
