package webhooktest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// In a test file of the package that has the store.
func ExampleTestStore() {
	_ = func(t *testing.T) { //nolint:thelper // this is how users write it
		webhooktest.TestStore(t, func(t *testing.T) func(*testing.T) webhook.Store { //nolint:thelper // the same
			store, err := webhooktest.NewMemoryStore() // or an empty database
			if err != nil {
				t.Fatal(err)
			}
			return func(*testing.T) webhook.Store { return store.Open() }
		})
	}
}

// The database goes away after it has stored the first of two records.
func ExampleMemoryStore_SetFaults() {
	ctx := context.Background()
	store, err := webhooktest.NewMemoryStore()
	if err != nil {
		fmt.Println(err)
		return
	}
	gone := errors.New("the database is gone")
	store.SetFaults(func(_ context.Context, call webhooktest.Call) webhooktest.Fault {
		if call.Op == webhooktest.OpCommit {
			return webhooktest.Fault{Err: gone, Added: 1}
		}
		return webhooktest.Fault{}
	})
	received := time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)
	add := []*webhook.Record{
		{Name: "ONCRMDEALADD", Received: received, Data: []byte("one")},
		{Name: "ONCRMDEALADD", Received: received, Data: []byte("two")},
	}
	fmt.Println(store.Commit(ctx, add, nil))
	depth, err := store.Depth(ctx)
	fmt.Println(depth.Pending, err)
	// Output:
	// the database is gone
	// 1 <nil>
}
