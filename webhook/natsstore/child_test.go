package natsstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/natsstore"
)

// childEnv makes the program of the tests a process that commits until it is killed. It holds the
// server and the name of the store.
const childEnv = "NATSSTORE_CHILD"

func isChild() bool { return os.Getenv(childEnv) != "" }

// child commits groups of records and settles half of the group before. It prints the IDs of what
// it is about to settle, and of what a Commit that succeeded has settled and stored.
func child() int {
	url, name, _ := strings.Cut(os.Getenv(childEnv), " ")
	err := func() error {
		nc, err := nats.Connect(url)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		s, err := natsstore.New(ctx, nc, natsstore.WithName(name))
		if err != nil {
			return err
		}
		var last []*webhook.Record
		for n := 0; ; n++ {
			add := records(0, 16, fmt.Sprint("group ", n))
			half := last[:len(last)/2]
			if err := tell("settling", half); err != nil {
				return err
			}
			if err := s.Commit(ctx, add, marks(webhook.StateDone, half...)); err != nil {
				return err
			}
			if err := errors.Join(tell("done", half), tell("added", add)); err != nil {
				return err
			}
			last = add
		}
	}()
	_, _ = fmt.Fprintln(os.Stderr, err)
	return 1
}

func tell(what string, list []*webhook.Record) error {
	_, err := fmt.Fprintln(os.Stdout, what, strings.Join(ids(list), " "))
	return err
}

// TestProcessKilled kills a process that commits. All that it knew to be stored is there, and all
// that it knew to be settled is not.
func TestProcessKilled(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url)
			s := space.open(t)
			self, err := os.Executable()
			require.NoError(t, err)
			what := map[string]map[string]bool{"added": {}, "settling": {}, "done": {}}
			for range 5 {
				cmd := exec.CommandContext(t.Context(), self) //nolint:gosec // this program
				cmd.Env = append(os.Environ(), childEnv+"="+url+" "+space.name)
				cmd.Stderr = os.Stderr
				out, err := cmd.StdoutPipe()
				require.NoError(t, err)
				require.NoError(t, cmd.Start())
				lines := bufio.NewScanner(out)
				for n := 0; lines.Scan(); n++ {
					kind, list, _ := strings.Cut(lines.Text(), " ")
					for id := range strings.FieldsSeq(list) {
						what[kind][id] = true
					}
					if n == 30 {
						require.NoError(t, cmd.Process.Kill())
					}
				}
				require.Error(t, cmd.Wait(), "it was killed")
			}
			require.GreaterOrEqual(t, len(what["added"]), 5*9*16)
			got := make(map[string]bool)
			for _, id := range ids(pending(t, s, 0)) {
				got[id] = true
			}
			for id := range what["added"] {
				require.True(t, got[id] || what["settling"][id], "the record %s was acknowledged and is lost", id)
			}
			for id := range what["done"] {
				require.False(t, got[id], "the record %s was settled and is back", id)
			}
		})
	}
}
