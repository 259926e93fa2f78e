package sqlitestore_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver" // the other driver, as "sqlite3"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/sqlitestore"
)

// Variables of a process that a test starts: its role and its file.
const (
	roleEnv = "SQLITESTORE_TEST_ROLE"
	fileEnv = "SQLITESTORE_TEST_FILE"
	fromEnv = "SQLITESTORE_TEST_FROM"
)

// roles are the programs that tests start. The test binary is all of them.
func roles() map[string]func(ctx context.Context, path string, out io.Writer) error {
	return map[string]func(context.Context, string, io.Writer) error{
		"writer": writeUntilKilled,
		"reader": readWithOtherDriver,
		"single": writeSingly,
		"groups": writeGroups,
		"opener": func(ctx context.Context, path string, _ io.Writer) error {
			_, err := sqlitestore.Open(ctx, path)
			return err
		},
	}
}

func TestMain(m *testing.M) {
	role := os.Getenv(roleEnv)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := roles()[role](context.Background(), os.Getenv(fileEnv), os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// program is the command that runs a role, after other words.
func program(t *testing.T, role, path string, before ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	words := append(before, self)                                   //nolint:gocritic // a new slice
	cmd := exec.CommandContext(t.Context(), words[0], words[1:]...) //nolint:gosec // this very program
	cmd.Env = append(os.Environ(), roleEnv+"="+role, fileEnv+"="+path)
	return cmd
}

func TestSecondProcess(t *testing.T) {
	t.Parallel()
	path := file(t)
	open(t, path)
	out, err := program(t, "opener", path).CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Contains(t, string(out), "another process has the queue open")
}

// readWithOtherDriver prints what is in the file of a store that another process has open, as an
// administrator would do.
func readWithOtherDriver(ctx context.Context, path string, out io.Writer) error {
	db, err := sql.Open("sqlite3", "file:"+path+"?mode=ro")
	if err != nil {
		return err
	}
	for _, query := range []string{
		"SELECT group_concat(concat_ws(',', id, name, attempts, interrupted, due, err, hex(data)), '|') FROM pending",
		"SELECT group_concat(concat_ws(',', id, state, attempts, err, hex(data)), '|') FROM archive",
		"PRAGMA integrity_check",
	} {
		var text string
		if err := db.QueryRowContext(ctx, query).Scan(&text); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, text); err != nil {
			return err
		}
	}
	return db.Close()
}

func TestOtherDriverReads(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path)
	add := records(4)
	add[1].Data = []byte("\x00\xff")
	require.NoError(t, s.Commit(t.Context(), add, nil))
	due := time.UnixMicro(1900000000123456)
	require.NoError(t, s.Commit(t.Context(), nil, []webhook.Mark{
		{ID: add[0].ID, State: webhook.StateDone},
		{ID: add[1].ID, State: webhook.StatePending, Attempts: 2, Interrupted: 1, Due: due, Err: "é"},
		{ID: add[3].ID, State: webhook.StateParked, Attempts: 5, Err: "given up"},
	}))
	out, err := program(t, "reader", path).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, fmt.Sprintf("2,ONCRMDEALADD,2,1,1900000000123456,é,00FF|3,ONCRMDEALADD,0,0,0,,%X\n4,2,5,given up,%X\nok\n",
		add[2].Data, add[3].Data), string(out))
}

// writeUntilKilled stores and settles numbered records and says so: "stored from to" after a
// Commit, "settling from to" before one and "settled from to" after it.
func writeUntilKilled(ctx context.Context, path string, out io.Writer) error {
	s, err := sqlitestore.Open(ctx, path)
	if err != nil {
		return err
	}
	next, err := strconv.Atoi(os.Getenv(fromEnv))
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	var stored []*webhook.Record
	for {
		add := make([]*webhook.Record, 1+rand.IntN(40)) //nolint:gosec // any number will do
		for i := range add {
			add[i] = &webhook.Record{Received: time.Now(), Data: []byte(strconv.Itoa(next+i) + strings.Repeat(" ", 700))}
		}
		settle := stored[:min(len(stored), rand.IntN(40))] //nolint:gosec // the same
		stored = stored[len(settle):]
		say := func(word string, records []*webhook.Record) {
			if len(records) > 0 {
				first, last := records[0], records[len(records)-1]
				_, _ = fmt.Fprintln(w, word, strings.TrimSpace(string(first.Data)), strings.TrimSpace(string(last.Data)))
			}
		}
		say("settling", settle)
		if err := w.Flush(); err != nil {
			return err
		}
		if err := s.Commit(ctx, add, done(settle...)); err != nil {
			return err
		}
		say("stored", add)
		say("settled", settle)
		if err := w.Flush(); err != nil {
			return err
		}
		next += len(add)
		stored = append(stored, add...)
	}
}

