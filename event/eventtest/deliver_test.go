package eventtest_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// authKeys returns the sorted keys of the auth block.
func authKeys(form url.Values) []string {
	var keys []string
	for key := range form {
		if name, ok := strings.CutPrefix(key, "auth["); ok {
			keys = append(keys, strings.TrimSuffix(name, "]"))
		}
	}
	slices.Sort(keys)
	return keys
}

var (
	userKeys = []string{
		"access_token", "application_token", "client_endpoint", "domain", "expires", "expires_in", "member_id", "scope",
		"server_endpoint", "status", "user_id",
	}
	fiveKeys = []string{"application_token", "client_endpoint", "domain", "member_id", "server_endpoint"}
)

func TestDeliveryBody(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	in := newInbox(t)
	c.bind(obj{"event": "ONCRMDEALADD", "handler": in.URL + "/hook?tenant=7"})
	fired := p.Now().Unix()
	addDeal(t, p)
	wait(t, p)
	require.Equal(t, "application/x-www-form-urlencoded", in.heads[0].Get("Content-Type"), "4.2")
	var names []string
	for pair := range strings.SplitSeq(in.bodies[0], "&") {
		name, _, _ := strings.Cut(pair, "=")
		names = append(names, name)
	}
	require.Equal(t, []string{
		"event", "event_handler_id", "data%5BFIELDS%5D%5BID%5D", "ts", "auth%5Baccess_token%5D", "auth%5Bexpires%5D",
		"auth%5Bexpires_in%5D", "auth%5Bscope%5D", "auth%5Bdomain%5D", "auth%5Bserver_endpoint%5D", "auth%5Bstatus%5D",
		"auth%5Bclient_endpoint%5D", "auth%5Bmember_id%5D", "auth%5Buser_id%5D", "auth%5Bapplication_token%5D",
	}, names, "4.2 the captured order, brackets escaped")
	require.Contains(t, in.bodies[0], "scope%5D=crm%2Ctask%2Cuser", "4.3 commas escaped")

	d := parse(t, event.Secret(in.bodies[0]))
	require.Equal(t, "ONCRMDEALADD", d.Name)
	require.Equal(t, int64(1), d.HandlerID)
	require.InDelta(t, fired, d.Time.Unix(), 2)
	require.Equal(t, "1", d.Data.Get("FIELDS", "ID").Text())
	require.Equal(t, p.MemberID(), d.Auth.MemberID)
	require.Equal(t, c.app.ApplicationToken(), d.Auth.ApplicationToken)
	(&caller{t: t, p: p, token: string(d.Auth.AccessToken)}).ok("crm.deal.get", obj{"id": 1})
}

func TestDeliveryEncoding(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		data any
		want string // of the data section
	}{
		{"4.3 booleans", map[string]any{"A": true, "B": false}, "data[A]=1&data[B]=0"},
		{"4.3 numbers", map[string]any{"A": 1, "B": 1.5, "C": "07"}, "data[A]=1&data[B]=1.5&data[C]=07"},
		{"4.3 null and empty arrays vanish", map[string]any{"A": nil, "B": []int{}, "C": map[string]any{}, "D": ""}, "data[D]="},
		{"4.3 lists have indices", map[string]any{"X": []string{"a", "b"}}, "data[X][0]=a&data[X][1]=b"},
		{"4.3 a list that began with null has a gap", map[string]any{"X": []any{nil, "b"}}, "data[X][1]=b"},
		{"4.3 nested maps", map[string]any{"A": map[string]any{"B": map[string]any{"C": 1}}}, "data[A][B][C]=1"},
		{"4.3 spaces", map[string]any{"A": "b c"}, "data[A]=b+c"},
		{"4.5 scalar data", 107, "data=107"},
		{"4.2 no data", nil, ""},
		{"4.2 empty data", map[string]any{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := newPortal(t)
			in := newInbox(t)
			p.AddEvent("onMyEvent", "")
			c.bind(obj{"event": "ONMYEVENT", "handler": in.URL})
			require.NoError(t, p.Raise("onMyEvent", tt.data, 1))
			wait(t, p)
			var data []string
			for pair := range strings.SplitSeq(in.bodies[0], "&") {
				if strings.HasPrefix(pair, "data") {
					data = append(data, strings.NewReplacer("%5B", "[", "%5D", "]").Replace(pair))
				}
			}
			require.Equal(t, tt.want, strings.Join(data, "&"))
		})
	}
}

