package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/program"
)

const (
	maxListenConnections = 64
	maxArrivals          = 256 // that wait to be looked at; more are dropped
)

// receive serves the handler's URL in place of the handler, until stop is called. It acknowledges
// every event, verified or not, because nothing is done with it.
func receive(ctx context.Context, addr string, log *slog.Logger) (arrivals <-chan *event.Delivery, stop func(), err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, fmt.Errorf("-listen receives the test event in place of the handler, so stop the handler first: %w", err)
	}
	received := make(chan *event.Delivery, maxArrivals)
	server := program.Server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		d, err := event.ParseRequest(r)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		select {
		case received <- d:
		default: // a storm; the test event comes again on request
		}
	}), log)
	server.ReadTimeout = time.Minute
	go func() { _ = server.Serve(program.LimitConnections(server, l, maxListenConnections)) }() // ends with Close
	return received, func() { _ = server.Close() }, nil
}
