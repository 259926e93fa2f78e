package eventotel_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventotel"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// TestLabelsOfStrangersAreBounded: if strangers send odd names, labels and names of spans come from
// bounded sets.
func TestLabelsOfStrangersAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fetchesDeals)
		g, err := w.app.Grant(eventtest.AdminID)
		require.NoError(t, err)
		for i := range 300 {
			for _, token := range []event.Secret{"wrong", g.ApplicationToken} { // a portal may send any name, too
				r, err := eventtest.NewRequest(t.Context(), eventtest.Name(fmt.Sprintf("ONX%d", i)), nil,
					eventtest.WithToken(token), eventtest.WithMember(w.MemberID()))
				require.NoError(t, err)
				w.Receive(w.hook).ServeHTTP(httptest.NewRecorder(), r)
			}
			d := &event.Delivery{Name: fmt.Sprintf("ONX%d", i), Source: event.Source(fmt.Sprintf("source%d", i))}
			require.NoError(t, w.handler(nil).HandleEvent(t.Context(), d))
		}
		require.NoError(t, w.hook.Idle(t.Context()))
		_ = w.watchAll(t, newConsumer(t, w), newFleet(t, w))
		checkValues(t, w.telemetry)
		require.LessOrEqual(t, distinctNames(w.telemetry), 10)
		points := w.collect(t)
		require.InDelta(t, 300, values(points, "b24events.handler")["event=other,outcome=done,source=other"], 0)
		require.InDelta(t, 300, values(points, "b24events.ack")["event=other"], 0)
	})
}

// handler returns a handler with telemetry that returns an error.
func (t *telemetry) handler(err error) event.Handler {
	return t.Middleware()(event.HandlerFunc(func(context.Context, *event.Delivery) error { return err }))
}

func newConsumer(t *testing.T, w *world) *offline.Consumer {
	t.Helper()
	c, err := offline.NewConsumer(w.clients.Portal(w.MemberID()), w.mux, append(w.Consumer(), offline.WithLogger(silent()))...)
	require.NoError(t, err)
	return c
}

func newFleet(t *testing.T, w *world) *offline.Fleet {
	t.Helper()
	f, err := offline.NewFleet(func(id string) event.Caller { return w.clients.Portal(id) }, w.mux,
		append(w.Fleet(), offline.WithLogger(silent()))...)
	require.NoError(t, err)
	return f
}

// TestSources: each source of the packages is a label.
func TestSources(t *testing.T) {
	t.Parallel()
	tel := newTelemetry(t)
	for _, source := range []event.Source{event.SourceOnline, event.SourceOffline, event.SourcePolled, "made up"} {
		require.NoError(t, tel.handler(nil).HandleEvent(t.Context(), &event.Delivery{Name: "ONCRMDEALADD", Source: source}))
	}
	require.Equal(t, map[string]float64{
		"event=ONCRMDEALADD,outcome=done,source=online": 1, "event=ONCRMDEALADD,outcome=done,source=offline": 1,
		"event=ONCRMDEALADD,outcome=done,source=polled": 1, "event=ONCRMDEALADD,outcome=done,source=other": 1,
	}, values(tel.collect(t), "b24events.handler"))
}

// TestGoneObjects: an object that is gone is no failure of its handler. Offline queues count it as
// handled.
func TestGoneObjects(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err     error
		outcome string
	}{
		"gone":                    {fmt.Errorf("deal 7: %w", event.ErrGone), "gone"},
		"gone, and dropped":       {event.Drop(event.ErrGone), "gone"},
		"gone, and to be retried": {event.Retry(event.ErrGone, time.Second), "retried"},
		"gone, and more":          {errors.Join(event.ErrGone, errors.New("database down")), "failed"},
		"gone, and malformed":     {errors.Join(event.ErrGone, event.ErrMalformed), "dropped"},
		"two gone":                {errors.Join(event.ErrGone, event.ErrGone), "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tel := newTelemetry(t)
			d := &event.Delivery{Name: "ONCRMDEALADD", Source: event.SourceOffline, Time: time.Now()}
			require.Equal(t, test.err, tel.handler(test.err).HandleEvent(t.Context(), d))
			s := tel.span(t, "bitrix24 handle ONCRMDEALADD")
			require.Equal(t, test.outcome, attributes(s)["bitrix24.outcome"])
			require.Equal(t, test.outcome != "gone", s.Status().Code == codes.Error)
			points := tel.collect(t)
			require.InDelta(t, 1, values(points, "b24events.handler")["event=ONCRMDEALADD,outcome="+test.outcome+",source=offline"], 0)
			require.Equal(t, test.outcome == "gone", len(values(points, "b24events.offline.lag")) == 1)
		})
	}
}

