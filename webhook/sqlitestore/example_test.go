package sqlitestore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/sqlitestore"
)

// A program passes the Store to webhook.NewHandler with webhook.WithStore. This example does what
// the Handler does then.
func ExampleOpen() {
	if err := storeOne(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// ONCRMDEALADD is pending
	// 0 pending, 0 parked
}

func storeOne(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "queue")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	store, err := sqlitestore.Open(ctx, filepath.Join(dir, "events.db"), sqlitestore.WithMaxPending(1_000_000))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	add := []*webhook.Record{{Name: "ONCRMDEALADD", Received: time.Now(), Data: []byte("the delivery")}}
	if err := store.Commit(ctx, add, nil); err != nil { // durable when it returns
		return err
	}
	for r, err := range store.Feed(ctx, 0) {
		if err != nil {
			return err
		}
		fmt.Println(r.Name, "is pending")
		done := webhook.Mark{ID: r.ID, State: webhook.StateDone}
		if err := store.Commit(ctx, nil, []webhook.Mark{done}); err != nil {
			return err
		}
		break
	}
	depth, err := store.Depth(ctx)
	fmt.Println(depth.Pending, "pending,", depth.Parked, "parked")
	return err
}

func ExampleWithKeep() {
	ctx := context.Background()
	_, err := sqlitestore.Open(ctx, "events.db", sqlitestore.WithKeep(0))
	fmt.Println(errors.Is(err, sqlitestore.ErrConfig))
	// Output: true
}
