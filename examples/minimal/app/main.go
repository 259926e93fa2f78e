// Command app is an application that portals install: a local one, or one of the Marketplace.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// Deal is what this application wants to know of a deal.
type Deal struct {
	ID     int64   `b24:"ID"`
	Title  string  `b24:"TITLE"`
	Amount float64 `b24:"OPPORTUNITY"`
}

func main() {
	if names := missing(os.Getenv, "B24_CLIENT_ID", "B24_CLIENT_SECRET", "PUBLIC_URL"); names != "" {
		fmt.Fprintln(os.Stderr, "app: set", names)
		os.Exit(2)
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	store, err := oauth.NewFileStore("installations")
	if err == nil {
		err = run(ctx, log, os.Getenv, store)
	}
	stop()
	if err != nil {
		log.Error("the program failed", "error", err)
		os.Exit(1)
	}
}

// missing names the variables that are not set, or nothing.
func missing(env func(string) string, names ...string) string {
	return strings.Join(slices.DeleteFunc(names, func(name string) bool { return env(name) != "" }), ", ")
}

// run serves the application on LISTEN until ctx ends. PUBLIC_URL is the address of its event
// handler from outside, such as https://app.example.com/bitrix24/events.
func run(ctx context.Context, log *slog.Logger, env func(string) string, store oauth.Store) error {
	cfg, opts, err := oauth.FromEnv(env) // B24_CLIENT_ID, B24_CLIENT_SECRET, and what a portal for tests needs
	if err != nil {
		return err
	}
	portals, err := oauth.NewPortals(cfg, store, append(opts, oauth.WithLogger(log))...) // verifies, stores, renews tokens
	if err != nil {
		return err
	}
	api, err := rest.NewClients(portals, rest.WithLogger(log)) // a client for each portal
	if err != nil {
		return err
	}
	handlerURL := env("PUBLIC_URL")
	if err := event.ValidateHandlerURL(handlerURL); err != nil {
		return err // no portal would accept it
	}
	mux := handlers(log, portals, api, handlerURL)
	hook, err := webhook.NewHandler(portals, mux, webhook.WithLogger(log))
	if err != nil {
		return err
	}
	// The installation page, if the application has pages.
	page, err := oauth.PageHandler(portals.Install, portals.FinishInstall(nil), oauth.WithPageLogger(log))
	if err != nil {
		return err
	}
	routes := http.NewServeMux()
	routes.Handle("/bitrix24/events", hook)
	routes.Handle("/bitrix24/install", page)
	routes.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"events": hook.Stats(), "calls": api.Stats()})
	})
	go background(ctx, log, portals, api, mux.Bindings(handlerURL))
	server := &http.Server{Addr: cmp.Or(env("LISTEN"), "127.0.0.1:8080"), Handler: routes, ReadHeaderTimeout: 10 * time.Second}
	return webhook.Serve(ctx, server, 30*time.Second, hook.Shutdown, portals.Shutdown)
}

// handlers returns the mux. What it handles is what the application subscribes to.
func handlers(log *slog.Logger, portals *oauth.Portals, api *rest.Clients, handlerURL string) *event.Mux {
	mux := event.NewMux()
	portals.Lifecycle(mux, oauth.Hooks{
		Installed: func(ctx context.Context, in oauth.Installation, _ event.AppInstall) error {
			return event.NewAPI(api.Portal(in.MemberID)).Reconcile(ctx, mux.Bindings(handlerURL))
		},
	})
	event.On(mux, event.OnCrmDealAdd, func(ctx context.Context, d *event.Delivery, _ event.CRMEntity) error {
		deal, err := event.Fetch[Deal](ctx, api.Coalescer(d.MemberID()), d) // many handlers, one request
		if err != nil {
			return err // tried again; if the deal is gone, that is the end of it
		}
		log.InfoContext(ctx, "new deal", "portal", d.MemberID(), "id", deal.ID, "title", deal.Title, "amount", deal.Amount)
		if deal.Amount < 1_000_000 {
			return nil
		}
		as := api.Portal(d.MemberID()).As(portals.ActingOrApp(d)) // as the user who added it; as the application if nobody did
		return as.Call(ctx, "crm.deal.update", map[string]any{
			"id": deal.ID, "fields": map[string]any{"COMMENTS": "Please have this checked."},
		}, nil)
	})
	return mux
}

// background brings the bindings of all portals up to date, and then keeps the tokens of quiet
// portals alive.
func background(ctx context.Context, log *slog.Logger, portals *oauth.Portals, api *rest.Clients, want []event.Binding) {
	report, err := oauth.ReconcileAll(ctx, portals, api.Portal, want)
	log.InfoContext(ctx, "the portals' bindings are compared", "report", report.String(), "error", err)
	if err := portals.KeepAlive(ctx); err != nil {
		log.ErrorContext(ctx, "tokens are not kept alive any more", "error", err)
	}
}
