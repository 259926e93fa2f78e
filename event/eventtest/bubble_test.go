package eventtest_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

// world is a portal on a network in a bubble, with an application whose handler keeps its
// deliveries.
type world struct {
	*eventtest.Portal
	n   *eventtest.Network
	app *eventtest.Application

	mu   sync.Mutex
	seen []url.Values
	wait time.Duration // of the handler
}

const bubbleHandler = "https://app.example.com/events"

func newWorld(t *testing.T, n *eventtest.Network, opts ...eventtest.Option) *world {
	t.Helper()
	w := &world{n: n, Portal: eventtest.NewPortal(t, append(opts, eventtest.WithNetwork(n))...)}
	n.Handle("app.example.com", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		w.mu.Lock()
		wait := w.wait
		w.seen = append(w.seen, r.PostForm)
		w.mu.Unlock()
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
	}))
	app, err := w.AddApp(eventtest.App{
		ClientID: "local.app", ClientSecret: "secret", Scope: []string{"crm"}, HandlerURL: bubbleHandler,
	})
	require.NoError(t, err)
	require.NoError(t, app.Install(t.Context()))
	w.app = app
	return w
}

// takes sets how long the handler waits before it responds.
func (w *world) takes(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wait = d
}

// first returns the first delivery.
func (w *world) first() url.Values {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[0]
}

// events returns the deliveries and forgets them.
func (w *world) events() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	names := []string{}
	for _, form := range w.seen {
		names = append(names, form.Get("event"))
	}
	w.seen = nil
	return names
}

// caller returns a caller with the administrator's token.
func (w *world) caller(t *testing.T) func(method string, params obj) answer {
	t.Helper()
	g, err := w.app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	return func(method string, params obj) answer {
		t.Helper()
		body := obj{"auth": string(g.AccessToken)}
		maps.Copy(body, params)
		doc, err := json.Marshal(body)
		require.NoError(t, err)
		return w.post(t, w.ClientEndpoint()+method, "application/json", string(doc))
	}
}

func (w *world) post(t *testing.T, target, contentType, body string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", contentType)
	resp, err := w.n.RoundTrip(r)
	require.NoError(t, err)
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	a := answer{Status: resp.StatusCode, Raw: string(raw), Header: resp.Header}
	if strings.HasPrefix(a.Raw, "{") {
		require.NoError(t, json.Unmarshal(raw, &a), a.Raw)
	}
	return a
}

// refresh refreshes tokens at the OAuth server.
func (w *world) refresh(t *testing.T, token string) (status int, pair map[string]any) {
	t.Helper()
	a := w.post(t, "https://oauth.bitrix.info/oauth/token/", "application/x-www-form-urlencoded", url.Values{
		"grant_type": {"refresh_token"}, "client_id": {"local.app"}, "client_secret": {"secret"}, "refresh_token": {token},
	}.Encode())
	require.NoError(t, json.Unmarshal([]byte(a.Raw), &pair))
	return a.Status, pair
}

func TestPortalInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.NewNetwork())
		require.Regexp(t, `^https://b24-[0-9a-z]{6}\.bitrix24\.com$`, w.URL())
		require.Equal(t, "https://oauth.bitrix.info/rest/", w.ServerEndpoint())
		require.Equal(t, "oauth.bitrix.info", w.OAuthHost())
		wait(t, w.Portal)
		install := w.first()
		require.Equal(t, []string{"ONAPPINSTALL"}, w.events())
		require.Equal(t, w.ClientEndpoint(), install.Get("auth[client_endpoint]"))
		require.Equal(t, w.Domain(), install.Get("auth[domain]"))

		call := w.caller(t)
		require.Empty(t, call("event.bind", obj{"event": "ONCRMDEALADD", "handler": bubbleHandler}).Error)
		w.takes(10 * time.Second)
		start := time.Now()
		addDeal(t, w.Portal)
		addDeal(t, w.Portal)
		wait(t, w.Portal)
		require.Equal(t, []string{"ONCRMDEALADD", "ONCRMDEALADD"}, w.events())
		require.Equal(t, 20*time.Second, time.Since(start), "one after the other")
		require.Equal(t, 10*time.Second, w.Deliveries()[2].Duration)
		w.takes(time.Hour)
		addDeal(t, w.Portal)
		wait(t, w.Portal)
		require.ErrorContains(t, w.Deliveries()[3].Err, "did not respond")
		require.Equal(t, 30*time.Second, w.Deliveries()[3].Duration)
	})
}