// TestKill kills a process in the middle of its Commits, ten times, and checks each time that what
// it acknowledged is there, in order, and that what it settled is not.
func TestKill(t *testing.T) {
	t.Parallel()
	path := file(t)
	stored, settling, settled := make(map[int]bool), make(map[int]bool), make(map[int]bool)
	next := 0
	for range 10 {
		cmd := program(t, "writer", path)
		cmd.Env = append(cmd.Env, fromEnv+"="+strconv.Itoa(next))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		kill := 50 + rand.IntN(400) //nolint:gosec // any number will do
		for n := 0; lines.Scan(); n++ {
			var word string
			var first, last int
			if _, err := fmt.Sscan(lines.Text(), &word, &first, &last); err != nil {
				break // a line that was cut off
			}
			for i := first; i <= last; i++ {
				map[string]map[int]bool{"stored": stored, "settling": settling, "settled": settled}[word][i] = true
				next = max(next, i+1)
			}
			if n == kill {
				require.NoError(t, cmd.Process.Kill())
			}
		}
		require.Error(t, cmd.Wait())
		next += 100 // behind those that were not acknowledged

		s, err := sqlitestore.Open(t.Context(), path)
		require.NoError(t, err)
		present, last := make(map[int]bool), -1
		var marks []webhook.Mark
		for _, r := range pending(t, s) {
			n, err := strconv.Atoi(strings.TrimSpace(string(r.Data)))
			require.NoError(t, err)
			require.Greater(t, n, last, "out of order")
			require.True(t, r.Recovered)
			present[n], last = true, n
			marks = append(marks, webhook.Mark{ID: r.ID, State: webhook.StateDone})
		}
		for n := range stored {
			require.True(t, present[n] || settling[n], "record %d was acknowledged and is gone", n)
			require.False(t, present[n] && settled[n], "record %d was settled and is there", n)
		}
		require.NoError(t, s.Commit(t.Context(), nil, marks))
		for n := range stored {
			settling[n] = true
		}
		require.NoError(t, s.Close())
	}
	require.Greater(t, len(stored), 1000)
	t.Logf("%d records were acknowledged and %d settled around 10 kills", len(stored), len(settled))
}

// pending returns what a new Feed yields.
func pending(t *testing.T, s *sqlitestore.Store) []*webhook.Record {
	t.Helper()
	end := records(1)
	require.NoError(t, s.Commit(t.Context(), end, nil))
	var list []*webhook.Record
	for r, err := range s.Feed(t.Context(), 0) {
		require.NoError(t, err)
		if r.ID == end[0].ID {
			break
		}
		list = append(list, r)
	}
	require.NoError(t, s.Commit(t.Context(), nil, done(end...)))
	return list
}

// writeSingly commits one record after the other, and says before and after which.
func writeSingly(ctx context.Context, path string, out io.Writer) error {
	s, err := sqlitestore.Open(ctx, path)
	if err != nil {
		return err
	}
	for n := range 200 {
		if _, err := fmt.Fprintln(out, "begin", n); err != nil {
			return err
		}
		add := []*webhook.Record{{Received: time.Now(), Data: []byte(strings.Repeat("x", 700))}}
		if err := s.Commit(ctx, add, nil); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, "return", n); err != nil {
			return err
		}
	}
	return s.Close()
}

const (
	groupWriters = 64
	groupRecords = 157 * groupWriters
)