func TestDeliveryAuth(t *testing.T) {
	t.Parallel()
	refresh := append(slices.Clone(userKeys), "refresh_token")
	slices.Sort(refresh)
	for _, tt := range []struct {
		name, event string
		user        int64
		authType    int64
		opts        []eventtest.Option
		want        []string
		wantUser    string
	}{
		{"4.4 user", "ONCRMDEALUPDATE", 2, 0, nil, userKeys, "2"},
		{"4.4 no user", "ONCRMDEALUPDATE", 0, 0, nil, fiveKeys, ""},
		{"4.4 AUTH_TYPE before the acting user", "ONCRMDEALUPDATE", 2, 1, nil, userKeys, "1"},
		{"4.4 AUTH_TYPE where nobody acts", "ONCRMDEALUPDATE", 0, 1, nil, userKeys, "1"},
		{"4.4 tasks get no refresh token", "ONTASKUPDATE", 1, 0, nil, userKeys, "1"},
		{"4.4 refresh: payload events of calendars", "ONCALENDARENTRYADD", 1, 0, nil, refresh, "1"},
		{"4.4 refresh: ONAPPUPDATE", "ONAPPUPDATE", 1, 0, nil, refresh, "1"},
		{"4.4 refresh: bots", "ONIMBOTMESSAGEADD", 1, 0, nil, refresh, "1"},
		{"4.4 never tokens: method confirmation", "ONAPPMETHODCONFIRM", 1, 0, nil, fiveKeys, ""},
		{"4.4 never tokens: uninstallation", "ONAPPUNINSTALL", 1, 1, nil, fiveKeys, ""},
		{"4.4 no user in events", "ONCRMDEALUPDATE", 2, 0, []eventtest.Option{eventtest.WithoutUserInEvents()}, fiveKeys, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := newPortal(t, tt.opts...)
			p.AddUser(eventtest.User{Name: "Two"})
			in := newInbox(t)
			c.bind(obj{"event": tt.event, "handler": in.URL, "auth_type": tt.authType})
			require.NoError(t, p.Raise(tt.event, nil, tt.user))
			wait(t, p)
			form := in.forms(t)[0]
			require.Equal(t, tt.want, authKeys(form))
			require.Equal(t, tt.wantUser, form.Get("auth[user_id]"))
		})
	}
	t.Run("4.7 outgoing webhook", func(t *testing.T) {
		t.Parallel()
		p, in := eventtest.NewPortal(t), newInbox(t)
		token, err := p.AddOutgoingWebhook(in.URL, "onCrmDealAdd", "ONTASKADD")
		require.NoError(t, err)
		require.Regexp(t, "^[0-9a-z]{32}$", string(token))
		addDeal(t, p)
		change(t, p, 1)
		wait(t, p)
		require.Equal(t, []string{"ONCRMDEALADD"}, in.events(t))
		form := in.forms(t)[0]
		require.Equal(t, fiveKeys, authKeys(form))
		require.Equal(t, string(token), form.Get("auth[application_token]"))
		require.NotContains(t, form, "event_handler_id")
		_, err = p.AddOutgoingWebhook("nowhere", "X")
		require.ErrorIs(t, err, eventtest.ErrConfig)
		_, err = p.AddOutgoingWebhook(in.URL)
		require.ErrorIs(t, err, eventtest.ErrConfig)
	})
	t.Run("2.1 two handlers of one URL: two deliveries", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		in := newInbox(t)
		c.bind(obj{"event": "ONCRMDEALADD", "handler": in.URL})
		c.bind(obj{"event": "ONCRMDEALADD", "handler": in.URL, "auth_type": 1})
		addDeal(t, p)
		wait(t, p)
		require.Len(t, in.forms(t), 2)
	})
	t.Run("4.1 identical items of one hit are one", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		in := newInbox(t)
		c.bind(obj{"event": "ONCRMDEALUPDATE", "handler": in.URL})
		addDeal(t, p)
		c.ok("batch", obj{"cmd": []string{"crm.deal.update?id=1&fields[TITLE]=a", "crm.deal.update?id=1&fields[TITLE]=b"}})
		c.ok("crm.deal.update", obj{"id": 1, "fields": obj{"TITLE": "c"}})
		wait(t, p)
		require.Len(t, in.forms(t), 2)
	})
	t.Run("4.1 identical items of one application are one", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		in, other := newInbox(t), newInbox(t)
		c.bind(obj{"event": "ONAPPTEST", "handler": in.URL})
		c.bind(obj{"event": "ONAPPTEST", "handler": other.URL})
		c.ok("batch", obj{"cmd": []string{"event.test?a=1", "event.test?a=1", "event.test?a=2"}})
		wait(t, p)
		for _, in := range []*inbox{in, other} {
			require.Len(t, in.forms(t), 2)
			require.Equal(t, "1", in.forms(t)[0].Get("data[QUERY][a]"))
			require.Equal(t, "2", in.forms(t)[1].Get("data[QUERY][a]"))
		}
	})
}

