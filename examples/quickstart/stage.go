package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// smartProcess is the entityTypeId of a smart process that somebody made on the portal.
const smartProcess = 147

// stage holds the portal and, from portals on, what any application has.
type stage struct {
	log    *slog.Logger
	portal *eventtest.Portal
	app    *eventtest.Application

	portals *oauth.Portals
	api     *rest.Clients
	mux     *event.Mux
	handler *webhook.Handler
	server  *http.Server
	served  chan error
	url     string

	seen chan string   // descriptions of events, from their handlers
	busy chan struct{} // closed in the step burst; until then the handler of deal updates waits
	runs chan struct{} // one element per run of that handler

	removed atomic.Bool // the hook Uninstalled has run
}

func newStage(ctx context.Context, log *slog.Logger) (*stage, error) {
	portal, err := eventtest.New() //nolint:contextcheck // it runs until it is closed
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("no free port on 127.0.0.1: %w", err), portal.Close())
	}
	s := &stage{
		log: log, portal: portal, url: "http://" + listener.Addr().String() + "/bitrix24/events", served: make(chan error, 1),
		seen: make(chan string, 16), busy: make(chan struct{}), runs: make(chan struct{}, 10_000),
	}
	if err := s.build(); err != nil {
		return nil, errors.Join(err, listener.Close(), portal.Close())
	}
	go func() { s.served <- s.server.Serve(listener) }()
	return s, nil
}

// build makes the application. A real application needs no options for loopback, but all the
// others.
func (s *stage) build() error {
	var err error
	if err = s.portal.AddSmartProcess(smartProcess); err != nil {
		return err
	}
	s.app, err = s.portal.AddApp(eventtest.App{
		ClientID: "app.quickstart", ClientSecret: "quickstart-client-secret", Scope: []string{"crm", "task", "imbot"}, HandlerURL: s.url,
	})
	if err != nil {
		return err
	}

	s.portals, err = oauth.NewPortals(
		oauth.Config{ClientID: s.app.ClientID(), ClientSecret: s.app.ClientSecret()}, oauth.NewMemoryStore(),
		oauth.WithHosts(s.portal.OAuthHost()), oauth.WithInsecureHTTP(), oauth.WithLogger(s.log),
	)
	if err != nil {
		return err
	}
	s.api, err = rest.NewClients(s.portals, rest.WithInsecureHTTP(), rest.WithLogger(s.log),
		rest.WithRateLimit(rest.EnterpriseRate, rest.EnterpriseBurst))
	if err != nil {
		return err
	}
	s.mux = s.handlers()
	s.handler, err = webhook.NewHandler(s.portals, s.mux,
		webhook.WithCoalescing(event.OnCrmDealUpdate), webhook.WithLogger(s.log))
	if err != nil {
		return err
	}
	routes := http.NewServeMux()
	routes.Handle("/bitrix24/events", s.handler)
	s.server = program.Server(routes, s.log)
	return nil
}

func (s *stage) handlers() *event.Mux {
	mux := event.NewMux()
	s.portals.Lifecycle(mux, oauth.Hooks{
		Installed: func(ctx context.Context, in oauth.Installation, _ event.AppInstall) error {
			if err := s.events24(in.MemberID).Reconcile(ctx, mux.Bindings(s.url)); err != nil {
				return err
			}
			s.seen <- "installed"
			return nil
		},
		Uninstalled: func(context.Context, oauth.Installation, event.AppUninstall) error {
			s.removed.Store(true)
			return nil
		},
	})
	event.On(mux, event.OnCrmDealAdd, func(_ context.Context, _ *event.Delivery, e event.CRMEntity) error {
		s.seen <- fmt.Sprintf("deal %d", e.ID)
		return nil
	})
	event.On(mux, event.OnCrmDealUpdate, func(ctx context.Context, _ *event.Delivery, _ event.CRMEntity) error {
		s.runs <- struct{}{}
		select {
		case <-s.busy:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	event.On(mux, event.OnTaskAdd, func(_ context.Context, _ *event.Delivery, e event.Task) error {
		s.seen <- fmt.Sprintf("task %d", e.ID)
		return nil
	})
	event.On(mux, event.OnCrmDynamicItemAddOf(smartProcess), func(_ context.Context, _ *event.Delivery, e event.CRMItem) error {
		s.seen <- fmt.Sprintf("item %d of smart process %d", e.ID, e.EntityTypeID)
		return nil
	})
	event.On(mux, event.OnImBotMessageAdd, func(_ context.Context, _ *event.Delivery, e event.BotMessage) error {
		s.seen <- fmt.Sprintf("message %q to a bot", e.Params.Message)
		return nil
	})
	return mux
}

// events24 manages the application's subscriptions on a portal.
func (s *stage) events24(memberID string) *event.API { return event.NewAPI(s.api.Portal(memberID)) }

// next waits for the next description from a handler.
func (s *stage) next(ctx context.Context) (string, error) {
	select {
	case said := <-s.seen:
		return said, nil
	case <-ctx.Done():
		return "", fmt.Errorf("waiting for a handler: %w", ctx.Err())
	}
}

// close stops the server, the handler and the portal.
func (s *stage) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := errors.Join(s.server.Shutdown(ctx), s.handler.Shutdown(ctx), s.portal.Close())
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// listen serves h on a free port of the loopback address until stop is called.
func (s *stage) listen(ctx context.Context, h http.Handler) (url string, stop func(), err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("no free port on 127.0.0.1: %w", err)
	}
	server := program.Server(h, s.log)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with ErrServerClosed
	}()
	return "http://" + l.Addr().String(), func() { _ = server.Close(); <-done }, nil
}
