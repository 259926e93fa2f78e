// Command offlinesync copies what changes on one portal: it works the queue of offline events and
// appends, for each record, the present state of the object that changed to a file, as one JSON
// object a line.
//
//	{"event":"ONCRMDEALUPDATE","message_id":"…","entity":{"kind":"crm.deal","id":"42"},"user_id":1,"object":{…},"error":null}
//
// object is what the method that the catalogue names for the event, such as crm.deal.get, returns;
// it is null for an object that was deleted. The last line of an object shows its last state. A
// change is written at least once, whenever the program is killed: a line is on disk before its
// record leaves the queue.
//
// error is null, or says why object is null although the object was not deleted: the catalogue
// names no method that reads it, the token may not see it (which some methods do not tell from a
// deletion), or reading it failed RETRIES times after the first. Such a record is parked on the
// portal and tried again each RETRY_PARKED, until a line with the object follows.
//
// On a plan that cannot reserve records (no extended mode), each response is stored in B24_DATA
// before it is worked on. The records of a response that does not arrive are lost there. So are
// those that the disk could not take, if the program ends before they are finished.
//
// A portal that does not answer is waited for; with -once for five minutes, and then it exits with
// 1. On SIGINT, SIGTERM or SIGHUP it finishes what it is at and exits with 0; a second SIGINT or
// SIGTERM cuts that short, with 1, and loses nothing either. When OUT cannot be written it stops,
// and exits with 1: the next start takes the same records again. From a pipe, name a file instead
// if the reader may go away: what it has not read by then is lost.
package main

import (
	"context"

	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/program"
)

const about = `offlinesync works the offline queue of one portal and appends the present state of each object that changed to OUT, one JSON object a line.`

func main() { program.Main(run) }

func run(ctx context.Context, env program.Env) int {
	return oneportal.Run(ctx, "offlinesync", env, func(ctx context.Context) error {
		cfg, err := configure(env)
		if err != nil {
			return err
		}
		return work(ctx, cfg, env.Stdout)
	})
}
