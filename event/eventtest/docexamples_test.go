package eventtest_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/webhook"
)

// handlerUnderTest is the handler of the examples in the documentation.
var handlerUnderTest = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })

//nolint:paralleltest // as short as in the documentation
func TestDeals(t *testing.T) {
	srv := httptest.NewServer(handlerUnderTest)
	defer srv.Close()

	p := eventtest.NewPortal(t)
	app, err := p.AddApp(eventtest.App{Scope: []string{"crm"}, HandlerURL: srv.URL})
	require.NoError(t, err)
	require.NoError(t, app.Install(t.Context())) // posts ONAPPINSTALL to srv
	_, err = p.Add(eventtest.Deal, map[string]any{"TITLE": "Rocket"}, eventtest.AdminID)
	require.NoError(t, err)
	require.NoError(t, p.Wait(t.Context())) // every delivery was attempted
	require.True(t, p.Deliveries()[0].OK())
}

func TestDocNetwork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := eventtest.NewNetwork()
		p := eventtest.NewPortal(t, eventtest.WithNetwork(n))
		n.Handle("app.example.com", handlerUnderTest)
		app, err := p.AddApp(eventtest.App{HandlerURL: "https://app.example.com/bitrix24"})
		require.NoError(t, err)
		require.NoError(t, app.Install(t.Context()))
		require.NoError(t, p.Wait(t.Context()))
	})
}

func TestDocStorm(t *testing.T) {
	t.Parallel()
	ctx, handler := t.Context(), handlerUnderTest
	report, err := eventtest.Storm{Changes: 10_000, Objects: 500, Duplicates: 0.1, Reorder: 50}.Serve(ctx, handler)
	require.NoError(t, err)
	require.Len(t, report.Last, 500)
}

// TestDocToken sends the request of the package's documentation to a handler that knows its token,
// because a webhook's handler accepts no short one.
func TestDocToken(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	token := eventtest.WithToken("the-token-of-the-webhook")
	r, err := eventtest.NewRequest(ctx, event.OnCrmDealAdd, event.CRMEntity{ID: 7}, token)
	require.NoError(t, err)
	mux, ids := event.NewMux(), make(chan int64, 1)
	event.On(mux, event.OnCrmDealAdd, func(_ context.Context, _ *event.Delivery, e event.CRMEntity) error {
		ids <- e.ID
		return nil
	})
	hook, err := webhook.NewHandler(webhook.Tokens("the-token-of-the-webhook"), mux, webhook.WithSync())
	require.NoError(t, err)
	w := httptest.NewRecorder()
	hook.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code)
	require.EqualValues(t, 7, <-ids)
}
