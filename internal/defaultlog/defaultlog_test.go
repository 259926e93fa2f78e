package defaultlog_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/defaultlog"
)

//nolint:paralleltest // the default logger belongs to the whole process
func TestNew(t *testing.T) {
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	var out bytes.Buffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	logger := defaultlog.New()
	slog.SetDefault(slog.New(slog.DiscardHandler)) // too late to count

	ctx := context.Background()
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		logger.LogAttrs(ctx, level, "line")
	}
	logger.With(slog.String("a", "1")).WithGroup("g").LogAttrs(ctx, slog.LevelWarn, "grouped", slog.String("b", "2"))
	logger.With(slog.String("a", "1")).LogAttrs(ctx, slog.LevelInfo, "silent")
	text := out.String()
	require.NotContains(t, text, "level=DEBUG")
	require.NotContains(t, text, "level=INFO")
	require.Contains(t, text, "level=WARN msg=line")
	require.Contains(t, text, "level=ERROR msg=line")
	require.Contains(t, text, "msg=grouped a=1 g.b=2")
}

// TestLevelOfTheProgram: a program that logs only errors gets only errors.
//
//nolint:paralleltest // the default logger belongs to the whole process
func TestLevelOfTheProgram(t *testing.T) {
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	slog.SetDefault(slog.New(slog.NewTextHandler(&bytes.Buffer{}, &slog.HandlerOptions{Level: slog.LevelError})))
	logger := defaultlog.New()
	require.False(t, logger.Enabled(t.Context(), slog.LevelWarn))
	require.True(t, logger.Enabled(t.Context(), slog.LevelError))
}
