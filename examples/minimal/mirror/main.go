// Command mirror mirrors the deals of one portal. It works behind a firewall: it needs no public
// address, because it asks the portal's offline queue for what changed.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
)

// Deal is a row of the mirror.
type Deal struct {
	ID      int64     `b24:"ID"`
	Title   string    `b24:"TITLE"`
	Amount  float64   `b24:"OPPORTUNITY"`
	Changed time.Time `b24:"DATE_MODIFY"`
}

// Table is the mirror.
type Table interface {
	Put(ctx context.Context, deal Deal) error
	Delete(ctx context.Context, id int64) error
}

func main() {
	names := missing(os.Getenv, "B24_CLIENT_ID", "B24_CLIENT_SECRET", "B24_MEMBER_ID", "B24_CLIENT_ENDPOINT", "B24_REFRESH_TOKEN")
	if names != "" {
		fmt.Fprintln(os.Stderr, "mirror: set", names)
		os.Exit(2)
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	store, err := oauth.NewFileStore("tokens")
	if err == nil {
		err = run(ctx, log, os.Getenv, store, printed{log})
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

// run keeps the table equal to the portal's deals until ctx ends.
func run(ctx context.Context, log *slog.Logger, env func(string) string, store oauth.Store, deals Table) error {
	cfg, opts, err := oauth.FromEnv(env)
	if err != nil {
		return err
	}
	portals, err := oauth.NewPortals(cfg, store, append(opts, oauth.WithLogger(log))...)
	if err != nil {
		return err
	}
	api, err := rest.NewClients(portals, rest.WithLogger(log))
	if err != nil {
		return err
	}
	member := env("B24_MEMBER_ID")
	if _, err := portals.Seed(ctx, oauth.Installation{ // the first time; later starts find newer tokens in the store
		MemberID: member, ClientEndpoint: env("B24_CLIENT_ENDPOINT"), ServerEndpoint: env("B24_SERVER_ENDPOINT"),
		AccessToken: event.Secret(env("B24_ACCESS_TOKEN")), RefreshToken: event.Secret(env("B24_REFRESH_TOKEN")),
	}); err != nil {
		return err
	}
	err = mirror(ctx, log, api, member, deals)
	return errors.Join(err, portals.Shutdown(context.WithoutCancel(ctx))) // writes renewed tokens
}

// mirror binds the events first and then loads the table, so that no change falls in between. To
// load at each start also brings what the queue never told, such as changes while a subscription
// had lapsed.
func mirror(ctx context.Context, log *slog.Logger, api *rest.Clients, member string, deals Table) error {
	portal, joined := api.Portal(member), api.Coalescer(member) // joined: what many handlers read at once leaves as one request
	put := func(ctx context.Context, d *event.Delivery, e event.CRMEntity) error {
		deal, err := event.Fetch[Deal](ctx, joined, d)
		if errors.Is(err, event.ErrGone) {
			return deals.Delete(ctx, e.ID)
		}
		if err != nil {
			return err // tried again, and parked on the portal if it keeps failing
		}
		return deals.Put(ctx, deal)
	}
	mux := event.NewMux()
	event.On(mux, event.OnCrmDealAdd, put)
	event.On(mux, event.OnCrmDealUpdate, put)
	event.On(mux, event.OnCrmDealDelete, put)

	if err := event.NewAPI(portal).Reconcile(ctx, mux.OfflineBindings("")); err != nil {
		return err
	}
	for deal, err := range rest.All[Deal](ctx, portal, "crm.deal.list", map[string]any{ // 44 requests for 100,000 deals
		"select": []string{"ID", "TITLE", "OPPORTUNITY", "DATE_MODIFY"},
	}, rest.ByID("ID")) {
		if err != nil {
			return err
		}
		if err := deals.Put(ctx, deal); err != nil {
			return err
		}
	}
	consumer, err := offline.NewConsumer(portal, mux, offline.WithMemberID(member), offline.WithLogger(log))
	if err != nil {
		return err
	}
	err = consumer.Run(ctx)
	log.InfoContext(ctx, "the mirror has stopped", "handled", consumer.Stats().Handled, "parked", consumer.Stats().Parked)
	return err
}

// printed is a table that is only logged.
type printed struct{ log *slog.Logger }

func (p printed) Put(ctx context.Context, deal Deal) error {
	p.log.InfoContext(ctx, "deal", "id", deal.ID, "title", deal.Title, "amount", deal.Amount)
	return nil
}

func (p printed) Delete(ctx context.Context, id int64) error {
	p.log.InfoContext(ctx, "deal deleted", "id", id)
	return nil
}
