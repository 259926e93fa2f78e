package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/nats-io/nats.go"

	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/oauth/sqlstore"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/natsstore"
	"github.com/b24events/b24events/webhook/pgstore"
	"github.com/b24events/b24events/webhook/sqlitestore"
)

// queueKind is the kind of queue for accepted events.
type queueKind int

const (
	queueMemory   queueKind = iota
	queueSQLite             // a file in B24_DATA, for one receiver
	queuePostgres           // for several
	queueNATS               // for several
)

// queueOf reads QUEUE and QUEUE_URL.
func queueOf(v program.Values) (queueKind, error) {
	kind, address := v["queue"], v["queue-url"]
	switch {
	case kind != "" && kind != "memory" && kind != "durable":
		return 0, program.Usage("QUEUE must be memory or durable")
	case kind == "memory" && address != "":
		return 0, program.Usage("QUEUE_URL is for a durable queue; leave it out with QUEUE=memory")
	case address == "" && kind == "durable":
		return queueSQLite, nil
	case address == "":
		return queueMemory, nil
	}
	switch schemeOf(address) {
	case "postgres", "postgresql":
		return queuePostgres, nil
	case "nats", "tls":
		return queueNATS, nil
	default:
		return 0, program.Usage("QUEUE_URL must begin with postgres:// or nats://")
	}
}

// schemeOf returns the scheme of an address, or an empty text.
func schemeOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme
}

// storage holds the connections to what the receiver stores.
type storage struct {
	cfg     config
	queue   webhook.Store // nil in memory
	pool    *pgxpool.Pool // of QUEUE_URL, which installations can share
	nats    *nats.Conn    // of QUEUE_URL
	closers []func()
}

// openStorage opens the queue. Errors quote no address.
func openStorage(ctx context.Context, cfg config) (_ *storage, err error) {
	s := &storage{cfg: cfg}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	switch cfg.queue {
	case queueSQLite:
		err = s.openSQLite(ctx)
	case queuePostgres:
		err = s.openPostgres(ctx)
	case queueNATS:
		err = s.openNATS(ctx)
	case queueMemory:
	}
	return s, err
}

// options returns the options of a Handler with the queue.
func (s *storage) options() []webhook.Option {
	if s.queue == nil {
		return nil
	}
	opts := []webhook.Option{webhook.WithStore(s.queue)}
	if s.cfg.key != nil {
		opts = append(opts, webhook.WithEncryptionKey(s.cfg.key))
	}
	return opts
}

// depthTimeout bounds how long a scrape of the metrics waits for the queue.
const depthTimeout = 2 * time.Second

// depth returns the depth of the queue, or nil if it is in memory or does not respond.
func (s *storage) depth(ctx context.Context) *webhook.Depth {
	if s.queue == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, depthTimeout)
	defer cancel()
	d, err := s.queue.Depth(ctx)
	if err != nil {
		return nil
	}
	return &d
}

// close closes everything that was opened, in reverse order.
func (s *storage) close() {
	for _, closer := range slices.Backward(s.closers) {
		closer()
	}
	s.closers = nil
}

// closing adds c to what close closes.
func (s *storage) closing(c io.Closer) { s.closers = append(s.closers, func() { _ = c.Close() }) }

// queueID returns the name of the application's queue. Receivers of two applications never share a
// queue, even if they have the same QUEUE_URL.
func (s *storage) queueID() string {
	if s.cfg.Values["client-id"] == "" {
		return "webhooks"
	}
	sum := sha256.Sum256([]byte(s.cfg.Values["client-id"]))
	return hex.EncodeToString(sum[:6])
}

func (s *storage) openSQLite(ctx context.Context) error {
	folder, err := program.StateFolder(s.cfg.Values)
	if err != nil {
		return err
	}
	opts := []sqlitestore.Option{}
	if s.cfg.keep > 0 {
		opts = append(opts, sqlitestore.WithKeep(s.cfg.keep))
	}
	if s.cfg.archiveOnly {
		opts = append(opts, sqlitestore.WithArchiveOnly())
	}
	store, err := sqlitestore.Open(ctx, filepath.Join(folder, "queue.db"), opts...)
	if err != nil {
		return err
	}
	s.closing(store)
	s.queue = store
	return nil
}

// connectTimeout is how long a database may take to respond at the start.
const connectTimeout = 10 * time.Second

