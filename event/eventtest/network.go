package eventtest

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// Network is an internet in memory: handlers serve its hosts, and nothing opens a socket. Portals
// join it by [WithNetwork], and handlers under test by [Network.Handle]; clients use it as their
// transport. If it is made in a testing/synctest bubble, everything on it runs on the clock of the
// bubble, including timeouts and expiries:
//
//	synctest.Test(t, func(t *testing.T) {
//		n := eventtest.NewNetwork()
//		p := eventtest.NewPortal(t, eventtest.WithNetwork(n))   // https://b24-….bitrix24.com, and https://oauth.bitrix.info
//		n.Handle("app.example.com", handlerUnderTest)           // https://app.example.com
//		app, err := p.AddApp(eventtest.App{HandlerURL: "https://app.example.com/bitrix24"})
//		require.NoError(t, err)
//		require.NoError(t, app.Install(t.Context()))
//		require.NoError(t, p.Wait(t.Context()))
//	})
//
// [Network.Client] is for everything else that calls the portal.
//
// It differs from a real one. A response arrives as a whole when its handler returns, and has 64
// MiB at most. http and https differ by name only. All clients have the same address, and none
// repeats a request automatically.
//
// A handler that panics with http.ErrAbortHandler breaks the connection, as in net/http. The
// client's error reports any other panic. The context of a request ends with that of its client.
//
// A Network is safe for concurrent use. Its zero value is not usable; make one with [NewNetwork].
type Network struct {
	mu    sync.Mutex
	hosts map[string]*site // by host, or by host:port

	broken map[string]error // see Break

	oauth *oauthServer // shared by the portals; nil until the first one
}

// site is the handler of a host. Its address identifies the registration.
type site struct{ http.Handler }

// NewNetwork returns a network without hosts.
func NewNetwork() *Network {
	return &Network{hosts: map[string]*site{}, broken: map[string]error{}}
}

// Handle lets h serve a host: a name means all ports, host:port means one. h replaces an earlier
// handler; nil removes it.
func (n *Network) Handle(host string, h http.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h == nil {
		delete(n.hosts, canonical(host))
		return
	}
	n.hosts[canonical(host)] = &site{h}
}

// Break makes every request to a host, by its name, fail with err before a connection is made,
// until Break is called with a nil error. If err is not a *net.OpError, it becomes the cause of
// one, as it does when a connection is refused.
func (n *Network) Break(host string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		delete(n.broken, canonical(host))
		return
	}
	n.broken[canonical(host)] = err
}

// Client returns a new HTTP client on the network, without a timeout.
func (n *Network) Client() *http.Client { return &http.Client{Transport: n} }

// claim registers h for a host. It returns an error if the host is taken.
func (n *Network) claim(host string, h http.Handler) (*site, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[canonical(host)] != nil {
		return nil, misconfigured("the network already has a host %s", host)
	}
	s := &site{h}
	n.hosts[canonical(host)] = s
	return s, nil
}

// release removes a host if s still serves it.
func (n *Network) release(host string, s *site) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[canonical(host)] == s {
		delete(n.hosts, canonical(host))
	}
}

// canonical returns the form of a host by which the network finds it.
func canonical(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// address is a host as a net.Addr, for errors.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// route returns the handler of an address, or the error with which the connection fails.
func (n *Network) route(u *url.URL) (http.Handler, error) {
	name := canonical(u.Hostname())
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	full := net.JoinHostPort(name, port)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.broken[name]; err != nil {
		if op := (*net.OpError)(nil); errors.As(err, &op) {
			return nil, err
		}
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: address(full), Err: err}
	}
	for _, host := range []string{full, name} {
		if s := n.hosts[host]; s != nil {
			return s, nil
		}
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}}
}

// RoundTrip implements http.RoundTripper. Its errors are those of http.Transport: a *net.OpError of
// a dial if there is no such host or [Network.Break] broke it, a *net.OpError of a read if the
// connection was reset, and the cause of the request's context if that ended.
//
//nolint:contextcheck // a server only learns that its client has gone
func (n *Network) RoundTrip(r *http.Request) (*http.Response, error) {
	body := newRequestBody(r.Body)
	defer body.Close() //nolint:errcheck // the contract of a RoundTripper
	ctx := r.Context()
	switch {
	case r.URL == nil || r.URL.Host == "":
		return nil, errors.New("eventtest: a request without a host")
	case r.URL.Scheme != "http" && r.URL.Scheme != "https":
		return nil, errors.New("eventtest: the scheme of a request must be http or https")
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	h, err := n.route(r.URL)
	if err != nil {
		return nil, err
	}
	served, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, cancel)
	rec := newResponseRecorder(r)
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer cancel()
		defer stop()
		rec.run(h, serverRequest(served, r, body))
	}()
	select {
	case <-over:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := body.failure(); err != nil {
		return nil, err
	}
	return rec.response()
}

// serverRequest returns a request as the server sees it.
func serverRequest(ctx context.Context, r *http.Request, body io.ReadCloser) *http.Request {
	s := r.Clone(ctx)
	s.URL = &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery, ForceQuery: r.URL.ForceQuery}
	s.RequestURI, s.RemoteAddr = r.URL.RequestURI(), "192.0.2.1:49152" // reserved for documentation
	s.Proto, s.ProtoMajor, s.ProtoMinor = "HTTP/1.1", 1, 1
	s.Response, s.GetBody = nil, nil
	if s.Host == "" {
		s.Host = r.URL.Host
	}
	if s.Method == "" {
		s.Method = http.MethodGet
	}
	if s.Header == nil {
		s.Header = http.Header{}
	}
	if s.Header.Get("User-Agent") == "" {
		s.Header.Set("User-Agent", "Go-http-client/1.1")
	}
	if r.URL.Scheme == "https" {
		s.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: r.URL.Hostname()}
	}
	if s.Body = body; r.Body == nil || r.Body == http.NoBody {
		s.Body, s.ContentLength = http.NoBody, 0
	} else if s.ContentLength == 0 {
		s.ContentLength = -1 // of unknown length
	}
	return s
}

// requestBody is the client's body. It is closed once, and remembers an error of its own for the
// client.
type requestBody struct {
	body io.ReadCloser
	once sync.Once
	mu   sync.Mutex
	err  error
}

func newRequestBody(body io.ReadCloser) *requestBody {
	if body == nil {
		body = http.NoBody
	}
	return &requestBody{body: body}
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.err = err
	}
	return n, err
}

func (b *requestBody) Close() (err error) {
	b.once.Do(func() { err = b.body.Close() })
	return err
}

func (b *requestBody) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
