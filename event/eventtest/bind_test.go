package eventtest_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

const handlerURL = "https://example.com/bitrix24"

func TestBindRefuses(t *testing.T) {
	t.Parallel()
	const admin, plain = true, false
	for _, tt := range []struct {
		name        string
		admin       bool
		params      obj
		status      int
		code        string
		description string
		argument    string // empty for none
	}{
		{
			"2.1 #2 foreign AUTH_TYPE, before EVENT is looked at", plain,
			obj{"auth_type": 1},
			403, "ACCESS_DENIED", "Access denied! Event binding with AUTH_TYPE requires administrator access rights", "",
		},
		{"2.1 #3 no EVENT", admin, obj{"event_type": "wrong"}, 400, "ERROR_ARGUMENT", "Argument 'EVENT' is null or empty", "EVENT"},
		{
			"2.1 #4 bad EVENT_TYPE, before rights", plain,
			obj{"event": "X", "event_type": "both"},
			400, "ERROR_ARGUMENT", "Value must be one of {online|offline}", "EVENT_TYPE",
		},
		{
			"2.1 #4 EVENT_TYPE in an array", admin,
			obj{"event": "ONCRMDEALADD", "handler": handlerURL, "event_type": []string{"offline"}},
			400, "ERROR_ARGUMENT", "Value must be one of {online|offline}", "EVENT_TYPE",
		},
		{
			"2.1 #4 EVENT_TYPE in an empty array", admin,
			obj{"event": "ONCRMDEALADD", "handler": handlerURL, "event_type": []string{}},
			400, "ERROR_ARGUMENT", "Value must be one of {online|offline}", "EVENT_TYPE",
		},
		{
			"2.1 #4 EVENT_TYPE after a space", admin,
			obj{"event": "ONCRMDEALADD", "event_type": " offline"},
			400, "ERROR_ARGUMENT", "Value must be one of {online|offline}", "EVENT_TYPE",
		},
		{
			"2.1 #5 offline by a plain user", plain,
			obj{"event": "X", "event_type": "OFFLINE"},
			403, "ACCESS_DENIED", "Access denied! Offline events binding requires administrator access rights", "",
		},
		{"2.1 #6 no HANDLER", admin, obj{"event": "X"}, 400, "ERROR_ARGUMENT", "Argument 'HANDLER' is null or empty", "HANDLER"},
		{
			"2.1 #7 localhost", admin,
			obj{"event": "X", "handler": "http://localhost:8080/x"},
			400, "ERROR_WRONG_HANDLER_URL",
			"Wrong handler URL", "",
		},
		{"2.1 #7 IPv6", admin, obj{"event": "X", "handler": "http://[::1]/x"}, 400, "ERROR_WRONG_HANDLER_URL", "Wrong handler URL", ""},
		{
			"2.1 #7 IPv6 in the form of IPv4", admin,
			obj{"event": "X", "handler": "http://[::ffff:127.0.0.1]/x"},
			400, "ERROR_WRONG_HANDLER_URL", "Wrong handler URL", "",
		},
		{"2.1 #7 no scheme", admin, obj{"event": "X", "handler": "example.com/x"}, 400, "ERROR_WRONG_HANDLER_URL", "Wrong handler URL", ""},
		{"2.1 #7 leading dot", admin, obj{"event": "X", "handler": "https://.com/x"}, 400, "ERROR_WRONG_HANDLER_URL", "Wrong handler URL", ""},
		{
			"2.1 #8 scheme", admin,
			obj{"event": "X", "handler": "ftp://example.com/x"},
			400, "ERROR_UNSUPPORTED_PROTOCOL",
			"Unsupported handler protocol", "",
		},
		{
			"2.1 #8 scheme in upper case", admin,
			obj{"event": "X", "handler": "HTTPS://example.com/x"},
			400, "ERROR_UNSUPPORTED_PROTOCOL", "Unsupported handler protocol", "",
		},
		{"2.1 #9 unknown event", admin, obj{"event": "X", "handler": handlerURL}, 400, "ERROR_EVENT_NOT_FOUND", "Event not found", ""},
		{
			"2.1 #9 a space is part of the name", admin,
			obj{"event": " ONCRMDEALADD", "handler": handlerURL},
			400, "ERROR_EVENT_NOT_FOUND", "Event not found", "",
		},
		{
			"2.1 #9 scope not granted", admin,
			obj{"event": "ONSALEORDERSAVED", "handler": handlerURL},
			400, "ERROR_EVENT_NOT_FOUND", "Event not found", "",
		},
		{
			"2.1 #9 smart process that is not there", admin,
			obj{"event": "ONCRMDYNAMICITEMADD_147", "handler": handlerURL},
			400, "ERROR_EVENT_NOT_FOUND", "Event not found", "",
		},
		{
			"2.1 #9 sent by the platform itself", admin,
			obj{"event": "ONIMBOTV2MESSAGEADD", "handler": handlerURL},
			400, "ERROR_EVENT_NOT_FOUND", "Event not found", "",
		},
		{
			"2.1 #10 the signal offline", admin,
			obj{"event": "ONOFFLINEEVENT", "event_type": "offline"},
			400, "ERROR_ARGUMENT", "Offline event cannot be registered for this event.", "",
		},
		{
			"2.1 longer than the column", admin,
			obj{"event": "ONCRMDEALADD", "handler": handlerURL + strings.Repeat("x", 255)},
			500, "ERROR_CORE", "SQL query error!", "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := newPortal(t)
			if !tt.admin {
				c = as(t, p, c.app, p.AddUser(eventtest.User{Name: "Plain"}))
			}
			a := c.call("event.bind", tt.params)
			require.Equal(t, tt.status, a.Status)
			require.Equal(t, tt.code, a.Error)
			require.Equal(t, tt.description, a.Description)
			if tt.argument == "" {
				require.Nil(t, a.Argument)
			} else {
				require.Equal(t, tt.argument, *a.Argument)
			}
			require.Empty(t, p.Bindings())
		})
	}
	t.Run("2.1 #1 webhooks", func(t *testing.T) {
		t.Parallel()
		p := eventtest.NewPortal(t)
		hook, err := p.AddIncomingWebhook(eventtest.AdminID, "crm")
		require.NoError(t, err)
		for _, method := range []string{
			"event.bind", "event.unbind", "event.get", "event.test", "events",
			"event.offline.get", "event.offline.list", "event.offline.clear", "event.offline.error",
		} {
			a := send(t, http.MethodPost, string(hook)+method, "", "")
			require.Equal(t, http.StatusForbidden, a.Status, method)
			require.Equal(t, "WRONG_AUTH_TYPE", a.Error)
			require.Equal(t, "Current authorization type is denied for this method", a.Description)
		}
	})
}

