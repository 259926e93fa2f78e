package oauth_test

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth"
)

// What needs attention is logged even without WithLogger.
//
//nolint:paralleltest // the default logger belongs to the whole process
func TestNotSilentByDefault(t *testing.T) {
	before := slog.Default() //nolint:forbidigo // the test is about it
	t.Cleanup(func() { slog.SetDefault(before) })
	var log bytes.Buffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	w := newWorld(t)
	in := w.installed(t)
	cfg := oauth.Config{ClientID: w.app.ClientID(), ClientSecret: "wrong"}
	loud, err := oauth.NewPortals(cfg, w.store, oauth.WithHosts(w.OAuthHost()), oauth.WithInsecureHTTP())
	require.NoError(t, err)
	quiet, err := oauth.NewPortals(cfg, w.store, oauth.WithHosts(w.OAuthHost()), oauth.WithInsecureHTTP(), silent())
	require.NoError(t, err)
	slog.SetDefault(before) // the logger at the time of NewPortals counts

	for _, p := range []*oauth.Portals{quiet, loud} {
		_, _, err := p.Renew(t.Context(), in.MemberID, string(in.AccessToken))
		require.Error(t, err)
		if p == quiet {
			require.Empty(t, log.String())
		}
	}
	require.Contains(t, log.String(), `level=WARN msg="bitrix24 access could not be renewed" member_id=`+in.MemberID)
}
