package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/webhook"
)

// call posts a call of an automation rule and returns the status.
func call(t *testing.T, h http.Handler, a eventtest.Activity, opts ...eventtest.RequestOption) int {
	t.Helper()
	r, err := eventtest.NewActivityRequest(t.Context(), a,
		append([]eventtest.RequestOption{eventtest.WithMember(member), eventtest.WithToken(token)}, opts...)...)
	require.NoError(t, err)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec.Code
}

// activities returns a mux that sends the codes of activities, and what they are about, to seen.
func activities(seen chan<- string, failures int) *event.Mux {
	mux := event.NewMux()
	event.OnActivity(mux, "send_sms", func(_ context.Context, d *event.Delivery, a event.Activity) error {
		if failures > 0 {
			failures--
			return errors.New("not yet")
		}
		seen <- d.MemberID() + " " + a.Code + " " + a.Document.ID + " " + a.Properties.Get("text").Text()
		return nil
	})
	return mux
}

func TestActivities(t *testing.T) {
	t.Parallel()
	sms := eventtest.Activity{Code: "send_sms", Properties: map[string]any{"text": "hello"}}
	for name, opts := range map[string]func(t *testing.T) []webhook.Option{
		"memory": func(*testing.T) []webhook.Option { return nil },
		"sync":   func(*testing.T) []webhook.Option { return []webhook.Option{webhook.WithSync()} },
		"store": func(t *testing.T) []webhook.Option {
			t.Helper()
			return []webhook.Option{webhook.WithStore(newStore(t))}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				seen, failures := make(chan string, 10), 2
				if name == "sync" {
					failures = 0
				}
				h := newHandler(t, activities(seen, failures), append(opts(t), webhook.WithActivities())...)
				require.Equal(t, 200, call(t, h, sms))
				require.Equal(t, 403, call(t, h, sms, eventtest.WithToken(event.Secret(token[1:]))), "it is verified like an event")
				require.Equal(t, 403, call(t, h, sms, eventtest.WithoutAuth()))
				unhandled := call(t, h, eventtest.Activity{Code: "other"})
				require.Equal(t, 200, unhandled)
				require.NoError(t, h.Idle(t.Context()))
				require.Equal(t, member+" send_sms DEAL_42 hello", <-seen)
				require.Empty(t, seen)
				s := h.Stats()
				require.EqualValues(t, 2, s.Accepted)
				require.EqualValues(t, 1, s.Handled)
				require.EqualValues(t, 1, s.Unhandled)
				require.EqualValues(t, failures, s.Retried)
				require.NoError(t, h.Shutdown(t.Context()))
			})
		})
	}
}

// TestHints: a request that came to the wrong address says where it belongs.
func TestHints(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ body, hint string }{
		"page":       {"AUTH_ID=x&DOMAIN=p.bitrix24.com&APP_SID=y", "oauth.PageHandler"},
		"automation": {"workflow_id=1&code=c", "WithActivities"},
	} {
		var out bytes.Buffer
		h, err := webhook.NewHandler(webhook.Tokens(token), event.NewMux(), webhook.WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
		require.NoError(t, err)
		require.Equal(t, 400, post(h, test.body), name)
		require.Contains(t, out.String(), "reason=not_event", name)
		require.Contains(t, out.String(), test.hint, name)
	}
}

// TestActivityInTheLog: lines about a call say what it is.
func TestActivityInTheLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	mux := event.NewMux()
	event.OnActivity(mux, "c", func(context.Context, *event.Delivery, event.Activity) error { return event.Drop(errors.New("broken")) })
	h, err := webhook.NewHandler(webhook.Tokens(token), mux, webhook.WithActivities(), webhook.WithSync(),
		webhook.WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
	require.NoError(t, err)
	require.Equal(t, 500, call(t, h, eventtest.Activity{Code: "c", EventToken: "planted-event-token"}))
	require.Contains(t, out.String(), "event=activity")
	require.NotContains(t, out.String(), "planted-event-token")
}
