package pgstore_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/pgstore"
)

// hostOf returns where the server of an address listens.
func hostOf(tb testing.TB, dsn string) string {
	tb.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(tb, err)
	return net.JoinHostPort(cfg.Host, strconv.FormatUint(uint64(cfg.Port), 10))
}

// through makes the address of a server that is reached through a proxy.
func through(tb testing.TB, p *proxy, dsn string) string {
	tb.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(tb, err)
	return fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", cfg.User, cfg.Password, p.listener.Addr(), cfg.Database)
}

// TestCommitLostAnswer: the connection breaks when the server has committed. Commit returns an
// error, and the records are there all the same.
func TestCommitLostAnswer(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := newProxy(t, hostOf(t, k.dsn))
	s := k.openWith(newPool(t, through(t, p, k.dsn)))
	first := store(t, s, record(0, "a"))[0]

	p.set(once('P', "COMMIT", swallow))
	lost := record(0, "b")
	err := s.Commit(t.Context(), []*webhook.Record{lost}, []webhook.Mark{done(first)})
	require.Error(t, err)
	require.Empty(t, lost.ID)
	require.Equal(t, int64(1), k.number(`SELECT count(*) FROM {s}.pending WHERE data = 'b'`))

	p.set(once('P', "COMMIT", drop))
	require.Error(t, s.Commit(t.Context(), records(0, "c"), nil))
	p.set(nil)
	require.NoError(t, s.Commit(t.Context(), records(0, "d"), []webhook.Mark{done(first)}))
	require.Equal(t, []string{"b", "d"}, feed(t, s, 0).texts(2))
}

// TestCommitPastLocks: another transaction holds a lock on a record that is marked. The rest of the
// Commit is stored, and the marks that were not applied are applied later.
func TestCommitPastLocks(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open(pgstore.WithPartitions(4))
	all := store(t, s, records(1, "a", "b", "c", "d", "e", "f")...)
	f := feed(t, s, 1)
	f.next(6)

	tx, err := k.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	for _, i := range []int{1, 3, 5} {
		_, err = tx.Exec(t.Context(), k.sql(`SELECT FROM {s}.pending WHERE id = $1 FOR UPDATE`), pgstore.Number(all[i].ID))
		require.NoError(t, err)
	}
	count := func(r *webhook.Record) webhook.Mark {
		return webhook.Mark{Part: 1, ID: r.ID, State: webhook.StatePending, Attempts: 3}
	}
	marks := []webhook.Mark{done(all[0]), done(all[1]), parked(all[2], "no"), parked(all[3], "no"), count(all[4]), count(all[5])}
	began := time.Now()
	err = s.Commit(t.Context(), records(1, "g"), marks)
	require.ErrorIs(t, err, pgstore.ErrLocked)
	require.ErrorContains(t, err, "3 of them")
	require.Less(t, time.Since(began), 10*time.Second, "it must not wait for the lock until its context ends")
	require.Equal(t, []string{"g"}, f.texts(1))
	left, err := s.Load(t.Context(), 1, []string{all[0].ID, all[1].ID, all[2].ID, all[3].ID, all[4].ID, all[5].ID})
	require.NoError(t, err)
	got := make(map[string]int)
	for _, r := range left {
		got[string(r.Data)] = r.Attempts
	}
	require.Equal(t, map[string]int{"b": 0, "d": 0, "e": 3, "f": 0}, got)
	require.Equal(t, 5, s.Remembered(1), "b, d, e, f and g are pending")

	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, s.Commit(t.Context(), nil, marks))
	depth, err := s.Depth(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(3), depth.Pending)
	require.Equal(t, int64(2), depth.Parked)
}

