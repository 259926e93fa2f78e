// Command watch takes the events of one portal's outgoing webhook. There is no OAuth.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

func main() {
	if names := missing(os.Getenv, "B24_INCOMING_WEBHOOK", "B24_APPLICATION_TOKEN"); names != "" {
		fmt.Fprintln(os.Stderr, "watch: set", names)
		os.Exit(2)
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	portal, err := newPortal(os.Getenv)
	if err == nil {
		err = run(ctx, log, portal, os.Getenv("B24_APPLICATION_TOKEN"), cmp.Or(os.Getenv("LISTEN"), "127.0.0.1:8080"))
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

// newPortal returns access by the incoming webhook, to read what changed. B24_INSECURE_HTTP=1
// allows http on loopback, for a portal on this machine such as devportal.
func newPortal(env func(string) string) (*rest.Client, error) {
	insecure, err := strconv.ParseBool(cmp.Or(env("B24_INSECURE_HTTP"), "0"))
	switch {
	case err != nil:
		return nil, errors.New("B24_INSECURE_HTTP must be 1, 0 or empty")
	case insecure:
		return rest.NewWebhook(env("B24_INCOMING_WEBHOOK"), rest.WithInsecureHTTP())
	default:
		return rest.NewWebhook(env("B24_INCOMING_WEBHOOK"))
	}
}

// Deal is what this program wants to know of a deal.
type Deal struct {
	Title  string  `b24:"TITLE"`
	Amount float64 `b24:"OPPORTUNITY"`
	Closed bool    `b24:"CLOSED"`
}

// run takes events at /bitrix24/events until ctx ends, and handles all that it acknowledged.
func run(ctx context.Context, log *slog.Logger, portal *rest.Client, token, addr string) error {
	joined, err := rest.NewCoalescer(portal) // what many handlers read at once leaves as one request
	if err != nil {
		return err
	}
	mux := event.NewMux()
	event.On(mux, event.OnCrmDealUpdate, func(ctx context.Context, d *event.Delivery, e event.CRMEntity) error {
		deal, err := event.Fetch[Deal](ctx, joined, d)
		if err != nil {
			return err // tried again; if the deal is gone, that is the end of it
		}
		log.InfoContext(ctx, "deal changed", "id", e.ID, "title", deal.Title, "amount", deal.Amount, "closed", deal.Closed)
		return nil
	})
	hook, err := webhook.NewHandler(webhook.Tokens(token), mux, webhook.WithLogger(log))
	if err != nil {
		return err
	}
	routes := http.NewServeMux() // or chi, gin, echo: hook is an http.Handler
	routes.Handle("/bitrix24/events", hook)
	server := &http.Server{Addr: addr, Handler: routes, ReadHeaderTimeout: 10 * time.Second}
	return webhook.Serve(ctx, server, 30*time.Second, hook.Shutdown)
}
