// Command devportal is a Bitrix24 portal on a laptop: the portal of package event/eventtest (REST,
// OAuth, delivery of events, the offline queue) with a web page that installs applications, changes
// objects, shows every delivery and switches the platform's quirks. No account, tunnel or public
// address is needed to develop an event handler.
//
//	go run ./examples/devportal
//
// It prints one JSON object a line: the addresses to use, what -client-id installed, and each
// delivery; never a token. A handler under test gets the settings that the first line names,
// because the portal speaks plain http and has an OAuth server of its own. What the page does, a
// script can do too, by POST with a JSON body to the paths below /api/ (see routes in page.go):
//
//	curl -H 'Content-Type: application/json' -d '{"kind":"deal","action":"add","times":3}' http://127.0.0.1:8024/api/objects
//
// Everything is kept in memory. The identifier of the portal and the application tokens are the
// same after a restart, so that a handler that stored an installation goes on after the application
// was installed again.
//
// On SIGINT, SIGTERM or SIGHUP, and when its output cannot be written any more, what is queued is
// delivered, for five seconds at most; a second SIGINT or SIGTERM ends that at once. It exits with
// 0 when everything was delivered and printed, else with 1.
package main

import (
	"context"
	"io"
	"os"

	"github.com/b24events/b24events/examples/internal/program"
)

const about = `devportal is a Bitrix24 portal on a laptop: REST, OAuth, delivery of events, the offline queue, and a web page to install applications, cause events
and watch them arrive.`

func main() { program.Main(run) }

func run(
	ctx context.Context, signals <-chan os.Signal, args []string, env func(string) (string, bool), stdout, stderr io.Writer,
) int {
	return program.Run(ctx, "devportal", signals, stderr, func(serving, draining context.Context) error {
		cfg, err := configure(args, env, stderr)
		if err != nil {
			return err
		}
		return serve(serving, draining, cfg, stdout)
	})
}
