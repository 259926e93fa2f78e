package eventtest_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// TestBindAllows covers what event.bind does not check.
func TestBindAllows(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		params obj
		opts   []eventtest.Option
	}{
		{"2.1 IPv4, any port and path, private, reached or not", obj{"handler": "http://10.255.255.1:1/no/such?x=1"}, nil},
		{"2.1 a host that has nothing to do with the application", obj{"handler": "https://elsewhere.example.org/"}, nil},
		{"2.1 EVENT_TYPE in any case", obj{"handler": handlerURL, "event_type": "OnLine"}, nil},
		{"2.1 offline without the extended mode", obj{"event_type": "Offline"}, []eventtest.Option{eventtest.WithoutExtendedOffline()}},
		{"2.1 options that the event does not know", obj{"handler": handlerURL, "options": obj{"minTimeout": 5, "x": 1}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := newPortal(t, tt.opts...)
			tt.params["event"] = "onCrmDealAdd"
			c.bind(tt.params)
			require.Equal(t, "ONCRMDEALADD", p.Bindings()[0].Event, "2.1 EVENT is upper-cased")
		})
	}
	t.Run("2 every application may call event.*", func(t *testing.T) {
		t.Parallel()
		p := eventtest.NewPortal(t)
		c := install(t, p, eventtest.App{})
		c.bind(obj{"event": "ONAPPTEST", "handler": handlerURL})
		for _, method := range []string{"event.get", "events", "event.offline.get", "event.offline.list"} {
			c.ok(method, nil)
		}
	})
	t.Run("2 webhooks may call the other basic methods", func(t *testing.T) {
		t.Parallel()
		p := eventtest.NewPortal(t)
		hook, err := p.AddIncomingWebhook(eventtest.AdminID)
		require.NoError(t, err)
		for _, method := range []string{"feature.get?CODE=x", "method.get?name=scope", "app.info", "server.time"} {
			require.Equal(t, http.StatusOK, send(t, http.MethodGet, string(hook)+method, "", "").Status, method)
		}
	})
}

// TestOfflineQueues covers what separates the rows of queues and batches.
func TestOfflineQueues(t *testing.T) {
	t.Parallel()
	t.Run("2.6 auth_connector selects the queue", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		c.bind(obj{"event": "ONCRMDEALADD", "event_type": "offline", "auth_connector": "A"})
		addDeal(t, p)
		_, rows := c.offlineGet(obj{"clear": 0})
		require.Empty(t, rows)
		_, rows = c.offlineGet(obj{"clear": 0, "auth_connector": "a"})
		require.Empty(t, rows, "exactly")
		_, rows = c.offlineGet(obj{"clear": 0, "auth_connector": "A"})
		require.Len(t, rows, 1)
	})
	t.Run("2.6 nobody is user 0, no data is null", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		c.bind(obj{"event": "ONCRMDEALADD", "event_type": "offline"})
		require.NoError(t, p.Raise("ONCRMDEALADD", nil, 0))
		_, rows := c.offlineGet(nil)
		require.Equal(t, obj{"user_id": 0.0}, rows[0]["EVENT_ADDITIONAL"])
		require.Contains(t, rows[0], "EVENT_DATA")
		require.Nil(t, rows[0]["EVENT_DATA"])
	})
	t.Run("2.9 rows that another batch holds are destroyed too", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 1)
		first, rows := c.offlineGet(obj{"clear": 0})
		change(t, p, 1)
		c.offlineGet(obj{"clear": 0})
		c.ok("event.offline.error", obj{"process_id": first, "message_id": messages(rows)})
		left := p.OfflineRows()
		require.Len(t, left, 1)
		require.True(t, left[0].Error)
	})
	t.Run("3.2 one object in two batches, of which one is cleared", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 1)
		first, _ := c.offlineGet(obj{"clear": 0})
		before := p.OfflineRows()[0]
		change(t, p, 1)
		second, _ := c.offlineGet(obj{"clear": 0})
		rows := p.OfflineRows()
		require.Len(t, rows, 2)
		require.Equal(t, before, rows[0], "3.2 reserving changes neither time nor number")
		c.ok("event.offline.clear", obj{"process_id": first})
		require.Equal(t, second, p.OfflineRows()[0].ProcessID)
		require.Len(t, p.OfflineRows(), 1)
	})
}

