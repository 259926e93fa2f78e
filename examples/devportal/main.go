// Command devportal is a Bitrix24 portal on a laptop: the portal of package event/eventtest (REST,
// OAuth, delivery of events, the offline queue) with a web page that installs applications, changes
// objects, shows every delivery and switches the platform's quirks. No account, tunnel or public
// address is needed to develop an event handler.
//
//	go run ./examples/devportal
//
// It prints one JSON object per line: the addresses to use, the application of -client-id when it
// is installed, and each delivery, but no tokens. Start the handler under test with the settings in
// the first line, because the portal uses plain http and has an OAuth server of its own. A program
// can do everything that the page does, by the paths below /api/. API.md lists them, and so does a
// GET of /api/:
//
//	curl -H 'Content-Type: application/json' -d '{"kind":"deal","action":"add","times":3}' http://127.0.0.1:8024/api/objects
//
// For tests in any language, -script reads the same commands from a file or from stdin, prints an
// answer for each, and ends with the script. With -portals, several portals run with one OAuth
// server; each has its own address and page.
//
// Everything is kept in memory. The member ID of the portal and the application tokens stay the
// same after a restart, so a handler that stored an installation continues to work when the
// application is installed again.
//
// On SIGINT, SIGTERM or SIGHUP, and if its output can no longer be written, it delivers what is
// queued, for at most five seconds. A second SIGINT or SIGTERM ends that immediately. It exits with
// 0 if everything was delivered and printed, otherwise with 1.
package main

import (
	"context"

	"github.com/b24events/b24events/examples/internal/program"
)

const about = `devportal is a Bitrix24 portal on a laptop: REST, OAuth, delivery of events, the offline queue,
and a web page to install applications, cause events and watch them arrive. API.md has its API and -script.`

func main() { program.Main(run) }

func run(ctx context.Context, env program.Env) int {
	return program.Run(ctx, "devportal", env, func(serving, draining context.Context) error {
		cfg, err := configure(env)
		if err != nil {
			return err
		}
		return serve(serving, draining, cfg, env)
	})
}
