package sqlitestore

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/longtest"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// TestOtherDriver runs the suite with the same statements over another build of SQLite.
func TestOtherDriver(t *testing.T) {
	t.Parallel()
	longtest.Skip(t, "it runs the suite twice more")
	for name, c := range map[string]struct {
		config config
		kept   []webhooktest.TestOption
	}{
		"plain": {config{logPages: 50}, nil},
		"kept":  {config{logPages: 50, keep: time.Hour}, []webhooktest.TestOption{webhooktest.CheckKept()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			webhooktest.TestStore(t, func(t *testing.T) func(*testing.T) webhook.Store {
				t.Helper()
				path := filepath.Join(t.TempDir(), "queue.db")
				return func(t *testing.T) webhook.Store {
					t.Helper()
					s, err := openEngine(t.Context(), ncruces(t, uri(path)), c.config)
					require.NoError(t, err)
					return s
				}
			}, c.kept...)
		})
	}
}