// TestNestedHandlersCountOnce: a mux within a mux has a span of its own, and is not measured again.
func TestNestedHandlersCountOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.installs()
			inner := event.NewMux()
			inner.Use(w.Middleware())
			event.On(inner, event.OnCrmDealAdd, func(context.Context, *event.Delivery, event.CRMEntity) error { return nil })
			w.mux.Handle("ONCRMDEALADD", inner)
		})
		w.addDeal()
		points := w.collect(t)
		require.InDelta(t, 1, values(points, "b24events.handler")["event=ONCRMDEALADD,outcome=done,source=online"], 0)
		require.InDelta(t, 1, values(points, "b24events.lag")["event=ONCRMDEALADD"], 0)

		// A handler that makes deliveries of other events is measured for these.
		outer := w.Middleware()(event.HandlerFunc(func(ctx context.Context, _ *event.Delivery) error {
			return w.handler(nil).HandleEvent(ctx, &event.Delivery{Name: "ONCRMLEADADD"})
		}))
		require.NoError(t, outer.HandleEvent(t.Context(), &event.Delivery{Name: "ONCRMDEALDELETE"}))
		points = w.collect(t)
		require.InDelta(t, 1, values(points, "b24events.handler")["event=ONCRMLEADADD,outcome=done,source=other"], 0)
		require.InDelta(t, 1, values(points, "b24events.handler")["event=ONCRMDEALDELETE,outcome=done,source=other"], 0)
	})
}

// TestClocksThatDisagree: another machine with a clock ahead received the delivery. A histogram
// with a negative time would make the sum of Prometheus fall.
func TestClocksThatDisagree(t *testing.T) {
	t.Parallel()
	tel := newTelemetry(t)
	ctx := event.WithAttempt(t.Context(), event.Attempt{Number: 1, Received: time.Now().Add(time.Hour)})
	ctx = tel.restored(ctx, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	require.NoError(t, tel.handler(nil).HandleEvent(ctx, &event.Delivery{Name: "ONCRMDEALADD", Source: event.SourceOnline}))
	for _, p := range tel.collect(t) {
		require.GreaterOrEqual(t, p.sum, 0.0, p.name)
	}
	s := tel.span(t, "bitrix24 queue")
	require.False(t, s.EndTime().Before(s.StartTime()))
}

// restored returns the context of a handler whose delivery was stored with a text, by the real
// options of the webhook.
func (t *telemetry) restored(ctx context.Context, saved string) context.Context {
	return eventotel.RestoreTrace(ctx, saved)
}

// TestHostileTraces: what a store holds as the trace of a delivery may be anything. It never ends
// a handler, and makes no link to an invalid span.
func TestHostileTraces(t *testing.T) {
	t.Parallel()
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for name, test := range map[string]struct {
		saved  string
		linked bool
	}{
		"as saved":            {"00-" + trace + "-" + span + "-01", true},
		"not sampled":         {"00-" + trace + "-" + span + "-00", true},
		"a later version":     {"cc-" + trace + "-" + span + "-01-what-the-future-will-be-like", true},
		"unknown flags":       {"cc-" + trace + "-" + span + "-ff", true},
		"no trace":            {"00-" + strings.Repeat("0", 32) + "-" + span + "-01", false},
		"no span":             {"00-" + trace + "-" + strings.Repeat("0", 16) + "-01", false},
		"version ff":          {"ff-" + trace + "-" + span + "-01", false},
		"in capital letters":  {"00-" + strings.ToUpper(trace) + "-" + span + "-01", false},
		"too long":            {"00-" + trace + "-" + span + "-01-" + strings.Repeat("x", 64), false},
		"very long":           {strings.Repeat("00-", 1<<20), false},
		"empty":               {"", false},
		"one letter":          {"0", false},
		"header injection":    {"00-" + trace + "-" + span + "-01\r\nx: y", false},
		"not UTF-8":           {"00-\xff\xfe" + trace[2:] + "-" + span + "-01", false},
		"NUL":                 {"00-" + trace + "-" + span + "-0\x00", false},
		"signs":               {"00-" + strings.Repeat("-", 32) + "-" + span + "-01", false},
		"another kind of ID":  {"1-67891233-abcdef012345678912345678", false},
		"JSON":                {`{"traceparent":"x"}`, false},
		"no hexadecimal span": {"00-" + trace + "-" + strings.Repeat("z", 16) + "-01", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tel := newTelemetry(t)
			ctx := tel.restored(event.WithAttempt(t.Context(), event.Attempt{Number: 2}), test.saved)
			require.NoError(t, tel.handler(nil).HandleEvent(ctx, &event.Delivery{Name: "ONCRMDEALADD"}))
			s := tel.span(t, "bitrix24 handle ONCRMDEALADD")
			require.False(t, s.Parent().IsValid(), "a handler is the root of its trace")
			require.NotEqual(t, trace, s.SpanContext().TraceID().String())
			if !test.linked {
				require.Empty(t, s.Links())
				require.Equal(t, "true", attributes(s)["bitrix24.unlinked"])
				return
			}
			require.Len(t, s.Links(), 1)
			require.Equal(t, trace, s.Links()[0].SpanContext.TraceID().String())
			require.Equal(t, span, s.Links()[0].SpanContext.SpanID().String())
			require.Zero(t, s.Links()[0].SpanContext.TraceState().Len())
		})
	}
}