func TestDeliveryTime(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	reached, release := make(chan struct{}, 2), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		reached <- struct{}{}
		<-release
	}))
	t.Cleanup(srv.Close)
	let := sync.OnceFunc(func() { close(release) })
	t.Cleanup(let)
	c.bind(obj{"event": "ONCRMDEALADD", "handler": srv.URL})
	addDeal(t, p)
	<-reached
	fired := p.Now()
	addDeal(t, p) // queued after the first
	p.Advance(30 * time.Minute)
	let()
	wait(t, p)
	second := p.Deliveries()[1]
	require.WithinDuration(t, fired, parse(t, second.Body).Time, 2*time.Second, "4.2 ts is the time of firing, not of sending")
	require.WithinDuration(t, fired.Add(30*time.Minute), second.Time, 10*time.Second)
}

// TestDeliveryTokens raises every event of the catalogue that can be bound.
func TestDeliveryTokens(t *testing.T) {
	t.Parallel()
	never := []string{"ONAPPUNINSTALL", "ONAPPMETHODCONFIRM"}
	refreshing := []string{
		"ONAPPINSTALL", "ONAPPUPDATE", "ONAPPTEST", "ONSUBSCRIPTIONRENEW", "ONOFFLINEEVENT", "ONIMBOTMESSAGEADD",
		"ONIMBOTMESSAGEUPDATE", "ONIMBOTMESSAGEDELETE", "ONIMBOTCONTEXTGET", "ONIMCOMMANDADD",
	}
	var names, scopes []string
	for info := range event.Catalog() {
		if info.AutoSubscribed {
			continue
		}
		names = append(names, strings.ReplaceAll(info.Name, "{TYPEID}", "31"))
		if info.Scope != "basic" {
			scopes = append(scopes, info.Scope)
		}
	}
	require.Greater(t, len(names), 150)
	slices.Sort(scopes)
	p := eventtest.NewPortal(t)
	c := install(t, p, eventtest.App{Scope: slices.Compact(scopes)})
	in := newInbox(t)
	for _, name := range names {
		c.bind(obj{"event": name, "handler": in.URL})
		require.NoError(t, p.Raise(name, nil, eventtest.AdminID))
	}
	wait(t, p)
	forms := in.forms(t)
	require.Len(t, forms, len(names))
	for i, name := range names {
		form := forms[i]
		require.Equal(t, name, form.Get("event"))
		if slices.Contains(never, name) {
			require.Equal(t, fiveKeys, authKeys(form), "4.4 events that never carry tokens: "+name)
			continue
		}
		refresh := slices.Contains(refreshing, name) || strings.HasPrefix(name, "ONCALENDAR")
		require.Equal(t, refresh, form.Has("auth[refresh_token]"), "4.4 events that carry a refresh token: "+name)
		require.True(t, form.Has("auth[access_token]"), "4.4 everything else has an access token: "+name)
		require.Equal(t, "3600", form.Get("auth[expires_in]"), "4.4 valid for an hour")
	}
}

func TestInstallData(t *testing.T) {
	t.Parallel()
	p, in := eventtest.NewPortal(t), newInbox(t)
	install(t, p, eventtest.App{HandlerURL: in.URL})
	wait(t, p)
	form := in.forms(t)[0]
	for key, want := range map[string]string{"VERSION": "1", "ACTIVE": "Y", "INSTALLED": "Y", "LANGUAGE_ID": "en"} {
		require.Equal(t, want, form.Get("data["+key+"]"), "4.5 ONAPPINSTALL tells version, state and language")
	}
}