func (s *storage) openPostgres(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	pool, err := newPool(ctx, "QUEUE_URL", s.cfg.Values["queue-url"])
	if err != nil {
		return err
	}
	s.pool = pool
	s.closers = append(s.closers, pool.Close)
	opts := []pgstore.Option{pgstore.WithSchema("b24events_" + s.queueID()), pgstore.WithLogger(s.cfg.logger)}
	if s.cfg.keep > 0 {
		opts = append(opts, pgstore.WithKeep(s.cfg.keep))
	}
	store, err := pgstore.New(ctx, pool, opts...)
	if err != nil {
		return err
	}
	s.closing(store)
	s.queue = store
	return nil
}

func newPool(ctx context.Context, setting, address string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, program.Usage("%s cannot be read as the address of a PostgreSQL database", setting) // err quotes it
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, errors.New("the database of " + setting + " cannot be used")
	}
	return pool, nil
}

func (s *storage) openNATS(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	nc, err := nats.Connect(s.cfg.Values["queue-url"], nats.Name("b24events receiver"), nats.Timeout(connectTimeout),
		nats.MaxReconnects(-1), nats.ReconnectWait(250*time.Millisecond), nats.FlusherTimeout(5*time.Second),
		nats.PingInterval(5*time.Second), nats.MaxPingsOutstanding(2))
	if err != nil {
		return errors.New("the NATS server of QUEUE_URL does not respond, or refuses the credentials")
	}
	s.nats = nc
	s.closers = append(s.closers, nc.Close)
	opts := []natsstore.Option{natsstore.WithName("B24EVENTS-" + s.queueID()), natsstore.WithLogger(s.cfg.logger)}
	if s.cfg.keep > 0 {
		opts = append(opts, natsstore.WithKeep(s.cfg.keep))
	}
	store, err := natsstore.New(ctx, nc, opts...)
	if err != nil {
		return err
	}
	s.closing(store)
	s.queue = store
	return nil
}

// sqlInstallations is a store of installations in a database, with its connection pool.
type sqlInstallations struct {
	*sqlstore.Store

	db *sql.DB
}

// Close closes the pool.
func (s sqlInstallations) Close() error { return s.db.Close() }

// installations returns a function that opens the store of installations: the database of
// STORE_URL, or else that of the queue, or else files in B24_DATA.
func (s *storage) installations(ctx context.Context) (program.OpenStore, error) {
	address := s.cfg.Values["store-url"]
	var db *sql.DB
	dialect := sqlstore.PostgreSQL
	switch scheme := schemeOf(address); {
	case scheme == "mysql":
		dsn, err := mysqlDSN(address)
		if err != nil {
			return nil, err
		}
		connector, err := mysql.NewConnector(dsn)
		if err != nil {
			return nil, program.Usage("STORE_URL cannot be read as the address of a MySQL database")
		}
		db, dialect = sql.OpenDB(connector), sqlstore.MySQL
	case scheme == "postgres", scheme == "postgresql":
		pool, err := newPool(ctx, "STORE_URL", address)
		if err != nil {
			return nil, err
		}
		s.closers = append(s.closers, pool.Close)
		db = stdlib.OpenDBFromPool(pool)
	case address != "":
		return nil, program.Usage("STORE_URL must begin with postgres:// or mysql://")
	case s.pool != nil:
		db = stdlib.OpenDBFromPool(s.pool)
	default:
		return program.EncryptedFiles(s.cfg.key), nil
	}
	return func(string) (oauth.Store, error) {
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		var opts []sqlstore.Option
		if s.cfg.key != nil {
			opts = append(opts, sqlstore.WithCodec(oauth.WithEncryptionKey(s.cfg.key)))
		}
		store, err := sqlstore.New(ctx, db, dialect, opts...)
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
		return sqlInstallations{store, db}, nil
	}, nil
}

// mysqlDSN reads an address such as mysql://user:password@host:3306/database.
func mysqlDSN(address string) (*mysql.Config, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, program.Usage("STORE_URL cannot be read as the address of a MySQL database")
	}
	c := mysql.NewConfig()
	c.User = u.User.Username()
	c.Passwd, _ = u.User.Password()
	c.Net, c.Addr = "tcp", u.Host
	if u.Port() == "" {
		c.Addr += ":3306"
	}
	if len(u.Path) > 1 {
		c.DBName = u.Path[1:]
	}
	return c, nil
}