func TestBindIdentity(t *testing.T) {
	t.Parallel()
	base := obj{"event": "ONCRMDEALADD", "handler": handlerURL}
	with := func(more obj) obj {
		m := maps.Clone(base)
		maps.Copy(m, more)
		return m
	}
	for _, tt := range []struct {
		name      string
		params    obj
		duplicate bool
	}{
		{"2.1 #11 the same", base, true},
		{"2.1 #11 event in another case", with(obj{"event": "onCrmDealAdd"}), true},
		{"2.1 another AUTH_TYPE", with(obj{"auth_type": 1}), false},
		{"2.1 another connector", with(obj{"auth_connector": "A"}), false},
		{"2.1 another URL", with(obj{"handler": handlerURL + "?tenant=1"}), false},
		{"2.1 another event", with(obj{"event": "ONCRMDEALUPDATE"}), false},
		{"2.1 offline", with(obj{"event_type": "offline"}), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := newPortal(t)
			c.bind(base)
			a := c.call("event.bind", tt.params)
			if !tt.duplicate {
				require.Equal(t, http.StatusOK, a.Status, a.Raw)
				require.Len(t, p.Bindings(), 2)
				return
			}
			require.Equal(t, http.StatusBadRequest, a.Status)
			require.Equal(t, "ERROR_CORE", a.Error)
			require.Equal(t, "Unable to set event handler: Handler already binded", a.Description)
			require.Len(t, p.Bindings(), 1)
		})
	}
	t.Run("2.1 URLs that differ after 180 characters collide", func(t *testing.T) {
		t.Parallel()
		_, c := newPortal(t)
		long := "https://example.com/" + strings.Repeat("x", 160)
		c.bind(obj{"event": "ONCRMDEALADD", "handler": long + "a"})
		require.Equal(t, "ERROR_CORE", c.call("event.bind", obj{"event": "ONCRMDEALADD", "handler": long + "b"}).Error)
	})
	t.Run("2.1 another application", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		c.bind(base)
		install(t, p, eventtest.App{Scope: []string{"crm"}}).bind(base)
	})
	t.Run("2.1 a plain user is bound to own tokens", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		user := p.AddUser(eventtest.User{Name: "Plain"})
		as(t, p, c.app, user).bind(base)
		require.Equal(t, user, p.Bindings()[0].UserID)
		for _, authType := range []any{0, user} {
			a := as(t, p, c.app, user).call("event.bind", with(obj{"auth_type": authType}))
			require.Contains(t, a.Description, "already binded", "whatever AUTH_TYPE says")
		}
	})
	t.Run("2.1 AUTH_TYPE is forced to 0 offline", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		c.bind(obj{"event": "ONCRMDEALADD", "event_type": "offline", "auth_type": 1, "handler": "ignored"})
		require.Equal(t, eventtest.Binding{ID: 1, ClientID: c.app.ClientID(), Event: "ONCRMDEALADD", Offline: true}, p.Bindings()[0])
	})
	t.Run("2.1 smart processes once they are there", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		require.NoError(t, p.AddSmartProcess(147))
		c.bind(obj{"event": "onCrmDynamicItemAdd_147", "handler": handlerURL})
		require.Equal(t, "ONCRMDYNAMICITEMADD_147", p.Bindings()[0].Event)
		require.ErrorIs(t, p.AddSmartProcess(7), eventtest.ErrConfig)
	})
	t.Run("1.1 keys of any case", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		c.bind(obj{"Event": "ONCRMDEALADD", "HANDLER": handlerURL})
		require.Len(t, p.Bindings(), 1)
	})
}