// awkward is an error whose methods panic, as those of a nil pointer do.
type awkward struct{}

func (*awkward) Error() string { return "awkward" }
func (*awkward) Unwrap() error { panic("nil pointer") }

// TestAwkwardErrors: telemetry returns any error of a handler as it is.
func TestAwkwardErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err           error
		outcome, kind string
	}{
		"methods panic": {new(awkward), "failed", "*eventotel_test.awkward"},
		"at the bottom": {fmt.Errorf("wrapped: %w", new(awkward)), "failed", "*fmt.wrapError"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tel := newTelemetry(t)
			got := tel.handler(test.err).HandleEvent(t.Context(), &event.Delivery{Name: "ONCRMDEALADD"})
			require.Same(t, test.err, got)
			s := tel.span(t, "bitrix24 handle ONCRMDEALADD")
			require.Equal(t, test.outcome, attributes(s)["bitrix24.outcome"])
			require.Equal(t, test.kind, attributes(s)["error.type"])
		})
	}
}

// unended returns the names of the spans that were started and have not ended.
func (t *telemetry) unended() []string {
	var names []string
	ended := make(map[string]bool)
	for _, s := range t.spans.Ended() {
		ended[s.SpanContext().SpanID().String()] = true
	}
	for _, s := range t.spans.Started() {
		if !ended[s.SpanContext().SpanID().String()] {
			names = append(names, s.Name())
		}
	}
	return names
}

// died is what callers and transports do that do not return.
var died = map[string]func(){ //nolint:gochecknoglobals // a table
	"panics":        func() { panic("the-payload") },
	"panics in net": func() { panic(http.ErrAbortHandler) },
	"exits":         runtime.Goexit,
}

// TestEverySpanEnds: a span ends if what it is of does not return.
func TestEverySpanEnds(t *testing.T) {
	t.Parallel()
	for name, die := range died {
		for part, run := range map[string]func(t *testing.T, w *world){
			"request": func(_ *testing.T, w *world) {
				w.Receive(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { die() })).
					ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/", http.NoBody))
			},
			"handler": func(_ *testing.T, w *world) {
				_ = w.Middleware()(event.HandlerFunc(func(context.Context, *event.Delivery) error { die(); return nil })).
					HandleEvent(context.Background(), &event.Delivery{Name: "ONCRMDEALADD"})
			},
			"call": func(t *testing.T, w *world) {
				t.Helper()
				clients, err := rest.NewClients(dyingCredentials{die}, append(w.REST(), rest.WithLogger(silent()))...)
				require.NoError(t, err)
				client := clients.Portal(w.MemberID())
				_ = client.Call(context.Background(), "crm.deal.get", nil, nil)
			},
			"consumer": func(t *testing.T, w *world) {
				t.Helper()
				c, err := offline.NewConsumer(dying{die}, w.mux, append(w.Consumer(), offline.WithLogger(silent()))...)
				require.NoError(t, err)
				_ = c.Drain(context.Background())
			},
			"fleet": func(t *testing.T, w *world) {
				t.Helper()
				f, err := offline.NewFleet(func(string) event.Caller { return dying{die} }, w.mux,
					append(w.Fleet(), offline.WithClientID("app.1"), offline.WithLogger(silent()))...)
				require.NoError(t, err)
				require.NoError(t, f.Add(w.MemberID()))
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				_ = f.Run(ctx)
			},
		} {
			t.Run(part+" "+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, func(w *world) { w.installs() })
					done := make(chan struct{})
					go func() {
						defer close(done)
						defer func() { _ = recover() }()
						run(t, w)
					}()
					<-done
					require.NotEmpty(t, w.spans.Started())
					require.Empty(t, w.unended())
					require.NotContains(t, w.text(), "the-payload")
					require.NotContains(t, w.text(), "secret")
					require.True(t, slices.ContainsFunc(w.spans.Ended(), func(s readOnlySpan) bool { return s.Status().Code == codes.Error }),
						"it is no success")
				})
			})
		}
	}
}

