package sqlitestore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/b24events/b24events/internal/disk"
	"github.com/b24events/b24events/internal/filelock"
	"github.com/b24events/b24events/webhook"
)

// Store is a [webhook.Store] in a file of SQLite. It is safe for concurrent use. Make one with
// [Open], and close it after the Handler was shut down.
type Store struct {
	config
	engine

	reader  *sql.DB
	reading sync.RWMutex // held for reading by all reads, so that Close waits for them
	jobs    chan *job
	quit    chan struct{} // closed by Close
	last    chan struct{} // closed when only the writer's connection is left
	ended   chan struct{} // closed when the writer has ended

	pending, parked, kept atomic.Int64

	mu     sync.Mutex
	recent recent
	lastID int64         // the highest that was ever given
	wake   chan struct{} // closed when records come; nil if no Feed waits
	feeds  int           // number of running Feeds

	close    func() error
	unlock   func() error
	closeErr error
}

// Open opens the queue in the file at path, and creates it if there is none, with mode 0600, in a
// folder that is created with mode 0700. The file must be on a local disk. There are three more
// files beside it: path-wal and path-shm belong to SQLite. path.lock keeps other processes out; it
// stays when the Store is closed. Open reads the pending records once, to count them.
//
// A nil option is skipped. Errors match [ErrConfig], [ErrLocked], [ErrForeign] or [ErrDamaged]. Any
// other error means that the file could not be read or written. ctx bounds the opening, not the
// Store.
func Open(ctx context.Context, path string, opts ...Option) (*Store, error) {
	c, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	path, err = locate(path)
	if err != nil {
		return nil, err
	}
	if c.archive {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("sqlitestore: open: there is no queue at this path: %w", err)
		}
		return open(ctx, path, c)
	}
	unlock, err := lock(path)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, path, c)
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	s.unlock = unlock
	return s, nil
}

func newConfig(opts []Option) (config, error) {
	c := config{logPages: logPages}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&c); err != nil {
			return config{}, err
		}
	}
	return c, nil
}

// locate makes the folder of the file, and returns the path with all symbolic links resolved.
func locate(path string) (string, error) {
	if path == "" || path == ":memory:" {
		return "", misconfigured("Open(%q): the queue needs a file", path)
	}
	abs, err := filepath.Abs(path)
	if err == nil {
		err = disk.MakePrivate(filepath.Dir(abs))
	}
	if err == nil {
		abs, err = resolve(abs)
	}
	if err != nil {
		return "", fmt.Errorf("sqlitestore: open: %w", err)
	}
	return abs, nil
}

// resolve follows symbolic links, so that a file has one lock only.
func resolve(path string) (string, error) {
	target, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return target, err
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	return filepath.Join(dir, filepath.Base(path)), err
}

// lock takes the lock of the file, and returns what releases it.
func lock(path string) (func() error, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, filePerm) //nolint:gosec // the path is the caller's choice
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: open: %w", err)
	}
	ok, err := filelock.Try(f)
	switch {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("sqlitestore: open: lock: %w", err), f.Close())
	case !ok:
		return nil, errors.Join(fmt.Errorf("%w: %s", ErrLocked, path), f.Close())
	}
	return func() error {
		filelock.Release(f)
		return f.Close()
	}, nil
}

const filePerm = 0o600

// makeFile makes an empty file with mode 0600, unless there is one; SQLite would use the
// permissions of the umask. It must not be called while SQLite has the file open: on Unix, closing
// a file releases the locks that SQLite holds on it.
func makeFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, filePerm) //nolint:gosec // the path is the caller's choice
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("sqlitestore: open: %w", err)
	}
	return nil
}

// syncFolder makes the names of new files durable.
func syncFolder(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	return errors.Join(disk.SyncFolder(root), root.Close())
}

func open(ctx context.Context, path string, c config) (*Store, error) {
	if err := makeFile(path); err != nil {
		return nil, err
	}
	e, err := modernc(path)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: open: %w", err)
	}
	return openEngine(ctx, e, c)
}

// openEngine opens the queue. The file exists and is locked.
func openEngine(ctx context.Context, e engine, c config) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	writer, err := e.connect(ctx)
	if err != nil {
		return nil, e.failed(ctx, "open", err)
	}
	s := &Store{
		config: c, engine: e, reader: e.readers(), jobs: make(chan *job),
		quit: make(chan struct{}), last: make(chan struct{}), ended: make(chan struct{}),
		unlock: func() error { return nil },
	}
	w, err := s.prepare(ctx, writer)
	if err != nil {
		if errors.Is(err, ErrForeign) {
			return nil, errors.Join(err, writer.close(), s.reader.Close())
		}
		return nil, errors.Join(e.failed(ctx, "open", err), writer.close(), s.reader.Close())
	}
	s.close = sync.OnceValue(s.shut)
	go w.run(context.WithoutCancel(ctx))
	return s, nil
}

