package natsstore_test

import (
	"testing"
	"time"

	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/offline/offlinetest"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/natsstore"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// opener opens data of its own for the suite, each time with a connection of its own.
func opener(t *testing.T, url string, opts ...natsstore.Option) func(*testing.T) webhook.Store {
	t.Helper()
	s := newSpace(t, url, opts...)
	return func(t *testing.T) webhook.Store {
		t.Helper()
		return s.open(t)
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			webhooktest.TestStore(t,
				func(t *testing.T) func(*testing.T) webhook.Store {
					t.Helper()
					return opener(t, url)
				},
				webhooktest.CheckFull(func(t *testing.T, room int) func(*testing.T) webhook.Store {
					t.Helper()
					return opener(t, url, natsstore.WithMaxPending(int64(room)))
				}),
				webhooktest.CheckRejected(1<<20),
			)
		})
	}
}

func TestStoreThatKeeps(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			webhooktest.TestStore(t, func(t *testing.T) func(*testing.T) webhook.Store {
				t.Helper()
				return opener(t, url, natsstore.WithKeep(2*time.Hour))
			}, webhooktest.CheckKept())
		})
	}
}

func TestLeaser(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			offlinetest.TestLeaser(t, func(t *testing.T) offline.Leaser {
				t.Helper()
				return newSpace(t, url).open(t)
			})
		})
	}
}
