package sqlitestore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"

	"modernc.org/sqlite"
)

// engine is a SQLite driver for one file. Tests use another driver with the same statements.
type engine struct {
	driver.Connector
	code func(error) int // the extended result code of an error, or 0
}

// modernc is the driver that the package uses.
func modernc(path string) (engine, error) {
	connector, err := sqlite.NewConnector(uri(path))
	if err != nil {
		return engine{}, err
	}
	return engine{connector, moderncCode}, nil
}

func moderncCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()
	}
	return 0
}

// uri returns the URI by which SQLite opens a file.
func uri(path string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/…
	}
	return (&url.URL{Scheme: "file", Path: path}).String()
}

// readers returns the pool of connections for reading.
func (e engine) readers() *sql.DB {
	db := sql.OpenDB(readConnector{e})
	db.SetMaxOpenConns(maxReaders)
	db.SetMaxIdleConns(maxReaders)
	return db
}

const maxReaders = 4

type readConnector struct{ engine }

// Connect implements [driver.Connector].
func (r readConnector) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	for _, pragma := range readerPragmas() {
		if err := c.run(ctx, pragma); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c.Conn, nil
}

// conn is one connection without the pool of database/sql. It is for one goroutine. The end of a
// method's context interrupts the statement. A context that cannot end is cheaper: for others the
// driver starts a goroutine per statement.
type conn struct {
	driver.Conn
	statements map[string]statement
	args       []driver.NamedValue
}

// statement is implemented by the statements of both drivers.
type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

func (e engine) connect(ctx context.Context) (*conn, error) {
	c, err := e.Connect(ctx)
	if err != nil {
		return nil, err
	}
	opened := &conn{Conn: c, statements: make(map[string]statement)}
	if err := opened.run(ctx, waitPragma); err != nil {
		return nil, errors.Join(err, opened.close())
	}
	return opened, nil
}

func (c *conn) close() error {
	var err error
	for _, s := range c.statements {
		err = errors.Join(err, s.Close())
	}
	return errors.Join(err, c.Close())
}

// prepare returns a prepared statement, which it keeps for later calls.
func (c *conn) prepare(query string) (statement, error) {
	if s, ok := c.statements[query]; ok {
		return s, nil
	}
	s, err := c.prepareOnce(query)
	if err != nil {
		return nil, err
	}
	c.statements[query] = s
	return s, nil
}

func (c *conn) prepareOnce(query string) (statement, error) {
	prepared, err := c.Prepare(query)
	if err != nil {
		return nil, err
	}
	s, ok := prepared.(statement)
	if !ok {
		return nil, errors.Join(fmt.Errorf("sqlitestore: the driver's %T is too old", prepared), prepared.Close())
	}
	return s, nil
}

// bind makes arguments of values. They are good until the next call.
func (c *conn) bind(values ...driver.Value) []driver.NamedValue {
	for len(c.args) < len(values) {
		c.args = append(c.args, driver.NamedValue{Ordinal: len(c.args) + 1})
	}
	for i, v := range values {
		c.args[i].Value = v
	}
	return c.args[:len(values)]
}

// exec executes a statement that returns no rows.
func (c *conn) exec(ctx context.Context, query string, args ...driver.Value) (driver.Result, error) {
	s, err := c.prepare(query)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(ctx, c.bind(args...))
}

// change executes a statement and returns how many rows it changed.
func (c *conn) change(ctx context.Context, query string, args ...driver.Value) (int64, error) {
	result, err := c.exec(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// run executes a statement that is needed once only. It may return rows.
func (c *conn) run(ctx context.Context, query string) error {
	s, err := c.prepareOnce(query)
	if err != nil {
		return err
	}
	err = rows(ctx, s, nil, func([]driver.Value) error { return nil })
	return errors.Join(err, s.Close())
}

// rows calls row with each row of a query.
func (c *conn) rows(ctx context.Context, row func([]driver.Value) error, query string, args ...driver.Value) error {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	return rows(ctx, s, c.bind(args...), row)
}

func rows(ctx context.Context, s statement, args []driver.NamedValue, row func([]driver.Value) error) error {
	list, err := s.QueryContext(ctx, args)
	if err != nil {
		return err
	}
	values := make([]driver.Value, len(list.Columns()))
	for err == nil {
		if err = list.Next(values); err == nil {
			err = row(values)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, list.Close())
}

// number returns the only value of a query.
func (c *conn) number(ctx context.Context, query string) (int64, error) {
	var n int64
	err := c.rows(ctx, func(row []driver.Value) error {
		n = toInt(row[0])
		return nil
	}, query)
	return n, err
}

// toInt returns the value of a column that holds only integers.
func toInt(v driver.Value) int64 {
	n, _ := v.(int64)
	return n
}
