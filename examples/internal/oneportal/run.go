package oneportal

import (
	"context"
	"errors"
	"fmt"

	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/offline"
)

// Run is [program.Run] for work that the first signal stops in order. After the second signal, Run
// does not wait for the work.
func Run(ctx context.Context, name string, env program.Env, work func(context.Context) error) int {
	return program.Run(ctx, name, env, func(working, draining context.Context) error {
		ended := make(chan error, 1)
		go func() { ended <- work(working) }()
		select {
		case err := <-ended:
			if text := advice(err); text != "" {
				return fmt.Errorf("%w; %s", err, text)
			}
			return err
		case <-draining.Done():
			return errors.New("stopped at once; what was not finished stays in the portal's queue for the next start")
		}
	})
}

// advice returns advice for errors that do not know the names of the settings.
func advice(err error) string {
	switch {
	case tooManyFiles(err):
		return "let the process open more files (ulimit -n)"
	case void(err):
		return "put a new pair of tokens into B24_ACCESS_TOKEN and B24_REFRESH_TOKEN and start again: they replace the void ones"
	case errors.Is(err, oauth.ErrEncryptionKey):
		return "set B24_KEY to the key that the installations in B24_DATA are encrypted with"
	case errors.Is(err, oauth.ErrHostNotAllowed):
		return "add the host to B24_OAUTH_HOSTS if it is yours"
	case errors.Is(err, oauth.ErrEndpoint):
		return "for a portal on this machine set B24_INSECURE_HTTP=1"
	case Code(err) == "ERROR_EVENT_NOT_FOUND":
		return "check the names in EVENTS, and that the application has the permissions that they need"
	case Code(err) == "WRONG_LICENSE" && !errors.Is(err, offline.ErrExtendedModeRequired):
		return "leave CONNECTOR out if the plan has no auth_connector"
	default:
		return ""
	}
}