func TestCommitRejects(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open(pgstore.WithPartitions(2))
	for name, change := range map[string]func(*webhook.Record){
		"too large":             func(r *webhook.Record) { r.Data = make([]byte, pgstore.MaxDataBytes+1) },
		"negative partition":    func(r *webhook.Record) { r.Part = -1 },
		"no such partition":     func(r *webhook.Record) { r.Part = 2 },
		"name with a zero":      func(r *webhook.Record) { r.Name = "A\x00B" },
		"name that is no UTF-8": func(r *webhook.Record) { r.Name = "\xff" },
		"long portal":           func(r *webhook.Record) { r.MemberID = strings.Repeat("m", 129) },
		"time":                  func(r *webhook.Record) { r.Received = time.Unix(1<<40, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := records(1, "before", "bad", "behind")
			change(all[1])
			require.NoError(t, s.Commit(t.Context(), all, nil))
			require.ErrorContains(t, all[1].Rejected, "pgstore: ")
			require.Empty(t, all[1].ID)
			for _, r := range []*webhook.Record{all[0], all[2]} {
				require.NoError(t, r.Rejected)
				require.NotEmpty(t, r.ID)
			}
		})
	}
}

// TestCommitBadMarks: marks with values beyond all bounds are cut to size rather than fail each
// Commit that passes them.
func TestCommitBadMarks(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open()
	r := store(t, s, record(0, "a"))[0]
	mark(t, s, webhook.Mark{
		ID: r.ID, Attempts: math.MaxInt, Interrupted: -1, Due: time.Unix(1<<50, 0), Err: "a\x00b\xffc" + strings.Repeat("é", 300),
	})
	got := feed(t, s, 0).next(1)[0]
	require.Equal(t, math.MaxInt32, got.Attempts)
	require.Zero(t, got.Interrupted)
	require.Zero(t, got.Due)
	require.True(t, strings.HasPrefix(got.Err, "a b?céé"), got.Err)
	require.LessOrEqual(t, len(got.Err), 512)
	mark(t, s, webhook.Mark{ID: r.ID, State: 99}, webhook.Mark{ID: r.ID, Part: -1, State: webhook.StateDone},
		webhook.Mark{ID: r.ID, Part: math.MaxInt, State: webhook.StateDone}, webhook.Mark{ID: strings.ToUpper(r.ID) + " ", State: webhook.StateDone})
	depth, err := s.Depth(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(1), depth.Pending)
}

// TestCommitInChunks: more records than one value of the sequence is for, and more bytes than one
// statement gets.
func TestCommitInChunks(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open()
	var all []*webhook.Record
	for i := range 2100 {
		all = append(all, record(5, strconv.Itoa(i)))
	}
	big := bytes.Repeat([]byte{1, 2, 3, 4}, 3<<20) // 12 MiB
	for _, i := range []int{100, 101, 1500} {
		all[i].Data = big
	}
	require.NoError(t, s.Commit(t.Context(), all, nil))
	f := feed(t, s, 5)
	for i, r := range f.next(len(all)) {
		require.Equal(t, all[i].ID, r.ID)
		require.True(t, bytes.Equal(all[i].Data, r.Data), "record %d", i)
		if i > 0 {
			require.Greater(t, pgstore.Number(r.ID), pgstore.Number(all[i-1].ID))
		}
	}
}

// TestCommitFull: marks of a Commit that finds no room are applied, and may make the room.
func TestCommitFull(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open(pgstore.WithMaxPending(10))
	all := store(t, s, records(0, "0", "1", "2", "3", "4", "5", "6", "7", "8", "9")...)
	require.ErrorIs(t, s.Commit(t.Context(), records(0, "10"), nil), webhook.ErrQueueFull)
	require.NoError(t, s.Commit(t.Context(), records(0, "10"), []webhook.Mark{done(all[0])}))
	require.ErrorIs(t, s.Commit(t.Context(), records(0, "11", "12"), []webhook.Mark{done(all[1])}), webhook.ErrQueueFull)
	require.NoError(t, s.Commit(t.Context(), records(0, "11"), nil))
	other := k.open(pgstore.WithMaxPending(10))
	require.ErrorIs(t, other.Commit(t.Context(), records(0, "12"), nil), webhook.ErrQueueFull)
	mark(t, other, parked(all[2], "no"))
	require.NoError(t, other.Commit(t.Context(), records(0, "12"), nil))
	eventually(t, "the first process knows that the other filled the room", func() bool {
		return s.Commit(t.Context(), records(0, "13"), nil) != nil
	})
	require.Equal(t, int64(10), k.number(`SELECT count(*) FROM {s}.pending`))
}