func TestUnbind(t *testing.T) {
	t.Parallel()
	// bound binds handlers: IDs 1 and 2 of users 0 and 1, 3 of a connector, 4 of a plain user, 5 and 6
	// offline.
	bound := func(t *testing.T) (p *eventtest.Portal, admin, plain *caller) {
		t.Helper()
		p, admin = newPortal(t)
		plain = as(t, p, admin.app, p.AddUser(eventtest.User{Name: "Plain"}))
		admin.bind(obj{"event": "ONCRMDEALADD", "handler": handlerURL})
		admin.bind(obj{"event": "ONCRMDEALADD", "handler": handlerURL, "auth_type": 1})
		admin.bind(obj{"event": "ONCRMDEALADD", "handler": handlerURL, "auth_connector": "A"})
		plain.bind(obj{"event": "ONCRMDEALADD", "handler": handlerURL})
		admin.bind(obj{"event": "ONCRMDEALADD", "event_type": "offline"})
		admin.bind(obj{"event": "ONCRMDEALADD", "event_type": "offline", "auth_connector": "A"})
		return p, admin, plain
	}
	for _, tt := range []struct {
		name   string
		plain  bool
		params obj
		left   []int64
	}{
		{"2.2 administrator: all users and connectors", false, obj{"handler": handlerURL}, []int64{5, 6}},
		{"2.2 AUTH_TYPE 0", false, obj{"handler": handlerURL, "auth_type": 0}, []int64{2, 4, 5, 6}},
		{"2.2 AUTH_TYPE '' is 0", false, obj{"handler": handlerURL, "auth_type": ""}, []int64{2, 4, 5, 6}},
		{"2.2 AUTH_TYPE of a user", false, obj{"handler": handlerURL, "auth_type": "1"}, []int64{1, 3, 4, 5, 6}},
		{"2.2 plain user: own only", true, obj{"handler": handlerURL}, []int64{1, 2, 3, 5, 6}},
		{"2.2 plain user with own number", true, obj{"handler": handlerURL, "auth_type": 2}, []int64{1, 2, 3, 5, 6}},
		{"2.2 another URL", false, obj{"handler": handlerURL + "/"}, []int64{1, 2, 3, 4, 5, 6}},
		{"2.2 offline, exact connector", false, obj{"event_type": "offline", "auth_connector": "A"}, []int64{1, 2, 3, 4, 5}},
		{"2.2 offline without connector", false, obj{"event_type": "offline"}, []int64{1, 2, 3, 4, 6}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c, plain := bound(t)
			if tt.plain {
				c = plain
			}
			tt.params["event"] = "onCrmDealAdd"
			count := c.ok("event.unbind", tt.params).object(t)["count"]
			left := []int64{}
			for _, b := range p.Bindings() {
				left = append(left, b.ID)
			}
			require.Equal(t, tt.left, left)
			require.InDelta(t, 6-len(tt.left), count, 0)
		})
	}
	for _, tt := range []struct {
		name     string
		plain    bool
		params   obj
		code     string
		argument string
	}{
		{"2.2 plain user, own id as text", true, obj{"event": "X", "handler": handlerURL, "auth_type": "2"}, "ACCESS_DENIED", ""},
		{"2.2 plain user, foreign id", true, obj{"event": "X", "handler": handlerURL, "auth_type": 1}, "ACCESS_DENIED", ""},
		{"2.2 plain user offline", true, obj{"event": "X", "event_type": "offline"}, "ACCESS_DENIED", ""},
		{"2.2 no EVENT", false, obj{"handler": handlerURL}, "ERROR_ARGUMENT", "EVENT"},
		{"2.2 no HANDLER", false, obj{"event": "X"}, "ERROR_ARGUMENT", "HANDLER"},
		{"2.2 bad EVENT_TYPE", false, obj{"event": "X", "event_type": "x"}, "ERROR_ARGUMENT", "EVENT_TYPE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c, plain := bound(t)
			if tt.plain {
				c = plain
			}
			a := c.call("event.unbind", tt.params)
			require.Equal(t, tt.code, a.Error)
			if tt.argument != "" {
				require.Equal(t, tt.argument, *a.Argument)
			}
			require.Len(t, p.Bindings(), 6)
		})
	}
}

