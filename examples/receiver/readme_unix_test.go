//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/oauth/sqlstore"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/pgstore"
)

// replica serves events until ctx ends. Start it on several machines behind a load balancer: they
// share a database, and a machine that dies takes no event with it. The pool has 8 connections or
// more, and key 32 random bytes.
func replica(ctx context.Context, log *slog.Logger, env func(string) string, pool *pgxpool.Pool, key []byte) error {
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close() //nolint:errcheck // the pool is the caller's
	store, err := sqlstore.New(ctx, db, sqlstore.PostgreSQL, sqlstore.WithCodec(oauth.WithEncryptionKey(key)))
	if err != nil {
		return err
	}
	cfg, opts, err := oauth.FromEnv(env)
	if err != nil {
		return err
	}
	portals, err := oauth.NewPortals(cfg, store, append(opts, oauth.WithLogger(log))...) // one replica renews, all see it
	if err != nil {
		return err
	}
	api, err := rest.NewClients(portals, rest.WithLogger(log))
	if err != nil {
		return err
	}
	queue, err := pgstore.New(ctx, pool, pgstore.WithLogger(log)) // committed first, then answered 200
	if err != nil {
		return err
	}
	defer queue.Close() //nolint:errcheck // its leases run out if they cannot be released

	mux := handlers(log, portals, api, env("PUBLIC_URL")) // those of the application above
	hook, err := webhook.NewHandler(portals, mux,
		webhook.WithStore(queue), webhook.WithEncryptionKey(key), webhook.WithLogger(log))
	if err != nil {
		return err
	}
	server := &http.Server{Addr: env("LISTEN"), Handler: hook, ReadHeaderTimeout: 10 * time.Second}
	return webhook.Serve(ctx, server, 30*time.Second, hook.Shutdown, portals.Shutdown)
}

// handlers registers what the README's application has: it binds its events when a portal installs
// it, and reads each new deal.
func handlers(log *slog.Logger, portals *oauth.Portals, api *rest.Clients, handlerURL string) *event.Mux {
	mux := event.NewMux()
	portals.Lifecycle(mux, oauth.Hooks{
		Installed: func(ctx context.Context, in oauth.Installation, _ event.AppInstall) error {
			return event.NewAPI(api.Portal(in.MemberID)).Reconcile(ctx, mux.Bindings(handlerURL))
		},
	})
	event.On(mux, event.OnCrmDealAdd, func(ctx context.Context, d *event.Delivery, _ event.CRMEntity) error {
		deal, err := event.Fetch[struct {
			ID int64 `b24:"ID"`
		}](ctx, api.Portal(d.MemberID()), d)
		if err != nil {
			return err
		}
		log.InfoContext(ctx, "new deal", slog.Int64("id", deal.ID))
		return nil
	})
	return mux
}

// TestReadmeReplica: three of the README's replicas behind a balancer handle every deal, although
// one stops in between.
func TestReadmeReplica(t *testing.T) {
	t.Parallel()
	answers(t, "127.0.0.1:5432", "pg_ctlcluster --skip-systemctl-redirect 15 main start")
	database := newDatabase(t)
	balancer := &roundRobin{}
	front := httptest.NewServer(balancer)
	t.Cleanup(front.Close)
	portal := eventtest.NewPortal(t)
	app, err := portal.AddApp(eventtest.App{Scope: []string{"crm"}, HandlerURL: front.URL})
	require.NoError(t, err)
	key := make([]byte, 32)
	_, _ = rand.Read(key)

	var logged programtest.Output
	stop := make([]func() error, 3)
	for i := range stop {
		taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		addr := taken.Addr().String()
		require.NoError(t, taken.Close())
		env := map[string]string{
			"B24_CLIENT_ID": app.ClientID(), "B24_CLIENT_SECRET": string(app.ClientSecret()),
			"B24_OAUTH_HOSTS": portal.OAuthHost(), "B24_INSECURE_HTTP": "1", "LISTEN": addr, "PUBLIC_URL": front.URL,
		}
		pool, err := pgxpool.New(t.Context(), database)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		log := slog.New(slog.NewTextHandler(&logged, nil)).With(slog.Int("replica", i))
		go func() { ended <- replica(ctx, log, func(name string) string { return env[name] }, pool, key) }()
		require.Eventually(t, func() bool {
			c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
			return err == nil && c.Close() == nil
		}, programtest.Patience, time.Millisecond)
		balancer.add(addr)
		stop[i] = func() error {
			balancer.remove(addr)
			cancel()
			err := <-ended
			pool.Close()
			return err
		}
	}

	require.NoError(t, app.Install(t.Context()))
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(portal.Bindings(), func(b eventtest.Binding) bool { return b.Event == event.OnCrmDealAdd.Name() })
	}, programtest.Patience, time.Millisecond)
	var deals []int64
	add := func(n int) {
		for range n {
			id, err := portal.Add(eventtest.Deal, map[string]any{"TITLE": "New"}, eventtest.AdminID)
			require.NoError(t, err)
			deals = append(deals, id)
		}
	}
	add(15)
	require.NoError(t, stop[0](), logged.String()) // the first one, which had all partitions at first
	add(15)
	require.NoError(t, portal.Wait(t.Context()))
	for _, id := range deals {
		require.Eventually(t, func() bool {
			return strings.Contains(logged.String(), fmt.Sprintf("id=%d\n", id))
		}, programtest.Patience, 10*time.Millisecond, "deal %d: %s", id, logged.String())
	}
	require.NoError(t, stop[1]())
	require.NoError(t, stop[2]())
	for _, a := range portal.Deliveries() {
		require.True(t, a.OK())
	}
}

// newDatabase makes a database for a test and returns its address.
func newDatabase(t *testing.T) string {
	t.Helper()
	const server = "postgres://postgres@127.0.0.1:5432/"
	admin, err := pgxpool.New(t.Context(), server+"test?sslmode=disable")
	require.NoError(t, err)
	name := "readme_" + strings.ToLower(rand.Text())
	_, err = admin.Exec(t.Context(), "CREATE DATABASE "+name)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := admin.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)")
		admin.Close()
		require.NoError(t, err)
	})
	return server + name + "?sslmode=disable&pool_max_conns=8"
}

// roundRobin is a load balancer.
type roundRobin struct {
	mu    sync.Mutex
	next  int
	addrs []string
}

func (b *roundRobin) add(addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addrs = append(b.addrs, addr)
}

func (b *roundRobin) remove(addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addrs = slices.DeleteFunc(b.addrs, func(a string) bool { return a == addr })
}

func (b *roundRobin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.next++
	addr := b.addrs[b.next%len(b.addrs)]
	b.mu.Unlock()
	httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr}).ServeHTTP(w, r)
}