// TestCommitDurability: records that are stored, parked or counted are committed as the server's
// setting says. A Commit that only settles does not wait for the disk. The session's setting makes
// no difference.
func TestCommitDurability(t *testing.T) {
	t.Parallel()
	for name, setting := range map[string]string{"on": "on", "local": "local", "off": "on"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			s := k.openWith(newPool(t, k.dsn, func(c *pgxpool.Config) {
				c.ConnConfig.RuntimeParams["synchronous_commit"] = name
			}), pgstore.WithoutDurabilityCheck(), pgstore.WithPartitions(2))
			// A trigger sees with what setting a transaction runs.
			k.exec(`CREATE TABLE {s}.seen (what text, setting text)`)
			k.exec(`CREATE FUNCTION {s}.note() RETURNS trigger LANGUAGE plpgsql AS
 $$ BEGIN INSERT INTO {s}.seen VALUES (TG_OP || ' ' || TG_TABLE_NAME, current_setting('synchronous_commit')); RETURN NULL; END $$`)
			for _, table := range []string{"pending", "archive", "leases"} {
				k.exec(`CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON {s}.` + table + ` EXECUTE FUNCTION {s}.note()`)
			}
			seen := func(what string) string {
				var got string
				require.NoError(t, k.pool.QueryRow(t.Context(), k.sql(`SELECT string_agg(DISTINCT setting, ' ') FROM {s}.seen WHERE what = $1`), what).Scan(&got))
				k.exec(`TRUNCATE {s}.seen`)
				return got
			}
			all := store(t, s, records(0, "a", "b", "c", "d")...)
			require.Equal(t, setting, seen("INSERT pending"))
			mark(t, s, done(all[0]))
			require.Equal(t, "off", seen("DELETE pending"))
			mark(t, s, parked(all[1], "no"), done(all[2]))
			require.Equal(t, setting, seen("INSERT archive"))
			mark(t, s, webhook.Mark{ID: all[3].ID, Interrupted: 1})
			require.Equal(t, setting, seen("UPDATE pending"))
			_, err := s.Replay(t.Context(), all[1].ID)
			require.NoError(t, err)
			require.Equal(t, setting, seen("INSERT pending"))
			_, err = s.Acquire(t.Context(), "me", time.Minute, "lease")
			require.NoError(t, err)
			require.Equal(t, setting, seen("INSERT leases"))
		})
	}
}

// TestCancelled: calls whose context ends while the server works on them, or while it waits.
func TestCancelled(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	pool := newPool(t, k.dsn)
	s := k.openWith(pool)
	r := store(t, s, record(0, "a"))[0]
	tx, err := k.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), k.sql(`LOCK TABLE {s}.pending, {s}.archive, {s}.leases IN ACCESS EXCLUSIVE MODE`))
	require.NoError(t, err)
	for name, call := range map[string]func(context.Context) error{
		"Commit":  func(ctx context.Context) error { return s.Commit(ctx, records(0, "b"), []webhook.Mark{done(r)}) },
		"Load":    func(ctx context.Context) error { _, err := s.Load(ctx, 0, []string{r.ID}); return err },
		"Depth":   func(ctx context.Context) error { _, err := s.Depth(ctx); return err },
		"List":    func(ctx context.Context) error { _, err := s.List(ctx, webhook.StateParked, "", 1); return err },
		"List on": func(ctx context.Context) error { _, err := s.List(ctx, webhook.StateParked, r.ID, 1); return err },
		"Replay":  func(ctx context.Context) error { _, err := s.Replay(ctx, r.ID); return err },
		"Discard": func(ctx context.Context) error { _, err := s.Discard(ctx, r.ID); return err },
		"Acquire": func(ctx context.Context) error { _, err := s.Acquire(ctx, "o", time.Minute, "n"); return err },
		"Release": func(ctx context.Context) error { return s.Release(ctx, "o", "n") },
		"Held":    func(ctx context.Context) error { _, err := s.Held(ctx, ""); return err },
	} {
		for _, kind := range []string{"ended", "deadline", "cancelled"} {
			ctx, cancel := context.WithTimeout(t.Context(), patient)
			switch kind {
			case "ended":
				cancel()
			case "deadline":
				cancel()
				ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
			case "cancelled":
				time.AfterFunc(300*time.Millisecond, cancel)
			}
			began := time.Now()
			err := call(ctx)
			cancel()
			require.Error(t, err, "%s %s", name, kind)
			require.Less(t, time.Since(began), patient/2, "%s %s", name, kind)
			if name != "Commit" {
				require.ErrorIs(t, err, map[bool]error{true: context.DeadlineExceeded, false: context.Canceled}[kind == "deadline"], "%s %s", name, kind)
			}
		}
	}
	eventually(t, "nothing is left at the server that waits for the lock", func() bool {
		return k.number(`SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IN ('{s}.pending'::regclass, '{s}.archive'::regclass, '{s}.leases'::regclass)`) == 0
	})
	require.NoError(t, tx.Rollback(t.Context()))
	store(t, s, record(0, "c"))
	require.Equal(t, int64(2), k.number(`SELECT count(*) FROM {s}.pending`), "what was cancelled is not committed later")
	eventually(t, "all connections are back in the pool", func() bool { return pool.Stat().AcquiredConns() == 0 })
}

