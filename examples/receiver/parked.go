package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/webhook"
)

// parkedPage is how many deliveries are read at a time.
const parkedPage = 100

// parkedCommand is what follows the word parked on the command line.
type parkedCommand struct {
	action string
	ids    []string // empty for list; the word all means all records
	flags  []string
}

// parseParked reads the command: an action and IDs, then flags.
func parseParked(args []string) (parkedCommand, error) {
	n := 0
	for n < len(args) && !strings.HasPrefix(args[n], "-") {
		n++
	}
	c := parkedCommand{action: "list", flags: args[n:]}
	if n > 0 {
		c.action, c.ids = args[0], args[1:n]
	}
	switch {
	case c.action == "list" && len(c.ids) == 0:
	case (c.action == "replay" || c.action == "discard") && len(c.ids) > 0:
	default:
		return c, program.Usage("usage: receiver parked [list | replay ID… | replay all | discard ID… | discard all] [flags]")
	}
	return c, nil
}

// runParked runs the command that follows the word parked.
func runParked(ctx context.Context, env program.Env) error {
	c, err := parseParked(env.Args[1:])
	if err != nil {
		return err
	}
	env.Args = c.flags
	cfg, err := configure(env)
	if err != nil {
		return err
	}
	return c.run(ctx, cfg, env.Stdout)
}

// run lists, replays or discards parked deliveries, also beside a running receiver.
func (c parkedCommand) run(ctx context.Context, cfg config, stdout io.Writer) error {
	if cfg.queue == queueMemory {
		return program.Usage("a queue in memory keeps nothing; set QUEUE=durable or QUEUE_URL, as for the receiver")
	}
	cfg.archiveOnly = true
	s, err := openStorage(ctx, cfg)
	if err != nil {
		return err
	}
	defer s.close()
	var keys [][]byte
	if cfg.key != nil {
		keys = append(keys, cfg.key)
	}
	a, err := webhook.NewArchive(s.queue, keys...)
	if err != nil {
		return err
	}
	if c.action == "list" {
		return listParked(ctx, a, func(one webhook.Archived) error { return printParked(stdout, one) })
	}
	ids := c.ids
	if len(ids) == 1 && ids[0] == "all" {
		ids = nil
		err = listParked(ctx, a, func(one webhook.Archived) error {
			ids = append(ids, one.ID)
			return nil
		})
		if err != nil {
			return err
		}
	}
	do, done := a.Replay, "replayed"
	if c.action == "discard" {
		do, done = a.Discard, "discarded"
	}
	n, err := do(ctx, ids...)
	if err != nil {
		return err
	}
	all := c.ids[0] == "all"
	if n > 0 || all {
		if _, err = fmt.Fprintf(stdout, "{%q:%d}\n", done, n); err != nil {
			return err
		}
	}
	if n < len(ids) && !all {
		return fmt.Errorf("%d of %d IDs are not parked; receiver parked list shows those that are", len(ids)-n, len(ids))
	}
	return nil
}

// listParked calls f for each parked delivery.
func listParked(ctx context.Context, a *webhook.Archive, f func(webhook.Archived) error) error {
	for after := ""; ; {
		page, err := a.Parked(ctx, after, parkedPage)
		if err != nil {
			return err
		}
		for _, one := range page {
			if err := f(one); err != nil {
				return err
			}
			after = one.ID
		}
		if len(page) < parkedPage {
			return nil
		}
	}
}

// parkedLine is how a parked delivery is printed.
type parkedLine struct {
	ID       string          `json:"id"`
	Event    string          `json:"event"`
	MemberID string          `json:"member_id"`
	Received time.Time       `json:"received"`
	Parked   time.Time       `json:"parked"`
	Attempts int             `json:"attempts"`
	Error    string          `json:"error"`
	Delivery *event.Delivery `json:"delivery"`
}

func printParked(w io.Writer, one webhook.Archived) error {
	line := parkedLine{one.ID, one.Event, one.MemberID, one.Received, one.Settled, one.Attempts, one.Err, one.Delivery}
	if one.Unreadable != nil && one.Err == "" {
		line.Error = one.Unreadable.Error()
	}
	text, err := program.JSONLine(line)
	if err != nil {
		return err
	}
	if _, err = w.Write(text); err != nil {
		return errors.Join(errors.New("stdout cannot be written"), err)
	}
	return nil
}