func TestDeliveryGates(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		shut func(*eventtest.Application)
		open func(*eventtest.Application)
	}{
		{
			"4.6 payment expired", func(a *eventtest.Application) { a.SetPaymentExpired(true) },
			func(a *eventtest.Application) { a.SetPaymentExpired(false) },
		},
		{
			"4.6 not active", func(a *eventtest.Application) { a.SetActive(false) },
			func(a *eventtest.Application) { a.SetActive(true) },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := newPortal(t)
			in := newInbox(t)
			c.bind(obj{"event": "ONCRMDEALADD", "handler": in.URL})
			c.bind(obj{"event": "ONCRMDEALADD", "event_type": "offline"})
			tt.shut(c.app)
			addDeal(t, p)
			wait(t, p)
			require.Empty(t, in.events(t))
			require.Empty(t, p.OfflineRows())
			tt.open(c.app)
			addDeal(t, p)
			wait(t, p)
			require.Len(t, in.events(t), 1)
			require.Len(t, p.OfflineRows(), 1)
		})
	}
	t.Run("4.6 REST works while the payment is out", func(t *testing.T) {
		t.Parallel()
		_, c := newPortal(t)
		c.app.SetPaymentExpired(true)
		c.ok("crm.deal.add", obj{"fields": obj{"TITLE": "x"}})
	})
	t.Run("4.6 a chain of events is cut at its end", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		in := newInbox(t)
		c.bind(obj{"event": "ONCRMDEALUPDATE", "handler": in.URL})
		other := install(t, p, eventtest.App{Scope: []string{"crm"}})
		other.bind(obj{"event": "ONCRMDEALUPDATE", "event_type": "offline"})
		change(t, p, addDeal(t, p))
		for link := 1; link <= 7; link++ {
			wait(t, p)
			forms := in.forms(t)
			require.Len(t, forms, link)
			if link == 7 {
				_, rows := other.offlineGet(nil)
				require.Len(t, rows, 1)
			}
			update := &caller{t: t, p: p, token: forms[link-1].Get("auth[access_token]")}
			update.ok("crm.deal.update", obj{"id": 1, "fields": obj{"TITLE": "again"}})
		}
		wait(t, p)
		require.Len(t, in.forms(t), 7, "the last token is worn out")
		require.Empty(t, p.OfflineRows(), "for all applications, offline too")
		c.ok("crm.deal.update", obj{"id": 1, "fields": obj{"TITLE": "stored tokens are not worn"}})
		wait(t, p)
		require.Len(t, in.forms(t), 8)
	})
}

