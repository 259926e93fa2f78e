package pgstore_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook/pgstore"
)

const (
	killedEnv     = "PGSTORE_KILLED" // schema, number of the process, first change
	killedPortals = 3
	killedDeals   = 4
)

// writeChange is the handler of TestProcessesKilled: it writes each change in the transaction.
func (l ledger) writeChange(ctx context.Context, d *event.Delivery) error {
	tx, err := pgstore.Tx(ctx)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, l.sql(`INSERT INTO {s}.ledger (what, deal, change) VALUES ('change', $1, $2)`), d.MemberID()+" "+d.Entity().ID,
		d.Time.Unix())
	return err
}

// TestKilledProcess is what the processes of TestProcessesKilled run, until they are killed: a
// Handler that gets the changes of a portal, and prints the number of each that was answered 200.
//
//nolint:paralleltest // it is the only test of its process
func TestKilledProcess(t *testing.T) {
	schema, rest, found := strings.Cut(os.Getenv(killedEnv), " ")
	if !found {
		t.Skip("for the processes of TestProcessesKilled only")
	}
	number, first, _ := strings.Cut(rest, " ")
	own, err := strconv.Atoi(number)
	require.NoError(t, err)
	change, err := strconv.Atoi(first)
	require.NoError(t, err)
	k := &kit{TB: t, dsn: serverDSN(), schema: schema, pool: newPool(t, serverDSN())}
	p := k.process(portals(killedPortals), event.HandlerFunc(ledger{k}.writeChange))
	for ; ; change++ {
		for deal := range killedDeals {
			r, err := dealUpdate(t.Context(), portal(own), deal+1, time.Unix(int64(change), 0))
			require.NoError(t, err)
			w := httptest.NewRecorder()
			if p.ServeHTTP(w, r); w.Code == http.StatusOK {
				_, _ = fmt.Fprintln(os.Stdout, "acknowledged", deal+1, change)
			}
		}
	}
}

// victim is a process that will be killed.
type victim struct {
	*kit

	number int
	acks   chan [2]int // deal and change
	next   int         // the first change that no process has posted
	cmd    *exec.Cmd
	over   chan struct{}
}

func (v *victim) start() {
	v.Helper()
	self, err := os.Executable()
	require.NoError(v, err)
	v.cmd = exec.CommandContext(v.Context(), self, "-test.run=^TestKilledProcess$") //nolint:gosec // the test binary itself
	v.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %d", killedEnv, v.schema, v.number, v.next))
	out, err := v.cmd.StdoutPipe()
	require.NoError(v, err)
	require.NoError(v, v.cmd.Start())
	v.over = make(chan struct{})
	go func() {
		defer close(v.over)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var ack [2]int
			if n, _ := fmt.Sscanf(lines.Text(), "acknowledged %d %d", &ack[0], &ack[1]); n == 2 {
				v.acks <- ack
			}
		}
	}()
}

// kill kills the process, and returns all that it had printed.
func (v *victim) kill() (acks [][2]int) {
	v.Helper()
	require.NoError(v, v.cmd.Process.Kill())
	<-v.over
	_ = v.cmd.Wait()
	for len(v.acks) > 0 {
		acks = append(acks, <-v.acks)
	}
	for _, ack := range acks {
		v.next = max(v.next, ack[1])
	}
	v.next += 2 // it may have posted one more
	return acks
}

// TestProcessesKilled kills processes that receive and handle, again and again. Each change that
// was answered 200 is in the table exactly once, and those of a deal are in order.
func TestProcessesKilled(t *testing.T) {
	t.Parallel()
	const kills, acksBetween = 6, 40
	l := newLedger(t)
	l.exec(`ALTER TABLE {s}.ledger ADD n bigserial, ADD deal text, ADD change int`)
	l.open() // makes the tables
	var victims []*victim
	for i := range killedPortals {
		v := &victim{kit: l.kit, number: i, next: 1, acks: make(chan [2]int, 1<<20)}
		v.start()
		victims = append(victims, v)
	}
	acknowledged := make(map[string]bool)
	collect := func(v *victim) {
		for _, ack := range v.kill() {
			acknowledged[fmt.Sprintf("%s %d/%d", portal(v.number), ack[0], ack[1])] = true
		}
	}
	for n := range kills {
		v := victims[n%len(victims)]
		eventually(t, "the process gets answers", func() bool { return len(v.acks) >= acksBetween })
		collect(v)
		v.start()
	}
	for _, v := range victims {
		eventually(t, "the process gets answers", func() bool { return len(v.acks) >= acksBetween })
		collect(v)
	}
	t.Logf("%d changes acknowledged, %d left by those that were killed", len(acknowledged), l.pending())

	l.process(portals(killedPortals), event.HandlerFunc(l.writeChange))
	eventually(t, "what they left is handled", func() bool { return l.pending() == 0 })
	require.GreaterOrEqual(t, len(acknowledged), kills*acksBetween)
	handled := make(map[string]int)
	last := make(map[string]int)
	rows, err := l.pool.Query(t.Context(), l.sql(`SELECT deal, change FROM {s}.ledger ORDER BY n`))
	require.NoError(t, err)
	for rows.Next() {
		var deal string
		var change int
		require.NoError(t, rows.Scan(&deal, &change))
		handled[fmt.Sprintf("%s/%d", deal, change)]++
		require.Greater(t, change, last[deal], "changes of deal %s", deal)
		last[deal] = change
	}
	require.NoError(t, rows.Err())
	for change := range acknowledged {
		require.Equal(t, 1, handled[change], "change %s", change)
	}
	for change, n := range handled {
		require.Equal(t, 1, n, "change %s", change)
	}
}
