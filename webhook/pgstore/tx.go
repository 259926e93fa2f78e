package pgstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/b24events/b24events/internal/timing"
	"github.com/b24events/b24events/webhook"
)

const (
	// settleTime bounds the end of a transaction, which continues if the handler's context has ended.
	settleTime = 15 * time.Second
	// The server keeps an idle transaction open for idleSlack longer than the handler's context lasts,
	// or for idleLimit if that context has no deadline.
	idleSlack = 15 * time.Second
	idleLimit = 15 * time.Minute
)

// Tx returns the transaction of the attempt that ctx belongs to. What the handler writes in it is
// committed if and only if the record is settled. The first call begins the transaction, and later
// calls return the same one. Attempts that do not call Tx have no transaction.
//
//	event.On(mux, event.OnCrmDealAdd, func(ctx context.Context, d *event.Delivery, e event.CRMEntity) error {
//		tx, err := pgstore.Tx(ctx)
//		if err != nil {
//			return err
//		}
//		_, err = tx.Exec(ctx, `INSERT INTO deals (id) VALUES ($1)`, e.ID)
//		return err
//	})
//
// When the handler returns nil, its record is deleted (or archived, see [WithKeep]) in the
// transaction, which is then committed. When the handler fails or panics, the transaction is rolled
// back. So the database has the writes of exactly one attempt, even if two processes handle the
// record at the same time because a lease was lost, or if a process or the server crashes at any
// moment. Calls to the portal, and writes elsewhere, are not part of the transaction: they happen
// once per attempt.
//
// One goroutine at a time may use the transaction, which ends when the handler returns. Its Commit
// and Rollback return [ErrTxEnded]; Begin makes a savepoint. It has the session's default isolation
// level.
//
// It holds a connection of the pool from the first call until the handler returns. So call the
// portal first, and call Tx when there is something to write. Handlers may hold all but three
// connections of the pool, but at least one. Tx waits until one is free.
//
// Tx returns [ErrNoAttempt] if ctx is not from a handler of a record in a [Store], and
// [ErrAttemptOver] after the handler has returned.
func Tx(ctx context.Context) (pgx.Tx, error) {
	a, ok := ctx.Value(attemptKey{}).(*attempt)
	if !ok {
		return nil, ErrNoAttempt
	}
	tx, err := a.begin(ctx)
	if err != nil {
		return nil, fail("begin", err)
	}
	return tx, nil
}

type attemptKey struct{}

// attempt is one attempt at a record.
type attempt struct {
	s    *Store
	part int
	key  key
	over chan struct{} // closed when the handler has returned

	mu sync.Mutex
	tx pgx.Tx // nil until the first call of Tx
}

// handlerTx is the transaction as handlers see it.
type handlerTx struct{ pgx.Tx }

// Commit returns [ErrTxEnded].
func (handlerTx) Commit(context.Context) error { return ErrTxEnded }

// Rollback returns [ErrTxEnded].
func (handlerTx) Rollback(context.Context) error { return ErrTxEnded }

// Attempt implements [webhook.Transactor]. See [Tx].
//
// An error of finish is that of the handler, or means that nothing was committed. The exception is
// an error that matches [ErrUnknownOutcome].
func (s *Store) Attempt(ctx context.Context, part int, id string) (handler context.Context, finish func(error) error) {
	k, ok := parseKey(id)
	if !ok || part < 0 || part >= s.partitions {
		return ctx, func(err error) error { return err }
	}
	a := &attempt{s: s, part: part, key: k, over: make(chan struct{})}
	return context.WithValue(ctx, attemptKey{}, a), func(err error) error { return a.finish(ctx, err) }
}

