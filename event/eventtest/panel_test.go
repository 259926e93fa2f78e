package eventtest_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

func TestWithAnswers(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t, eventtest.WithAnswers())
	hook, err := p.AddIncomingWebhook(eventtest.AdminID, "crm")
	require.NoError(t, err)
	post := func(method, body string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, string(hook)+method, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultClient.Do(r) //nolint:forbidigo // for a test
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	last := func() eventtest.Call {
		calls := p.Calls()
		return calls[len(calls)-1]
	}
	post("crm.deal.add", "fields[TITLE]=Rocket")
	require.Equal(t, "1", string(last().Answer))
	require.Equal(t, 1, last().AnswerSize)
	require.EqualValues(t, 1, last().ID)
	post("crm.deal.get", "id=7")
	require.JSONEq(t, `{"error":"","error_description":"Not found"}`, string(last().Answer))
	p.Once("crm.deal.get", eventtest.Fail(503, "OVERLOAD", "busy"))
	post("crm.deal.get", "id=1")
	require.JSONEq(t, `{"error":"OVERLOAD","error_description":"busy"}`, string(last().Answer))
	p.Once("crm.deal.get", eventtest.HTML(502))
	post("crm.deal.get", "id=1")
	require.Empty(t, last().Answer)
	post("batch", "cmd[a]=crm.deal.get%3Fid%3D1")
	calls := p.Calls()
	require.Contains(t, string(calls[len(calls)-2].Answer), "Rocket", "an item of a batch")
	require.True(t, calls[len(calls)-2].Batch)
	require.Contains(t, string(last().Answer), `"result_error"`)
	post("crm.deal.add", "fields[TITLE]="+strings.Repeat("x", 70_000))
	post("crm.deal.get", "id=2")
	require.Empty(t, last().Answer, "too long to keep")
	require.Greater(t, last().AnswerSize, 70_000)

	silent := eventtest.NewPortal(t)
	if hook, err = silent.AddIncomingWebhook(eventtest.AdminID, "crm"); err != nil {
		t.Fatal(err)
	}
	post("crm.deal.add", "fields[TITLE]=Rocket")
	require.Empty(t, silent.Calls()[0].Answer, "only on request")
}

func TestObjectLists(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t, eventtest.WithNetwork(eventtest.NewNetwork()))
	require.Empty(t, p.ObjectCounts())
	for range 3 {
		_, err := p.Add(eventtest.Deal, map[string]any{"TITLE": "x"}, 0)
		require.NoError(t, err)
	}
	changed := p.Changed()
	require.NoError(t, p.Update(eventtest.Deal, 1, map[string]any{"TITLE": "y"}, 0))
	<-changed
	changed = p.Changed()
	require.NoError(t, p.Delete(eventtest.Deal, 2, 0))
	<-changed
	_, err := p.Add(eventtest.Task, map[string]any{"TITLE": "x"}, 0)
	require.NoError(t, err)
	require.Equal(t, map[eventtest.Kind]int{eventtest.Deal: 2, eventtest.Task: 1}, p.ObjectCounts())
	require.Equal(t, []int64{1, 3}, p.ObjectIDs(eventtest.Deal))
	require.Empty(t, p.ObjectIDs(eventtest.Lead))
}

func TestPlannedFaults(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t, eventtest.WithNetwork(eventtest.NewNetwork()))
	require.Empty(t, p.PlannedFaults())
	p.Times(2, "CRM.Deal.Get", eventtest.Reset())
	p.Always("oauth/token", eventtest.RefusedRefresh())
	require.Equal(t, map[string]eventtest.PlannedFaults{"crm.deal.get": {Once: 2}, "oauth/token": {Always: true}}, p.PlannedFaults())
	p.Heal("crm.deal.get")
	require.Len(t, p.PlannedFaults(), 1)
}

// TestBeginInstall begins an installation whose page is opened elsewhere.
func TestBeginInstall(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t, eventtest.WithNetwork(eventtest.NewNetwork()))
	a, err := p.AddApp(eventtest.App{HandlerURL: "http://app.example.com/", UI: true})
	require.NoError(t, err)
	require.Error(t, a.BeginInstall(p.AddUser(eventtest.User{Name: "Uma"})))
	require.ErrorIs(t, a.BeginInstall(99), eventtest.ErrNotFound)
	require.NoError(t, a.BeginInstall(eventtest.AdminID))
	require.True(t, a.Registered())
	require.False(t, a.Installed())
	require.ErrorIs(t, a.BeginInstall(eventtest.AdminID), eventtest.ErrInstalled)
	require.NoError(t, a.FinishInstall())
	plain, err := p.AddApp(eventtest.App{})
	require.NoError(t, err)
	require.NoError(t, plain.BeginInstall(eventtest.AdminID))
	require.True(t, plain.Installed())
}

func TestWithServers(t *testing.T) {
	t.Parallel()
	var servers atomic.Int32
	p := eventtest.NewPortal(t, eventtest.WithServers(func(_ *http.Server, l net.Listener) net.Listener {
		servers.Add(1)
		return l
	}))
	require.EqualValues(t, 2, servers.Load(), "the portal and its OAuth server")
	require.NoError(t, p.Rename(t.Context()))
	require.EqualValues(t, 3, servers.Load())
	_, err := eventtest.New(eventtest.WithServers(nil))
	require.ErrorIs(t, err, eventtest.ErrConfig)
}

// TestMaxWaiting lets a handler hang. The deliveries that do not fit are shown as failed.
func TestMaxWaiting(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hanging.Close()
	p := eventtest.NewPortal(t, eventtest.WithMaxWaiting(20_000))
	_, err := p.AddOutgoingWebhook(hanging.URL, "ONX")
	require.NoError(t, err)
	for range 5 {
		require.NoError(t, p.Raise("ONX", map[string]any{"TEXT": strings.Repeat("x", 9_000)}, 0))
	}
	require.Len(t, p.Deliveries(), 3)
	for _, a := range p.Deliveries() {
		require.ErrorContains(t, a.Err, "too many deliveries wait")
		require.False(t, a.OK())
	}
	require.Greater(t, p.WaitingBytes(), 18_000)
	require.LessOrEqual(t, p.WaitingBytes(), 20_000)
	close(release)
	require.NoError(t, p.Wait(t.Context()))
	require.Zero(t, p.WaitingBytes())
	require.NoError(t, p.Resend(p.Deliveries()[0]))
	require.NoError(t, p.Wait(t.Context()))
	again := p.Deliveries()[5]
	require.True(t, again.OK())
	require.EqualValues(t, 1, again.ResendOf)
	_, err = eventtest.New(eventtest.WithMaxWaiting(0))
	require.ErrorIs(t, err, eventtest.ErrConfig)
}
