package oauth_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
)

// TestTransportErrors checks the errors of real connections that fail.
func TestTransportErrors(t *testing.T) {
	t.Parallel()
	raw := func(response string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, response)
				_ = conn.Close()
			}
		}
	}
	hang := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the server notices only then that the client has left
		<-r.Context().Done()
	}
	tests := map[string]struct {
		tls      bool
		closed   bool
		response http.HandlerFunc
		client   *http.Client
		want     func(error) bool
	}{
		"refused":             {closed: true, want: as[*net.OpError]},
		"unknown certificate": {tls: true, want: as[*tls.CertificateVerificationError]},
		"closed at once":      {response: raw(""), want: is(io.ErrUnexpectedEOF)},
		"body cut off":        {response: raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), want: is(oauth.ErrTemporary)},
		"not HTTP at all":     {response: raw(planted + "\r\n\r\n"), want: is(oauth.ErrTemporary)},
		"odd header":          {response: raw("HTTP/1.1 200 OK\r\n" + planted + "\r\n\r\n"), want: is(oauth.ErrTemporary)},
		"time limit":          {response: hang, client: &http.Client{Timeout: 20 * time.Millisecond}, want: is(context.DeadlineExceeded)},
		"endless response": {response: func(w http.ResponseWriter, _ *http.Request) {
			for chunk := strings.Repeat(" ", 1<<16); ; {
				if _, err := io.WriteString(w, chunk); err != nil {
					return
				}
			}
		}, want: is(oauth.ErrTemporary)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := eventtest.NewPortal(t)
			if test.response != nil {
				p.Always("oauth/token", eventtest.Answer(test.response))
				p.Always("oauth/app.info", eventtest.Answer(test.response))
			}
			server := p.ServerEndpoint()
			if test.tls { // a TLS proxy in front of the OAuth server, which speaks plain HTTP
				front := httptest.NewTLSServer(http.NotFoundHandler())
				t.Cleanup(front.Close)
				server = front.URL + "/rest/"
			}
			if test.closed {
				require.NoError(t, p.Close())
			}
			client := test.client
			if client == nil {
				client = &http.Client{}
			}
			store := oauth.NewMemoryStore()
			portals, err := oauth.NewPortals(oauth.Config{ClientID: clientID, ClientSecret: planted}, store,
				oauth.WithHosts(hostOf(server)), oauth.WithInsecureHTTP(), oauth.WithHTTPClient(client))
			require.NoError(t, err)
			auth := claim()
			auth.ServerEndpoint = server

			_, err = portals.Install(t.Context(), auth)
			require.ErrorIs(t, err, oauth.ErrTemporary)
			require.True(t, test.want(err), "%v", err)
			requireNothingPlanted(t, err)
			require.NotContains(t, err.Error(), "/oauth/token/")

			auth.RefreshToken = ""
			_, err = portals.Install(t.Context(), auth)
			require.ErrorIs(t, err, oauth.ErrTemporary)
			require.True(t, test.want(err), "%v", err)
			requireNothingPlanted(t, err)
			requireEmpty(t, store, member)
		})
	}
}

// hostOf returns the host of an endpoint.
func hostOf(endpoint string) string { return strings.SplitN(endpoint, "/", 4)[2] }

func as[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}