func TestEventGet(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	plain := as(t, p, c.app, p.AddUser(eventtest.User{Name: "Plain"}))
	c.bind(obj{"event": "onCrmDealAdd", "handler": handlerURL, "auth_connector": "A"})
	plain.bind(obj{"event": "onCrmDealAdd", "handler": handlerURL})
	c.bind(obj{"event": "onCrmDealUpdate", "event_type": "offline"})
	c.bind(obj{"event": "onCrmDealUpdate", "event_type": "offline", "auth_connector": "A"})
	require.JSONEq(t, `[
		{"event":"ONCRMDEALADD","handler":"https://example.com/bitrix24","auth_type":"0","offline":0},
		{"event":"ONCRMDEALADD","handler":"https://example.com/bitrix24","auth_type":"2","offline":0},
		{"event":"ONCRMDEALUPDATE","connector_id":"","offline":1},
		{"event":"ONCRMDEALUPDATE","connector_id":"A","offline":1}
	]`, string(c.ok("event.get", nil).Result), "2.3 rows of both kinds")
	require.JSONEq(t, `[{"event":"ONCRMDEALADD","handler":"https://example.com/bitrix24","auth_type":"2","offline":0}]`,
		string(plain.ok("event.get", nil).Result), "2.3 a plain user sees own rows")
	require.JSONEq(t, `[]`, string(install(t, p, eventtest.App{}).ok("event.get", nil).Result))

	api := install(t, p, eventtest.App{HandlerURL: newInbox(t).URL})
	require.Equal(t, "ONAPPINSTALL", api.ok("event.get", nil).list(t)[0].(obj)["event"], //nolint:forcetypeassert // the test's point
		"2.3 the platform's own handler is listed")
}