// writeGroups lets many writers store records through one goroutine that commits what has come in
// the meantime, as a Handler does, and settles each record in a later Commit.
func writeGroups(ctx context.Context, path string, _ io.Writer) error {
	s, err := sqlitestore.Open(ctx, path)
	if err != nil {
		return err
	}
	type request struct {
		record *webhook.Record
		stored chan error
	}
	requests := make(chan request, 2*groupWriters)
	ended := make(chan error)
	for range groupWriters {
		go func() {
			var err error
			for range groupRecords / groupWriters {
				r := request{&webhook.Record{Received: time.Now(), Data: []byte(strings.Repeat("x", 600))}, make(chan error, 1)}
				requests <- r
				err = errors.Join(err, <-r.stored)
			}
			ended <- err
		}()
	}
	var marks []webhook.Mark
	for open := groupWriters; open > 0; {
		var group []request
		var add []*webhook.Record
		select {
		case r := <-requests:
			group = append(group, r)
		case err := <-ended:
			if open--; err != nil {
				return err
			}
			continue
		}
		for len(requests) > 0 {
			group = append(group, <-requests)
		}
		for _, r := range group {
			add = append(add, r.record)
		}
		err := s.Commit(ctx, add, marks)
		marks = done(add...)
		for _, r := range group {
			r.stored <- err
		}
	}
	if err := s.Commit(ctx, nil, marks); err != nil {
		return err
	}
	return s.Close()
}

// trace runs a role under strace and returns the calls.
func trace(t *testing.T, role string, words ...string) string {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		if os.Getenv("REQUIRE_SERVERS") == "1" {
			t.Fatal("strace is missing, and REQUIRE_SERVERS is 1: apt-get install strace")
		}
		t.Skip("strace is missing: apt-get install strace")
	}
	dir := t.TempDir()
	calls := filepath.Join(dir, "calls")
	out, err := program(t, role, filepath.Join(dir, "queue.db"), append([]string{strace, "-f", "-o", calls}, words...)...).CombinedOutput()
	if err != nil && strings.Contains(string(out), "ptrace") && os.Getenv("REQUIRE_SERVERS") != "1" {
		t.Skipf("strace may not trace here: %s", out)
	}
	require.NoError(t, err, "%s", out)
	text, err := os.ReadFile(calls) //nolint:gosec // the test's own file
	require.NoError(t, err)
	return string(text)
}

// TestSyncBeforeReturn checks on the system's calls that the log was synced between the last write
// of a Commit and its return.
func TestSyncBeforeReturn(t *testing.T) {
	t.Parallel()
	calls := trace(t, "single", "-y", "-e", "trace=write,pwrite64,pwritev,fsync,fdatasync")
	const log = "queue.db-wal>"
	written, unsynced, returned := 0, false, 0
	syncing := make(map[string]bool) // by thread
	for line := range strings.SplitSeq(calls, "\n") {
		thread, call, _ := strings.Cut(line, " ")
		call = strings.TrimSpace(call)
		sync := strings.HasPrefix(call, "fsync(") || strings.HasPrefix(call, "fdatasync(")
		switch {
		case strings.HasPrefix(call, "pwrite") && strings.Contains(call, log):
			written, unsynced = written+1, true
		case sync && strings.Contains(call, log) && strings.HasSuffix(call, "= 0"):
			unsynced = false
		case sync && strings.Contains(call, log) && strings.HasSuffix(call, "<unfinished ...>"):
			syncing[thread] = true
		case strings.Contains(call, "sync resumed>") && syncing[thread]:
			delete(syncing, thread)
			require.True(t, strings.HasSuffix(call, "= 0"), line)
			unsynced = false
		case strings.HasPrefix(call, "write(1") && strings.Contains(call, `"begin `):
			written = 0
		case strings.HasPrefix(call, "write(1") && strings.Contains(call, `"return `):
			require.Positive(t, written, "Commit returned and had written nothing: %s", line)
			require.False(t, unsynced, "Commit returned before the log was synced: %s", line)
			returned++
		}
	}
	require.Equal(t, 200, returned)
}

// TestRecordsPerSync counts the syncs that a busy program costs, settling and writing back
// included.
func TestRecordsPerSync(t *testing.T) {
	t.Parallel()
	calls := trace(t, "groups", "--seccomp-bpf", "-e", "trace=fsync,fdatasync")
	syncs := strings.Count(calls, "sync(")
	require.Positive(t, syncs)
	t.Logf("%d records, %d syncs: %d records for a sync", groupRecords, syncs, groupRecords/syncs)
	require.GreaterOrEqual(t, groupRecords/syncs, 15)
}
