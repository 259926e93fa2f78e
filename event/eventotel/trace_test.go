package eventotel_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventotel"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// fetchesDeals handles new deals by reading them.
func fetchesDeals(w *world) {
	w.installs()
	event.On(w.mux, event.OnCrmDealAdd, func(ctx context.Context, d *event.Delivery, _ event.CRMEntity) error {
		_, err := event.Fetch[struct{ TITLE string }](ctx, w.clients.Portal(d.MemberID()), d)
		return err
	})
}

// addDeal adds a deal and waits until its event is handled.
func (w *world) addDeal() {
	w.t.Helper()
	w.deliverDeal()
	require.NoError(w.t, w.hook.Idle(w.t.Context()))
}

// deliverDeal adds a deal and waits until its event is delivered.
func (w *world) deliverDeal() {
	w.t.Helper()
	_, err := w.Add(eventtest.Deal, map[string]any{"TITLE": "the-payload"}, eventtest.AdminID)
	require.NoError(w.t, err)
	require.NoError(w.t, w.Wait(w.t.Context()))
}

// TestSpans: the whole way of an event through each queue, with a renewal of the token.
func TestSpans(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]bool{"memory queue": false, "durable queue": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var opts []webhook.Option
				if store {
					s, err := webhooktest.NewMemoryStore()
					require.NoError(t, err)
					opts = append(opts, webhook.WithStore(s))
				}
				w := newWorld(t, fetchesDeals, opts...)
				w.ExpireAccessTokens()
				w.addDeal()
				require.Equal(t, []string{
					"receive",
					"  queue",
					"handle ONCRMDEALADD -> queue",
					"  call crm.deal.get",
					"    refresh",
				}, w.tree())
				require.Equal(t, map[string]string{
					"bitrix24.event": "ONCRMDEALADD", "bitrix24.member_id": w.MemberID(), "http.response.status_code": "200",
				}, attributes(w.span(t, "bitrix24 receive")))
				require.Equal(t, trace.SpanKindServer, w.span(t, "bitrix24 receive").SpanKind())
				require.Equal(t, map[string]string{
					"bitrix24.event": "ONCRMDEALADD", "bitrix24.member_id": w.MemberID(), "bitrix24.source": "online",
					"bitrix24.attempt": "1", "bitrix24.merged": "0", "bitrix24.parked": "false", "bitrix24.outcome": "done",
				}, attributes(w.span(t, "bitrix24 handle ONCRMDEALADD")))
				require.Equal(t, map[string]string{
					"bitrix24.method": "crm.deal.get", "bitrix24.member_id": w.MemberID(), "bitrix24.requests": "2", "bitrix24.retries": "0",
					"bitrix24.renewed": "true", "server.address": w.Domain(), "http.response.status_code": "200",
				}, attributes(w.span(t, "bitrix24 call crm.deal.get")))
				require.Equal(t, map[string]string{"bitrix24.adopted": "false", "bitrix24.member_id": w.MemberID()},
					attributes(w.span(t, "bitrix24 refresh")))
				text := w.text()
				g, err := w.app.Grant(eventtest.AdminID)
				require.NoError(t, err)
				for _, secret := range []string{"the-payload", string(g.ApplicationToken), string(w.app.ClientSecret()), "/rest/"} {
					require.NotContains(t, text, secret)
				}
			})
		})
	}
}