// begin returns the transaction. It begins one if there is none.
func (a *attempt) begin(ctx context.Context) (pgx.Tx, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.over:
		return nil, ErrAttemptOver
	default:
	}
	if a.tx != nil {
		return handlerTx{a.tx}, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // a goroutine that outlives the handler must not block finish
		select {
		case <-a.over:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := a.s.usable(ctx); err != nil {
		return nil, err
	}
	select {
	case a.s.txSlots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	idle := idleLimit
	if end, ok := ctx.Deadline(); ok {
		idle = max(0, time.Until(end)) + idleSlack
	}
	tx, err := a.s.pool.BeginTx(ctx, pgx.TxOptions{
		BeginQuery: "BEGIN; SET LOCAL idle_in_transaction_session_timeout = " + milliseconds(idle),
	})
	if err != nil {
		<-a.s.txSlots
		return nil, err
	}
	a.tx = tx
	return handlerTx{tx}, nil
}

// finish ends the attempt with the error of the handler.
func (a *attempt) finish(ctx context.Context, handled error) error {
	close(a.over)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tx == nil {
		return handled
	}
	defer func() { <-a.s.txSlots }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	if handled != nil {
		a.rollback(ctx)
		return handled
	}
	err := a.settle(ctx)
	if err == nil || errors.Is(err, webhook.ErrSettled) {
		a.s.settled(a.part, a.key)
		a.s.bound.changed(0, 1)
	}
	return fail("settle", err)
}

// rollback ends the transaction, and always returns the connection to the pool.
func (a *attempt) rollback(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, rollbackTime)
	defer cancel()
	_ = a.tx.Rollback(ctx) // a connection that cannot do that is closed, which has the same effect
}

// settle settles the record in the transaction and commits it.
func (a *attempt) settle(ctx context.Context) error {
	switch conn := a.tx.Conn().PgConn(); {
	case conn.IsClosed():
		a.rollback(ctx)
		return errLostConnection
	case conn.IsBusy():
		a.rollback(ctx)
		return errRowsOpen
	case conn.TxStatus() == 'I':
		a.rollback(ctx)
		return ErrTxEnded
	case conn.TxStatus() == 'E':
		a.rollback(ctx)
		return ErrTxFailed
	}
	var n int64
	var id string
	part := []int16{int16(a.part)} //nolint:gosec // Attempt has checked it
	err := run(ctx, a.tx.Conn(),
		statement{sql: a.s.q.settle, args: []any{part, []int64{a.key.id}, []int32{a.key.tag}}, affected: &n},
		statement{sql: `SELECT pg_current_xact_id()::text`, rows: one(&id)},
		statement{sql: settleLimits},
	)
	if err == nil && n != 1 {
		err = fmt.Errorf("pgstore: the transaction of the handler was rolled back: %w", webhook.ErrSettled)
	}
	if err != nil {
		a.rollback(ctx)
		return err
	}
	err = a.tx.Commit(ctx)
	if err == nil || !ambiguous(err) {
		return err
	}
	return a.outcome(ctx, id, err)
}

// errRowsOpen means that the handler returned while it was reading the result of a query.
const errRowsOpen Error = "pgstore: rows of a query in the transaction of the attempt were not closed, so nothing was committed"

// errLostConnection means that the connection was lost before the transaction could be committed.
const errLostConnection Error = "pgstore: the connection of the transaction was lost, so nothing was committed"

// ambiguous reports whether a COMMIT that failed with err may have been executed.
func ambiguous(err error) bool {
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return false
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return !ok || pg.Severity == "FATAL" || pg.Severity == "PANIC"
}

// outcome asks the server, on another connection, whether a transaction was committed.
func (a *attempt) outcome(ctx context.Context, transaction string, lost error) error {
	// The status alone could be that of another transaction, on a server that took over and never
	// received this one. On such a server, the record is still pending.
	const rounds, pause = 20, 100 * time.Millisecond
	lost = fail("settle", lost)
	unknown := fmt.Errorf("%w: %w", ErrUnknownOutcome, lost)
	id, err := strconv.ParseInt(transaction, 10, 64)
	if err != nil {
		return unknown
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	for range rounds {
		var status string
		var pending bool
		err := a.s.query(ctx,
			statement{sql: `SELECT coalesce(pg_xact_status($1::bigint::text::xid8), '')`, args: []any{id}, rows: one(&status)},
			statement{sql: a.s.q.pending, args: []any{int64(a.part), a.key.id, a.key.tag}, rows: one(&pending)},
		)
		switch {
		case err != nil:
		case status == "committed" && !pending:
			return nil
		case status == "aborted":
			return fmt.Errorf("pgstore: the connection was lost during the commit, and nothing was committed: %w", lost)
		case status != "in progress":
			return unknown
		}
		if timing.Sleep(ctx, pause) != nil {
			return unknown
		}
	}
	return unknown
}