func TestEvents(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	require.NoError(t, p.AddSmartProcess(147))
	few := install(t, p, eventtest.App{Scope: []string{"task"}})
	names := few.ok("events", nil).list(t)
	require.Contains(t, names, "ONTASKADD")
	require.Contains(t, names, "ONAPPINSTALL", "2.4 the token's scopes plus basic")
	require.Contains(t, names, "ONSUBSCRIPTIONRENEW", "2.4 an event without a page")
	require.NotContains(t, names, "ONCRMDEALADD")
	require.NotContains(t, names, "ONIMBOTV2MESSAGEADD")

	crm := c.ok("events", obj{"SCOPE": "crm", "FULL": "1"}).list(t)
	require.Contains(t, crm, "ONCRMDYNAMICITEMADD_147", "2.4 dynamic names")
	require.Contains(t, crm, "ONCRMDYNAMICITEMADD_31")
	require.NotContains(t, crm, "ONCRMDYNAMICITEMADD_148")
	require.NotContains(t, crm, "ONTASKADD", "2.4 FULL is ignored with SCOPE")
	require.Empty(t, c.ok("events", obj{"SCOPE": "CRM"}).list(t), "2.4 scope is case-sensitive")
	require.Contains(t, c.ok("events", obj{"SCOPE": ""}).list(t), "ONAPPTEST", "2.4 empty scope is the basic one")
	require.NotContains(t, c.ok("events", obj{"SCOPE": ""}).list(t), "ONTASKADD")

	all := few.ok("events", obj{"FULL": "N"}).list(t)
	require.Contains(t, all, "ONCRMDEALADD", `2.4 "N" is true`)
	require.Equal(t, names, few.ok("events", obj{"FULL": "0"}).list(t), `2.4 "0" is false`)
}

func TestEventTest(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	in := newInbox(t)
	c.bind(obj{"event": "ONAPPTEST", "handler": in.URL})
	install(t, p, eventtest.App{}).bind(obj{"event": "ONAPPTEST", "handler": in.URL})
	require.JSONEq(t, "1", string(c.ok("event.test", obj{"probe": "42", "start": 7}).Result), "2.5 the integer 1")
	wait(t, p)
	forms := in.forms(t)
	require.Len(t, forms, 1, "2.5 only the application's own handlers")
	require.Equal(t, "ONAPPTEST", forms[0].Get("event"))
	require.Equal(t, "42", forms[0].Get("data[QUERY][probe]"))
	require.Equal(t, "en", forms[0].Get("data[LANGUAGE_ID]"))
	require.NotContains(t, forms[0], "data[QUERY][auth]")
	require.NotContains(t, forms[0], "data[QUERY][start]")
	require.NotEmpty(t, forms[0].Get("auth[refresh_token]"))
}