func TestPagesOnANetwork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.NewNetwork())
		var query url.Values
		var body url.Values
		w.n.Handle("pages.example.com", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			query, body = r.URL.Query(), r.PostForm
		}))
		app, err := w.AddApp(eventtest.App{HandlerURL: "https://pages.example.com/install", UI: true})
		require.NoError(t, err)
		require.NoError(t, app.Install(t.Context()))
		require.Equal(t, w.Domain(), query.Get("DOMAIN"))
		require.Equal(t, "1", query.Get("PROTOCOL"), "PROTOCOL 5.4: https")
		require.Equal(t, w.ServerEndpoint(), body.Get("SERVER_ENDPOINT"))
		require.False(t, app.Installed())
		require.NoError(t, app.FinishInstall())
		other, err := w.AddApp(eventtest.App{HandlerURL: "https://nowhere.example.com", UI: true})
		require.NoError(t, err)
		require.ErrorContains(t, other.Install(t.Context()), "no such host")
	})
}

// PROTOCOL 4.1: there is no order.
func TestJitterInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.NewNetwork(), eventtest.WithQuirks(func(q *eventtest.Quirks) { q.DeliveryJitter = time.Hour }))
		w.caller(t)("event.bind", obj{"event": "ONCRMDEALADD", "handler": bubbleHandler})
		wait(t, w.Portal)
		w.events()
		start := time.Now()
		var ids []string
		for range 20 {
			addDeal(t, w.Portal)
		}
		wait(t, w.Portal)
		require.Less(t, time.Since(start), time.Hour)
		require.Greater(t, time.Since(start), time.Minute)
		for _, form := range w.seen {
			ids = append(ids, form.Get("data[FIELDS][ID]"))
			fired, err := strconv.ParseInt(form.Get("ts"), 10, 64)
			require.NoError(t, err)
			require.WithinDuration(t, start, time.Unix(fired, 0), time.Second)
		}
		require.Len(t, ids, 20)
		require.False(t, slices.IsSortedFunc(ids, func(a, b string) int { return atoi(t, a) - atoi(t, b) }), ids)
	})
}

// PROTOCOL 4.1: the gaps grow to a bound, and shrink again.
func TestSlowHandlerInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.NewNetwork(), eventtest.WithQuirks(func(q *eventtest.Quirks) { q.SlowHandlers = 5 * time.Second }))
		wait(t, w.Portal)
		w.caller(t)("event.bind", obj{"event": "ONCRMDEALADD", "handler": bubbleHandler})
		took := func(n int) []time.Duration {
			t.Helper()
			list := make([]time.Duration, n)
			for i := range list {
				start := time.Now()
				addDeal(t, w.Portal)
				wait(t, w.Portal)
				list[i] = time.Since(start).Round(time.Second)
			}
			return list
		}
		w.takes(10 * time.Second)
		require.Equal(t, []time.Duration{10, 11, 12, 14, 18, 26, 42, 74, 138, 266, 310, 310}, inSeconds(took(12)))
		require.Equal(t, 5*time.Minute, w.Lanes()[0].Gap)
		w.takes(0)
		require.Equal(t, []time.Duration{300, 150, 75, 38, 19, 9, 5, 2, 1, 0, 0}, inSeconds(took(11)))
		require.Empty(t, w.Lanes())
	})
}

func inSeconds(list []time.Duration) []time.Duration {
	for i := range list {
		list[i] /= time.Second
	}
	return list
}

func TestTokensInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.NewNetwork())
		call := w.caller(t)
		time.Sleep(time.Hour - time.Second) //nolint:forbidigo // the bubble's clock
		require.Equal(t, http.StatusOK, call("profile", nil).Status)
		time.Sleep(time.Second) //nolint:forbidigo // the bubble's clock
		require.Equal(t, "expired_token", call("profile", nil).Error)

		g, err := w.app.Grant(eventtest.AdminID)
		require.NoError(t, err)
		status, pair := w.refresh(t, string(g.RefreshToken))
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "oauth.bitrix.info", pair["domain"])
		require.Equal(t, w.MemberID(), pair["member_id"])
		status, pair = w.refresh(t, string(g.RefreshToken))
		require.Equal(t, http.StatusBadRequest, status)
		require.Equal(t, "invalid_grant", pair["error"])

		code, err := w.app.Code(eventtest.AdminID)
		require.NoError(t, err)
		time.Sleep(30 * time.Second) //nolint:forbidigo // the bubble's clock
		a := w.post(t, "https://oauth.bitrix.info/oauth/token/", "application/x-www-form-urlencoded", url.Values{
			"grant_type": {"authorization_code"}, "client_id": {"local.app"}, "client_secret": {"secret"}, "code": {string(code)},
		}.Encode())
		require.Equal(t, "invalid_grant", a.Error, "PROTOCOL 5.1: codes live 30 seconds")
	})
}

// PROTOCOL 3.5 on the bubble's clock.
func TestOfflineQueueInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.NewNetwork())
		call := w.caller(t)
		call("event.bind", obj{"event": "ONCRMDEALADD", "event_type": "offline"})
		call("event.bind", obj{"event": "ONOFFLINEEVENT", "handler": bubbleHandler})
		wait(t, w.Portal)
		w.events()
		for range 5 {
			addDeal(t, w.Portal)
			time.Sleep(300 * time.Millisecond) //nolint:forbidigo // the bubble's clock
		}
		wait(t, w.Portal)
		require.Equal(t, []string{"ONOFFLINEEVENT", "ONOFFLINEEVENT"}, w.events(), "at 0 and at 1.2 seconds")
		a := call("event.offline.get", obj{"clear": 0})
		require.Len(t, a.object(t)["events"], 5)
		time.Sleep(40 * 24 * time.Hour) //nolint:forbidigo // the bubble's clock
		require.Empty(t, w.OfflineRows(), "the purge")
	})
}

func TestFaultsInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.NewNetwork())
		g, err := w.app.Grant(eventtest.AdminID)
		require.NoError(t, err)
		do := func() (got, error) {
			return get(t, w.n, w.ClientEndpoint()+"crm.deal.add?fields[TITLE]=x&auth="+string(g.AccessToken))
		}
		w.Once("crm.deal.add", eventtest.Reset(), eventtest.LoseAnswer(), eventtest.CutAnswer(), eventtest.Delay(time.Hour))
		for i, want := range []string{"connection reset", "connection reset", "unexpected EOF"} {
			_, err := do()
			require.ErrorContains(t, err, want)
			_, ran := w.Object(eventtest.Deal, int64(i))
			require.Equal(t, i > 0, ran)
		}
		start := time.Now()
		_, err = do()
		require.NoError(t, err)
		require.Equal(t, time.Hour, time.Since(start))
		quirk(t, w.Portal, func(q *eventtest.Quirks) { q.Latency = 3 * time.Second })
		start = time.Now()
		_, err = do()
		require.NoError(t, err)
		require.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestRenameOnANetwork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.NewNetwork(), eventtest.WithHost("acme.bitrix24.com"))
		require.Equal(t, "https://acme.bitrix24.com/rest/", w.ClientEndpoint())
		old := w.ClientEndpoint()
		require.NoError(t, w.Rename(t.Context()))
		require.NotEqual(t, old, w.ClientEndpoint())
		a := w.post(t, old+"profile?auth=x", "application/json", "{}")
		require.Equal(t, http.StatusFound, a.Status)
		require.Equal(t, w.ClientEndpoint()+"profile?auth=x", a.Header.Get("Location"))
		require.Equal(t, http.StatusOK, w.caller(t)("profile", nil).Status)

		hook, err := w.AddIncomingWebhook(eventtest.AdminID)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, w.post(t, string(hook)+"profile", "application/json", "{}").Status)
		a = w.post(t, strings.Replace(string(hook), "https:", "http:", 1)+"profile", "application/json", "{}")
		require.Equal(t, "INVALID_REQUEST", a.Error, "PROTOCOL 1.4: webhooks want https")
		require.Equal(t, http.StatusUnauthorized, a.Status)
	})
}

