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

func TestAppendEntity(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body string // empty for no delivery
		want string // empty for no attribute
	}{
		"no delivery":         {"", ""},
		"an object":           {"event=ONCRMDEALUPDATE&data[FIELDS][ID]=42", "entity=crm.deal 42"},
		"no ID":               {"event=ONCRMDEALUPDATE&data[FIELDS][X]=42", ""},
		"an unknown event":    {"event=ONX&data[FIELDS][ID]=42", ""},
		"the application":     {"event=ONAPPUNINSTALL&data[CLEAN]=1", "entity=app"},
		"an ID with a token":  {"event=ONCRMDEALUPDATE&data[FIELDS][ID]=a-s3cr3t-token&auth[access_token]=s3cr3t-token", "entity=crm.deal a-[redacted]"},
		"an ID with newlines": {"event=ONCRMDEALUPDATE&data[FIELDS][ID]=4%0alevel=ERROR", "entity=crm.deal 4 level=ERROR"},
		"a long ID": {
			"event=ONCRMDEALUPDATE&data[FIELDS][ID]=" + strings.Repeat("x", 1000), "entity=crm.deal " + strings.Repeat("x", 64) + "…",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var d *event.Delivery
			if c.body != "" {
				var err error
				d, err = event.Parse("application/x-www-form-urlencoded", []byte(c.body))
				require.NoError(t, err)
			}
			first := slog.String("event", "x")
			got := logattr.AppendEntity([]slog.Attr{first}, d)
			require.Equal(t, first.String(), got[0].String())
			if c.want == "" {
				require.Len(t, got, 1)
				return
			}
			require.Len(t, got, 2)
			require.Equal(t, c.want, got[1].String())
		})
	}
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
