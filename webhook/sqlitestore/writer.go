package sqlitestore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/webhook"
)

// writer is the goroutine that has the only connection for writing. It runs one job after the
// other. The methods that submit jobs return when their contexts end, even if the disk hangs.
type writer struct {
	s       *Store
	c       *conn
	settled int64 // the latest time of settling, in microseconds
	version int64 // of the data; it changes when another connection changes them
	down    error // why the writer stopped

	logged int // estimated pages of the log that are not in the file yet

	inserts [maxRowsLog + 1]string // by the logarithm of the number of rows
	values  [4 * maxRows]driver.Value
}

// job is work that a method submits to the writer.
type job struct {
	run   func(context.Context, *writer, *job) error
	state atomic.Int32
	done  chan error
}

// States of a job.
const (
	jobOpen      = iota
	jobAbandoned // its method has returned
	jobFinished  // its method waits for what the writer returns
)

// abandoned reports whether the job's method has returned.
func (j *job) abandoned() bool { return j.state.Load() == jobAbandoned }

// finish makes the result final, and reports whether the method still waits for it. If so, the
// writer may use the method's arguments until the job is done.
func (j *job) finish() bool { return j.state.CompareAndSwap(jobOpen, jobFinished) }

// do lets the writer run a job and waits for it, or for the end of ctx.
func (s *Store) do(ctx context.Context, op string, run func(context.Context, *writer, *job) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sqlitestore: %s: %w", op, err)
	}
	j := &job{run: run, done: make(chan error, 1)}
	select {
	case s.jobs <- j:
	case <-s.quit:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("sqlitestore: %s: %w", op, ctx.Err())
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
	}
	if j.state.CompareAndSwap(jobOpen, jobAbandoned) {
		return fmt.Errorf("sqlitestore: %s: %w", op, ctx.Err())
	}
	return <-j.done
}

// run is the goroutine. Its context does not end, so that no write is interrupted.
func (w *writer) run(ctx context.Context) {
	defer close(w.s.ended)
	purge := time.NewTimer(0)
	defer purge.Stop()
	others := time.NewTicker(noticeEvery)
	defer others.Stop()
	if w.s.keep == 0 {
		purge.Stop()
	}
	for {
		select {
		case <-w.s.quit:
			<-w.s.last // SQLite writes the log back when the last connection is closed, and only then
			w.s.closeErr = w.c.close()
			return
		case j := <-w.s.jobs:
			j.done <- w.work(ctx, j)
		case <-purge.C:
			purge.Reset(w.purge(ctx))
		case <-others.C:
			w.note(w.notice(ctx))
		}
		w.checkpoint(ctx)
	}
}

func (w *writer) work(ctx context.Context, j *job) error {
	if w.down != nil {
		return w.down
	}
	err := w.notice(ctx)
	if err == nil {
		err = j.run(ctx, w, j)
	}
	if w.note(err); w.down != nil {
		return w.down
	}
	return err
}

// noticeEvery is how often an idle writer looks for changes by other processes.
const noticeEvery = time.Second

// notice reads what another process has replayed or discarded; see WithArchiveOnly.
func (w *writer) notice(ctx context.Context) error {
	if w.down != nil {
		return nil
	}
	version, err := w.c.number(ctx, sqlDataVersion)
	if err != nil || version == w.version {
		return err
	}
	last, err := w.s.count(ctx, w.c)
	if err != nil {
		return err
	}
	w.version = version
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if last > s.lastID {
		s.lastID = last
		s.wakeFeedsLocked()
	}
	return nil
}

// note stops the writer after an error that leaves the contents of the disk unknown. Later writes
// might depend on data that the disk does not have.
func (w *writer) note(err error) {
	if final(err) {
		w.down = fmt.Errorf("%w: %w", ErrDown, err)
	}
}

// transact runs f in a transaction. It does not commit if the job was abandoned.
func (w *writer) transact(ctx context.Context, op string, j *job, f func() error) error {
	if _, err := w.c.exec(ctx, sqlBegin); err != nil {
		return w.s.failed(ctx, op, err)
	}
	err := f()
	if err == nil && j.abandoned() {
		err = context.Canceled // no method reads it
	}
	if err == nil {
		_, err = w.c.exec(ctx, sqlCommit)
	}
	if err != nil {
		_, _ = w.c.exec(ctx, sqlRollback) // it fails if SQLite has rolled back already
		if errors.Is(err, context.Canceled) || errors.Is(err, webhook.ErrQueueFull) {
			return err
		}
		return w.s.failed(ctx, op, err)
	}
	return nil
}

const (
	logPages    = 1000 // pages of the log that are written back to the file at a time: 4 MB
	pageBytes   = 3600 // about the bytes of records in a page
	commitPages = 6    // about the pages that a commit writes besides them
)

// wrote adds the size of a commit to the estimate.
func (w *writer) wrote(bytes int) { w.logged += bytes/pageBytes + commitPages }

// checkpoint writes the log back to the file if it is long. SQLite would do that in COMMIT without
// reporting errors. An unnoticed disk error would lose stored records, because the system does not
// retry the write of a page.
func (w *writer) checkpoint(ctx context.Context) {
	if w.logged < w.s.logPages || w.down != nil {
		return
	}
	left := 0
	err := w.c.rows(ctx, func(row []driver.Value) error {
		pages, written := toInt(row[1]), toInt(row[2])
		left = min(int(pages-written), w.s.logPages/2) // pages that a reader still needs
		return nil
	}, sqlCheckpoint)
	w.logged = left
	if err != nil {
		w.note(w.s.failed(ctx, "write the log back", err))
	}
}
