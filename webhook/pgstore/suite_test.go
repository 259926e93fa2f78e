package pgstore_test

import (
	"testing"
	"time"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/pgstore"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// opener makes what the suite asks for: empty data, and stores on them.
func opener(opts ...pgstore.Option) func(t *testing.T) func(*testing.T) webhook.Store {
	return func(t *testing.T) func(*testing.T) webhook.Store {
		t.Helper()
		k := newKit(t)
		pool := newPool(t, k.dsn)
		return func(t *testing.T) webhook.Store {
			t.Helper()
			s, err := k.try(pool, opts...)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	few := pgstore.WithPartitions(4)
	webhooktest.TestStore(t, opener(few), webhooktest.CheckRejected(pgstore.MaxDataBytes+1),
		webhooktest.CheckFull(func(t *testing.T, room int) func(*testing.T) webhook.Store {
			t.Helper()
			return opener(few, pgstore.WithMaxPending(int64(room)))(t)
		}))
}

func TestStoreThatKeeps(t *testing.T) {
	t.Parallel()
	webhooktest.TestStore(t, opener(pgstore.WithKeep(24*time.Hour)), webhooktest.CheckKept())
}