func TestDeliveryOutcomes(t *testing.T) {
	t.Parallel()
	t.Run("4.1 no retry", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		in := newInbox(t)
		in.status = http.StatusInternalServerError
		c.bind(obj{"event": "ONCRMDEALADD", "handler": in.URL})
		addDeal(t, p)
		wait(t, p)
		attempts := p.Deliveries()
		require.Len(t, attempts, 1)
		a := attempts[0]
		require.Equal(t, http.StatusInternalServerError, a.Status)
		require.NoError(t, a.Err)
		require.False(t, a.OK())
		require.Equal(t, int64(1), a.ID)
		require.Equal(t, int64(1), a.HandlerID)
		require.Equal(t, c.app.ClientID(), a.ClientID)
		require.Equal(t, in.URL, a.URL)
		require.Positive(t, a.Duration)
		require.Equal(t, in.bodies[0], string(a.Body))

		in.mu.Lock()
		in.status = http.StatusOK
		in.mu.Unlock()
		require.NoError(t, p.Resend(a))
		wait(t, p)
		require.Len(t, in.bodies, 2)
		require.Equal(t, in.bodies[0], in.bodies[1])
		require.True(t, p.Deliveries()[1].OK())
		require.Equal(t, 2, p.Requests().Deliveries)
		require.Error(t, p.Resend(eventtest.Attempt{}))
	})
	t.Run("nobody listens, and the error has no address", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		in := newInbox(t)
		target := in.URL + "/secret-path"
		in.Close()
		c.bind(obj{"event": "ONCRMDEALADD", "handler": target})
		addDeal(t, p)
		wait(t, p)
		a := p.Deliveries()[0]
		require.Error(t, a.Err)
		require.Zero(t, a.Status)
		require.NotContains(t, a.Err.Error(), "secret-path")
	})
	t.Run("redirects are not followed", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		in := newInbox(t)
		srv := httptest.NewServer(http.RedirectHandler(in.URL, http.StatusTemporaryRedirect))
		t.Cleanup(srv.Close)
		c.bind(obj{"event": "ONCRMDEALADD", "handler": srv.URL})
		addDeal(t, p)
		wait(t, p)
		require.Equal(t, http.StatusTemporaryRedirect, p.Deliveries()[0].Status)
		require.Empty(t, in.events(t))
	})
	t.Run("a handler that hangs", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t, eventtest.WithDeliveryTimeout(50*time.Millisecond))
		release := make(chan struct{})
		srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
		t.Cleanup(srv.Close)
		t.Cleanup(func() { close(release) })
		c.bind(obj{"event": "ONCRMDEALADD", "handler": srv.URL})
		addDeal(t, p)
		wait(t, p)
		require.ErrorIs(t, p.Deliveries()[0].Err, context.DeadlineExceeded)
	})
}

func TestDeliveryQueue(t *testing.T) {
	t.Parallel()
	t.Run("a thousand events, in order", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		in := newInbox(t)
		c.bind(obj{"event": "ONCRMDEALADD", "handler": in.URL})
		start := time.Now()
		for range 1000 {
			addDeal(t, p)
		}
		wait(t, p)
		require.Less(t, time.Since(start), 20*time.Second)
		forms := in.forms(t)
		require.Len(t, forms, 1000)
		for i, form := range forms {
			require.Equal(t, i+1, atoi(t, form.Get("data[FIELDS][ID]")))
		}
	})
	t.Run("parallel deliveries are bounded", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t, eventtest.WithParallelDelivery(4))
		var now, most atomic.Int32
		full := make(chan struct{})
		srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
				if n == 4 {
					close(full)
				}
			}
			<-full
			now.Add(-1)
		}))
		t.Cleanup(srv.Close)
		c.bind(obj{"event": "ONCRMDEALADD", "handler": srv.URL})
		for range 20 {
			addDeal(t, p)
		}
		wait(t, p)
		require.Equal(t, int32(4), most.Load())
		require.Len(t, p.Deliveries(), 20)
	})
	t.Run("a slow handler does not hold up others", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		in, release := newInbox(t), make(chan struct{})
		srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
		t.Cleanup(srv.Close)
		c.bind(obj{"event": "ONCRMDEALADD", "handler": srv.URL})
		c.bind(obj{"event": "ONCRMDEALADD", "handler": in.URL})
		addDeal(t, p)
		addDeal(t, p)
		require.Eventually(t, func() bool { return len(in.events(t)) == 2 }, 5*time.Second, time.Millisecond)
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.ErrorIs(t, p.Wait(short), context.DeadlineExceeded)
		close(release)
		wait(t, p)
	})
}
