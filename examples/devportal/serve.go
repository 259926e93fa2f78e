package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/b24events/b24events/examples/internal/program"
)

// drainLimit is how long queued deliveries may take after serving has ended.
const drainLimit = 5 * time.Second

var errUndelivered = errors.New("stopped before all deliveries were sent; the portal drops the rest")

// serve runs the portals with their pages until serving ends, or until the script has ended. Then
// it delivers what is queued, until draining ends.
func serve(serving, draining context.Context, cfg config, env program.Env) error {
	script, err := openScript(cfg.script, env.Stdin)
	if err != nil {
		return err
	}
	g, err := startGroup(cfg) //nolint:contextcheck // they live until close, after the end of serving
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(serving) // also if the output cannot be written
	defer stop()
	out := newPrinter(env.Stdout, stop)
	var background sync.WaitGroup
	watching, unwatch := context.WithCancel(context.WithoutCancel(serving))
	for _, pg := range g.pages {
		pg.printReady(serving, out)
	}
	g.warn(serving)
	var installations sync.WaitGroup
	for _, pg := range g.pages {
		background.Go(func() { pg.printDeliveries(watching, out) })
		installations.Go(func() { pg.installAtStart(serving, out) })
	}
	var failed error
	if script != nil {
		background.Go(func() {
			defer stop()
			installations.Wait() // so that its commands find the application
			failed = g.runScript(serving, script, out)
		})
	}
	<-serving.Done()
	timed, cancel := context.WithTimeout(draining, drainLimit)
	defer cancel()
	cut := g.drain(timed)
	unwatch()
	installations.Wait()
	background.Wait()
	return errors.Join(out.failure(), failed, cut, g.close())
}

// startingPage serves the page as soon as it is there: the page needs the portal, and the portal
// needs its handler.
type startingPage struct{ handler atomic.Pointer[http.Handler] }

func (l *startingPage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := l.handler.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	writeProblem(w, http.StatusServiceUnavailable, "the portal is starting; try again")
}

// listenError adds to the error of a listener what to do about it.
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

// exposed reports whether other machines may reach an address.
func exposed(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && host != "localhost" && !net.ParseIP(host).IsLoopback()
}

// warn warns of addresses that other machines may reach.
func (g *group) warn(ctx context.Context) {
	if exposed(g.cfg.listen) {
		g.cfg.logger.LogAttrs(ctx, slog.LevelWarn,
			"everyone who reaches the page controls the portal and can read tokens; listen on 127.0.0.1 unless the network is yours alone")
	}
	if exposed(g.cfg.oauthListen) {
		g.cfg.logger.LogAttrs(ctx, slog.LevelWarn,
			"everyone who reaches -oauth-listen and knows a client secret gets tokens; listen on 127.0.0.1 unless the network is yours alone")
	}
}

// printReady logs and prints the addresses to use.
func (pg *page) printReady(ctx context.Context, out *printer) {
	p := pg.portal
	page := p.URL() + "/"
	pg.cfg.logger.LogAttrs(ctx, slog.LevelInfo, "devportal is ready", slog.String("page", page),
		slog.String("handler_settings", "B24_OAUTH_HOSTS="+p.OAuthHost()+" B24_INSECURE_HTTP=1"))
	_ = out.print(readyLine{
		Type: "ready", Page: page, ClientEndpoint: p.ClientEndpoint(), ServerEndpoint: p.ServerEndpoint(),
		MemberID: p.MemberID(), Domain: p.Domain(), BX24: p.URL() + scriptPath,
		Settings: map[string]string{"B24_OAUTH_HOSTS": p.OAuthHost(), "B24_INSECURE_HTTP": "1"},
	})
}

// installAtStart installs the application in the settings, as soon as something listens at its
// handler URL.
func (pg *page) installAtStart(ctx context.Context, out *printer) {
	if pg.cfg.clientID == "" {
		return
	}
	log := pg.cfg.logger
	for _, address := range []string{pg.cfg.handler, pg.cfg.installPage, pg.cfg.page} {
		if err := pg.awaitHandler(ctx, address); err != nil {
			return // the program is ending
		}
	}
	added, err := pg.addApp(ctx, "", appForm{
		ClientID: pg.cfg.clientID, ClientSecret: string(pg.cfg.clientSecret), Handler: pg.cfg.handler,
		Scope: scopeText(pg.cfg.scope), InstallPage: pg.cfg.installPage, Page: pg.cfg.page,
	})
	if err != nil {
		log.LogAttrs(ctx, slog.LevelError, "cannot install the application of -client-id", slog.String("error", plain(err)))
		return
	}
	if added.Warning != "" {
		log.LogAttrs(ctx, slog.LevelWarn, "the installation page failed; open it again from the portal's page")
	}
	_ = out.print(installedLine{
		Type: "installed", Portal: pg.portal.MemberID(), ClientID: pg.cfg.clientID, Handler: shownURL(pg.cfg.handler),
	})
}

// awaitHandler waits until a connection to an address of the application succeeds, so that the
// programs can start in any order.
func (pg *page) awaitHandler(ctx context.Context, address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil //nolint:nilerr // there is no handler to wait for
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	for logged := false; ; logged = true {
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
		if err == nil {
			return conn.Close()
		}
		if !logged {
			pg.cfg.logger.LogAttrs(ctx, slog.LevelInfo, "waiting for the handler before installing the application",
				slog.String("address", net.JoinHostPort(u.Hostname(), port)))
		}
		if !pause(ctx, nil, 300*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// printDeliveries prints each delivery until ctx ends.
func (pg *page) printDeliveries(ctx context.Context, out *printer) {
	var last int64
	for {
		changed := pg.portal.Changed()
		for _, a := range pg.portal.Deliveries() {
			if a.ID <= last {
				continue
			}
			last = a.ID
			v := viewOf(a)
			_ = out.print(deliveryLine{
				Type: "delivery", Portal: pg.portal.MemberID(), ID: v.ID, Event: v.Event, Entity: v.Entity, ClientID: v.App, Handler: shownURL(a.URL),
				Acknowledged: v.Acknowledged, Status: v.Status, Error: v.Error, Latency: v.Latency, Time: v.Time, ResendOf: v.ResendOf,
			})
		}
		if ctx.Err() != nil {
			return
		}
		if pause(ctx, changed, time.Minute) {
			pause(ctx, nil, minInterval)
		}
	}
}
