package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// secrets are planted everywhere, and must not appear anywhere.
var secrets = []string{
	"SECRETapplication", "SECRETaccess", "SECRETrefresh", "SECRETpayload", "SECRETother", "SECRETpanic", "SECRETname", "SECRETmember",
	"SECRET+plus", "SECRET%2Bplus",
}

// loot collects everything that is printed.
type loot struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *loot) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *loot) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *loot) print(tb testing.TB, values ...any) {
	tb.Helper()
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			_, err := fmt.Fprintf(l, verb+"\n", v)
			require.NoError(tb, err)
		}
		slog.New(slog.NewTextHandler(l, nil)).Info("value", "value", v) //nolint:sloglint // that is what users do
		if text, err := json.Marshal(v); err == nil {
			_, _ = l.Write(text)
		}
	}
}

func (l *loot) clean(tb testing.TB) {
	tb.Helper()
	text := strings.ToLower(l.String()) // names arrive in upper case
	for _, s := range secrets {
		require.NotContains(tb, text, strings.ToLower(s))
		require.NotContains(tb, text, fmt.Sprintf("%x", s))
	}
}

func secretBody(name string, more fields) string {
	f := fields{
		"auth[application_token]": "SECRETapplication", "auth[access_token]": "SECRETaccess", "auth[refresh_token]": "SECRET+plus",
		"data[FIELDS][ID]": "1", "data[TEXT]": "SECRETpayload", "data[access_token]": "SECRETpayload",
	}
	maps.Copy(f, more)
	return body(name, f)
}

func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	quoting := func(d *event.Delivery) error { // as a *url.Error quotes what was called
		return &url.Error{Op: "Post", URL: "https://p.bitrix24.com/?auth=" + string(d.Auth.AccessToken) +
			"&r=" + url.QueryEscape(string(d.Auth.RefreshToken)) + "&raw=" + string(d.Auth.RefreshToken), Err: io.EOF}
	}
	type answering struct {
		name    string
		body    string
		handler func(d *event.Delivery) error
		verify  func(d *event.Delivery) error
		options []webhook.Option
		lines   []string // what must be in the log
	}
	for _, test := range []answering{
		{name: "accepted", body: secretBody("ONCRMDEALADD", nil)},
		{
			name: "unknown event", body: secretBody("ONSOMETHINGNEW", nil),
			handler: func(*event.Delivery) error { return event.ErrUnhandled },
			lines:   []string{"event without a handler", "event=ONSOMETHINGNEW", "member_id=" + member},
		},
		{
			name: "unknown event with an odd name", body: secretBody("ONX SECRETNAME", nil),
			lines: []string{"reason=malformed", "event=unknown"},
		},
		{
			name: "name that looks like a secret", body: secretBody("secretname!", nil),
			handler: func(*event.Delivery) error { return event.ErrUnhandled },
			lines:   []string{"event without a handler", "event=unknown"},
		},
		{
			name: "long name", body: secretBody("ON"+strings.Repeat("X", 80)+"SECRETname", nil),
			handler: func(*event.Delivery) error { return event.ErrUnhandled },
			lines:   []string{"event without a handler", "event=unknown"},
		},
		{
			name: "malformed", body: "event=SECRETname&event[x]=SECRETpayload&ts=SECRETpayload&auth=SECRETaccess",
			lines: []string{"level=WARN", "reason=malformed", "status=400", "remote_addr=192.0.2.1:1234"},
		},
		{name: "not an event", body: "AUTH_ID=SECRETaccess&member_id=SECRETmember&PLACEMENT=x", lines: []string{"reason=not_event"}},
		{
			name: "forbidden, known event", body: secretBody("ONCRMDEALADD", fields{"auth[application_token]": "SECRETother", "auth[member_id]": "SECRETmember"}),
			lines: []string{"level=WARN", "reason=forbidden", "status=403", "event=ONCRMDEALADD"},
		},
		{
			name: "forbidden, unknown event", body: secretBody("SECRETname", fields{"auth[application_token]": "SECRETother"}),
			lines: []string{"reason=forbidden", "event=unknown"},
		},
		{
			name: "forbidden, name made of a template", body: secretBody("ONCRMDYNAMICITEMADD_SECRETname", fields{"auth[application_token]": "SECRETother"}),
			lines: []string{"reason=forbidden"},
		},
		{
			name: "verifier quotes", body: secretBody("ONCRMDEALADD", nil), verify: quoting,
			lines: []string{"level=ERROR", "event lost", "reason=unavailable", "status=503"},
		},
		{
			name: "verifier panics", body: secretBody("ONCRMDEALADD", nil), verify: func(*event.Delivery) error { panic("SECRETpanic") },
			lines: []string{"level=ERROR", "reason=unavailable", "stack=", "leak_test.go"},
		},
		{
			name: "handler quotes", body: secretBody("ONCRMDEALADD", nil), handler: quoting,
			lines: []string{"level=ERROR", "giving up", "attempt=1", "member_id=" + member, "handler_id=58"},
		},
		{
			name: "handler panics", body: secretBody("ONCRMDEALADD", nil), handler: func(*event.Delivery) error { panic("SECRETpanic") },
			lines: []string{"level=ERROR", "stack=", "leak_test.go"},
		},
		{
			name: "handler panics with an error", body: secretBody("ONCRMDEALADD", nil),
			handler: func(*event.Delivery) error { panic(errors.New("SECRETpanic")) }, lines: []string{"stack="},
		},
		{
			name: "handler wraps a panic", body: secretBody("ONCRMDEALADD", nil),
			handler: func(*event.Delivery) error {
				return fmt.Errorf("middleware: %w", event.NewPanicError("SECRETpanic", []byte("frames")))
			}, lines: []string{"stack=frames"},
		},
		{
			name: "callback panics", body: secretBody("ONCRMDEALADD", nil), handler: func(*event.Delivery) error { return io.EOF },
			options: []webhook.Option{webhook.WithOnDropped(func(*event.Delivery, error) { panic("SECRETpanic") })},
			lines:   []string{"panic in the function for dropped deliveries", "stack="},
		},
		{
			name: "queue quotes", body: secretBody("ONCRMDEALADD", nil),
			options: []webhook.Option{webhook.WithQueue(queueFunc(func(_ context.Context, d *event.Delivery) error { return quoting(d) }))},
			lines:   []string{"level=ERROR", "event lost", "reason=unavailable"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out loot
			lookup := &portals{tokens: map[string][]event.Secret{member: {"SECRETapplication"}}}
			v := webhook.Any(webhook.Tokens("SECRETapplication"), webhook.Installations(clientID, lookup))
			if test.verify != nil {
				v = verifierFunc(func(_ context.Context, d *event.Delivery) error { return test.verify(d) })
			}
			options := test.options
			if test.handler == nil {
				test.handler = func(*event.Delivery) error { return nil }
			}
			if test.name != "queue quotes" {
				options = append(options, webhook.WithMaxAttempts(1))
			}
			logger := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
			h, err := webhook.NewHandler(v, do(func(_ context.Context, d *event.Delivery) error { return test.handler(d) }),
				append(options, webhook.WithLogger(logger))...)
			require.NoError(t, err)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, request(test.body))
			shutdown(t, h)
			log := out.String()
			for _, line := range test.lines {
				require.Contains(t, log, line)
			}
			out.print(t, h, h.Stats(), w.Body.String(), fmt.Sprint(w.Header()))
			out.clean(t)
		})
	}
}