// TestSpansAcrossProcesses: the process that handles a delivery links to the one that received it.
// A delivery that an older version stored has a trace without a link, and says so.
func TestSpansAcrossProcesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := webhooktest.NewMemoryStore()
		require.NoError(t, err)
		w := newWorld(t, fetchesDeals, webhook.WithStore(s))
		require.NoError(t, w.hook.Shutdown(t.Context()))
		receiver := w.newHook(webhook.WithStore(s.Open()), webhook.WithReceiveOnly())
		w.deliverDeal()
		require.NoError(t, receiver.Shutdown(t.Context()))
		require.Equal(t, []string{"receive"}, w.tree())
		time.Sleep(30 * time.Minute) //nolint:forbidigo // on the clock of the bubble
		w.hook = w.newHook(webhook.WithStore(s.Open()))
		require.NoError(t, w.hook.Idle(t.Context()))
		require.Equal(t, []string{"receive", "  queue", "handle ONCRMDEALADD -> queue", "  call crm.deal.get"}, w.tree())
		queue := w.span(t, "bitrix24 queue")
		require.InDelta(t, 30*time.Minute, queue.EndTime().Sub(queue.StartTime()), float64(time.Minute))

		require.NoError(t, w.hook.Shutdown(t.Context()))
		old, err := webhook.NewHandler(w.portals, w.mux, webhook.WithLogger(silent()), webhook.WithStore(s.Open()), webhook.WithReceiveOnly())
		require.NoError(t, err)
		w.net.Handle("app.example.com", old)
		w.spans.Reset()
		w.deliverDeal()
		require.NoError(t, old.Shutdown(t.Context()))
		w.hook = w.newHook(webhook.WithStore(s.Open()))
		require.NoError(t, w.hook.Idle(t.Context()))
		require.Equal(t, []string{"handle ONCRMDEALADD", "  call crm.deal.get"}, w.tree())
		require.Equal(t, "true", attributes(w.span(t, "bitrix24 handle ONCRMDEALADD"))["bitrix24.unlinked"])
	})
}

type customError struct{ text string }

func (e *customError) Error() string { return e.text }

// TestOutcomes: the span and the metric of each attempt have its outcome, and no text of an error.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	secret := &customError{"the-secret-text"}
	for name, test := range map[string]struct {
		err     error
		panics  bool
		tree    []string // of one attempt after the other
		outcome string
		kind    string
	}{
		"failed": {
			err: secret, outcome: "failed", kind: "*eventotel_test.customError",
			tree: []string{"receive", "  queue", "handle ONCRMDEALADD -> queue", "handle ONCRMDEALADD -> receive"},
		},
		"retried": {
			err: event.Retry(secret, time.Minute), outcome: "retried", kind: "*eventotel_test.customError",
			tree: []string{"receive", "  queue", "handle ONCRMDEALADD -> queue", "handle ONCRMDEALADD -> receive"},
		},
		"dropped": {
			err: event.Drop(secret), outcome: "dropped", kind: "*eventotel_test.customError",
			tree: []string{"receive", "  queue", "handle ONCRMDEALADD -> queue"},
		},
		"panic": {
			panics: true, outcome: "panic", kind: "panic", tree: []string{"receive", "  queue", "handle ONCRMDEALADD -> queue"},
		},
		"unhandled": {err: event.ErrUnhandled, outcome: "unhandled", tree: []string{"receive", "  queue", "handle ONCRMDEALADD -> queue"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(w *world) {
					w.installs()
					event.On(w.mux, event.OnCrmDealAdd, func(context.Context, *event.Delivery, event.CRMEntity) error {
						if test.panics {
							panic(secret.text)
						}
						return test.err
					})
				}, webhook.WithMaxAttempts(2))
				w.addDeal()
				require.Equal(t, test.tree, w.tree())
				for _, s := range w.spans.Ended() {
					if s.Name() != "bitrix24 handle ONCRMDEALADD" {
						continue
					}
					require.Equal(t, test.outcome, attributes(s)["bitrix24.outcome"])
					require.Equal(t, test.kind, attributes(s)["error.type"])
					require.Equal(t, test.kind != "", s.Status().Code == codes.Error)
				}
				require.NotContains(t, w.text(), secret.text)
				counts := values(w.collect(t), "b24events.handler")
				require.InDelta(t, len(test.tree)-2, counts["event=ONCRMDEALADD,outcome="+test.outcome+",source=online"], 0)
			})
		})
	}
}

