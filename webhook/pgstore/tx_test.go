package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/pgstore"
)

var errHandler = errors.New("the handler fails")

// ledger is a table that handlers write.
type ledger struct{ *kit }

func newLedger(t *testing.T) ledger {
	t.Helper()
	return ledgerOn(newKit(t))
}

func ledgerOn(k *kit) ledger {
	k.Helper()
	k.exec(`CREATE SCHEMA {s}`)
	k.exec(`CREATE TABLE {s}.ledger (what text)`)
	return ledger{k}
}

// write writes what a handler writes.
func (l ledger) write(ctx context.Context, what string) error {
	tx, err := pgstore.Tx(ctx)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, l.sql(`INSERT INTO {s}.ledger VALUES ($1)`), what)
	return err
}

// written is what is in the table.
func (l ledger) written() (all []string) {
	l.Helper()
	rows, err := l.pool.Query(l.Context(), l.sql(`SELECT what FROM {s}.ledger ORDER BY what`))
	require.NoError(l, err)
	all, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(l, err)
	return all
}

func (l ledger) pending() int64 {
	l.Helper()
	return l.number(`SELECT count(*) FROM {s}.pending`)
}

func idle(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	eventually(t, "all connections are back in the pool", func() bool { return pool.Stat().AcquiredConns() == 0 })
}

