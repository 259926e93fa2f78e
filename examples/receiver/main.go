// Command receiver is an application server for Bitrix24 events: it takes them at POST
// /bitrix24/events, answers at once, and prints each as one JSON object a line once it is
// processed.
//
// With B24_APPLICATION_TOKEN it takes the events of outgoing webhooks. With B24_CLIENT_ID and
// B24_CLIENT_SECRET it is an application: it verifies and stores installations, and binds EVENTS to
// PUBLIC_URL, at each installation and at its start. Both may be on. GET /healthz tells whether it
// is ready, GET /metrics what it did.
//
// QUEUE=durable keeps what was answered 200 in a file in B24_DATA until it is printed, across
// crashes. QUEUE_URL keeps it in PostgreSQL or NATS JetStream, so that several receivers can share
// the work. With PostgreSQL they share the installations too; with NATS they need the same
// B24_DATA, or a STORE_URL. An event that is given up is parked:
//
//	receiver parked                list what is parked, one JSON object a line
//	receiver parked replay ID…     try again (or: all)
//	receiver parked discard ID…    delete for good (or: all)
//
// It works beside a running receiver and takes the same settings.
//
// On SIGINT, SIGTERM or SIGHUP it takes no more requests, processes what it acknowledged, and exits
// with 0. A second SIGINT or SIGTERM cuts that short; it then exits with 1 and says how many
// accepted events were not printed.
//
// While stdout cannot be written, as on a full disk, new events are answered 503, and so is
// /healthz, with the reason. What was accepted is kept and tried again, and a line that was written
// in part is completed. When the reader of stdout is gone, or the disk is still full 10 seconds
// after a signal, it stops, and exits with 1 and that number. What stands in a pipe when its reader
// goes away is lost unseen.
package main

import (
	"context"

	"github.com/b24events/b24events/examples/internal/program"
)

func main() { program.Main(run) }

func run(ctx context.Context, env program.Env) int {
	return program.Run(ctx, "receiver", env, func(serving, draining context.Context) error {
		if len(env.Args) > 0 && env.Args[0] == "parked" {
			return runParked(serving, env)
		}
		cfg, err := configure(env)
		if err == nil {
			err = cfg.check()
		}
		if err != nil {
			return err
		}
		return serve(serving, draining, cfg, env.Stdout)
	})
}
