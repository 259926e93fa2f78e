package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/b24events/b24events/event/eventtest"
)

// drainLimit is how long queued deliveries may take at the end.
const drainLimit = 5 * time.Second

var errCut = errors.New("stopped with deliveries under way, which the portal forgets")

// serve is the portal with its page, until serving ends; then it delivers what is queued, until
// draining ends.
func serve(serving, draining context.Context, cfg config, stdout io.Writer) error {
	page := new(latePage)
	portal, err := eventtest.New( //nolint:contextcheck // it lives until Close, past the end of serving
		eventtest.WithListen(cfg.listen), eventtest.WithOAuthListen(cfg.oauthListen), eventtest.WithFallback(page),
		eventtest.WithMemberID(cfg.memberID), eventtest.WithLogger(cfg.logger),
	)
	if err != nil {
		return listenError(err)
	}
	d := newDesk(portal, cfg)
	routes, err := d.routes(cfg.hosts)
	if err != nil {
		return errors.Join(err, portal.Close())
	}
	page.handler.Store(&routes)

	serving, stop := context.WithCancel(serving) // also when nobody reads what is printed
	defer stop()
	out := newPrinter(stdout, stop)
	d.introduce(serving, out)
	var background sync.WaitGroup
	watching, unwatch := context.WithCancel(context.WithoutCancel(serving))
	background.Go(func() { d.report(watching, out) })
	background.Go(func() { d.installAtStart(serving, out) })
	<-serving.Done()
	timed, cancel := context.WithTimeout(draining, drainLimit)
	defer cancel()
	var cut error
	if portal.Wait(timed) != nil {
		cut = errCut
	}
	unwatch()
	background.Wait()
	return errors.Join(out.failure(), cut, portal.Close())
}

// latePage is the page, which needs the portal, which needs the page.
type latePage struct{ handler atomic.Pointer[http.Handler] }

func (l *latePage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := l.handler.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	writeProblem(w, http.StatusServiceUnavailable, "the portal is starting; try again")
}

// listenError says what to do about an address that cannot be had.
func listenError(err error) error {
	var op *net.OpError
	if !errors.As(err, &op) || op.Addr == nil {
		return err
	}
	const other = "choose another with -listen host:port (the OAuth server takes the next port, or -oauth-listen)"
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use, perhaps by another devportal: stop that one, or %s", op.Addr, other)
	}
	return fmt.Errorf("cannot listen on %s (%w): %s", op.Addr, op.Err, other)
}

// exposed reports whether other machines may reach an address to listen on.
func exposed(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && host != "localhost" && !net.ParseIP(host).IsLoopback()
}

// introduce prints the addresses to use.
func (d *desk) introduce(ctx context.Context, out *printer) {
	p, log := d.portal, d.cfg.logger
	page := p.URL() + "/"
	log.LogAttrs(ctx, slog.LevelInfo, "devportal is ready", slog.String("page", page),
		slog.String("handler_settings", "B24_OAUTH_HOSTS="+p.OAuthHost()+" B24_INSECURE_HTTP=1"))
	if exposed(d.cfg.listen) {
		log.LogAttrs(ctx, slog.LevelWarn,
			"the page shows tokens on request and obeys everyone who reaches it; listen on 127.0.0.1 unless the network is yours alone")
	}
	if exposed(d.cfg.oauthListen) {
		log.LogAttrs(ctx, slog.LevelWarn,
			"everyone who reaches -oauth-listen and knows a client secret gets tokens; listen on 127.0.0.1 unless the network is yours alone")
	}
	_ = out.print(readyLine{
		Type: "ready", Page: page, ClientEndpoint: p.ClientEndpoint(), ServerEndpoint: p.ServerEndpoint(),
		MemberID: p.MemberID(), Domain: p.Domain(),
		Settings: map[string]string{"B24_OAUTH_HOSTS": p.OAuthHost(), "B24_INSECURE_HTTP": "1"},
	})
}

// installAtStart installs the application that the settings describe, as soon as something listens
// at its handler URL.
func (d *desk) installAtStart(ctx context.Context, out *printer) {
	if d.cfg.clientID == "" {
		return
	}
	log := d.cfg.logger
	if err := d.awaitHandler(ctx); err != nil {
		return // the program is ending
	}
	result, err := d.addApp(ctx, "", appForm{
		ClientID: d.cfg.clientID, ClientSecret: string(d.cfg.clientSecret), Handler: d.cfg.handler, Scope: scopeText(d.cfg.scope), UI: d.cfg.ui,
	})
	if err != nil {
		log.LogAttrs(ctx, slog.LevelError, "cannot install the application of -client-id", slog.String("error", plain(err)))
		return
	}
	if warned, ok := result.(map[string]any); ok && warned["warning"] != nil {
		log.LogAttrs(ctx, slog.LevelWarn, "the installation page failed; open it again from the portal's page")
	}
	_ = out.print(installedLine{Type: "installed", ClientID: d.cfg.clientID, Handler: shownURL(d.cfg.handler)})
}

// awaitHandler waits until a connection to the handler's address succeeds, so that the programs can
// be started in any order.
func (d *desk) awaitHandler(ctx context.Context) error {
	u, err := url.Parse(d.cfg.handler)
	if err != nil || u.Host == "" {
		return nil //nolint:nilerr // there is no handler to wait for
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	for told := false; ; told = true {
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
		if err == nil {
			return conn.Close()
		}
		if !told {
			d.cfg.logger.LogAttrs(ctx, slog.LevelInfo, "waiting for the handler before the application is installed",
				slog.String("address", net.JoinHostPort(u.Hostname(), port)))
		}
		if !pause(ctx, nil, 300*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// report prints each delivery until ctx ends.
func (d *desk) report(ctx context.Context, out *printer) {
	var last int64
	for {
		changed := d.portal.Changed()
		for _, a := range d.portal.Deliveries() {
			if a.ID <= last {
				continue
			}
			last = a.ID
			v := viewOf(a)
			_ = out.print(deliveryLine{
				Type: "delivery", ID: v.ID, Event: v.Event, Entity: v.Entity, ClientID: v.App, Handler: shownURL(a.URL), OK: v.OK, Status: v.Status,
				Error: v.Error, Latency: v.Latency, Time: v.Time,
			})
		}
		if ctx.Err() != nil {
			return
		}
		if pause(ctx, changed, time.Minute) {
			pause(ctx, nil, calm)
		}
	}
}
