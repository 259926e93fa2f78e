package sqlstore_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/oauth/sqlstore"
)

const (
	postgresAddress = "127.0.0.1:5432"
	postgresDSN     = "postgres://postgres@" + postgresAddress + "/test?sslmode=disable"
	postgresStart   = "pg_ctlcluster --skip-systemctl-redirect 15 main start"
	mysqlAddress    = "127.0.0.1:3306"
	mysqlStart      = "start-stop-daemon --start --oknodo --background --exec /usr/sbin/mariadbd"
	sqlitePragmas   = "?_pragma=busy_timeout(10000)&_pragma=synchronous(FULL)"

	clientID = "local.5c8bb1b0891cf2.87252039"
	memberID = "a223c6b3710f85df22e9377d6c4f7553"
	planted  = "planted-in-sqlstore"
)

var (
	portal  = oauth.Key{ClientID: clientID, MemberID: memberID}
	oldKey  = []byte("0123456789abcdef0123456789abcdef")
	dialect = map[string]sqlstore.Dialect{"pgx": sqlstore.PostgreSQL, "mysql": sqlstore.MySQL, "sqlite": sqlstore.SQLite}
)

// place names the tables of one test. Processes pass it to each other as JSON.
type place struct {
	Driver    string `json:"driver"`
	DSN       string `json:"dsn"`
	Schema    string `json:"schema"` // of PostgreSQL
	Encrypted bool   `json:"encrypted"`
}

// open returns a new pool, like that of another process.
func (p place) open(tb testing.TB) *sql.DB {
	tb.Helper()
	db, err := sql.Open(p.Driver, p.DSN)
	require.NoError(tb, err)
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	tb.Cleanup(func() { require.NoError(tb, db.Close()) })
	return db
}

func (p place) dialect() sqlstore.Dialect { return dialect[p.Driver] }

func (p place) options(opts ...sqlstore.Option) []sqlstore.Option {
	if p.Schema != "" {
		opts = append(opts, sqlstore.WithSchema(p.Schema))
	}
	if p.Encrypted {
		opts = append(opts, sqlstore.WithCodec(oauth.WithEncryptionKey(oldKey), oauth.WithEncryptionOnly()))
	}
	return opts
}

// store opens a store over a new pool.
func (p place) store(tb testing.TB, opts ...sqlstore.Option) *sqlstore.Store {
	tb.Helper()
	return p.on(tb, p.open(tb), opts...)
}

func (p place) on(tb testing.TB, db *sql.DB, opts ...sqlstore.Option) *sqlstore.Store {
	tb.Helper()
	s, err := sqlstore.New(tb.Context(), db, p.dialect(), p.options(opts...)...)
	require.NoError(tb, err)
	return s
}

// table returns the name of a table for the test's own statements.
func (p place) table(name string) string {
	name = sqlstore.DefaultTablePrefix + name
	if p.Schema != "" {
		name = p.Schema + "." + name
	}
	return name
}

// with returns the place with another parameter in the DSN.
func (p place) with(parameters string) place {
	sep := "?"
	if strings.Contains(p.DSN, "?") {
		sep = "&"
	}
	p.DSN += sep + parameters
	return p
}

// engine is a database that tests run on.
type engine struct {
	name  string
	fresh func(tb testing.TB) place
}

var engines = []engine{{"PostgreSQL", freshPostgreSQL}, {"MariaDB", freshMariaDB}, {"SQLite", freshSQLite}}

// each runs a test on every engine.
func each(t *testing.T, test func(t *testing.T, p place)) {
	t.Helper()
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			test(t, e.fresh(t))
		})
	}
}

// needs skips the test if nothing listens at address.
func needs(tb testing.TB, what, address, start string) {
	tb.Helper()
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(tb.Context(), "tcp", address)
	if err == nil {
		require.NoError(tb, c.Close())
		return
	}
	absent(tb, what, start)
}

func absent(tb testing.TB, what, remedy string) {
	tb.Helper()
	if os.Getenv("REQUIRE_SERVERS") == "1" {
		tb.Fatalf("%s does not answer, and REQUIRE_SERVERS is 1; run: %s", what, remedy)
	}
	tb.Skipf("%s does not answer; run: %s", what, remedy)
}

func newName() string { return "sqlstore_" + strings.ToLower(rand.Text()[:12]) }

// cleanUp executes a statement when the test has ended.
func cleanUp(tb testing.TB, db *sql.DB, statement string) {
	tb.Helper()
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute)
		defer cancel()
		_, err := db.ExecContext(ctx, statement)
		require.NoError(tb, err)
		require.NoError(tb, db.Close())
	})
}