func TestFeatureGet(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, code string
		opts       []eventtest.Option
		want       string
	}{
		{"2.10 extended", "rest_offline_extended", nil, "Y"},
		{"2.10 connector", "rest_auth_connector", nil, "Y"},
		{"2.10 no extended", "rest_offline_extended", []eventtest.Option{eventtest.WithoutExtendedOffline()}, "N"},
		{"2.10 no connector", "rest_auth_connector", []eventtest.Option{eventtest.WithoutConnectors()}, "N"},
		{"2.10 unknown", "x", nil, "N"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := newPortal(t, tt.opts...)
			require.Equal(t, obj{"value": tt.want}, c.ok("feature.get", obj{"Code": tt.code}).object(t))
			hook, err := p.AddIncomingWebhook(1)
			require.NoError(t, err)
			a := send(t, http.MethodGet, string(hook)+"feature.get?CODE="+tt.code, "", "")
			require.Equal(t, obj{"value": tt.want}, a.object(t), "2 webhooks may ask")
		})
	}
	_, c := newPortal(t)
	a := c.call("feature.get", nil)
	require.Equal(t, http.StatusBadRequest, a.Status)
	require.Equal(t, "CODE_EMPTY", a.Error)
}

func TestConnectorLicense(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t, eventtest.WithoutConnectors())
	for _, method := range []string{"server.time", "batch", "event.get", "crm.deal.list"} {
		a := c.call(method, obj{"auth_connector": ""})
		require.Equal(t, http.StatusForbidden, a.Status, "2 an empty one counts, for any method")
		require.Equal(t, "WRONG_LICENSE", a.Error)
		require.Equal(t, "This feature is not enabled for the current license: auth_connector", a.Description)
	}
	c.ok("server.time", obj{"auth_connector": nil})
	hook, err := p.AddIncomingWebhook(1)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, send(t, http.MethodGet, string(hook)+"server.time?auth_connector=A", "", "").Status,
		"2 webhook calls do not look at it")
}

func TestAppInfo(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	info := c.ok("app.info", nil).object(t)
	require.Equal(t, "L", info["STATUS"])
	require.Equal(t, true, info["INSTALLED"])
	require.Equal(t, "N", info["PAYMENT_EXPIRED"])
	require.Equal(t, c.app.ClientID(), info["CODE"])
	c.app.SetPaymentExpired(true)
	require.Equal(t, "Y", c.ok("app.info", nil).object(t)["PAYMENT_EXPIRED"])

	hook, err := p.AddIncomingWebhook(1, "crm")
	require.NoError(t, err)
	info = send(t, http.MethodGet, string(hook)+"app.info", "", "").object(t)
	require.Equal(t, []any{"crm"}, info["SCOPE"], "2.11 webhook: scope and licence only")
	require.Len(t, info, 2)
}

func TestMethodGetAndScope(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	few := install(t, p, eventtest.App{Scope: []string{"task"}})
	for _, tt := range []struct {
		name, method        string
		existing, available bool
	}{
		{"2.11 available", "tasks.task.get", true, true},
		{"2.11 scope missing", "crm.deal.get", true, false},
		{"2.11 unknown", "no.such", false, false},
		{"2.11 empty", "", false, false},
	} {
		require.Equal(t, obj{"isExisting": tt.existing, "isAvailable": tt.available},
			few.ok("method.get", obj{"name": tt.method}).object(t), tt.name)
	}
	require.Equal(t, []any{"task"}, few.ok("scope", nil).list(t))
	require.Contains(t, few.ok("scope", obj{"FULL": 1}).list(t), "crm")
	require.Equal(t, "Ada", c.ok("user.current", nil).object(t)["NAME"])
	require.Equal(t, true, c.ok("profile", nil).object(t)["ADMIN"])
	require.JSONEq(t, "true", string(c.ok("user.admin", nil).Result))
	p.AddUser(eventtest.User{Name: "Bob"})
	require.Len(t, c.ok("user.get", nil).list(t), 2)
	require.Len(t, c.ok("user.get", obj{"filter": obj{"ID": []int{2, 9}}}).list(t), 1)
	require.Empty(t, c.ok("user.get", obj{"ID": 99}).list(t))
}