func TestTx(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		opts   []pgstore.Option
		handle func(l ledger, ctx context.Context) error
		check  func(t *testing.T, l ledger, err error)
	}{
		"success": {
			handle: func(l ledger, ctx context.Context) error { return errors.Join(l.write(ctx, "a"), l.write(ctx, "b")) },
			check: func(t *testing.T, l ledger, err error) {
				t.Helper()
				require.NoError(t, err)
				require.Equal(t, []string{"a", "b"}, l.written())
				require.Zero(t, l.pending())
			},
		},
		"success, kept": {
			opts:   []pgstore.Option{pgstore.WithKeep(time.Hour)},
			handle: func(l ledger, ctx context.Context) error { return l.write(ctx, "a") },
			check: func(t *testing.T, l ledger, err error) {
				t.Helper()
				require.NoError(t, err)
				require.Equal(t, []string{"a"}, l.written())
				require.Zero(t, l.pending())
				require.Equal(t, int64(1), l.number(`SELECT count(*) FROM {s}.archive WHERE state = 'done'`))
			},
		},
		"failure": {
			handle: func(l ledger, ctx context.Context) error { return errors.Join(l.write(ctx, "a"), errHandler) },
			check:  undone(errHandler),
		},
		"panic": {
			handle: func(l ledger, ctx context.Context) error {
				return errors.Join(l.write(ctx, "a"), event.NewPanicError("ouch", nil))
			},
			check: func(t *testing.T, l ledger, err error) {
				t.Helper()
				var p *event.PanicError
				require.ErrorAs(t, err, &p)
				require.Empty(t, l.written())
				require.Equal(t, int64(1), l.pending())
			},
		},
		"no transaction": {
			handle: func(ledger, context.Context) error { return nil },
			check: func(t *testing.T, l ledger, err error) {
				t.Helper()
				require.NoError(t, err)
				require.Equal(t, int64(1), l.pending(), "the Handler marks it")
			},
		},
		"no transaction, failure": {
			handle: func(ledger, context.Context) error { return errHandler },
			check:  undone(errHandler),
		},
		"statement failed": {
			handle: func(_ ledger, ctx context.Context) error {
				tx, err := pgstore.Tx(ctx)
				if err != nil {
					return err
				}
				_, _ = tx.Exec(ctx, `SELECT 1/0`) // and continues as if nothing had happened
				return nil
			},
			check: undone(pgstore.ErrTxFailed),
		},
		"savepoint": {
			handle: func(l ledger, ctx context.Context) error {
				tx, err := pgstore.Tx(ctx)
				if err != nil {
					return err
				}
				inner, err := tx.Begin(ctx)
				if err != nil {
					return err
				}
				if _, err := inner.Exec(ctx, `SELECT 1/0`); err == nil {
					return errHandler
				}
				return errors.Join(inner.Rollback(ctx), l.write(ctx, "a"))
			},
			check: func(t *testing.T, l ledger, err error) {
				t.Helper()
				require.NoError(t, err)
				require.Equal(t, []string{"a"}, l.written())
				require.Zero(t, l.pending())
			},
		},
		"ended by the handler": {
			handle: func(_ ledger, ctx context.Context) error {
				tx, err := pgstore.Tx(ctx)
				if err != nil {
					return err
				}
				if !errors.Is(tx.Commit(ctx), pgstore.ErrTxEnded) || !errors.Is(tx.Rollback(ctx), pgstore.ErrTxEnded) {
					return errHandler
				}
				_, err = tx.Exec(ctx, `ROLLBACK`)
				return err
			},
			check: undone(pgstore.ErrTxEnded),
		},
		"rows left open": {
			handle: func(_ ledger, ctx context.Context) error {
				tx, err := pgstore.Tx(ctx)
				if err != nil {
					return err
				}
				rows, err := tx.Query(ctx, `SELECT generate_series(1, 100000)`)
				if err == nil && !rows.Next() {
					err = rows.Err()
				}
				return err
			},
			check: func(t *testing.T, l ledger, err error) {
				t.Helper()
				require.ErrorContains(t, err, "rows of a query")
				require.Equal(t, int64(1), l.pending())
			},
		},
		"refused at the end": {
			handle: func(l ledger, ctx context.Context) error {
				tx, err := pgstore.Tx(ctx)
				if err != nil {
					return err
				}
				_, err = tx.Exec(ctx,
					l.sql(`CREATE TABLE {s}.strict (n int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO {s}.strict VALUES (1), (1)`))
				return err
			},
			check: func(t *testing.T, l ledger, err error) {
				t.Helper()
				var pg *pgconn.PgError
				require.ErrorAs(t, err, &pg)
				require.Equal(t, "23505", pg.Code)
				require.NotErrorIs(t, err, pgstore.ErrUnknownOutcome)
				require.Equal(t, int64(1), l.pending())
			},
		},
		"connection killed": {
			handle: func(l ledger, ctx context.Context) error {
				if err := l.write(ctx, "a"); err != nil {
					return err
				}
				tx, err := pgstore.Tx(ctx)
				if err != nil {
					return err
				}
				var pid int32
				if err := tx.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid); err != nil {
					return err
				}
				_, err = l.pool.Exec(ctx, `SELECT pg_terminate_backend($1)`, pid)
				return err
			},
			check: func(t *testing.T, l ledger, err error) {
				t.Helper()
				require.Error(t, err)
				require.NotErrorIs(t, err, webhook.ErrSettled)
				require.Empty(t, l.written())
				require.Equal(t, int64(1), l.pending())
			},
		},
		"context over": {
			handle: func(l ledger, ctx context.Context) error {
				if err := l.write(ctx, "a"); err != nil {
					return err
				}
				<-ctx.Done() // the handler is done all the same
				return nil
			},
			check: func(t *testing.T, l ledger, err error) {
				t.Helper()
				require.NoError(t, err)
				require.Equal(t, []string{"a"}, l.written())
				require.Zero(t, l.pending())
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(t)
			pool := newPool(t, l.dsn)
			s := l.openWith(pool, c.opts...)
			r := store(t, s, record(0, "a"))[0]
			f := feed(t, s, 0)
			f.next(1)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			if name != "context over" {
				cancel()
				ctx, cancel = context.WithTimeout(t.Context(), patient)
			}
			defer cancel()
			ctx, finish := s.Attempt(ctx, 0, r.ID)
			err := finish(c.handle(l, ctx))
			c.check(t, l, err)
			idle(t, pool)
			_, late := pgstore.Tx(ctx)
			require.ErrorIs(t, late, pgstore.ErrAttemptOver)
			mark(t, s, done(r)) // as the Handler does
			require.Zero(t, l.pending())
		})
	}
}

// undone checks that an attempt failed without a trace.
func undone(want error) func(t *testing.T, l ledger, err error) {
	return func(t *testing.T, l ledger, err error) {
		t.Helper()
		require.ErrorIs(t, err, want)
		require.Empty(t, l.written())
		require.Equal(t, int64(1), l.pending())
	}
}

