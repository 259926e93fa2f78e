package sqlitestore_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/sqlitestore"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// openFile is the function that TestStore wants.
func openFile(opts ...sqlitestore.Option) func(*testing.T) func(*testing.T) webhook.Store {
	return func(t *testing.T) func(*testing.T) webhook.Store {
		t.Helper()
		path := filepath.Join(t.TempDir(), "a folder", "queue?.db")
		return func(t *testing.T) webhook.Store {
			t.Helper()
			s, err := sqlitestore.Open(t.Context(), path, opts...)
			require.NoError(t, err)
			return s
		}
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	webhooktest.TestStore(t, openFile(),
		webhooktest.CheckRejected(sqlitestore.MaxDataBytes+1),
		webhooktest.CheckFull(func(t *testing.T, room int) func(*testing.T) webhook.Store {
			t.Helper()
			return openFile(sqlitestore.WithMaxPending(room))(t)
		}))
}

func TestStoreKept(t *testing.T) {
	t.Parallel()
	webhooktest.TestStore(t, openFile(sqlitestore.WithKeep(time.Hour)), webhooktest.CheckKept())
}

func TestStoreNormal(t *testing.T) {
	t.Parallel()
	webhooktest.TestStore(t, openFile(sqlitestore.WithSynchronous(sqlitestore.Normal), nil))
}