func TestRetriesAndLossesAreLogged(t *testing.T) {
	t.Parallel()
	var out loot
	h := newHandler(t, do(func(ctx context.Context, d *event.Delivery) error {
		if d.Entity().ID == "1" {
			return event.Retry(errors.New("portal "+string(d.Auth.ApplicationToken)), time.Hour)
		}
		<-ctx.Done()
		return ctx.Err()
	}), webhook.WithWorkers(2), webhook.WithPortalWorkers(2), webhook.WithQueueSize(3), webhook.WithEnqueueTimeout(0),
		webhook.WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
	post(h, dealUpdate(1))
	require.Eventually(t, func() bool { return h.Stats().Retried == 1 }, 5*time.Second, time.Millisecond)
	post(h, dealUpdate(2))
	post(h, dealUpdate(3))
	require.ErrorIs(t, h.Shutdown(within(t, 10*time.Millisecond)), webhook.ErrShutdown)
	post(h, dealUpdate(4))
	text := out.String()
	require.Contains(t, text, "level=WARN msg=\"webhook: handler failed, trying again\"")
	require.Contains(t, text, "wait=1h0m0s")
	require.Contains(t, text, "reason=queue_full")
	require.Equal(t, 3, strings.Count(text, "reason=shutting_down"))
	require.NotContains(t, text, token)
}

// TestValuesLeakNothing prints every exported type.
func TestValuesLeakNothing(t *testing.T) {
	t.Parallel()
	var out loot
	lookup := &portals{tokens: map[string][]event.Secret{member: {"SECRETapplication"}}}
	tokens := webhook.Tokens("SECRETapplication", "SECRETanotherone")
	installations := webhook.Installations(clientID, lookup)
	h, err := webhook.NewHandler(tokens, do(func(ctx context.Context, _ *event.Delivery) error {
		<-ctx.Done()
		return nil
	}))
	require.NoError(t, err)
	post(h, secretBody("ONCRMDEALADD", nil))
	post(h, secretBody("ONCRMDEALADD", nil))
	out.print(t,
		h, *tokens, tokens, installations, webhook.Any(tokens, installations), webhook.InsecureNoVerify(), h.Stats(), h.Stats().Ack,
		struct{ V webhook.Verifier }{tokens}, struct{ h *webhook.Handler }{h}, []*webhook.Handler{h},
		&webhook.ShutdownError{Left: 1, Cause: io.EOF},
	)
	_, err = webhook.NewHandler(webhook.Tokens("SECRETapplication", ""), nothing())
	out.print(t, err)
	_, err = webhook.NewHandler(tokens, nothing(), webhook.WithCoalescing(event.Define[event.Data]("SECRETname")))
	out.print(t, err)
	require.Error(t, h.Shutdown(within(t, 0)))
	out.clean(t)
}

func TestLongErrorsAreCut(t *testing.T) {
	t.Parallel()
	var out loot
	h := newHandler(t, do(func(context.Context, *event.Delivery) error {
		return event.Drop(errors.New(strings.Repeat("ж", 1<<20)))
	}), webhook.WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
	post(h, dealUpdate(1))
	shutdown(t, h)
	require.Less(t, len(out.String()), 1000)
	require.Contains(t, out.String(), "ж…")
}
