package offline_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/offline"
)

// logLines reads what a slog.JSONHandler wrote.
func logLines(t *testing.T, log *bytes.Buffer) (lines []map[string]any) {
	t.Helper()
	for line := range strings.Lines(log.String()) {
		var attrs map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &attrs))
		lines = append(lines, attrs)
	}
	return lines
}

// Each line about a portal names it, and the keys are those of package webhook.
func TestLogKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", 1)
		var log bytes.Buffer
		f.drain(func(ctx context.Context, _ *event.Delivery) error {
			if event.AttemptOf(ctx).Number == 1 {
				return errHandler
			}
			return event.Drop(errHandler)
		}, offline.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
		lines := logLines(t, &log)
		require.Len(t, lines, 2, log.String())
		for i, l := range lines {
			require.Equal(t, f.MemberID(), l["member_id"])
			require.Equal(t, "ONCRMDEALUPDATE", l["event"])
			require.Equal(t, "crm.deal 1", l["entity"])
			require.InDelta(t, i+1, l["attempt"], 0)
			require.Equal(t, errHandler.Error(), l["error"])
			require.NotEmpty(t, l["record_id"])
			require.Len(t, l["message_id"], 32)
		}
		text, _ := lines[0]["wait"].(string)
		wait, err := time.ParseDuration(text)
		require.NoError(t, err)
		require.Positive(t, wait)
	})
}

// Failures are logged without WithLogger, too.
//
//nolint:paralleltest // the default logger belongs to the whole process
func TestNotSilentByDefault(t *testing.T) {
	before := slog.Default() //nolint:forbidigo // the test is about it
	t.Cleanup(func() { slog.SetDefault(before) })
	var log bytes.Buffer
	slog.SetDefault(slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	f := newFixture(t)
	h := event.HandlerFunc(func(_ context.Context, d *event.Delivery) error {
		if dealID(t, d) == 1 {
			return event.ErrGone // an INFO line
		}
		return event.Drop(errHandler)
	})
	consumer, err := offline.NewConsumer(f.api, h)
	require.NoError(t, err)
	quiet, err := offline.NewConsumer(f.api, h, offline.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	slog.SetDefault(before) // the logger at the time of NewConsumer counts
	for _, c := range []*offline.Consumer{consumer, quiet} {
		f.change("UPDATE", 1, 2)
		require.NoError(t, c.Drain(t.Context()))
	}
	lines := logLines(t, &log)
	require.Len(t, lines, 1, log.String())
	require.Equal(t, "WARN", lines[0]["level"])
}
