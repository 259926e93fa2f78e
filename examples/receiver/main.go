// Command receiver is an application server for Bitrix24 events: it takes them at POST /bitrix24/events, answers at once, and prints each as one JSON
// object a line once it is processed.
//
// With B24_APPLICATION_TOKEN it takes the events of outgoing webhooks. With B24_CLIENT_ID and B24_CLIENT_SECRET it is an application: it verifies
// and stores installations, and binds EVENTS to PUBLIC_URL, at each installation and at its start. Both may be on. GET /healthz tells whether it is ready,
// GET /metrics what it did. On SIGINT or SIGTERM it takes no more requests, processes what it acknowledged, and exits with 0; a second signal cuts
// that short.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	os.Exit(run(context.Background(), signals, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// run is the program. It exits cleanly on the first signal and in a hurry on the second.
func run(
	ctx context.Context, signals <-chan os.Signal, args []string, env func(string) (string, bool), stdout, stderr io.Writer,
) int {
	cfg, err := configure(args, env, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "receiver: %v\n", err)
		return 2
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	draining, cut := context.WithCancel(ctx)
	defer cut()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for _, next := range []func(){stop, cut} {
			select {
			case <-signals:
				next()
			case <-ended:
				return
			}
		}
	}()
	if err := serve(serving, draining, cfg, stdout); err != nil {
		_, _ = fmt.Fprintf(stderr, "receiver: %v\n", err)
		return 1
	}
	return 0
}
