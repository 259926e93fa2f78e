package event_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

// granted is fixed access to one portal.
type granted struct{ eventtest.Grant }

func (g granted) Access(context.Context, string) (endpoint, token string, err error) {
	return g.ClientEndpoint, string(g.AccessToken), nil
}

func (granted) Renew(context.Context, string, string) (endpoint, token string, err error) {
	return "", "", errors.New("no refresh in this test")
}

// portal returns a portal with an installed application, and a caller with the token of one of its
// users.
func portal(t *testing.T, user int64, opts ...eventtest.Option) (*eventtest.Portal, *rest.Client) {
	t.Helper()
	p := eventtest.NewPortal(t, opts...)
	if user == 0 {
		user = p.AddUser(eventtest.User{Name: "Plain"})
	}
	app, err := p.AddApp(eventtest.App{Scope: []string{"crm", "task", "imbot"}})
	require.NoError(t, err)
	require.NoError(t, app.Install(t.Context()))
	return p, client(t, app, user)
}

// inMemory is portal on a network in memory, for an administrator in a synctest bubble.
func inMemory(t *testing.T) (*eventtest.Portal, *rest.Client) {
	t.Helper()
	n := eventtest.NewNetwork()
	p := eventtest.NewPortal(t, eventtest.WithNetwork(n))
	app, err := p.AddApp(eventtest.App{Scope: []string{"crm"}})
	require.NoError(t, err)
	require.NoError(t, app.Install(t.Context()))
	return p, client(t, app, eventtest.AdminID, rest.WithHTTPClient(n.Client()))
}

func client(t *testing.T, app *eventtest.Application, user int64, opts ...rest.Option) *rest.Client {
	t.Helper()
	grant, err := app.Grant(user)
	require.NoError(t, err)
	portals, err := rest.NewClients(granted{grant}, append([]rest.Option{rest.WithInsecureHTTP(), rest.WithoutRateLimit()}, opts...)...)
	require.NoError(t, err)
	return portals.Portal(grant.MemberID)
}

const handlerURL = "https://app.example.com/bitrix24"

func TestBind(t *testing.T) {
	t.Parallel()
	p, c := portal(t, eventtest.AdminID)
	api := event.NewAPI(c)

	require.NoError(t, api.Bind(t.Context(), event.Binding{Event: "onCrmDealUpdate", Handler: handlerURL}))
	require.NoError(t, api.Bind(t.Context(), event.Binding{Event: "ONCRMDEALUPDATE", Handler: handlerURL}), "already bound is success")
	require.NoError(t, api.Bind(t.Context(), event.Binding{Event: "ONCRMDEALUPDATE", Handler: handlerURL, AuthType: 1}), "another user is another binding")
	require.NoError(t, api.Bind(t.Context(), event.Binding{Event: "ONCRMDEALUPDATE", Offline: true}))
	require.NoError(t, api.Bind(t.Context(), event.Binding{Event: "ONCRMDEALUPDATE", Offline: true, Connector: "erp"}))
	require.NoError(t, api.Bind(t.Context(), event.Binding{Event: "ONOFFLINEEVENT", Handler: handlerURL, MinTimeout: 5}))

	have, err := api.Bindings(t.Context())
	require.NoError(t, err)
	require.Equal(t, []event.Binding{
		{Event: "ONCRMDEALUPDATE", Handler: handlerURL},
		{Event: "ONCRMDEALUPDATE", Handler: handlerURL, AuthType: 1},
		{Event: "ONCRMDEALUPDATE", Offline: true},
		{Event: "ONCRMDEALUPDATE", Offline: true, Connector: "erp"},
		{Event: "ONOFFLINEEVENT", Handler: handlerURL},
	}, have)

	n, err := api.Unbind(t.Context(), event.Binding{Event: "ONCRMDEALUPDATE", Handler: handlerURL})
	require.NoError(t, err)
	require.Equal(t, 2, n, "without a user an administrator removes those of all users")
	n, err = api.Unbind(t.Context(), event.Binding{Event: "ONCRMDEALUPDATE", Handler: handlerURL})
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = api.Unbind(t.Context(), event.Binding{Event: "oncrmdealupdate", Offline: true, Connector: "erp"})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Len(t, p.Bindings(), 2)
}

