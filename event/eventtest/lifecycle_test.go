package eventtest_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

func TestUpdate(t *testing.T) {
	t.Parallel()
	in := newInbox(t)
	p := eventtest.NewPortal(t)
	c := install(t, p, eventtest.App{HandlerURL: in.URL, Status: "P"})
	other := install(t, p, eventtest.App{})
	c.bind(obj{"event": "ONAPPUPDATE", "handler": in.URL})
	other.bind(obj{"event": "ONAPPUPDATE", "handler": in.URL})
	require.NoError(t, c.app.Update())
	wait(t, p)
	forms := in.forms(t)
	require.Len(t, forms, 2, "PROTOCOL 4.5: the install event, and the update of this application only")
	require.Equal(t, "1", forms[0].Get("data[VERSION]"))
	require.Equal(t, "2", forms[1].Get("data[VERSION]"))
	require.Equal(t, "1", forms[1].Get("data[PREVIOUS_VERSION]"))
	require.Equal(t, "P", forms[1].Get("auth[status]"))
	require.NotEmpty(t, forms[1].Get("auth[refresh_token]"), "PROTOCOL 4.4")
	info := c.ok("app.info", nil).object(t)
	require.InDelta(t, 2, info["VERSION"], 0)
	require.Equal(t, "P", info["STATUS"])
	require.Len(t, p.Bindings(), 3, "PROTOCOL 2.1: handlers stay")

	fresh, err := p.AddApp(eventtest.App{})
	require.NoError(t, err)
	require.ErrorIs(t, fresh.Update(), eventtest.ErrNotInstalled)
	_, err = p.AddApp(eventtest.App{Status: "X"})
	require.ErrorIs(t, err, eventtest.ErrConfig)
	require.NoError(t, p.Close())
	require.ErrorIs(t, c.app.Update(), eventtest.ErrClosed)
}

func TestRaiseForOneApplication(t *testing.T) {
	t.Parallel()
	in := newInbox(t)
	p, c := newPortal(t)
	other := install(t, p, eventtest.App{})
	_, err := p.AddOutgoingWebhook(in.URL, "ONAPPPAYMENT")
	require.NoError(t, err)
	c.bind(obj{"event": "ONAPPPAYMENT", "handler": in.URL})
	other.bind(obj{"event": "ONAPPPAYMENT", "handler": in.URL})
	require.NoError(t, c.app.Raise("OnAppPayment", map[string]any{"STATUS": "P"}, eventtest.AdminID))
	wait(t, p)
	require.Len(t, in.events(t), 1)
	require.Equal(t, c.app.ClientID(), p.Deliveries()[0].ClientID)
	require.NoError(t, p.Raise("ONAPPPAYMENT", nil, 0))
	wait(t, p)
	require.Len(t, in.events(t), 4)
	require.Error(t, c.app.Raise("ONAPPTEST", func() {}, 0))
}

func TestRaiseKnowsItsNames(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	p.AddEvent("onMyEvent", "")
	require.NoError(t, p.AddSmartProcess(147))
	_, err := p.AddOutgoingWebhook("http://127.0.0.1:1/", "onTheirEvent")
	require.NoError(t, err)
	for _, name := range []string{
		"onCrmDealAdd", "ONMYEVENT", "OnTheirEvent", "ONCRMDYNAMICITEMADD", "ONCRMDYNAMICITEMADD_147", "ONIMBOTV2CONTEXTGET",
		"ONSUBSCRIPTIONRENEW", "CATALOG.PRICE.ON.ADD",
	} {
		require.NoError(t, p.Raise(name, nil, 0), name)
		require.NoError(t, c.app.Raise(name, nil, eventtest.AdminID), name)
	}
	for _, name := range []string{
		"", " ", "ONCRMDEALADDED", "ONCRMDYNAMICITEMADD_148", "ONCRMDYNAMICITEMADD_", "ONCRMDYNAMICITEMADD_{TYPEID}", "ON CRM DEAL ADD",
	} {
		err := p.Raise(name, nil, 0)
		require.ErrorIs(t, err, eventtest.ErrNotFound, name)
		require.ErrorContains(t, err, "AddEvent")
		require.ErrorIs(t, c.app.Raise(name, nil, 0), eventtest.ErrNotFound, name)
	}
	err = p.Raise("ONCRMDEALADD", nil, 4711)
	require.ErrorIs(t, err, eventtest.ErrNotFound)
	require.ErrorContains(t, err, "user 4711")
	require.ErrorIs(t, c.app.Raise("ONAPPTEST", nil, -1), eventtest.ErrNotFound)
	require.Empty(t, p.OfflineRows())
}

