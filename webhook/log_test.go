package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// records is a slog.Handler that keeps what it gets as JSON.
type records struct {
	slog.Handler

	mu  sync.Mutex
	buf bytes.Buffer
}

func newRecords() *records {
	r := &records{}
	r.Handler = slog.NewJSONHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug})
	return r
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

// lines returns the attributes of each line so far.
func (r *records) lines(t *testing.T) []map[string]any {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []map[string]any
	for line := range strings.Lines(r.buf.String()) {
		var attrs map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &attrs))
		all = append(all, attrs)
	}
	return all
}

// TestLogOfADelivery: the keys are stable, every line identifies its delivery, and waits are
// readable.
func TestLogOfADelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := newRecords()
		rec := recorder{then: func(ctx context.Context, _ *event.Delivery) error {
			if event.AttemptOf(ctx).Number == 1 {
				return event.Retry(errors.New("portal is down"), 1500*time.Millisecond)
			}
			return event.Drop(errors.New("no such deal"))
		}}
		h := newHandler(t, &rec, webhook.WithLogger(slog.New(log)))
		require.Equal(t, http.StatusOK, post(h, dealUpdate(7)))
		require.NoError(t, h.Idle(t.Context()))
		lines := log.lines(t)
		require.Len(t, lines, 2)
		for _, line := range lines {
			require.Equal(t, "ONCRMDEALUPDATE", line["event"])
			require.Equal(t, member, line["member_id"])
			require.Equal(t, rec.deliveries()[0].Key(), line["event_id"])
			require.InDelta(t, 58, line["handler_id"], 0)
			require.Equal(t, "crm.deal 7", line["entity"])
		}
		require.Equal(t, "WARN", lines[0]["level"])
		require.InDelta(t, 1, lines[0]["attempt"], 0)
		require.Equal(t, "1.5s", lines[0]["wait"])
		require.Equal(t, "portal is down", lines[0]["error"])
		require.Equal(t, "ERROR", lines[1]["level"])
		require.InDelta(t, 2, lines[1]["attempt"], 0)
		require.Equal(t, "no such deal", lines[1]["error"])
	})
}

// valued is a slog.Handler that notes a value of the contexts of its lines.
type valued struct {
	slog.Handler

	mu   sync.Mutex
	seen []any
}

func (v *valued) Handle(ctx context.Context, _ slog.Record) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seen = append(v.seen, ctx.Value(tenantKey{}))
	return nil
}

// TestContextOfLogLines: lines about a delivery have the values that WithContext gave it, such as
// the ID of a trace.
func TestContextOfLogLines(t *testing.T) {
	t.Parallel()
	log := &valued{Handler: slog.NewTextHandler(nowhere{}, nil)}
	h := newHandler(t, do(func(context.Context, *event.Delivery) error { return event.Drop(errPanic) }),
		webhook.WithLogger(slog.New(log)), webhook.WithContext(func(ctx context.Context, _ *http.Request) context.Context {
			return context.WithValue(ctx, tenantKey{}, "mine")
		}))
	post(h, dealUpdate(1))
	shutdown(t, h)
	require.Equal(t, []any{"mine"}, log.seen)
}

// TestNotSilentByDefault: a failure is logged although nobody set a logger.
//
//nolint:paralleltest // the default logger belongs to the whole process
func TestNotSilentByDefault(t *testing.T) {
	before := slog.Default() //nolint:forbidigo // the test is about it
	t.Cleanup(func() { slog.SetDefault(before) })
	log := newRecords()
	slog.SetDefault(slog.New(log))
	handler := do(func(_ context.Context, d *event.Delivery) error {
		if d.Entity().ID == "1" {
			return event.Drop(errors.New("missing scope"))
		}
		return event.ErrUnhandled
	})
	h, err := webhook.NewHandler(anyPortal(), handler)
	require.NoError(t, err)
	quiet, err := webhook.NewHandler(anyPortal(), handler, webhook.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	slog.SetDefault(before) // the logger at the time of NewHandler counts
	for _, h := range []*webhook.Handler{h, quiet} {
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		require.Equal(t, http.StatusOK, post(h, dealUpdate(2)), "a DEBUG line")
		require.Equal(t, http.StatusForbidden, post(h, body("ONCRMDEALADD", fields{"auth[application_token]": "x"})))
		shutdown(t, h)
	}
	var levels []any
	for _, line := range log.lines(t) {
		levels = append(levels, line["level"])
	}
	require.ElementsMatch(t, []any{"ERROR", "WARN"}, levels)
}