func TestBindRefusedByThePortal(t *testing.T) {
	t.Parallel()
	t.Run("unknown event", func(t *testing.T) {
		t.Parallel()
		_, c := portal(t, eventtest.AdminID)
		err := event.NewAPI(c).Bind(t.Context(), event.Binding{Event: "ONNOSUCHEVENT", Handler: handlerURL})
		var re *rest.Error
		require.ErrorAs(t, err, &re)
		require.Equal(t, "ERROR_EVENT_NOT_FOUND", re.ErrorCode())
	})
	t.Run("offline by a user who is no administrator", func(t *testing.T) {
		t.Parallel()
		_, c := portal(t, 0)
		err := event.NewAPI(c).Bind(t.Context(), event.Binding{Event: "ONCRMDEALADD", Offline: true})
		require.ErrorIs(t, err, rest.ErrAccessDenied)
	})
}

func TestBindingMistakesNeedNoRequest(t *testing.T) {
	t.Parallel()
	p, c := portal(t, eventtest.AdminID)
	before := p.Requests().REST
	for name, b := range map[string]event.Binding{
		"no event":             {Handler: handlerURL},
		"no handler":           {Event: "ONCRMDEALADD"},
		"template":             {Event: "onCrmDynamicItemAdd_{typeId}", Handler: handlerURL},
		"template, offline":    {Event: "ONCRMDYNAMICITEMADD_{TYPEID}", Offline: true},
		"relative handler":     {Event: "ONCRMDEALADD", Handler: "/bitrix24"},
		"no dot":               {Event: "ONCRMDEALADD", Handler: "https://localhost/x"},
		"leading dot":          {Event: "ONCRMDEALADD", Handler: "https://.com/x"},
		"IPv6":                 {Event: "ONCRMDEALADD", Handler: "https://[::1]/x"},
		"in clear":             {Event: "ONCRMDEALADD", Handler: "http://example.com/x"},
		"scheme":               {Event: "ONCRMDEALADD", Handler: "ftp://example.com/x"},
		"credentials in it":    {Event: "ONCRMDEALADD", Handler: "https://user:" + "pass@example.com/x"},
		"too long":             {Event: "ONCRMDEALADD", Handler: "https://example.com/" + strings.Repeat("x", 161)},
		"offline with handler": {Event: "ONCRMDEALADD", Handler: handlerURL, Offline: true},
		"signal goes online":   {Event: "ONOFFLINEEVENT", Offline: true},
		"sent by itself":       {Event: "ONIMBOTV2MESSAGEADD", Handler: handlerURL},
	} {
		err := event.NewAPI(c).Bind(t.Context(), b)
		require.ErrorIs(t, err, event.ErrConfig, name)
		require.NotContains(t, err.Error(), "pass", name)
	}
	_, err := event.NewAPI(c).Unbind(t.Context(), event.Binding{Event: "ONCRMDEALADD"})
	require.ErrorIs(t, err, event.ErrConfig)
	_, err = event.NewAPI(c).Plan(t.Context(), []event.Binding{{Event: "ONCRMDEALADD"}})
	require.ErrorIs(t, err, event.ErrConfig)
	require.Equal(t, before, p.Requests().REST)
}

func TestAPIWithoutACaller(t *testing.T) {
	t.Parallel()
	binding := event.Binding{Event: "ONCRMDEALADD", Handler: handlerURL}
	var typed *rest.Client
	for name, api := range map[string]*event.API{
		"nil":       event.NewAPI(nil),
		"typed nil": event.NewAPI(typed),
		"zero":      {},
	} {
		for method, call := range map[string]func(ctx context.Context) error{
			"Bind":      func(ctx context.Context) error { return api.Bind(ctx, binding) },
			"Unbind":    func(ctx context.Context) error { _, err := api.Unbind(ctx, binding); return err },
			"UnbindAll": func(ctx context.Context) error { _, err := api.UnbindAll(ctx); return err },
			"Bindings":  func(ctx context.Context) error { _, err := api.Bindings(ctx); return err },
			"Available": func(ctx context.Context) error { _, err := api.Available(ctx, ""); return err },
			"Test":      func(ctx context.Context) error { return api.Test(ctx, nil) },
			"Features":  func(ctx context.Context) error { _, err := api.Features(ctx); return err },
			"Plan":      func(ctx context.Context) error { _, err := api.Plan(ctx, []event.Binding{binding}); return err },
			"Apply":     func(ctx context.Context) error { return api.Apply(ctx, event.Plan{}) },
			"Reconcile": func(ctx context.Context) error { return api.Reconcile(ctx, []event.Binding{binding}) },
		} {
			t.Run(name+"/"+method, func(t *testing.T) {
				t.Parallel()
				require.ErrorIs(t, call(t.Context()), event.ErrConfig)
			})
		}
	}
}

