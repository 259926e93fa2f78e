// Command botpoll runs a chat bot without a public URL: it registers a bot of imbot.v2 in fetch
// mode, polls its events, and appends each to a file, as one JSON object a line. With -echo it also
// answers every message.
//
//	{"event_id":1001,"event":"ONIMBOTV2MESSAGEADD","time":"2026-01-15T10:30:00Z","data":{…},"error":null}
//
// error is null, or says why the event could not be handled: then it was tried RETRIES times after
// the first, or it cannot be read, and data is null. Each event is written at least once, even if
// the program is killed, because its line is on disk before the offset passes it. A kill repeats
// some lines, and may repeat an answer.
//
// The offset is kept in B24_DATA. The application needs the scope imbot, and the first start needs
// the tokens of a user, as in offlinesync. With -user-events it needs the scope im too, and also
// prints what happens in the chats of the user with that ID, whose tokens these must be.
//
// On SIGINT, SIGTERM or SIGHUP it finishes its current work and exits with 0. A second SIGINT or
// SIGTERM stops it at once, with 1, and loses nothing either. If OUT cannot be written, it stops
// and exits with 1, and the next start gets the same events again.
package main

import (
	"context"

	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/program"
)

const about = `botpoll registers a chat bot in fetch mode, polls its events, and appends each to OUT, one JSON object a line.`

func main() { program.Main(run) }

func run(ctx context.Context, env program.Env) int {
	return oneportal.Run(ctx, "botpoll", env, func(ctx context.Context) error {
		cfg, err := configure(env)
		if err != nil {
			return err
		}
		return work(ctx, cfg, env.Stdout)
	})
}
