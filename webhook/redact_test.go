package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// TestErrorsInTheLogHoldNoTokenOfTheData covers tokens that stand in data and not in the auth
// section: of bots, of a confirmed method, and in JSON inside a text. An error of a handler quoted
// them into the log.
func TestErrorsInTheLogHoldNoTokenOfTheData(t *testing.T) {
	t.Parallel()
	const application = "application-token-of-32-characters"
	for name, tc := range map[string]struct {
		event string
		data  map[string]string
		err   func(d *event.Delivery) error
	}{
		"bot": {
			"ONIMBOTMESSAGEADD",
			map[string]string{"data[BOT][5][access_token]": "PLANTED/bot+token=1"},
			func(*event.Delivery) error {
				return &url.Error{Op: "Post", URL: "https://p.example/rest/imbot.message.add?x=" + url.QueryEscape("PLANTED/bot+token=1"), Err: io.EOF}
			},
		},
		"bot of the second version": {
			"ONIMBOTV2MESSAGEADD",
			map[string]string{"data[bot][auth][refresh_token]": "PLANTED-refresh"},
			func(d *event.Delivery) error { return fmt.Errorf("payload %s", d.Data.JSON()) },
		},
		"confirmed method": {
			"ONAPPMETHODCONFIRM",
			map[string]string{"data[TOKEN]": "PLANTED-confirm"},
			func(d *event.Delivery) error { return fmt.Errorf("%q", d.Data.JSON()) },
		},
		"JSON in a text": {
			"ONAPPTEST",
			map[string]string{"data[QUERY][options]": `{"access_token":"PLANTED-nested"}`},
			func(d *event.Delivery) error {
				return errors.New(d.Data.Get("QUERY", "options").Text() + " PLANTED-nested")
			},
		},
		"token of another call": {
			"ONCRMDEALADD", nil,
			func(*event.Delivery) error {
				return &url.Error{Op: "Post", URL: "https://p.example/rest/profile?auth=PLANTED-unknown", Err: io.EOF}
			},
		},
		"several lines": {
			"ONCRMDEALADD", nil,
			func(*event.Delivery) error { return errors.New("a\r\nlevel=ERROR msg=forged \x1b[2J\u009b31m\u202e") },
		},
		"cut inside a token": {
			"ONAPPMETHODCONFIRM",
			map[string]string{"data[TOKEN]": "PLANTED" + strings.Repeat("x", 100)},
			func(*event.Delivery) error {
				return errors.New(strings.Repeat("y", 500) + "PLANTED" + strings.Repeat("x", 100))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			handler := event.HandlerFunc(func(_ context.Context, d *event.Delivery) error { return event.Drop(tc.err(d)) })
			h, err := webhook.NewHandler(webhook.InsecureNoVerify(), handler,
				webhook.WithSync(), webhook.WithLogger(slog.New(slog.NewJSONHandler(&out, nil))))
			require.NoError(t, err)
			form := url.Values{"event": {tc.event}, "auth[application_token]": {application}, "auth[member_id]": {"m"}}
			for key, value := range tc.data {
				form.Set(key, value)
			}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(form.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			h.ServeHTTP(httptest.NewRecorder(), r)
			require.NoError(t, h.Shutdown(t.Context()))
			require.NotEmpty(t, out.String())
			for line := range strings.Lines(out.String()) {
				var attrs map[string]any
				require.NoError(t, json.Unmarshal([]byte(line), &attrs))
				require.NotContains(t, line, "PLANTED")
				text, ok := attrs[webhook.KeyError].(string)
				require.True(t, ok)
				require.Equal(t, -1, strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }), "%q", text)
			}
		})
	}
}

// TestTheAddressInTheLogIsOneLine covers a middleware that trusts a header.
func TestTheAddressInTheLogIsOneLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	h, err := webhook.NewHandler(webhook.Tokens("application-token-of-32-characters"), event.NewMux(),
		webhook.WithLogger(slog.New(slog.NewJSONHandler(&out, nil))))
	require.NoError(t, err)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("event=ONCRMDEALADD"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.RemoteAddr = "192.0.2.1\u009b31m\x7f" + strings.Repeat("x", 1000)
	h.ServeHTTP(httptest.NewRecorder(), r)
	require.NoError(t, h.Shutdown(t.Context()))
	require.Contains(t, out.String(), `"remote_addr":"192.0.2.1 31m x`)
	require.Less(t, out.Len(), 500)
}
