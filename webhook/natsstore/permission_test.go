package natsstore_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/longtest"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/natsstore"
)

// permissions are the subjects that the documentation lists, for any name of a store.
func permissions(without string) string {
	list := []string{
		"*.in.*.*", "*.mark.*.*", "*.parked.*.*", "*.done.*.*", "*.lease.*", "*.clock",
		"$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*", "$JS.API.STREAM.MSG.DELETE.*",
		"$JS.API.CONSUMER.CREATE.*.>", "$JS.API.CONSUMER.INFO.*.*", "$JS.API.CONSUMER.MSG.NEXT.*.*", "$JS.API.CONSUMER.DELETE.*.*",
		"$JS.API.STREAM.CREATE.*", "$JS.API.STREAM.UPDATE.*",
	}
	var quoted []string
	for _, subject := range list {
		if without == "" || !strings.Contains(subject, without) {
			quoted = append(quoted, fmt.Sprintf("%q", subject))
		}
	}
	return "{publish: [" + strings.Join(quoted, ", ") + `], subscribe: ["_INBOX.>"]}`
}

// users is the configuration of a server with a user for each of these permissions.
func users(kinds map[string]string) string {
	var b strings.Builder
	b.WriteString("authorization { users = [\n{user: admin, password: secret}\n")
	for user, without := range kinds {
		fmt.Fprintf(&b, "{user: %q, password: secret, permissions: %s}\n", user, permissions(without))
	}
	b.WriteString("] }\n")
	return b.String()
}

func as(user string, s *server) string {
	return strings.Replace(s.url(), "nats://", "nats://"+user+":secret@", 1)
}

// TestPermissions gives the user of the store no more than the documentation says.
func TestPermissions(t *testing.T) {
	t.Parallel()
	longtest.Skip(t, "it waits for permissions to time out")
	for name, program := range programs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, program(t), users(map[string]string{
				"all": "", "works": ".STREAM.CREATE", "keeps": ".MSG.DELETE", "blind": ".MSG.NEXT", "mute": ".in.", "nothing": "STREAM.",
			}))
			everything(t, newSpace(t, as("admin", s), natsstore.WithKeep(time.Hour)).on(t, connect(t, as("all", s))))
			space := newSpace(t, as("admin", s))
			admin := space.open(t)
			add := records(0, 3, "record")
			commit(t, admin, add)
			everything(t, space.on(t, connect(t, as("works", s))))

			short := func() context.Context {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				t.Cleanup(cancel)
				return ctx
			}
			keeps := space.on(t, connect(t, as("keeps", s)))
			err := keeps.Commit(short(), nil, marks(webhook.StateDone, add[2]))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "permissions")
			blind := space.on(t, connect(t, as("blind", s)))
			f := startFeed(t, blind, 0)
			require.ErrorContains(t, f.ended(), "feed of partition 0")
			mute := space.on(t, connect(t, as("mute", s)))
			err = mute.Commit(short(), records(0, 1, "none"), nil)
			require.ErrorContains(t, err, "permissions")
			_, err = natsstore.New(short(), connect(t, as("nothing", s)), natsstore.WithName(space.name))
			require.ErrorContains(t, err, "permissions")
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

// TestDomain reaches JetStream by the name of its domain.
func TestDomain(t *testing.T) {
	t.Parallel()
	for name, program := range programs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, program(t), "jetstream { domain: hub }\n")
			space := newSpace(t, s.url(), natsstore.WithDomain("hub"))
			everything(t, space.open(t))
			_, err := space.try(t, connect(t, s.url()), natsstore.WithDomain("other"))
			require.ErrorContains(t, err, "natsstore: open")
		})
	}
}

// TestInboxPrefix uses a connection with inboxes of its own.
func TestInboxPrefix(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url)
			store := space.on(t, connect(t, url, nats.CustomInboxPrefix("mine.inbox")))
			add := records(0, 3, "record")
			commit(t, store, add)
			require.Equal(t, ids(add), ids(pending(t, store, 0)))
		})
	}
}

// TestAsyncPersistence opens a store on a stream of which the server acknowledges what it has not
// written. Old servers have no such setting.
func TestAsyncPersistence(t *testing.T) {
	t.Parallel()
	url := modernURL(t)
	space := newSpace(t, url)
	_, err := space.js().CreateStream(t.Context(), jetstream.StreamConfig{
		Name: space.name, Subjects: []string{space.name + ".in.4.*"}, Discard: jetstream.DiscardNew, PersistMode: jetstream.AsyncPersistMode,
	})
	require.NoError(t, err)
	_, err = space.try(t, connect(t, url))
	require.ErrorIs(t, err, natsstore.ErrConfig)
	require.ErrorContains(t, err, "persist_mode")
}