// prepare checks the file, or makes the tables, and reads what the writer needs to know.
func (s *Store) prepare(ctx context.Context, c *conn) (*writer, error) {
	fresh, err := s.check(ctx, c)
	if err != nil {
		return nil, err
	}
	mode := ""
	err = c.rows(ctx, func(row []driver.Value) error {
		mode = fmt.Sprint(row[0])
		return nil
	}, sqlJournal)
	if err != nil {
		return nil, err
	}
	if mode != "wal" {
		return nil, misconfigured("the file system does not support the log of SQLite (journal mode %s); use a local disk", mode)
	}
	for _, pragma := range writerPragmas(s.sync) {
		if err := c.run(ctx, pragma); err != nil {
			return nil, err
		}
	}
	if fresh && s.archive {
		return nil, fmt.Errorf("%w: it is empty", ErrForeign)
	}
	if fresh {
		if err := transaction(ctx, c, create()); err != nil {
			return nil, err
		}
	}
	w := &writer{s: s, c: c}
	for query, to := range map[string]*int64{sqlDataVersion: &w.version, sqlLastSettled: &w.settled} {
		if *to, err = c.number(ctx, query); err != nil {
			return nil, err
		}
	}
	s.lastID, err = s.count(ctx, c)
	return w, err
}

// count counts the records, and returns the highest ID that was ever given.
func (s *Store) count(ctx context.Context, c *conn) (last int64, err error) {
	pending, err := c.number(ctx, sqlPending)
	if err != nil {
		return 0, err
	}
	if last, err = c.number(ctx, sqlLastID); err != nil {
		return 0, err
	}
	kept, parked := int64(0), int64(0)
	err = c.rows(ctx, func(row []driver.Value) error {
		switch webhook.State(toInt(row[0])) { //nolint:exhaustive,gosec // others are not archived
		case webhook.StateDone:
			kept = toInt(row[1])
		case webhook.StateParked:
			parked = toInt(row[1])
		}
		return nil
	}, sqlArchived)
	if err != nil {
		return 0, err
	}
	s.pending.Store(pending)
	s.kept.Store(kept)
	s.parked.Store(parked)
	return last, nil
}

// check reports whether the file is empty. It returns an error if another program made the file.
func (s *Store) check(ctx context.Context, c *conn) (fresh bool, err error) {
	var id, version, tables int64
	for _, q := range []struct {
		query string
		to    *int64
	}{{sqlApplicationID, &id}, {sqlUserVersion, &version}, {sqlTables, &tables}} {
		if *q.to, err = c.number(ctx, q.query); err != nil {
			if s.code(err)&0xff == codeNotADB {
				return false, fmt.Errorf("%w: it is not a SQLite database", ErrForeign)
			}
			return false, err
		}
	}
	switch {
	case id == 0 && version == 0 && tables == 0:
		return true, nil
	case id != applicationID:
		return false, fmt.Errorf("%w: it belongs to another program (application ID %#x)", ErrForeign, id)
	case version > schemaVersion:
		return false, fmt.Errorf("%w: a newer version of this package made it (version %d, this is %d); update this program",
			ErrForeign, version, schemaVersion)
	case version < schemaVersion:
		return false, fmt.Errorf("%w: its version is %d, which does not exist", ErrForeign, version)
	default:
		return false, nil
	}
}

// transaction executes all statements, or none.
func transaction(ctx context.Context, c *conn, statements []string) error {
	err := c.run(ctx, sqlBegin)
	for _, statement := range statements {
		if err == nil {
			err = c.run(ctx, statement)
		}
	}
	if err == nil {
		err = c.run(ctx, sqlCommit)
	}
	if err != nil {
		_ = c.run(context.WithoutCancel(ctx), sqlRollback) // which fails if SQLite did it already
	}
	return err
}

// Close waits for the running Commit, writes the log back to the file, and closes it. Afterwards,
// methods and running Feeds return [ErrClosed]. Every call returns the result of the first one.
func (s *Store) Close() error { return s.close() }

func (s *Store) shut() error {
	close(s.quit)
	s.mu.Lock()
	s.wakeFeedsLocked()
	s.mu.Unlock()
	s.reading.Lock()
	defer s.reading.Unlock()
	err := s.reader.Close()
	close(s.last)
	<-s.ended
	if err = errors.Join(err, s.closeErr); err != nil {
		err = s.failed(context.Background(), "close", err)
	}
	return errors.Join(err, s.unlock())
}
