package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/webhook"
)

// storedPortals is how many portals have the application.
const storedPortals = 10_000

const clientID = "local.peerbench"

// portal holds the values in deliveries of a portal.
type portal struct{ member, token string }

func portals() []portal {
	all := make([]portal, storedPortals)
	for i := range all {
		all[i] = portal{
			member: fmt.Sprintf("%032x", uint64(i+1)*0x9e3779b97f4a7c15),
			token:  fmt.Sprintf("%032x", uint64(i+1)*0xc2b2ae3d27d4eb4f),
		}
	}
	return all
}

// verifier returns a verifier that knows all portals. As usual, the stored addresses are those in
// the deliveries.
func verifier(ctx context.Context, all []portal) (webhook.Verifier, error) {
	store := oauth.NewMemoryStore()
	for _, p := range all {
		_, err := store.Swap(ctx, oauth.Key{ClientID: clientID, MemberID: p.member}, "", oauth.Installation{
			MemberID: p.member, ClientEndpoint: clientEndpoint, ServerEndpoint: serverEndpoint,
			AccessToken: event.Secret(p.token + "a"), RefreshToken: event.Secret(p.token + "r"), Expires: time.Now().Add(time.Hour),
			UserID: 1, Scope: []string{"crm", "im", "imbot"}, Status: "P", ApplicationToken: event.Secret(p.token),
			InstalledAt: time.Now(), UpdatedAt: time.Now(),
		})
		if err != nil {
			return nil, err
		}
	}
	return oauth.NewPortals(oauth.Config{ClientID: clientID, ClientSecret: "secret-of-peerbench"}, store)
}

// bare answers as fast as net/http can, once it has read the body.
func bare(w http.ResponseWriter, r *http.Request) {
	if _, err := io.ReadAll(r.Body); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// server is a server on loopback.
type server struct {
	http *http.Server
	addr string
}

func listen(ctx context.Context, name string, h http.Handler) (*server, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{http: &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}, addr: l.Addr().String()}
	go pprof.Do(ctx, pprof.Labels("peer", name), func(context.Context) {
		_ = s.http.Serve(l) // it ends with an error when the server is closed
	})
	return s, nil
}

// serving holds the results of one server, one value per round.
type serving struct {
	name    string
	loads   []load
	grouped float64 // average deliveries per commit of the store, including commits of outcomes alone
}

// measureServing returns the results of the bare server and of the handlers, in this order.
func measureServing(ctx context.Context, s settings, p payload) (results []serving, err error) {
	all := portals()
	v, err := verifier(ctx, all)
	if err != nil {
		return nil, err
	}
	peers := []peer{{name: "net/http and io.ReadAll", handler: http.HandlerFunc(bare)}}
	for _, q := range s.queues {
		one, err := newPeer(ctx, s, q, v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", q, err)
		}
		defer func() { err = errors.Join(err, one.close()) }()
		peers = append(peers, one)
	}
	g := newGenerator(p, all)
	addresses := make([]string, len(peers))
	for i, peer := range peers {
		srv, err := listen(ctx, peer.name, peer.handler)
		if err != nil {
			return nil, err
		}
		defer func() { _ = srv.http.Close() }()
		addresses[i] = srv.addr
		results = append(results, serving{name: peer.name, loads: make([]load, 0, s.rounds)})
	}
	for round := range s.rounds {
		for turn := range peers {
			i := (round + turn) % len(peers) // each round begins with another peer
			runtime.GC()
			l, err := g.run(ctx, addresses[i], s)
			if err == nil {
				err = peers[i].idle(ctx)
			}
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", results[i].name, p.title, err)
			}
			results[i].loads = append(results[i].loads, l)
		}
	}
	for i, peer := range peers {
		if err := peer.check(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", peer.name, err)
		}
		results[i].grouped = peer.grouped()
	}
	return results, nil
}
