package oneportal

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/offline"
)

// Signals returns the signals by which a program is stopped. A reader of the output that goes away is none: it becomes the error of a write, so
// that the program stops in order.
func Signals() <-chan os.Signal {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	signal.Ignore(syscall.SIGPIPE)
	return signals
}

// Run is a program's main: it runs work until that returns, and gives the exit code. The first signal ends work's context, so that work stops
// cleanly; a second one does not wait for that. An error is printed in one line.
func Run(ctx context.Context, program string, signals <-chan os.Signal, stderr io.Writer, work func(context.Context) error) int {
	working, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- work(working) }()
	for hurry := false; ; hurry = true {
		select {
		case err := <-ended:
			return exitCode(program, stderr, err)
		case <-signals:
			if hurry {
				return exitCode(program, stderr, errors.New("stopped at once; what was not finished stays in the portal's queue for the next start"))
			}
			stop()
		}
	}
}

// Stopped returns nil in place of an error that comes of being told to stop.
func Stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}

func exitCode(program string, stderr io.Writer, err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	_, _ = fmt.Fprintf(stderr, "%s: %s%s\n", program, strings.Join(strings.Split(strings.TrimSpace(err.Error()), "\n"), "; "), cure(err))
	if errors.As(err, new(*UsageError)) {
		return 2
	}
	return 1
}

// cure says what to do about errors whose own text cannot, since it does not know the settings.
func cure(err error) string {
	switch {
	case void(err):
		return "; put a new pair of tokens into B24_ACCESS_TOKEN and B24_REFRESH_TOKEN and start again: they replace the void ones"
	case errors.Is(err, oauth.ErrHostNotAllowed):
		return "; add the host to B24_OAUTH_HOSTS if it is yours"
	case errors.Is(err, oauth.ErrEndpoint):
		return "; for a portal on this machine set B24_INSECURE_HTTP=1"
	case Code(err) == "ERROR_EVENT_NOT_FOUND":
		return "; check the names in EVENTS, and that the application has the permissions that they need"
	case Code(err) == "WRONG_LICENSE" && !errors.Is(err, offline.ErrExtendedModeRequired):
		return "; leave CONNECTOR out where it is auth_connector that the plan lacks"
	default:
		return ""
	}
}