// TestRejectedRequests: a request that is not accepted has a span with the reason. Checks of the
// address have none.
func TestRejectedRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fetchesDeals)
		w.get(t)
		require.Empty(t, w.tree())
		r, err := eventtest.NewRequest(t.Context(), event.OnCrmDealAdd, event.CRMEntity{ID: 7}, eventtest.WithToken("wrong"))
		require.NoError(t, err)
		w.Receive(w.hook).ServeHTTP(httptest.NewRecorder(), r)
		require.Equal(t, []string{"receive"}, w.tree())
		require.Equal(t, map[string]string{
			"bitrix24.event": "ONCRMDEALADD", "bitrix24.reason": "forbidden", "http.response.status_code": "403",
		}, attributes(w.span(t, "bitrix24 receive")))
		require.Empty(t, values(w.collect(t), "b24events.ack")["event=ONCRMDEALDELETE"])

		// A span of the program's own is the parent, and stays as it is.
		w.spans.Reset()
		ctx, span := w.tracers.Tracer("router").Start(t.Context(), "POST /bitrix24")
		r, err = eventtest.NewRequest(ctx, event.OnCrmDealAdd, event.CRMEntity{ID: 7}, eventtest.WithToken("wrong"))
		require.NoError(t, err)
		w.Receive(w.hook).ServeHTTP(httptest.NewRecorder(), r)
		w.hook.ServeHTTP(httptest.NewRecorder(), r) // without Receive
		span.End()
		require.Equal(t, []string{"POST /bitrix24", "  receive"}, w.tree())
		require.Empty(t, w.span(t, "POST /bitrix24").Attributes())
		require.Equal(t, trace.SpanKindInternal, w.span(t, "bitrix24 receive").SpanKind())
	})
}

// TestNestedHandlers: a handler that passes deliveries on within its own span is their parent.
func TestNestedHandlers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.installs()
			inner := event.NewMux()
			inner.Use(w.Middleware())
			inner.Unhandled(event.HandlerFunc(func(context.Context, *event.Delivery) error { return nil }))
			w.mux.Handle("ONCRMDEALADD", inner)
		})
		w.addDeal()
		require.Equal(t, []string{"receive", "  queue", "handle ONCRMDEALADD -> queue", "  handle ONCRMDEALADD"}, w.tree())
	})
}

// TestJoinedCalls: calls that a Coalescer joins are one span, below the first caller and linked to
// the others.
func TestJoinedCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.installs() })
		for range 3 {
			_, err := w.Add(eventtest.Deal, nil, eventtest.AdminID)
			require.NoError(t, err)
		}
		w.settle()
		var all sync.WaitGroup
		for i, name := range []string{"one", "two", "three"} {
			all.Go(func() {
				ctx, span := w.tracers.Tracer("test").Start(t.Context(), name)
				defer span.End()
				require.NoError(t, w.clients.Coalescer(w.MemberID()).Call(ctx, "crm.deal.get", map[string]any{"id": i + 1}, nil))
			})
			synctest.Wait()
		}
		all.Wait()
		require.Equal(t, []string{"one", "  call batch -> two -> three", "three", "two"}, w.tree())
		require.Equal(t, "3", attributes(w.span(t, "bitrix24 call batch"))["bitrix24.commands"])

		w.spans.Reset()
		ctx, span := w.tracers.Tracer("test").Start(t.Context(), "alone")
		require.NoError(t, w.clients.Coalescer(w.MemberID()).Call(ctx, "crm.deal.get", map[string]any{"id": 1}, nil))
		span.End()
		require.Equal(t, []string{"alone", "  call crm.deal.get"}, w.tree())
	})
}