// dying is a caller that does not return.
type dying struct{ die func() }

func (c dying) Call(context.Context, string, any, any) error { c.die(); return nil }

// dyingCredentials do not return either.
type dyingCredentials struct{ die func() }

func (c dyingCredentials) Access(context.Context, string) (endpoint, token string, err error) {
	c.die()
	return "", "", nil
}

func (dyingCredentials) Renew(context.Context, string, string) (endpoint, token string, err error) {
	return "", "", nil
}

// TestSpansEndAtShutdown: handlers that Shutdown cut off have spans that end when they return, with
// the outcome that their error asks for.
func TestSpansEndAtShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.installs()
			event.On(w.mux, event.OnCrmDealAdd, func(ctx context.Context, _ *event.Delivery, _ event.CRMEntity) error {
				<-ctx.Done()
				<-time.After(time.Second)
				return context.Cause(ctx)
			})
		})
		w.deliverDeal()
		synctest.Wait()
		require.Equal(t, []string{"bitrix24 handle ONCRMDEALADD"}, w.unended())
		stop(w.hook)
		time.Sleep(time.Minute) //nolint:forbidigo // on the clock of the bubble
		require.Empty(t, w.unended())
		s := w.span(t, "bitrix24 handle ONCRMDEALADD")
		require.Equal(t, "failed", attributes(s)["bitrix24.outcome"])
		require.Equal(t, "webhook.Error", attributes(s)["error.type"])
	})
}

// TestCodesThatAreTokens: a portal that sends a token as the code of an error gets it into no span.
func TestCodesThatAreTokens(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ code, want string }{
		"a code":               {"ERROR_CORE", "ERROR_CORE"},
		"a long code":          {"ERROR_BATCH_METHOD_NOT_ALLOWED", "ERROR_BATCH_METHOD_NOT_ALLOWED"},
		"a number":             {"100", "100"},
		"a code with a number": {"BX_INVALID_VALUE_2", "BX_INVALID_VALUE_2"},
		"an application token": {"51856fefc120afa4b628cc82d3935cce", "*rest.Error"},
		"a secret of a hook":   {"k7h2x9q4m1p8s3d6", "*rest.Error"},
		"an access token":      {strings.Repeat("a1", 35), "*rest.Error"},
		"a part of a token":    {"error.51856fefc120afa4b628cc82d3935cce", "*rest.Error"},
		"a text":               {"a code with the-payload", "*rest.Error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(w *world) { w.installs() })
				w.Once("crm.deal.get", eventtest.Fail(400, test.code, "the-payload"))
				require.Error(t, w.clients.Portal(w.MemberID()).Call(t.Context(), "crm.deal.get", map[string]any{"id": 1}, nil))
				s := w.span(t, "bitrix24 call crm.deal.get")
				require.Equal(t, test.want, attributes(s)["error.type"])
				require.Equal(t, test.want, s.Status().Description)
			})
		})
	}
}

// TestWatchOnce: a second Watch of the same sources would show only one of two depths.
func TestWatchOnce(t *testing.T) {
	t.Parallel()
	tel := newTelemetry(t)
	depth := func(n int) eventotel.Sources {
		return eventotel.Sources{Webhook: func() webhook.Stats { return webhook.Stats{Queued: n} }}
	}
	stop, err := tel.Watch(depth(1))
	require.NoError(t, err)
	_, err = tel.Watch(depth(2))
	require.ErrorIs(t, err, eventotel.ErrConfig)
	other, err := tel.Watch(eventotel.Sources{REST: func() rest.Stats { return rest.Stats{} }})
	require.NoError(t, err, "other sources")
	require.NoError(t, stop())
	require.NoError(t, stop())
	stop, err = tel.Watch(depth(3))
	require.NoError(t, err, "the first has ended")
	require.Equal(t, map[string]float64{"": 3}, values(tel.collect(t), "b24events.queue.depth"))
	require.NoError(t, stop())
	require.NoError(t, other())
}

// TestSourcesThatPanic: a function that panics costs its metrics, and not the process.
func TestSourcesThatPanic(t *testing.T) {
	t.Parallel()
	tel := newTelemetry(t)
	stop, err := tel.Watch(eventotel.Sources{Webhook: func() webhook.Stats { panic("the-payload") }})
	require.NoError(t, err)
	err = tel.collectError(t)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "the-payload")
	require.NoError(t, stop())
}