// TestTxOfTwo: two processes handle the same record, because the lease of one was lost. Both write.
// Exactly one of them commits, and the other learns that the record was settled.
func TestTxOfTwo(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	pool := newPool(t, l.dsn)
	one, two := l.openWith(pool), l.open()
	for n := range 40 {
		r := store(t, one, record(0, strconv.Itoa(n)))[0]
		errs := make([]error, 2)
		var ready, all sync.WaitGroup
		ready.Add(2)
		for i, s := range []*pgstore.Store{one, two} {
			all.Go(func() {
				ctx, finish := s.Attempt(t.Context(), 0, r.ID)
				err := l.write(ctx, strconv.Itoa(n))
				ready.Done()
				ready.Wait()
				errs[i] = finish(err)
			})
		}
		all.Wait()
		if errs[0] == nil {
			errs[0], errs[1] = errs[1], errs[0]
		}
		require.ErrorIs(t, errs[0], webhook.ErrSettled)
		require.NoError(t, errs[1])
		require.Len(t, l.written(), n+1)
		require.Zero(t, l.pending())
	}
	idle(t, pool)

	// The one that comes first fails: the other commits.
	r := store(t, one, record(0, "last"))[0]
	ctx, finish := one.Attempt(t.Context(), 0, r.ID)
	other, finishOther := two.Attempt(t.Context(), 0, r.ID)
	require.NoError(t, l.write(ctx, "first"))
	require.NoError(t, l.write(other, "other"))
	require.ErrorIs(t, finish(errHandler), errHandler)
	require.NoError(t, finishOther(nil))
	require.Contains(t, l.written(), "other")
	require.NotContains(t, l.written(), "first")
}

// TestTxSettledElsewhere: the record was marked by another process meanwhile.
func TestTxSettledElsewhere(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	s := l.open()
	all := store(t, s, records(0, "done", "parked")...)
	for i, m := range []webhook.Mark{done(all[0]), parked(all[1], "no")} {
		ctx, finish := s.Attempt(t.Context(), 0, all[i].ID)
		require.NoError(t, l.write(ctx, "a"))
		mark(t, l.open(), m)
		require.ErrorIs(t, finish(nil), webhook.ErrSettled)
	}
	ctx, finish := s.Attempt(t.Context(), 1, all[0].ID) // of another partition
	require.NoError(t, l.write(ctx, "a"))
	require.ErrorIs(t, finish(nil), webhook.ErrSettled)
	require.Empty(t, l.written())
}

// TestTxLostAnswer: the connection breaks while the transaction is committed.
func TestTxLostAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		verdict   verdict
		refuse    bool // the server cannot be asked what has become of it
		first     error
		committed bool
	}{
		"after the commit":                 {swallow, false, nil, true},
		"before the commit":                {drop, false, errAny, false},
		"after the commit, server is gone": {swallow, true, pgstore.ErrUnknownOutcome, true},
		"before the commit, server gone":   {drop, true, pgstore.ErrUnknownOutcome, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(t)
			p := newProxy(t, hostOf(t, l.dsn))
			pool := newPool(t, through(t, p, l.dsn))
			s := l.openWith(pool)
			r := store(t, s, record(0, "a"))[0]
			p.set(once('Q', "COMMIT", c.verdict))
			ctx, finish := s.Attempt(t.Context(), 0, r.ID)
			require.NoError(t, l.write(ctx, "first"))
			pool.Reset() // no connection is left but the handler's
			p.refuse(c.refuse)
			err := finish(nil)
			p.set(nil)
			p.refuse(false)
			switch {
			case c.first == nil:
				require.NoError(t, err)
			case errors.Is(c.first, errAny):
				require.Error(t, err)
				require.ErrorContains(t, err, "nothing was committed")
				require.NotErrorIs(t, err, pgstore.ErrUnknownOutcome)
			default:
				require.ErrorIs(t, err, c.first)
			}
			idle(t, pool)

			// A second attempt, as after any error.
			ctx, finish = s.Attempt(t.Context(), 0, r.ID)
			require.NoError(t, l.write(ctx, "second"))
			err = finish(nil)
			if c.committed {
				require.ErrorIs(t, err, webhook.ErrSettled)
				require.Equal(t, []string{"first"}, l.written())
			} else {
				require.NoError(t, err)
				require.Equal(t, []string{"second"}, l.written())
			}
			require.Zero(t, l.pending())
			idle(t, pool)
		})
	}
}

var errAny = errors.New("any error")