func TestReconcile(t *testing.T) {
	t.Parallel()
	p, c := portal(t, eventtest.AdminID)
	api := event.NewAPI(c)
	const production = "https://production.example.com/bitrix24"
	for _, b := range []event.Binding{
		{Event: "ONCRMDEALADD", Handler: handlerURL},
		{Event: "ONCRMLEADADD", Handler: handlerURL},              // no longer wanted
		{Event: "ONCRMDEALADD", Handler: handlerURL, AuthType: 1}, // would deliver twice
		{Event: "ONCRMLEADADD", Handler: production},              // not ours
		{Event: "ONCRMLEADADD", Offline: true},                    // not ours either: nothing offline is wanted
		{Event: "ONAPPINSTALL", Handler: handlerURL},              // the platform's
	} {
		require.NoError(t, api.Bind(t.Context(), b))
	}
	want := []event.Binding{
		{Event: "onCrmDealAdd", Handler: handlerURL},
		{Event: "ONCRMDEALUPDATE", Handler: handlerURL},
		{Event: "ONCRMDEALUPDATE", Handler: handlerURL},
	}
	plan, err := api.Plan(t.Context(), want)
	require.NoError(t, err)
	require.Equal(t, event.Plan{
		Bind: []event.Binding{{Event: "ONCRMDEALUPDATE", Handler: handlerURL}},
		Unbind: []event.Binding{
			{Event: "ONCRMLEADADD", Handler: handlerURL},
			{Event: "ONCRMDEALADD", Handler: handlerURL, AuthType: 1},
		},
		Keep: []event.Binding{{Event: "ONCRMDEALADD", Handler: handlerURL}},
	}, plan)
	require.Equal(t, 3, plan.Changes())
	require.Equal(t, "+ ONCRMDEALUPDATE "+handlerURL+"\n- ONCRMLEADADD "+handlerURL+"\n- ONCRMDEALADD "+handlerURL+
		" user 1\n= ONCRMDEALADD "+handlerURL+"\n", plan.String())
	require.Len(t, p.Bindings(), 6, "a plan changes nothing")

	require.NoError(t, api.Reconcile(t.Context(), want))
	have, err := api.Bindings(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, []event.Binding{
		{Event: "ONCRMDEALADD", Handler: handlerURL},
		{Event: "ONCRMDEALUPDATE", Handler: handlerURL},
		{Event: "ONCRMLEADADD", Handler: production},
		{Event: "ONCRMLEADADD", Offline: true},
		{Event: "ONAPPINSTALL", Handler: handlerURL},
	}, have)

	before := p.CallCount("event.bind") + p.CallCount("event.unbind")
	require.NoError(t, api.Reconcile(t.Context(), want))
	require.Equal(t, before, p.CallCount("event.bind")+p.CallCount("event.unbind"), "it is idempotent")

	require.NoError(t, api.Reconcile(t.Context(), []event.Binding{{Event: "ONCRMDEALADD", Offline: true}}))
	have, err = api.Bindings(t.Context())
	require.NoError(t, err)
	require.Contains(t, have, event.Binding{Event: "ONCRMDEALADD", Offline: true})
	require.NotContains(t, have, event.Binding{Event: "ONCRMLEADADD", Offline: true})
	require.Contains(t, have, event.Binding{Event: "ONCRMDEALUPDATE", Handler: handlerURL}, "online ones are not its business")
}

