package oauth_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
)

// pageLogs returns a logger of every level, and what it writes.
func pageLogs() (*syncBuffer, *slog.Logger) {
	var b syncBuffer
	return &b, slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func TestPageRefusalsAreLoggedAndCounted(t *testing.T) {
	t.Parallel()
	const form = "application/x-www-form-urlencoded"
	page := "AUTH_ID=" + planted + "&member_id=" + member + "&PLACEMENT=" + planted
	robot := "workflow_id=1&code=c&event_token=" + planted
	tests := map[string]struct {
		method, contentType, body string
		err                       error
		reason                    oauth.PageReason
		level, says               string // empty if nothing is logged
	}{
		"GET":        {http.MethodGet, "", "", nil, oauth.PageMethod, "WARN", `"status":405`},
		"other type": {http.MethodPost, "text/" + planted, page, nil, oauth.PageContentType, "WARN", `"status":415`},
		"too long":   {http.MethodPost, form, page + strings.Repeat("&x=y", 100_000), nil, oauth.PageTooLarge, "WARN", `"status":413`},
		"empty":      {http.MethodPost, form, "", nil, oauth.PageMalformed, "WARN", `"status":400`},
		"an event":   {http.MethodPost, form, "event=ONCRMDEALADD&data[x]=" + planted, nil, oauth.PageNotPage, "WARN", "webhook.Handler"},
		"a robot":    {http.MethodPost, form, robot, nil, oauth.PageNotPage, "WARN", "webhook.WithActivities"},
		"anything":   {http.MethodPost, form, "a=" + planted, nil, oauth.PageNotPage, "WARN", `"status":400`},
		"unverified": {http.MethodPost, form, page, &oauth.Error{Kind: oauth.ErrUnverified}, oauth.PageForbidden, "", ""},
		"unknown":    {http.MethodPost, form, page, &oauth.Error{Kind: oauth.ErrNotFound}, oauth.PageForbidden, "WARN", `"status":403`},
		"store":      {http.MethodPost, form, page, &oauth.Error{Kind: oauth.ErrStore}, oauth.PageUnavailable, "ERROR", `"status":503`},
		"a token":    {http.MethodPost, form, page, errors.New("access_token=" + planted), oauth.PageUnavailable, "ERROR", "access_token"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, logger := pageLogs()
			h, err := oauth.PageHandler(func(context.Context, event.Auth) (oauth.Installation, error) {
				return oauth.Installation{}, test.err
			}, func(http.ResponseWriter, *http.Request, *event.Delivery, oauth.Installation) {}, oauth.WithPageLogger(logger), nil)
			require.NoError(t, err)
			r := httptest.NewRequestWithContext(t.Context(), test.method, "/?DOMAIN="+planted, strings.NewReader(test.body))
			r.Header.Set("Content-Type", test.contentType)
			open(t, h, r)
			stats := h.Stats()
			require.Zero(t, stats.Served)
			require.Len(t, stats.Refused, 7)
			for reason, n := range stats.Refused {
				require.Equal(t, reason == test.reason, n == 1, reason)
			}
			if test.level == "" {
				require.Empty(t, out.String(), "Portals logs it")
				return
			}
			require.Equal(t, 1, strings.Count(out.String(), "\n"))
			require.Contains(t, out.String(), `"level":"`+test.level+`"`)
			require.Contains(t, out.String(), `"reason":"`+string(test.reason)+`"`)
			require.Contains(t, out.String(), test.says)
			require.NotContains(t, out.String(), planted)
		})
	}
}

// TestPageWhoseBrowserLeaves: a browser that does not wait is no failure of the application.
func TestPageWhoseBrowserLeaves(t *testing.T) {
	t.Parallel()
	out, logger := pageLogs()
	ctx, leave := context.WithCancel(t.Context())
	h, err := oauth.PageHandler(func(ctx context.Context, _ event.Auth) (oauth.Installation, error) {
		leave()
		return oauth.Installation{}, ctx.Err()
	}, func(http.ResponseWriter, *http.Request, *event.Delivery, oauth.Installation) {}, oauth.WithPageLogger(logger))
	require.NoError(t, err)
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader("AUTH_ID=a&REFRESH_ID=b&member_id="+member))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	require.Equal(t, http.StatusServiceUnavailable, open(t, h, r).Code)
	require.Contains(t, out.String(), `"level":"WARN"`)
	require.Equal(t, uint64(1), h.Stats().Refused[oauth.PageUnavailable])
}

func TestPageOptions(t *testing.T) {
	t.Parallel()
	_, err := oauth.PageHandler(
		func(context.Context, event.Auth) (oauth.Installation, error) { return oauth.Installation{}, nil },
		application(t, "app", "secret").FinishInstall(nil), oauth.WithPageLogger(nil))
	require.ErrorIs(t, err, oauth.ErrConfig)
}
