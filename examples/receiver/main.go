// Command receiver is an application server for Bitrix24 events. It accepts them at POST
// /bitrix24/events, answers at once, and prints each as one JSON object a line once it is
// processed.
//
// With B24_APPLICATION_TOKEN it accepts the events of outgoing webhooks. With B24_CLIENT_ID and
// B24_CLIENT_SECRET it is an application: it verifies and stores installations, and binds EVENTS to
// PUBLIC_URL, at each installation and at its start. An application with pages is installed by its
// page /bitrix24/install, which loads the script BX24 from B24_JS_URL if that is set. It can be
// both. GET /healthz reports whether it is ready, and GET /metrics its counters.
//
// QUEUE=durable keeps events that were answered 200 in a file in B24_DATA until they are printed,
// across crashes. QUEUE_URL keeps them in PostgreSQL or NATS JetStream, so that several receivers
// can share the work. With PostgreSQL they share the installations too. With NATS they need the
// same B24_DATA, or a STORE_URL. An event that cannot be processed is parked:
//
//	receiver parked                list what is parked, one JSON object a line
//	receiver parked replay ID…     try again (or: all)
//	receiver parked discard ID…    delete for good (or: all)
//
// The command works beside a running receiver and takes the same settings.
//
// On SIGINT, SIGTERM or SIGHUP it accepts no more requests, processes the events that it has
// acknowledged, and exits with 0. A second SIGINT or SIGTERM stops it at once. It then exits with 1
// and says how many accepted events were not printed.
//
// While stdout cannot be written, for example on a full disk, it answers new events with 503, and
// /healthz with 503 and the reason. It keeps accepted events and retries them, and completes a line
// that was written in part. If the reader of stdout is gone, or the disk is still full 10 seconds
// after a signal, it stops, and exits with 1 and that number. Lines in a pipe are lost when its
// reader goes away.
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
