// Command listen brings the events of a real portal to a handler on this machine, with no public
// URL and no tunnel. It binds the events to the portal's offline queue, polls the queue, and posts
// each record to the handler as the portal itself would, signed with an application token for
// development.
//
//	listen -forward-to http://127.0.0.1:8080/bitrix24/events -events ONCRMDEALUPDATE,ONTASKADD
//
// The application token comes from B24_APPLICATION_TOKEN, which examples/receiver reads too: the
// one that is bound to the portal by token@member_id, or else the one without a portal. If there is
// none, the first start makes a token and keeps it in a file, whose name it logs. Configure the
// handler with the token in the file, as token@member_id if the portal has the application too.
//
// For each finished event, it prints one JSON object a line:
//
//	{"event":"ONCRMDEALUPDATE","message_id":"…","entity":{"kind":"crm.deal","id":"42"},"user_id":1,
//	 "status":200,"latency_ms":1.8,"attempts":1,"error":null}
//
// If the handler cannot be reached, listen retries until it can. After a response of 408, 429, or
// 500 and above, it retries RETRIES times: fix the handler, restart it, and the event comes again.
// Any other response finishes the event. The portal itself would send it only once.
//
// It uses a queue of its own, that of the connector "listen", so that it takes no events from other
// workers of the application. Developers who share an application each choose a name with
// -connector. If the portal's plan has no connectors, listen uses the application's own queue. If
// other events are bound to that queue already, it does so only with -share-queue.
//
// On SIGINT, SIGTERM or SIGHUP, and after an error, it unbinds the events that it has bound, and no
// others. After a crash, the next start does so. If its output cannot be written any more, it stops
// in the same way and exits with 1. The next start posts an event again whose line could not be
// printed.
package main

import (
	"context"

	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/program"
)

const about = `listen brings the events of a real portal to a handler on this machine: it reads them from the portal's offline ` +
	`queue and posts them as the portal would.`

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
