// Command doctor says why no events arrive from a portal. It asks the portal, the OAuth server and
// the handler about everything that an event needs on its way, and prints a table of checks, each
// with its cause and cure.
//
//	doctor -events ONCRMDEALUPDATE,ONTASKADD -handler https://example.com/bitrix24/events
//	doctor -events ONCRMDEALUPDATE -offline
//
// Run it with the environment of the application, on the same machine and as the same user. It
// reads the installation from B24_DATA, as the other programs do; if that is encrypted, B24_KEY has
// the key. An expired token is renewed and stored there, as the application would do. It changes no
// bindings and forgets no portal.
//
// If the application opens a store of its own with oauth.NewFileStore, name the folder that it
// passes. Doctor opens it as it is, and B24_KEY has its key, too:
//
//	doctor -installations ./installations -events ONCRMDEALUPDATE -handler https://example.com/bitrix24
//
// An application that keeps its installations elsewhere, for example in a database, can call
// package event/doctor itself. Or set B24_MEMBER_ID, B24_CLIENT_ENDPOINT and B24_ACCESS_TOKEN:
// doctor then stores nothing, and takes no refresh token, because that would void the one of the
// application.
//
// With -test it requests a test event (event.test), for which it binds ONAPPTEST if it is not
// bound, and unbinds it in the end. With -listen it receives the test event itself: stop the
// handler, start doctor at the handler's address, and see whether the way from the portal is open.
// If doctor is killed, ONAPPTEST may stay bound, which does no harm.
//
// With -json it prints each check as a JSON object on a line of its own:
//
//	{"check":"bindings","status":"failed","code":"binding_missing","cause":"…","cure":"…"}
//
// It exits with 1 if a check failed, and with 0 if all are ok, skipped, or a warning.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/doctor"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/oauth"
)

const about = `doctor says why no events arrive from a portal. It checks the installation, the tokens, the permissions, the plan, the
handler and the bindings, and prints what is wrong and what to do. Run it with the environment of the application, and
as the same user: it reads the installation from B24_DATA, or from the folder that -installations names. It exits with
1 if a check failed.`

func main() { program.Main(run) }

func run(ctx context.Context, env program.Env) int {
	return program.Run(ctx, "doctor", env, func(working, draining context.Context) error {
		ended := make(chan error, 1)
		go func() { ended <- diagnose(working, env) }()
		select {
		case err := <-ended:
			return err
		case <-draining.Done():
			return errors.New("stopped at once; ONAPPTEST may still be bound, which does no harm")
		}
	})
}

// diagnose examines the portal and prints the report.
func diagnose(ctx context.Context, env program.Env) error {
	cfg, err := configure(env)
	if err != nil {
		return err
	}
	report, err := examine(ctx, cfg)
	if err != nil && len(report.Checks) == 0 {
		return err
	}
	stopped := ctx.Err() != nil && errors.Is(err, context.Cause(ctx))
	if failure := write(env.Stdout, report, cfg.On("json"), stopped); failure != nil {
		return failure
	}
	switch {
	case stopped:
		return errors.New("stopped before the last check")
	case err != nil:
		return err
	case report.Failed():
		return errors.New("events cannot arrive; see the checks that failed")
	default:
		return nil
	}
}

// errKeep keeps an installation that the portal no longer has: the program that handles its events
// has to clean up.
var errKeep = errors.New("doctor forgets no portal")

// examine opens the installation and examines it.
func examine(ctx context.Context, cfg config) (report doctor.Report, err error) {
	portal, err := open(ctx, cfg)
	if err != nil {
		return doctor.Report{}, err
	}
	defer func() {
		if failure := portal.close(ctx); failure != nil {
			err = errors.Join(err, failure)
		}
	}()
	portal.Tokens.Lifecycle(event.NewMux(), oauth.Hooks{Removed: func(context.Context, oauth.Installation) error { return errKeep }})
	opts := []doctor.Option{doctor.WithPortals(portal.Tokens, portal.memberID)}
	if tokens := cfg.tokensOf(portal.memberID); len(tokens) > 0 {
		opts = append(opts, doctor.WithApplicationTokens(tokens...))
	}
	if cfg.On("probe") {
		opts = append(opts, doctor.WithProbe(nil))
	}
	switch {
	case cfg.listen != "":
		arrivals, stop, err := receive(ctx, cfg.listen, cfg.logger)
		if err != nil {
			return doctor.Report{}, err
		}
		defer stop()
		opts = append(opts, doctor.WithRoundTrip(arrivals, cfg.wait))
	case cfg.On("test"):
		opts = append(opts, doctor.WithRoundTrip(nil, cfg.wait))
	}
	return doctor.Examine(ctx, portal.API.Portal(portal.memberID), cfg.want, opts...)
}

// write prints the report as a table, or as lines of JSON. stopped means that checks are missing.
func write(w io.Writer, r doctor.Report, asJSON, stopped bool) error {
	var b strings.Builder
	for _, c := range r.Checks {
		if asJSON {
			line, err := program.JSONLine(c)
			if err != nil {
				return err
			}
			b.Write(line)
			continue
		}
		fmt.Fprintf(&b, "%-13s %-8s %s\n", c.Name, shownStatus[c.Status], program.OneLine(c.Cause))
		if c.Cure != "" {
			fmt.Fprintf(&b, "%22s → %s\n", "", program.OneLine(c.Cure))
		}
	}
	if !asJSON {
		b.WriteString("\n" + summary(r, stopped) + "\n")
	}
	_, err := program.NewLineWriter(w).Write([]byte(b.String()))
	return err
}

var shownStatus = map[doctor.Status]string{doctor.OK: "ok", doctor.Warning: "WARNING", doctor.Failed: "FAILED", doctor.Skipped: "-"}

// summary returns the last line of the table.
func summary(r doctor.Report, stopped bool) string {
	found := r.Findings()
	switch {
	case len(found) == 0 && stopped:
		return "stopped before the last check; nothing found so far"
	case len(found) == 0:
		return "nothing found"
	}
	failed := 0
	for _, c := range found {
		if c.Status == doctor.Failed {
			failed++
		}
	}
	warnings := strconv.Itoa(len(found)-failed) + " warnings"
	if len(found)-failed == 1 {
		warnings = "1 warning"
	}
	return fmt.Sprintf("%d failed, %s; begin with: %s", failed, warnings, program.OneLine(found[0].Cause))
}
