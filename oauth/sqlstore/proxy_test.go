package sqlstore_test

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth"
)

// proxy forwards the connections of a database, and breaks one on a given request.
type proxy struct {
	address string
	target  string

	mu    sync.Mutex
	watch []byte // breaks the connection whose client sends this, once
	after bool   // when the server has answered, rather than before it gets the request
}

func newProxy(tb testing.TB, target string) *proxy {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = l.Close() })
	p := &proxy{address: l.Addr().String(), target: target}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	return p
}

// breakOn sets the request that breaks a connection.
func (p *proxy) breakOn(watch string, after bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watch, p.after = []byte(watch), after
}

// seen reports whether a request is the one that breaks the connection.
func (p *proxy) seen(request []byte) (found, after bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.watch) == 0 || !bytes.Contains(request, p.watch) {
		return false, false
	}
	p.watch = nil
	return true, p.after
}

func (p *proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second) //nolint:noctx // ends with the connections
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	var mu sync.Mutex
	dropReply := false
	go func() { // the replies
		defer func() { _ = client.Close() }()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			mu.Lock()
			drop := dropReply
			mu.Unlock()
			if err != nil || drop {
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		found, after := p.seen(buf[:n]) // drivers write a request at once
		if found && !after {
			return
		}
		if found {
			mu.Lock()
			dropReply = true
			mu.Unlock()
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// behind returns the place through a proxy.
func behind(tb testing.TB, p place) (place, *proxy) {
	tb.Helper()
	target := postgresAddress
	if p.Driver == "mysql" {
		target = mysqlAddress
		p = p.with("interpolateParams=true") // one request for a statement, instead of one to prepare it
	}
	proxy := newProxy(tb, target)
	p.DSN = strings.Replace(p.DSN, target, proxy.address, 1)
	return p, proxy
}

// networked runs a test on every engine that has a network.
func networked(t *testing.T, test func(t *testing.T, p place)) {
	t.Helper()
	for _, e := range engines[:2] {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			test(t, e.fresh(t))
		})
	}
}

// TestSwapOnABrokenConnection breaks the connection before the server gets a Swap, and after it has
// committed one. The caller cannot know which; the next Load shows it.
func TestSwapOnABrokenConnection(t *testing.T) {
	t.Parallel()
	for name, committed := range map[string]bool{"before the server has it": false, "after the commit": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			networked(t, func(t *testing.T, p place) {
				t.Helper()
				far, proxy := behind(t, p)
				s := far.store(t)
				first, second := installation("one"), installation("two")
				version, err := s.Swap(t.Context(), portal, "", first)
				require.NoError(t, err)

				proxy.breakOn(string(second.AccessToken), committed)
				_, err = s.Swap(t.Context(), portal, version, second)
				require.Error(t, err)
				require.NotErrorIs(t, err, oauth.ErrConflict)
				require.NotErrorIs(t, err, oauth.ErrNotFound)
				requireSafe(t, err)

				for _, store := range []oauth.Store{s, p.store(t)} {
					in, found, err := store.Load(t.Context(), portal)
					require.NoError(t, err)
					if committed {
						require.Equal(t, second.AccessToken, in.AccessToken)
						require.NotEqual(t, version, found)
					} else {
						require.Equal(t, first.AccessToken, in.AccessToken)
						require.Equal(t, version, found)
					}
				}
				_, err = s.Swap(t.Context(), portal, version, second) // what package oauth does next
				if committed {
					require.ErrorIs(t, err, oauth.ErrConflict)
				} else {
					require.NoError(t, err)
				}
			})
		})
	}
}

// TestRefreshOnABrokenConnection refreshes a token, and loses the connection during the write of
// the new one. The refresh token is spent, so the new one must not be lost.
func TestRefreshOnABrokenConnection(t *testing.T) {
	t.Parallel()
	for name, committed := range map[string]bool{"before the server has it": false, "after the commit": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			networked(t, func(t *testing.T, p place) {
				t.Helper()
				far, proxy := behind(t, p)
				s := far.store(t)
				w := newWorld(t)
				before := w.install(t, s)
				portals := w.job(far).portals(t, s)
				w.ResetRecords()
				w.ExpireAccessTokens()
				proxy.breakOn("refresh_token", committed) // which stands in the document

				_, token, err := portals.Renew(t.Context(), w.MemberID(), string(before.AccessToken))
				require.NoError(t, err)
				require.NotEqual(t, string(before.AccessToken), token)
				require.NoError(t, portals.Shutdown(t.Context()), "nothing waits to be written")
				require.Len(t, w.OAuthCalls(), 1)
				in, _, err := p.store(t).Load(t.Context(), w.key())
				require.NoError(t, err)
				require.Equal(t, token, string(in.AccessToken))
				broken, _ := proxy.seen([]byte("refresh_token"))
				require.False(t, broken, "the connection did not break")
			})
		})
	}
}

// TestAcquireOnABrokenConnection loses the response to an Acquire. The lease may be taken, and the
// same owner gets it with another call.
func TestAcquireOnABrokenConnection(t *testing.T) {
	t.Parallel()
	networked(t, func(t *testing.T, p place) {
		t.Helper()
		far, proxy := behind(t, p)
		s := far.store(t)
		proxy.breakOn("the-lease", true)
		_, err := s.Acquire(t.Context(), "one", time.Hour, "the-lease")
		require.Error(t, err)
		requireSafe(t, err)
		held, err := s.Held(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, map[string]string{"the-lease": "one"}, held)
		names, err := s.Acquire(t.Context(), "two", time.Hour, "the-lease")
		require.NoError(t, err)
		require.Empty(t, names)
		names, err = s.Acquire(t.Context(), "one", time.Hour, "the-lease")
		require.NoError(t, err)
		require.Equal(t, []string{"the-lease"}, names)
	})
}
