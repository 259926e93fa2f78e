// Command listen brings the events of a real portal to a handler on this machine, with no public
// URL and no tunnel: it binds the events to the portal's offline queue, asks the queue, and posts
// each record to the handler as the portal itself would have, signed with an application token for
// development.
//
//	listen -forward-to http://127.0.0.1:8080/bitrix24/events -events ONCRMDEALUPDATE,ONTASKADD
//
// The application token is that of B24_APPLICATION_TOKEN, which examples/receiver reads too: the
// one that is bound to the portal by token@member_id, or else the one without a portal. When there
// is none, one is made at the first start and kept in a file, whose name is logged: give the
// handler what stands in it, as token@member_id when it has the application too.
//
// For each event one JSON object a line is printed once it is done with:
//
//	{"event":"ONCRMDEALUPDATE","message_id":"…","entity":{"kind":"crm.deal","id":"42"},"user_id":1,"status":200,"latency_ms":1.8,"attempts":1,"error":null}
//
// A handler that cannot be reached is tried again until it can, and answers 408, 429 and 500 and
// above RETRIES times: fix the handler, restart it, and the event comes again. Any other answer is
// the end of the event, as it would be for the portal, which asks once only.
//
// The queue is one of its own, that of the connector "listen", so that workers of the same
// application lose nothing to it; developers who share an application take a name each, with
// -connector. Where the portal's plan has no connectors, the application's own queue is used, but
// not where other events are bound to it already, unless -share-queue says so.
//
// On SIGINT, SIGTERM or SIGHUP, and after an error, it unbinds what it has bound, and nothing else.
// After a crash the next start does so. When its output cannot be written any more, it stops so
// too, and exits with 1; an event whose line could not be printed is posted again by the next
// start.
package main

import (
	"context"

	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/program"
)

const about = `listen brings the events of a real portal to a handler on this machine: it reads them from the portal's offline queue and posts them as the portal would.`

func main() { program.Main(run) }

func run(ctx context.Context, env program.Env) int {
	return oneportal.Run(ctx, "listen", env, func(ctx context.Context) error {
		cfg, err := configure(env)
		if err != nil {
			return err
		}
		return listen(ctx, cfg, env.Stdout)
	})
}