// TestPoolExhausted: another user of the pool has all connections. Calls wait for one until their
// context ends, and feeds continue afterwards.
func TestPoolExhausted(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	pool := newPool(t, k.dsn, func(c *pgxpool.Config) { c.MaxConns = 2 })
	s := k.openWith(pool, pgstore.WithPace(0, 0, 0, time.Minute))
	f := feed(t, s, 0)
	store(t, s, record(0, "a"))
	require.Equal(t, []string{"a"}, f.texts(1))
	var taken []*pgxpool.Conn
	for range 2 {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		taken = append(taken, conn)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Commit(ctx, records(0, "b"), nil), context.DeadlineExceeded)
	other := k.open()
	store(t, other, record(0, "c"))
	for _, conn := range taken {
		conn.Release()
	}
	require.Equal(t, []string{"c"}, f.texts(1))
	store(t, s, record(0, "d"))
	require.Equal(t, []string{"d"}, f.texts(1))
}

// TestErrorTexts: errors name the state of the server, and neither its address nor values.
func TestErrorTexts(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	_, err := pgstore.New(t.Context(), newPool(t, "postgres://someone:secret@127.0.0.1:1/nowhere?sslmode=disable"))
	require.Error(t, err)
	for _, word := range []string{"someone", "secret", "127.0.0.1", "nowhere"} {
		require.NotContains(t, err.Error(), word)
	}
	var connect *pgconn.ConnectError
	require.ErrorAs(t, err, &connect)

	s := k.open()
	k.exec(`ALTER TABLE {s}.pending ADD CONSTRAINT never CHECK (data <> 'secret')`)
	err = s.Commit(t.Context(), records(0, "secret"), nil)
	require.EqualError(t, err, `pgstore: commit: SQLSTATE 23514: new row for relation "pending" violates check constraint "never"`)
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	k.exec(`DROP TABLE {s}.archive`)
	_, err = s.List(t.Context(), webhook.StateParked, "", 1)
	require.EqualError(t, err, `pgstore: list: SQLSTATE 42P01: relation "`+k.schema+`.archive" does not exist`)
}

// TestClosed: a closed store says so.
func TestClosed(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open()
	f := feed(t, s, 0)
	blocked := feed(t, s, 1)
	store(t, s, records(1, "a", "b")...)
	require.Equal(t, []string{"a"}, blocked.texts(1))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.ErrorIs(t, f.err(), pgstore.ErrClosed)
	require.Equal(t, []string{"b"}, blocked.texts(1))
	require.ErrorIs(t, blocked.err(), pgstore.ErrClosed)
	require.ErrorIs(t, s.Commit(t.Context(), records(0, "b"), nil), pgstore.ErrClosed)
	require.ErrorIs(t, s.Commit(t.Context(), nil, nil), pgstore.ErrClosed)
	_, err := s.Depth(t.Context())
	require.ErrorIs(t, err, pgstore.ErrClosed)
	_, err = s.Acquire(t.Context(), "o", time.Minute, "n")
	require.ErrorIs(t, err, pgstore.ErrClosed)
	for _, err := range s.Feed(t.Context(), 0) {
		require.ErrorIs(t, err, pgstore.ErrClosed)
	}
}
