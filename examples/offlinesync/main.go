// Command offlinesync copies the changes of one portal. It works the queue of offline events. For
// each record, it appends the present state of the changed object to a file, as one JSON object a
// line.
//
//	{"event":"ONCRMDEALUPDATE","message_id":"…","entity":{"kind":"crm.deal","id":"42"},"user_id":1,"object":{…},"error":null}
//
// object is the result of the method that the catalogue names for the event, for example
// crm.deal.get. It is null for a deleted object. The last line of an object shows its last state.
// Each change is written at least once, even if the program is killed, because a line is on disk
// before its record leaves the queue.
//
// error is null, or says why object is null although the object was not deleted. Either the
// catalogue names no method that reads it, or the token may not see it, or reading it failed
// RETRIES times after the first. Some methods return the same error for an object that the token
// may not see and for a deleted one. A record that failed is parked on the portal and retried every
// RETRY_PARKED, until a line with the object follows.
//
// On a plan that cannot reserve records (no extended mode), the program stores each response in
// B24_DATA before it works on it. The records of a response that does not arrive are lost there. So
// are records that could not be stored on the disk, if the program ends before it has finished
// them.
//
// It waits for a portal that does not respond. With -once it waits for five minutes, and then exits
// with 1. On SIGINT, SIGTERM or SIGHUP it finishes its current work and exits with 0. A second
// SIGINT or SIGTERM stops it at once, with 1, and loses nothing either. If OUT cannot be written,
// it stops and exits with 1, and the next start takes the same records again. If OUT is a pipe,
// lines that its reader has not read when it goes away are lost; use a file instead.
package main

import (
	"context"

	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/program"
)

const about = `offlinesync works the offline queue of one portal and appends the present state of each object that changed to OUT, ` +
	`one JSON object a line.`

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