// PROTOCOL 1.4: authorization_error.
func TestDismissedUser(t *testing.T) {
	t.Parallel()
	in := newInbox(t)
	p, c := newPortal(t)
	leaver := p.AddUser(eventtest.User{Name: "Lea", Admin: true})
	theirs := as(t, p, c.app, leaver)
	hook, err := p.AddIncomingWebhook(leaver)
	require.NoError(t, err)
	c.bind(obj{"event": "ONCRMDEALADD", "handler": in.URL, "auth_type": leaver})
	theirs.ok("profile", nil)
	require.ErrorIs(t, p.DismissUser(99), eventtest.ErrNotFound)
	require.NoError(t, p.DismissUser(leaver))
	a := theirs.call("profile", nil)
	require.Equal(t, "authorization_error", a.Error)
	require.Equal(t, http.StatusUnauthorized, a.Status)
	require.Equal(t, "authorization_error", send(t, http.MethodGet, string(hook)+"profile", "", "").Error)
	require.Equal(t, false, c.ok("user.get", obj{"ID": leaver}).list(t)[0].(obj)["ACTIVE"]) //nolint:forcetypeassert // it fails the test
	c.ok("profile", nil)
	addDeal(t, p)
	wait(t, p)
	require.False(t, in.forms(t)[0].Has("auth[access_token]"))
}

// PROTOCOL 1.1: UTF-8 only.
func TestWrongEncoding(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	body := "fields[TITLE]=%FF&auth=" + c.token
	send(t, http.MethodPost, p.ClientEndpoint()+"crm.deal.add", "application/x-www-form-urlencoded", body)
	a := c.call("crm.deal.get", obj{"id": 1})
	require.Equal(t, "WRONG_ENCODING", a.Error)
	require.Equal(t, http.StatusOK, a.Status, "with the status chosen before")
}

// PROTOCOL 3.2: rows are written some hundred milliseconds after the request that caused them.
func TestOfflineLag(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, eventtest.NewNetwork(), eventtest.WithQuirks(func(q *eventtest.Quirks) { q.OfflineLag = 300 * time.Millisecond }))
		call := w.caller(t)
		call("event.bind", obj{"event": "ONCRMDEALADD", "event_type": "offline"})
		call("event.bind", obj{"event": "ONOFFLINEEVENT", "handler": bubbleHandler})
		wait(t, w.Portal)
		w.events()
		start := time.Now()
		addDeal(t, w.Portal)
		require.Empty(t, w.OfflineRows())
		wait(t, w.Portal)
		require.Equal(t, 300*time.Millisecond, time.Since(start))
		require.Len(t, w.OfflineRows(), 1)
		require.Equal(t, []string{"ONOFFLINEEVENT"}, w.events())
		addDeal(t, w.Portal)
		require.NoError(t, w.app.Uninstall(true))
		wait(t, w.Portal)
		require.Empty(t, w.OfflineRows(), "the application is gone by then")
	})
}

func TestOldTokensAreForgotten(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	old, err := c.app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	grants := func(n int) {
		for range n {
			_, err := c.app.Grant(eventtest.AdminID)
			require.NoError(t, err)
		}
	}
	grants(39_980)
	p.Advance(2 * time.Hour)
	require.Equal(t, "expired_token", c.call("profile", nil).Error, "it is known for what it was")
	grants(30)
	last := as(t, p, c.app, eventtest.AdminID)
	last.ok("profile", nil)
	require.Equal(t, "invalid_token", c.call("profile", nil).Error)
	require.Equal(t, http.StatusBadRequest, refresh(t, p, c.app, string(old.RefreshToken)).Status)
}
