package logattr_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/logattr"
)

func TestError(t *testing.T) {
	t.Parallel()
	d := &event.Delivery{Auth: event.Auth{AccessToken: "s3cr3t-token"}}
	for name, c := range map[string]struct {
		d    *event.Delivery
		err  error
		want slog.Attr
	}{
		"none":              {d, nil, slog.Any("error", nil)},
		"token of the call": {d, errors.New("refused s3cr3t-token"), slog.String("error", "refused [redacted]")},
		"address": {
			nil, fmt.Errorf("calling: %w", &url.Error{Op: "Post", URL: "https://portal.example/rest/1/s3cr3t/", Err: errors.New("refused")}),
			slog.String("error", "post request: refused"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want.String(), logattr.Error(c.d, c.err).String())
		})
	}
	require.LessOrEqual(t, len(logattr.Error(nil, errors.New(strings.Repeat("x", 1<<20))).Value.String()), 510)
}

func TestWait(t *testing.T) {
	t.Parallel()
	require.Equal(t, "wait=1.5s", logattr.Wait(1500*time.Millisecond+time.Microsecond).String())
}

func TestNames(t *testing.T) {
	t.Parallel()
	var n logattr.Names
	require.True(t, n.First("a"))
	require.False(t, n.First("a"))
	for i := range 2000 {
		n.First(strconv.Itoa(i))
	}
	require.False(t, n.First("one too many"))
}