// As on the platform, one OAuth server knows every portal, and one application may be on many.
func TestPortalsOnOneNetwork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := eventtest.NewNetwork()
		one, two := newWorld(t, n), newWorld(t, n)
		wait(t, one.Portal)
		wait(t, two.Portal)
		require.NotEqual(t, one.app.ApplicationToken(), two.app.ApplicationToken())
		for _, w := range []*world{one, two} {
			g, err := w.app.Grant(eventtest.AdminID)
			require.NoError(t, err)
			other := one
			if w == one {
				other = two
			}
			other.Always("oauth/token", eventtest.RefusedRefresh())
			_, pair := w.refresh(t, string(g.RefreshToken))
			require.Equal(t, w.MemberID(), pair["member_id"])
			require.Equal(t, w.ClientEndpoint(), pair["client_endpoint"])
			require.Equal(t, 1, w.CallCount("oauth/token"))
			other.Heal("oauth/token")

			a := w.post(t, "https://oauth.bitrix.info/rest/app.info", "application/json", `{"auth":"`+string(g.AccessToken)+`"}`)
			require.Contains(t, a.Raw, w.MemberID())
			require.Equal(t, "invalid_token",
				other.post(t, other.ClientEndpoint()+"profile?auth="+string(g.AccessToken), "application/json", "").Error,
				"a token is good on its own portal only")
		}
		_, err := eventtest.New(eventtest.WithNetwork(n), eventtest.WithMemberID(one.MemberID()))
		require.ErrorIs(t, err, eventtest.ErrConfig)
		require.ErrorContains(t, err, "different member ids")
		_, err = eventtest.New(eventtest.WithNetwork(n), eventtest.WithHost(one.Domain()))
		require.ErrorIs(t, err, eventtest.ErrConfig)
		require.ErrorContains(t, err, "has a host")

		require.NoError(t, one.Close())
		_, err = get(t, n, one.URL()+"/rest/profile")
		require.ErrorContains(t, err, "no such host")
		g, err := two.app.Grant(eventtest.AdminID)
		require.NoError(t, err)
		status, _ := two.refresh(t, string(g.RefreshToken))
		require.Equal(t, http.StatusOK, status, "the OAuth server stays")
		require.NoError(t, two.Close())
		require.Equal(t, http.StatusServiceUnavailable, two.post(t, "https://oauth.bitrix.info/oauth/token/", "", "").Status)
	})
}

func TestOAuthServerOf(t *testing.T) {
	t.Parallel()
	one := eventtest.NewPortal(t)
	two := eventtest.NewPortal(t, eventtest.WithOAuthServerOf(one))
	require.Equal(t, one.ServerEndpoint(), two.ServerEndpoint())
	c := install(t, two, eventtest.App{ClientID: "local.two", ClientSecret: "secret"})
	g, err := c.app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	form := url.Values{
		"grant_type": {"refresh_token"}, "client_id": {"local.two"}, "client_secret": {"secret"}, "refresh_token": {string(g.RefreshToken)},
	}.Encode()
	token := strings.TrimSuffix(one.ServerEndpoint(), "rest/") + "oauth/token/"
	require.NoError(t, one.Close(), "it serves the other on")
	require.Equal(t, http.StatusOK, send(t, http.MethodPost, token, "application/x-www-form-urlencoded", form).Status)
	require.Equal(t, 1, two.CallCount("oauth/token"))
	require.Zero(t, one.CallCount("oauth/token"))
	require.NoError(t, two.Close())
	_, err = client.Get(token) //nolint:noctx,bodyclose // nobody is there
	require.Error(t, err)
	_, err = eventtest.New(eventtest.WithOAuthServerOf(two))
	require.ErrorIs(t, err, eventtest.ErrClosed)
}

func TestCloseInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.NewNetwork())
		call := w.caller(t)
		call("event.bind", obj{"event": "ONCRMDEALADD", "handler": bubbleHandler})
		w.takes(time.Hour)
		addDeal(t, w.Portal)
		addDeal(t, w.Portal)
		w.Once("profile", eventtest.Delay(time.Hour))
		w.Once("oauth/app.info", eventtest.Before(func(r *http.Request) { <-r.Context().Done() }))
		var requests sync.WaitGroup
		requests.Go(func() { call("profile", nil) })
		requests.Go(func() { w.post(t, w.ServerEndpoint()+"app.info", "", "") })
		synctest.Wait()
		start := time.Now()
		require.NoError(t, w.Close())
		require.Equal(t, start, time.Now(), "nothing is waited for")
		requests.Wait()
	})
}
