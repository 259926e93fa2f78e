package pgstore

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/b24events/b24events/webhook"
)

// Keys of the log attributes, besides those of package webhook.
const (
	KeySchema       = "schema"       // the schema of the tables
	KeyTransactions = "transactions" // the number of open transactions
)

// Store is a [webhook.Store] in a PostgreSQL database, for any number of processes. It is also the
// [webhook.Leaser] of its partitions, and a [webhook.Transactor]: see [Tx]. It is safe for
// concurrent use. Make one with [New].
//
// Errors wrap those of the driver: errors.As finds the *pgconn.PgError. Their texts hold no
// addresses, users or values.
type Store struct {
	cfg        config
	pool       *pgxpool.Pool
	q          queries
	partitions int
	bound      bound
	txSlots    chan struct{} // one entry per handler with a transaction

	end  context.CancelFunc
	done sync.WaitGroup
	wake chan struct{} // wakes the poller

	mu      sync.Mutex
	feeds   map[int][]*feed // by partition
	lookDue bool            // the poller should look at once
	closed  chan struct{}
}

var (
	_ webhook.Store      = (*Store)(nil)
	_ webhook.Leaser     = (*Store)(nil)
	_ webhook.Transactor = (*Store)(nil)
)

// ownConnections is how many connections of the pool the Store reserves for itself: one for Commit,
// one for the feeds, one for leases and everything else. Handlers get the others for their
// transactions.
const ownConnections = 3

// New opens the store in the database of the pool, and creates or updates its tables. It needs a
// connection to the primary server. The pool belongs to the caller, who closes it after the Store.
//
// It returns [ErrConfig] if options are invalid or do not match the data, [ErrNotDurable] if the
// server may lose what it acknowledges, and [ErrSchema] if the tables are newer than this package
// or were changed by hand. Any other error means that the database cannot be reached, or refused a
// statement.
func New(ctx context.Context, pool *pgxpool.Pool, opts ...Option) (*Store, error) {
	if pool == nil {
		return nil, misconfigured("nil pool")
	}
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	partitions, err := open(ctx, pool, &cfg)
	if err != nil {
		return nil, fail("open", err)
	}
	s := &Store{
		cfg: cfg, pool: pool, q: newQueries(cfg.schema, cfg.keep > 0), partitions: partitions,
		bound:   bound{limit: cfg.maxPending},
		txSlots: make(chan struct{}, max(1, int(pool.Config().MaxConns)-ownConnections)),
		wake:    make(chan struct{}, 1), feeds: make(map[int][]*feed), closed: make(chan struct{}),
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	s.end = end
	s.done.Go(func() { newPoller(s).run(life) })
	s.done.Go(func() { s.pruneLoop(life) })
	return s, nil
}

// open checks and prepares the database.
func open(ctx context.Context, pool *pgxpool.Pool, cfg *config) (partitions int, err error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	if err := checkServer(ctx, conn.Conn(), cfg); err != nil {
		return 0, err
	}
	if partitions, err = prepare(ctx, conn.Conn(), cfg); err != nil {
		return 0, err
	}
	return partitions, checkTables(ctx, conn.Conn(), cfg, partitions)
}

// Close ends the goroutines of the Store and its feeds, which yield [ErrClosed], and waits for the
// goroutines. Methods that are called later return [ErrClosed]. Leases expire by themselves, and
// the pool stays open. Call Close after the Handler's Shutdown. It returns nil.
func (s *Store) Close() error {
	s.mu.Lock()
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	s.mu.Unlock()
	// Running statements end in milliseconds. Interrupting them would make the pool close its
	// connections.
	cut := time.AfterFunc(closeGrace, s.end)
	s.done.Wait()
	cut.Stop()
	s.end()
	return nil
}

// closeGrace is how long Close waits for the server.
const closeGrace = time.Second

// Partitions implements [webhook.Store].
func (s *Store) Partitions() int { return s.partitions }

// usable returns [ErrClosed] after Close, and the error of a context that has ended.
func (s *Store) usable(ctx context.Context) error {
	select {
	case <-s.closed:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

// query runs statements that change nothing on a connection of the pool.
func (s *Store) query(ctx context.Context, statements ...statement) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return run(ctx, conn.Conn(), statements...)
}

// change runs statements in a transaction, in one round trip. The transaction is durable when
// change returns nil. If relax is set, it is durable a fraction of a second later.
func (s *Store) change(ctx context.Context, relax bool, statements ...statement) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	all := make([]statement, 0, len(statements)+4)
	all = append(all, statement{sql: begin}, limits(ctx, relax))
	all = append(all, statements...)
	all = append(all, statement{sql: noStatementTimeout}, statement{sql: commit})
	if err := run(ctx, conn.Conn(), all...); err != nil {
		recoverConn(ctx, conn.Conn())
		return err
	}
	return nil
}

// changeTimeout bounds a transaction of the Store, if its context lasts longer.
const changeTimeout = 10 * time.Second

// limits returns the statement that sets time limits for those after it in the transaction. They
// are a little later than the end of the context, so that the context ends a statement first.
func limits(ctx context.Context, relax bool) statement {
	sql := durable
	if relax {
		sql = relaxed
	}
	timeout := time.Second
	if end, ok := ctx.Deadline(); ok {
		timeout += max(0, time.Until(end))
	}
	return statement{sql: sql, args: []any{milliseconds(timeout)}}
}

// rollbackTime bounds a ROLLBACK.
const rollbackTime = time.Second

// recoverConn rolls back a failed transaction, so that the pool can keep the connection. If that
// fails, the pool closes the connection.
func recoverConn(ctx context.Context, conn *pgx.Conn) {
	if conn.IsClosed() || conn.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTime)
	defer cancel()
	_ = run(ctx, conn, statement{sql: rollback})
}

// attrs returns the attributes of a log line about the store.
func (s *Store) attrs(err error, more ...slog.Attr) []slog.Attr {
	if err != nil {
		more = append(more, slog.String(webhook.KeyError, fail("background", err).Error()))
	}
	return append(more, slog.String(KeySchema, s.cfg.schema))
}
