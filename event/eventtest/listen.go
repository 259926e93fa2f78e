package eventtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// addresses are the names under which the portal can be reached. Portal.mu guards them.
type addresses struct {
	domain  string // host:port, or a host of a Network
	current listener
	earlier []listener // of earlier domains, which redirect; see Rename
}

// listener serves the portal at one address, on a socket or on a Network.
type listener struct {
	http *http.Server // nil on a Network
	site *site        // nil on a socket
	addr string       // host:port, or a host of a Network
}

// idleTimeout is longer than Go's HTTP clients keep an idle connection by default, so that they
// close it first and send no request on a connection that is being closed.
const idleTimeout = 2 * time.Minute

// listenAt makes the portal reachable: at host on its network, or at the address of WithListen.
func (p *Portal) listenAt(ctx context.Context, host string) (listener, error) {
	h := p.counted(p.handler())
	if p.cfg.network == nil {
		return p.listen(ctx, p.cfg.listen, h, &p.life.running)
	}
	site, err := p.cfg.network.claim(host, h)
	return listener{site: site, addr: host}, err
}

// listen serves h at addr until the listener is closed.
func (p *Portal) listen(ctx context.Context, addr string, h http.Handler, running *sync.WaitGroup) (listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return listener{}, fmt.Errorf("eventtest: cannot listen; is the address free and local?: %w", err)
	}
	s := listener{
		http: &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       idleTimeout,
			ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelWarn),
		},
		addr: dialable(l.Addr().String()),
	}
	if p.cfg.adjust != nil {
		l = p.cfg.adjust(s.http, l)
	}
	running.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.log.LogAttrs(ctx, slog.LevelError, "listener of the portal failed", slog.String(keyError, err.Error()))
		}
	})
	return s, nil
}

// closeListener ends what listenAt or listen began.
func (p *Portal) closeListener(s listener) error {
	if s.http == nil {
		p.cfg.network.release(s.addr, s.site)
		return nil
	}
	return s.http.Close()
}

// dialable replaces a wildcard host by one that a client can dial.
func dialable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// Rename gives the portal a new domain; on loopback, a new port. The old domain redirects every
// request to the new one with status 302, as a renamed portal does. It returns [ErrClosed].
func (p *Portal) Rename(ctx context.Context) error {
	if !p.beginRequest() { // so that Close waits until the new listener is known
		return ErrClosed
	}
	defer p.life.serving.Done()
	var s listener
	var err error
	if p.cfg.network != nil {
		s, err = p.listenAt(ctx, randomDomain())
	} else {
		s, err = p.listen(context.WithoutCancel(ctx), "127.0.0.1:0", p.counted(p.handler()), &p.life.running)
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.Join(ErrClosed, p.closeListener(s))
	}
	p.addresses.earlier = append(p.addresses.earlier, p.addresses.current)
	p.addresses.current, p.addresses.domain = s, s.addr
	p.signalChangeLocked()
	return nil
}

// renamed reports whether the request came in at an earlier domain.
func (p *Portal) renamed(r *http.Request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cfg.network != nil {
		return canonical((&url.URL{Host: r.Host}).Hostname()) != p.addresses.domain
	}
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && r.Host != p.addresses.domain &&
		slices.ContainsFunc(p.addresses.earlier, func(s listener) bool { return port(s.addr) == port(addr.String()) })
}

// port returns the port of host:port.
func port(addr string) string {
	_, number, _ := net.SplitHostPort(addr)
	return number
}

// handler serves the portal's address: REST, the OAuth page and the fallback.
func (p *Portal) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch name := r.URL.Path; {
		case p.renamed(r):
			http.Redirect(w, r, p.URL()+r.URL.RequestURI(), http.StatusFound) //nolint:gosec // the host is the portal's own
		case below("/rest/", name):
			p.serveREST(w, r)
		case name == "/oauth/authorize" || name == "/oauth/authorize/":
			p.serveAuthorize(w, r)
		case p.cfg.fallback == nil || below("/oauth/", name):
			http.NotFound(w, r)
		default:
			p.cfg.fallback.ServeHTTP(w, r)
		}
	})
}

// below reports whether a path is below a folder, with or without the slashes and dots that
// http.ServeMux would remove. The platform does not remove them: they are part of a method's name.
// So there is no ServeMux here, which would redirect such a request.
func below(folder, name string) bool {
	return strings.HasPrefix(name, folder) || strings.HasPrefix(path.Clean("/"+name)+"/", folder)
}

// counted wraps h so that Close waits for its requests. A closed portal returns status 503.
func (p *Portal) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.serveCounted(w, r, h.ServeHTTP)
	})
}

// serveCounted serves a request so that Close waits for it. A closed portal returns status 503.
func (p *Portal) serveCounted(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	if !p.beginRequest() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer p.life.serving.Done()
	r, end := p.life.untilClosed(r)
	defer end()
	serve(w, r)
}

// beginRequest counts a request as running, for lifecycle.serving. It reports false if the portal
// is closed.
func (p *Portal) beginRequest() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.life.serving.Add(1)
	return true
}