// TestReconcileKeepsAWantedUserBinding covers an unbind that removes more than it should.
func TestReconcileKeepsAWantedUserBinding(t *testing.T) {
	t.Parallel()
	_, c := portal(t, eventtest.AdminID)
	api := event.NewAPI(c)
	require.NoError(t, api.Bind(t.Context(), event.Binding{Event: "ONCRMDEALADD", Handler: handlerURL}))
	require.NoError(t, api.Bind(t.Context(), event.Binding{Event: "ONCRMDEALADD", Handler: handlerURL, AuthType: 1}))
	want := []event.Binding{{Event: "ONCRMDEALADD", Handler: handlerURL, AuthType: 1}}
	require.NoError(t, api.Reconcile(t.Context(), want))
	have, err := api.Bindings(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, have)
}

func TestApplyGoesOnAfterAFailure(t *testing.T) {
	t.Parallel()
	p, c := portal(t, eventtest.AdminID)
	api := event.NewAPI(c)
	err := api.Reconcile(t.Context(), []event.Binding{
		{Event: "ONNOSUCHEVENT", Handler: handlerURL},
		{Event: "ONCRMDEALADD", Handler: handlerURL},
	})
	var ce event.CallError
	require.ErrorAs(t, err, &ce)
	require.Equal(t, "ERROR_EVENT_NOT_FOUND", ce.ErrorCode())
	require.Len(t, p.Bindings(), 1)
}

func TestReconcileTakesFewRequests(t *testing.T) {
	t.Parallel()
	p, c := portal(t, eventtest.AdminID)
	api := event.NewAPI(c)
	var want []event.Binding
	for info := range event.Catalog() {
		if info.Scope == "crm" && !strings.Contains(info.Name, "{") && len(want) < 60 {
			want = append(want, event.Binding{Event: info.Name, Handler: handlerURL})
		}
	}
	require.Len(t, want, 60)
	steps := []struct {
		name     string
		want     []event.Binding
		requests int
		bound    int
	}{
		{"fifty changes", want[:50], 2, 50},
		{"nothing to do", want[:50], 1, 50},
		{"ten more", want, 2, 60},
		{"all but one go: 59 changes", want[:1], 3, 1},
	}
	for _, step := range steps {
		before := p.Requests().REST
		require.NoError(t, api.Reconcile(t.Context(), step.want), step.name)
		require.Equal(t, step.requests, p.Requests().REST-before, step.name)
		require.Len(t, p.Bindings(), step.bound, step.name)
	}
}

func TestReconcileOwnsAPrefix(t *testing.T) {
	t.Parallel()
	_, c := portal(t, eventtest.AdminID)
	api := event.NewAPI(c)
	for _, handler := range []string{handlerURL, handlerURL + "/v1", handlerURL + "?tenant=1", handlerURL + "-staging", "https://other.example.com/bitrix24"} {
		require.NoError(t, api.Bind(t.Context(), event.Binding{Event: "ONCRMDEALADD", Handler: handler}))
	}
	want := []event.Binding{{Event: "ONCRMDEALADD", Handler: handlerURL + "/v2"}}
	require.NoError(t, api.Reconcile(t.Context(), want, event.WithOwnedPrefix(handlerURL+"/"), nil))
	have, err := api.Bindings(t.Context())
	require.NoError(t, err)
	var handlers []string
	for _, b := range have {
		handlers = append(handlers, b.Handler)
	}
	require.Equal(t, []string{handlerURL + "-staging", "https://other.example.com/bitrix24", handlerURL + "/v2"}, handlers)
	_, err = api.Plan(t.Context(), want, event.WithOwnedPrefix("https://"))
	require.ErrorIs(t, err, event.ErrConfig, "a prefix of everything is a mistake")
}