func freshPostgreSQL(tb testing.TB) place {
	tb.Helper()
	needs(tb, "PostgreSQL", postgresAddress, postgresStart)
	p := place{Driver: "pgx", DSN: postgresDSN, Schema: newName()}
	db, err := sql.Open(p.Driver, p.DSN)
	require.NoError(tb, err)
	run(tb, db, "CREATE SCHEMA "+p.Schema)
	cleanUp(tb, db, "DROP SCHEMA "+p.Schema+" CASCADE")
	return p
}

func freshMariaDB(tb testing.TB) place {
	tb.Helper()
	needs(tb, "MariaDB", mysqlAddress, mysqlStart)
	name := newName()
	db, err := sql.Open("mysql", "root@tcp("+mysqlAddress+")/test")
	require.NoError(tb, err)
	run(tb, db, "CREATE DATABASE "+name+" COLLATE utf8mb4_general_ci") // which ignores case and trailing spaces
	cleanUp(tb, db, "DROP DATABASE "+name)
	return place{Driver: "mysql", DSN: "root@tcp(" + mysqlAddress + ")/" + name}
}

func freshSQLite(tb testing.TB) place {
	tb.Helper()
	return place{Driver: "sqlite", DSN: fileURI(filepath.Join(tb.TempDir(), "tokens.db")) + sqlitePragmas}
}

// fileURI escapes a path, because folders of tests have names such as x#01.
func fileURI(path string) string { return "file:" + (&url.URL{Path: path}).EscapedPath() }

// run executes a statement of the test's own.
func run(tb testing.TB, db *sql.DB, statement string) {
	tb.Helper()
	_, err := db.ExecContext(tb.Context(), statement)
	require.NoError(tb, err, statement)
}

// number reads a number.
func number(tb testing.TB, db *sql.DB, statement string) int64 {
	tb.Helper()
	var n int64
	require.NoError(tb, db.QueryRowContext(tb.Context(), statement).Scan(&n), statement)
	return n
}

// installation returns one with a secret that must never be shown.
func installation(token string) oauth.Installation {
	return oauth.Installation{
		MemberID: memberID, AccessToken: event.Secret(planted + token),
		RefreshToken: event.Secret(planted + "r" + token),
	}
}

// requireSafe checks that an error shows no value, no address and no part of a DSN in any format.
func requireSafe(tb testing.TB, err error) {
	tb.Helper()
	require.Error(tb, err)
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		text := fmt.Sprintf(verb, err)
		for _, word := range []string{planted, "127.0.0.1", "postgres@", "root@", "password=", "sslmode", "SELECT", "INSERT", "/tmp"} {
			require.NotContains(tb, text, word)
		}
	}
}

// texts returns the last column of the rows of a statement.
func texts(tb testing.TB, p place, statement string, args ...any) []string {
	tb.Helper()
	rows, err := p.open(tb).QueryContext(tb.Context(), statement, args...)
	require.NoError(tb, err)
	defer func() { require.NoError(tb, rows.Close()) }()
	columns, err := rows.Columns()
	require.NoError(tb, err)
	var found []string
	for rows.Next() {
		cells := make([]any, len(columns))
		for i := range cells {
			cells[i] = new(any)
		}
		text := ""
		cells[len(cells)-1] = &text
		require.NoError(tb, rows.Scan(cells...))
		found = append(found, text)
	}
	require.NoError(tb, rows.Err())
	return found
}

// fill writes rows with the keys m00000 and so on, and the users 0 and so on, and no documents.
func fill(tb testing.TB, db *sql.DB, p place, portals, users int) {
	tb.Helper()
	var numbers, concat string
	switch p.dialect() {
	case sqlstore.PostgreSQL:
		numbers, concat = "generate_series(0, %d) AS m(n), generate_series(0, %d) AS u(n)", "convert_to('m' || lpad(m.n::text, 5, '0'), 'UTF8')"
	case sqlstore.MySQL:
		numbers, concat = "(SELECT seq AS n FROM seq_0_to_%d) AS m, (SELECT seq AS n FROM seq_0_to_%d) AS u", "concat('m', lpad(m.n, 5, '0'))"
	default:
		numbers = "(WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s LIMIT %d + 1) SELECT n FROM s) AS m, " +
			"(WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s LIMIT %d + 1) SELECT n FROM s) AS u"
		concat = "CAST(printf('m%%05d', m.n) AS BLOB)"
	}
	for _, client := range []string{clientID, clientID + "x"} {
		id := "'" + client + "'"
		if p.dialect() == sqlstore.SQLite {
			id = "CAST(" + id + " AS BLOB)"
		}
		run(tb, db, fmt.Sprintf("INSERT INTO "+p.table("installations")+" (client_id, member_id, user_id, version, document) SELECT "+id+", "+
			concat+", u.n, '1', '1' FROM "+numbers, portals-1, users-1))
	}
}
