package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/pgstore"
)

// A receiver that survives crashes, and of which several may run.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	store, err := pgstore.New(ctx, pool, pgstore.WithKeep(7*24*time.Hour))
	if err != nil {
		panic(err)
	}
	defer func() { _ = store.Close() }()

	mux := event.NewMux()
	event.On(mux, event.OnCrmDealUpdate, func(_ context.Context, d *event.Delivery, deal event.CRMEntity) error {
		_, err := fmt.Fprintf(os.Stdout, "deal %d of %s changed\n", deal.ID, d.MemberID())
		return err
	})
	h, err := webhook.NewHandler(webhook.Tokens(os.Getenv("B24_TOKEN")), mux, webhook.WithStore(store))
	if err != nil {
		panic(err)
	}
	routes := http.NewServeMux()
	routes.Handle("POST /bitrix24", h)
	server := &http.Server{Addr: ":8080", Handler: routes, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.ListenAndServe() }()

	<-ctx.Done()
	end, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := errors.Join(server.Shutdown(end), h.Shutdown(end)); err != nil { // in this order
		_, _ = fmt.Fprintln(os.Stderr, err)
	}
}

// A handler that writes to the database in the transaction that settles its record.
func ExampleTx() {
	mux := event.NewMux()
	event.On(mux, event.OnCrmDealAdd, func(ctx context.Context, d *event.Delivery, deal event.CRMEntity) error {
		title, err := titleOf(ctx, d.MemberID(), deal.ID) // a call to the portal: before the transaction
		if err != nil {
			return err
		}
		tx, err := pgstore.Tx(ctx)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO deals (portal, id, title) VALUES ($1, $2, $3)`, d.MemberID(), deal.ID, title)
		return err // nil: committed together with the end of the record
	})
}

func titleOf(context.Context, string, int64) (string, error) { return "", nil }

// What a database administrator applies for programs with WithoutMigration.
func ExampleDDL() {
	ddl, err := pgstore.DDL(pgstore.WithSchema("crm_events"), pgstore.WithPartitions(128))
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(ddl) {
		if strings.HasPrefix(line, "CREATE") {
			what, _, _ := strings.Cut(strings.TrimSpace(line), " AS ")
			fmt.Println(what)
		}
	}
	// Output:
	// CREATE SCHEMA IF NOT EXISTS "crm_events";
	// CREATE SEQUENCE "crm_events".commits
	// CREATE TABLE "crm_events".pending (
	// CREATE TABLE "crm_events".archive (
	// CREATE INDEX archive_settled ON "crm_events".archive (state, settled, id, tag);
	// CREATE TABLE "crm_events".leases (
	// CREATE TABLE "crm_events".store (
}