// TestBindingInProgress covers replicas that start at once: the second one has to wait.
func TestBindingInProgress(t *testing.T) {
	t.Parallel()
	inProgress := eventtest.Fail(400, "ERROR_CORE", "Unable to set event handler: Process of binding the handler has already started")
	t.Run("bind", func(t *testing.T) {
		t.Parallel()
		p, c := portal(t, eventtest.AdminID)
		p.Once("event.bind", inProgress)
		require.NoError(t, event.NewAPI(c).Bind(t.Context(), event.Binding{Event: "ONCRMDEALADD", Handler: handlerURL}))
		require.Equal(t, 2, p.CallCount("event.bind"))
		require.Len(t, p.Bindings(), 1)
	})
	t.Run("reconcile", func(t *testing.T) {
		t.Parallel()
		p, c := portal(t, eventtest.AdminID)
		p.Once("event.bind", inProgress)
		require.NoError(t, event.NewAPI(c).Reconcile(t.Context(), []event.Binding{{Event: "ONCRMDEALADD", Handler: handlerURL}}))
		require.Len(t, p.Bindings(), 1)
	})
	t.Run("for ever", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p, c := inMemory(t)
			p.Always("event.bind", inProgress)
			start := time.Now()
			err := event.NewAPI(c).Bind(t.Context(), event.Binding{Event: "ONCRMDEALADD", Handler: handlerURL})
			var ce event.CallError
			require.ErrorAs(t, err, &ce)
			require.Equal(t, 6, p.CallCount("event.bind"), "it gives up")
			require.Equal(t, 3100*time.Millisecond, time.Since(start), "after 0.1, 0.2, 0.4, 0.8 and 1.6 seconds")
		})
	})
	t.Run("not beyond the context", func(t *testing.T) {
		t.Parallel()
		p, c := portal(t, eventtest.AdminID)
		for range 10 {
			p.Once("event.bind", inProgress)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := event.NewAPI(c).Bind(ctx, event.Binding{Event: "ONCRMDEALADD", Handler: handlerURL})
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestUnbindAll(t *testing.T) {
	t.Parallel()
	p, c := portal(t, eventtest.AdminID)
	api := event.NewAPI(c)
	for _, b := range []event.Binding{
		{Event: "ONCRMDEALADD", Handler: handlerURL},
		{Event: "ONCRMDEALADD", Handler: handlerURL, AuthType: 1},
		{Event: "ONCRMDEALADD", Offline: true},
		{Event: "ONCRMDEALADD", Offline: true, Connector: "erp"},
	} {
		require.NoError(t, api.Bind(t.Context(), b))
	}
	n, err := api.UnbindAll(t.Context())
	require.NoError(t, err)
	require.Equal(t, 4, n)
	require.Empty(t, p.Bindings())
	n, err = api.UnbindAll(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestFeatures(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		options []eventtest.Option
		want    event.Features
	}{
		"everything":    {nil, event.Features{OfflineExtended: true, AuthConnector: true}},
		"no extended":   {[]eventtest.Option{eventtest.WithoutExtendedOffline()}, event.Features{AuthConnector: true}},
		"no connectors": {[]eventtest.Option{eventtest.WithoutConnectors()}, event.Features{OfflineExtended: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, c := portal(t, eventtest.AdminID, tc.options...)
			before := p.Requests().REST
			got, err := event.NewAPI(c).Features(t.Context())
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
			require.Equal(t, 1, p.Requests().REST-before)
		})
	}
}

// answering makes the portal respond to a method with a result of the test from now on.
func answering(p *eventtest.Portal, method, result string) {
	p.Always(method, eventtest.Answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"result":`+result+`}`)
	})))
}

func TestFeaturesOfOddPortals(t *testing.T) {
	t.Parallel()
	p, c := portal(t, eventtest.AdminID)
	answering(p, "batch", `{"result":{"c00":{"value":"de_selfhosted"},"c01":{"value":""}},"result_error":[]}`)
	got, err := event.NewAPI(c).Features(t.Context())
	require.NoError(t, err)
	require.Equal(t, event.Features{OfflineExtended: true}, got, "a box answers with its edition")
	for name, result := range map[string]string{
		"nothing":      `{"result":[],"result_error":[]}`,
		"refused":      `{"result":{"c00":{"value":"Y"}},"result_error":{"c01":{"error":"CODE_EMPTY","error_description":"x"}}}`,
		"odd refusal":  `{"result":{"c00":{"value":"Y"}},"result_error":{"c01":"no"}}`,
		"odd section":  `{"result":7,"result_error":[]}`,
		"odd value":    `{"result":{"c00":{"value":"Y"},"c01":{"value":{}}},"result_error":[]}`,
		"not an array": `{"result":[1],"result_error":[]}`,
	} {
		answering(p, "batch", result)
		_, err := event.NewAPI(c).Features(t.Context())
		require.Error(t, err, name)
	}
}

func TestBindingStringHidesTheQuery(t *testing.T) {
	t.Parallel()
	for want, b := range map[string]event.Binding{
		"ONX https://e.com/x?…":     {Event: "ONX", Handler: "https://e.com/x?tenant=secret"},
		"ONX offline":               {Event: "ONX", Offline: true},
		"ONX offline erp":           {Event: "ONX", Offline: true, Connector: "erp"},
		"ONX https://e.com/ user 7": {Event: "ONX", Handler: "https://e.com/", AuthType: 7},
	} {
		require.Equal(t, want, b.String())
	}
}

func TestAvailable(t *testing.T) {
	t.Parallel()
	_, c := portal(t, eventtest.AdminID)
	names, err := event.NewAPI(c).Available(t.Context(), "")
	require.NoError(t, err)
	require.Contains(t, names, "ONCRMDEALADD")
	require.Contains(t, names, "ONAPPINSTALL")
	names, err = event.NewAPI(c).Available(t.Context(), "task")
	require.NoError(t, err)
	require.Contains(t, names, "ONTASKADD")
	require.NotContains(t, names, "ONCRMDEALADD")
}

func TestTest(t *testing.T) {
	t.Parallel()
	got := make(chan *event.Delivery, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if d, err := event.ParseRequest(r); err == nil {
			got <- d
		}
	}))
	defer server.Close()
	p, c := portal(t, eventtest.AdminID)
	api := event.NewAPI(c)
	require.NoError(t, api.Bind(t.Context(), event.Binding{Event: event.OnAppTest.Name(), Handler: server.URL}))
	require.NoError(t, api.Test(t.Context(), map[string]any{"probe": "42"}))
	require.NoError(t, p.Wait(t.Context()))
	d := <-got
	require.Equal(t, event.OnAppTest.Name(), d.Name)
	payload, err := event.OnAppTest.Decode(d)
	require.NoError(t, err)
	require.Equal(t, "42", payload.Query.Get("probe").Text())
	require.NoError(t, api.Test(t.Context(), nil))
}

func TestFetch(t *testing.T) {
	t.Parallel()
	p, c := portal(t, eventtest.AdminID)
	id, err := p.Add(eventtest.Deal, map[string]any{"TITLE": "Rocket"}, eventtest.AdminID)
	require.NoError(t, err)
	data, err := event.NewData(event.CRMEntity{ID: id})
	require.NoError(t, err)
	deal, err := event.Fetch[struct{ TITLE string }](t.Context(), c, &event.Delivery{Name: event.OnCrmDealUpdate.Name(), Data: data})
	require.NoError(t, err)
	require.Equal(t, "Rocket", deal.TITLE)

	_, err = event.Fetch[any](t.Context(), c, &event.Delivery{Name: event.OnCrmDealDelete.Name(), Data: data})
	require.ErrorIs(t, err, event.ErrGone)

	for _, kind := range []eventtest.Kind{eventtest.Deal, eventtest.Task} {
		id, err := p.Add(kind, map[string]any{"TITLE": "Gone"}, eventtest.AdminID)
		require.NoError(t, err)
		require.NoError(t, p.Delete(kind, id, eventtest.AdminID))
		d := &event.Delivery{Name: event.OnCrmDealAdd.Name()}
		d.Data, err = event.NewData(event.CRMEntity{ID: id})
		require.NoError(t, err)
		if kind == eventtest.Task {
			d.Name = event.OnTaskAdd.Name()
			d.Data, err = event.NewData(event.Task{ID: id, After: &event.TaskFields{ID: id}})
			require.NoError(t, err)
		}
		_, err = event.Fetch[any](t.Context(), c, d)
		if kind == eventtest.Task {
			require.ErrorIs(t, err, event.ErrNotVisible, "tasks.task.get says the same of tasks that the token may not see")
			continue
		}
		require.ErrorIs(t, err, event.ErrGone)
	}
}