// TestTxSerializable: two attempts that read what the other writes, at the level SERIALIZABLE. One
// fails, and succeeds with the next attempt.
func TestTxSerializable(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	pool := newPool(t, l.dsn, func(c *pgxpool.Config) {
		c.ConnConfig.RuntimeParams["default_transaction_isolation"] = "serializable"
	})
	s := l.openWith(pool)
	all := store(t, s, records(0, "a", "b")...)
	handle := func(ctx context.Context, what string) error {
		tx, err := pgstore.Tx(ctx)
		if err != nil {
			return err
		}
		var n int64
		if err := tx.QueryRow(ctx, l.sql(`SELECT count(*) FROM {s}.ledger`)).Scan(&n); err != nil {
			return err
		}
		return l.write(ctx, fmt.Sprint(what, " ", n))
	}
	one, finishOne := s.Attempt(t.Context(), 0, all[0].ID)
	two, finishTwo := s.Attempt(t.Context(), 0, all[1].ID)
	require.NoError(t, handle(one, "a"))
	require.NoError(t, handle(two, "b"))
	require.NoError(t, finishOne(nil))
	err := finishTwo(nil)
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	require.Equal(t, "40001", pg.Code)
	require.Equal(t, int64(1), l.pending())

	two, finishTwo = s.Attempt(t.Context(), 0, all[1].ID)
	require.NoError(t, finishTwo(handle(two, "b")))
	require.Equal(t, []string{"a 0", "b 1"}, l.written())
	store(t, s, record(0, "c")) // the Store itself has a level of its own
	require.Equal(t, []string{"c"}, feed(t, s, 0).texts(1))
	idle(t, pool)
}

// TestTxConnections: handlers do not get the connections that the Store needs, and wait for those
// that others have.
func TestTxConnections(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	pool := newPool(t, l.dsn, func(c *pgxpool.Config) { c.MaxConns = 5 }) // two for handlers
	s := l.openWith(pool)
	all := store(t, s, records(0, "a", "b", "c")...)
	var finishers []func(error) error
	for _, r := range all[:2] {
		ctx, finish := s.Attempt(t.Context(), 0, r.ID)
		require.NoError(t, l.write(ctx, string(r.Data)))
		finishers = append(finishers, finish)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	short, finish := s.Attempt(short, 0, all[2].ID)
	_, err := pgstore.Tx(short)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, finish(errHandler), errHandler)
	store(t, s, record(0, "more")) // there are connections for that
	require.Len(t, feed(t, s, 0).next(4), 4)

	// A goroutine that a handler left behind waits for a transaction, and holds up nothing.
	waiting, finish := s.Attempt(t.Context(), 0, all[2].ID)
	got := make(chan error, 1)
	go func() {
		_, err := pgstore.Tx(waiting)
		got <- err
	}()
	pause(t, 20*time.Millisecond)
	require.NoError(t, finish(nil))
	require.Error(t, <-got)

	third := make(chan error, 1)
	go func() {
		ctx, finish := s.Attempt(t.Context(), 0, all[2].ID)
		third <- finish(l.write(ctx, "c"))
	}()
	for _, finish := range finishers {
		require.NoError(t, finish(nil))
	}
	require.NoError(t, <-third)
	require.Equal(t, []string{"a", "b", "c"}, l.written())
	require.Equal(t, int64(1), l.pending())
	idle(t, pool)
}

// TestTxIdle: the server ends a transaction that does nothing for longer than its handler may run.
func TestTxIdle(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	s := l.open()
	r := store(t, s, record(0, "a"))[0]
	for _, c := range []struct{ handler, from, to time.Duration }{
		{time.Minute, time.Minute, 80 * time.Second}, {0, 15 * time.Minute, 15 * time.Minute},
	} {
		ctx, cancel := t.Context(), context.CancelFunc(func() {})
		if c.handler > 0 {
			ctx, cancel = context.WithTimeout(ctx, c.handler)
		}
		ctx, finish := s.Attempt(ctx, 0, r.ID)
		tx, err := pgstore.Tx(ctx)
		require.NoError(t, err)
		var ms int64
		require.NoError(t,
			tx.QueryRow(ctx, `SELECT setting::bigint FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'`).Scan(&ms))
		require.GreaterOrEqual(t, time.Duration(ms)*time.Millisecond, c.from)
		require.LessOrEqual(t, time.Duration(ms)*time.Millisecond, c.to)
		require.ErrorIs(t, finish(errHandler), errHandler)
		cancel()
	}
}

func TestTxElsewhere(t *testing.T) {
	t.Parallel()
	_, err := pgstore.Tx(t.Context())
	require.ErrorIs(t, err, pgstore.ErrNoAttempt)
	s := newKit(t).open()
	for _, id := range []string{"", "17", "x"} {
		ctx, finish := s.Attempt(t.Context(), 0, id) // of another store
		_, err = pgstore.Tx(ctx)
		require.ErrorIs(t, err, pgstore.ErrNoAttempt)
		require.ErrorIs(t, finish(errHandler), errHandler)
		require.NoError(t, finish(nil))
	}
}
