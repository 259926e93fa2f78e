package sqlstore_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/oauth/sqlstore"
)

// Replicas of a program keep their tokens in one database, encrypted, and refresh each once. This
// one uses SQLite (modernc.org/sqlite). With a server only the driver, the DSN and the dialect
// differ.
func ExampleNew() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "tokens") // in a real program, a folder that stays, with mode 0700
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	key := make([]byte, oauth.EncryptionKeySize) // in a real program, from a vault
	_, _ = rand.Read(key)

	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "tokens.db")+"?_pragma=busy_timeout(10000)&_pragma=synchronous(FULL)")
	if err != nil {
		panic(err)
	}
	defer func() { _ = db.Close() }()
	store, err := sqlstore.New(ctx, db, sqlstore.SQLite, sqlstore.WithCodec(oauth.WithEncryptionKey(key)))
	if err != nil {
		panic(err)
	}
	app := oauth.Config{ClientID: "local.5c8bb1b0891cf2.87252039", ClientSecret: "…"}
	portals, err := oauth.NewPortals(app, store)
	if err != nil {
		panic(err)
	}

	// portals verifies and stores installations. This stands for one of them.
	_, err = store.Swap(ctx, oauth.Key{ClientID: app.ClientID, MemberID: "a223c6b3710f85df22e9377d6c4f7553"}, "",
		oauth.Installation{AccessToken: "access", ClientEndpoint: "https://example.bitrix24.com/rest/"})
	if err != nil {
		panic(err)
	}
	endpoint, _, err := portals.Access(ctx, "a223c6b3710f85df22e9377d6c4f7553")
	fmt.Println(endpoint, err)
	// Output: https://example.bitrix24.com/rest/ <nil>
}

// A worker takes a lease, and sends its fencing token with what it writes. A worker that was frozen
// in the meantime has an older token, which the table of the account refuses.
func ExampleStore_Fences() {
	ctx := context.Background()
	db, store, cleanUp := openExample(ctx)
	defer cleanUp()
	_, _ = db.ExecContext(ctx, "CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER, fence INTEGER)")
	_, _ = db.ExecContext(ctx, "INSERT INTO account VALUES (7, 100, 0)")
	pay := func(worker string, token int64) {
		result, err := db.ExecContext(ctx, "UPDATE account SET balance = balance - 10, fence = ? WHERE id = 7 AND fence <= ?", token, token)
		if err != nil {
			panic(err)
		}
		paid, _ := result.RowsAffected()
		fmt.Println(worker, "paid:", paid == 1)
	}

	_, _ = store.Acquire(ctx, "frozen", time.Minute, "account/7")
	frozen, _ := store.Fences(ctx, "frozen", "account/7")
	_ = store.Release(ctx, "frozen", "account/7") // in reality the minute is over, and the worker does not know it
	_, _ = store.Acquire(ctx, "next", time.Minute, "account/7")
	next, _ := store.Fences(ctx, "next", "account/7")
	pay("next", next["account/7"])
	pay("frozen", frozen["account/7"])
	// Output:
	// next paid: true
	// frozen paid: false
}

func openExample(ctx context.Context) (db *sql.DB, store *sqlstore.Store, cleanUp func()) {
	dir, err := os.MkdirTemp("", "leases")
	if err != nil {
		panic(err)
	}
	db, err = sql.Open("sqlite", "file:"+filepath.Join(dir, "leases.db")+"?_pragma=busy_timeout(10000)&_pragma=synchronous(FULL)")
	if err != nil {
		panic(err)
	}
	store, err = sqlstore.New(ctx, db, sqlstore.SQLite)
	if err != nil {
		panic(err)
	}
	return db, store, func() {
		_ = db.Close()
		_ = os.RemoveAll(dir)
	}
}