// TestFailedCalls: the span of a call has the code of the error, and one of a renewal too.
func TestFailedCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.installs() })
		w.Once("crm.deal.get", eventtest.Fail(400, "ERROR_CORE", "the-payload"))
		client := w.clients.Portal(w.MemberID())
		require.Error(t, client.Call(t.Context(), "crm.deal.get", map[string]any{"id": 1}, nil))
		s := w.span(t, "bitrix24 call crm.deal.get")
		require.Equal(t, codes.Error, s.Status().Code)
		require.Equal(t, "ERROR_CORE", attributes(s)["error.type"])

		w.spans.Reset()
		w.Once("crm.deal.get", eventtest.Fail(400, "a code with the-payload", "the-payload"))
		require.Error(t, client.Call(t.Context(), "crm.deal.get", map[string]any{"id": 1}, nil))
		require.Equal(t, "*rest.Error", attributes(w.span(t, "bitrix24 call crm.deal.get"))["error.type"])
		require.NotContains(t, w.text(), "the-payload")

		w.spans.Reset()
		w.ExpireAccessTokens()
		w.app.RevokeTokens()
		w.Once("crm.deal.get", eventtest.Fail(401, "expired_token", ""))
		require.Error(t, client.Call(t.Context(), "crm.deal.get", map[string]any{"id": 1}, nil))
		require.Equal(t, []string{"call crm.deal.get", "  refresh"}, w.tree())
		require.Equal(t, "invalid_grant", attributes(w.span(t, "bitrix24 refresh"))["error.type"])
	})
}

// TestOfflineSpans: handlers of offline records are linked to the poll that brought them.
func TestOfflineSpans(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.installs() })
		client := w.clients.Portal(w.MemberID())
		require.NoError(t, event.NewAPI(client).Bind(t.Context(), event.Binding{Event: "ONCRMDEALADD", Offline: true}))
		_, err := w.Add(eventtest.Deal, nil, eventtest.AdminID)
		require.NoError(t, err)
		w.settle()
		mux := event.NewMux()
		mux.Use(w.Middleware())
		failed := false
		event.On(mux, event.OnCrmDealAdd, func(ctx context.Context, d *event.Delivery, _ event.CRMEntity) error {
			if !failed {
				failed = true
				return errors.New("once")
			}
			_, err := event.Fetch[struct{}](ctx, client, d)
			return err
		})
		c, err := offline.NewConsumer(client, mux, append(w.Consumer(), offline.WithLogger(silent()))...)
		require.NoError(t, err)
		require.NoError(t, c.Drain(t.Context()))
		tree := w.tree()
		require.Equal(t, []string{"poll", "  call batch", "  queue", "handle ONCRMDEALADD -> queue"}, tree[:4])
		second := slices.Index(tree, "handle ONCRMDEALADD -> poll")
		require.Positive(t, second, "%v", tree)
		require.Equal(t, "  call crm.deal.get", tree[second+1])
		for _, s := range w.spans.Ended() {
			require.NotContains(t, attributes(s), "bitrix24.unlinked")
			if s.Name() == "bitrix24 handle ONCRMDEALADD" {
				require.Equal(t, "offline", attributes(s)["bitrix24.source"])
			}
		}
		points := w.collect(t)
		require.InDelta(t, 1, values(points, "b24events.offline.lag")["event=ONCRMDEALADD"], 0)
		require.NotEmpty(t, values(points, "b24events.offline.poll"))
		require.Empty(t, values(points, "b24events.lag")["event=ONCRMDEALADD"])
	})
}

// TestDefaults: without options and without sources everything works.
func TestDefaults(t *testing.T) {
	t.Parallel()
	tel, err := eventotel.New()
	require.NoError(t, err)
	stop, err := tel.Watch(eventotel.Sources{})
	require.NoError(t, err)
	require.NoError(t, stop())
	h := tel.Receive(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil))
	require.Equal(t, http.StatusTeapot, w.Code)
	_, err = rest.NewWebhook("https://example.bitrix24.com/rest/1/secret/", tel.REST()...)
	require.NoError(t, err)
	for _, opt := range []eventotel.Option{eventotel.WithTracerProvider(nil), eventotel.WithMeterProvider(nil)} {
		_, err := eventotel.New(opt)
		require.ErrorIs(t, err, eventotel.ErrConfig)
	}
}
