package natsstore_test

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/natsstore"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		opt  natsstore.Option
	}{
		{"empty name", natsstore.WithName("")},
		{"name with a dot", natsstore.WithName("a.b")},
		{"name with a space", natsstore.WithName("a b")},
		{"name with a wildcard", natsstore.WithName("a*")},
		{"name with a wildcard for all", natsstore.WithName(">")},
		{"name with a slash", natsstore.WithName("../a")},
		{"name with a backslash", natsstore.WithName(`a\b`)},
		{"name with a dollar", natsstore.WithName("$JS")},
		{"name with a line", natsstore.WithName("a\r\nPUB b 0")},
		{"name with other letters", natsstore.WithName("имя")},
		{"long name", natsstore.WithName(strings.Repeat("n", 65))},
		{"very long name", natsstore.WithName(strings.Repeat("n", 1<<20))},
		{"no partitions", natsstore.WithPartitions(0)},
		{"one partition", natsstore.WithPartitions(1)},
		{"many partitions", natsstore.WithPartitions(natsstore.MaxPartitions + 1)},
		{"no replicas", natsstore.WithReplicas(0)},
		{"two replicas", natsstore.WithReplicas(2)},
		{"no room", natsstore.WithMaxPending(0)},
		{"few bytes", natsstore.WithMaxBytes(1 << 10)},
		{"kept for a moment", natsstore.WithKeep(time.Second)},
		{"domain with a dot", natsstore.WithDomain("a.b")},
		{"no domain", natsstore.WithDomain("")},
		{"nil logger", natsstore.WithLogger(nil)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, err := natsstore.New(t.Context(), nil, c.opt)
			require.ErrorIs(t, err, natsstore.ErrConfig)
			require.Nil(t, s)
			require.NotContains(t, err.Error(), "no connection", "the option is refused first")
			require.Less(t, len(err.Error()), 300)
		})
	}
	_, err := natsstore.New(t.Context(), nil, nil, natsstore.WithName("ok"), natsstore.WithLogger(slog.New(slog.DiscardHandler)))
	require.ErrorIs(t, err, natsstore.ErrConfig)
	require.ErrorContains(t, err, "no connection")
}

// TestExistingStream opens a store on streams that somebody made.
func TestExistingStream(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			for _, c := range []struct {
				name   string
				stream string
				change func(*jetstream.StreamConfig)
				want   string // in the error; empty for none
			}{
				{"as it should be", "", func(*jetstream.StreamConfig) {}, ""},
				{"work queue", "", func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }, "retention"},
				{"interest", "-parked", func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }, "retention"},
				{"discard old", "", func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, "discard"},
				{"discard old of parked", "-parked", func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, "discard"},
				{"memory", "", func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, "storage"},
				{"leases in memory", "-leases", func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, "storage"},
				{"max age", "", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour; c.Duplicates = time.Minute }, "max_age"},
				{
					"max age of marks", "-marks", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour; c.Duplicates = time.Minute },
					"max_age",
				},
				{"other subjects", "", func(c *jetstream.StreamConfig) { c.Subjects = []string{c.Name + ".other"} }, "subjects"},
				{
					"more subjects", "-marks", func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, c.Name+".other") },
					"subjects",
				},
				{"no acknowledgements", "", func(c *jetstream.StreamConfig) { c.NoAck = true }, "no_ack"},
				{"no deletes", "", func(c *jetstream.StreamConfig) { c.DenyDelete = true }, "deny_delete"},
				{"few consumers", "", func(c *jetstream.StreamConfig) { c.MaxConsumers = 2 }, "max_consumers"},
				{"few of a subject", "", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 10 }, "max_msgs_per_subject"},
				{"all marks of a record", "-marks", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = -1 }, "max_msgs_per_subject"},
				{"two of a lease", "-leases", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 2 }, "max_msgs_per_subject"},
				{"short memory for IDs", "", func(c *jetstream.StreamConfig) { c.Duplicates = time.Second }, "duplicate_window"},
				{"more room", "", func(c *jetstream.StreamConfig) { c.MaxMsgs = 5 }, ""},
				{"kept for less", "-done", func(c *jetstream.StreamConfig) { c.MaxAge = 5 * time.Minute }, ""},
				{
					"kept and discard old", "-done",
					func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld; c.MaxBytes = 1 << 30 }, "",
				},
				{"large messages refused", "", func(c *jetstream.StreamConfig) { c.MaxMsgSize = 8 << 10 }, ""},
			} {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					space := newSpace(t, url, natsstore.WithKeep(time.Hour))
					require.NoError(t, space.open(t).Close())
					js := space.js()
					st, err := js.Stream(t.Context(), space.name+c.stream)
					require.NoError(t, err)
					config := st.CachedInfo().Config
					config.Metadata = nil
					require.NoError(t, js.DeleteStream(t.Context(), config.Name))
					c.change(&config)
					_, err = js.CreateStream(t.Context(), config)
					require.NoError(t, err)
					store, err := space.try(t, connect(t, url))
					if c.want != "" {
						require.ErrorIs(t, err, natsstore.ErrConfig)
						require.ErrorContains(t, err, c.want)
						require.ErrorContains(t, err, config.Name)
						st, err := js.Stream(t.Context(), config.Name)
						require.NoError(t, err)
						require.Equal(t, config.Subjects, st.CachedInfo().Config.Subjects, "it was not changed")
						return
					}
					require.NoError(t, err)
					add := records(0, 2, "record")
					commit(t, store, add)
					require.Equal(t, ids(add), ids(pending(t, store, 0)))
					require.NoError(t, store.Close())
				})
			}
		})
	}
}

// TestLimits changes limits by opening the store with other options.
func TestLimits(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url)
			config := func(stream string) jetstream.StreamConfig {
				st, err := space.js().Stream(t.Context(), space.name+stream)
				require.NoError(t, err)
				return st.CachedInfo().Config
			}
			first := space.open(t)
			require.Equal(t, int64(natsstore.DefaultMaxPending), config("").MaxMsgs)
			space.open(t, natsstore.WithMaxPending(10), natsstore.WithMaxBytes(1<<20), natsstore.WithKeep(2*time.Hour))
			require.Equal(t, int64(10), config("").MaxMsgs)
			require.Equal(t, int64(1<<20), config("").MaxBytes)
			require.Equal(t, 2*time.Hour, config("-done").MaxAge)
			space.open(t)
			require.Equal(t, int64(10), config("").MaxMsgs, "without options the limits stay")
			space.open(t, natsstore.WithKeep(time.Hour))
			require.Equal(t, time.Hour, config("-done").MaxAge)
			commit(t, first, records(0, 10, "record"))
			require.ErrorIs(t, first.Commit(within(t), records(0, 1, "record"), nil), webhook.ErrQueueFull)
			space.open(t, natsstore.WithMaxPending(11))
			commit(t, first, records(0, 1, "record"))

			// Full by bytes.
			list := pending(t, space.open(t, natsstore.WithMaxPending(100)), 0)
			commit(t, first, nil, marks(webhook.StateDone, list...)...)
			large := records(0, 3, "large")
			for _, r := range large {
				r.Data = make([]byte, 400<<10)
			}
			require.ErrorIs(t, first.Commit(within(t), large, nil), webhook.ErrQueueFull)
			tooLarge := records(0, 1, "too large for the stream")
			tooLarge[0].Data = make([]byte, 1<<20-1000)
			require.NoError(t, space.open(t).Commit(within(t), tooLarge, nil))
			require.Error(t, tooLarge[0].Rejected)
		})
	}
}

// TestFullAndMarks commits records and marks together when there is no room: the marks make room.
func TestFullAndMarks(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			store := newSpace(t, url, natsstore.WithMaxPending(20)).open(t)
			add := records(0, 20, "record")
			commit(t, store, add)
			more := records(0, 5, "more")
			commit(t, store, more, marks(webhook.StateDone, add[:5]...)...)
			require.Equal(t, ids(append(add[5:20:20], more...)), ids(fed(t, store, 0, 20)))
			require.ErrorIs(t, store.Commit(within(t), records(0, 5, "none"), marks(webhook.StateParked, add[5])), webhook.ErrQueueFull)
			parked, err := store.List(within(t), webhook.StateParked, "", 5)
			require.NoError(t, err)
			require.Equal(t, ids(add[5:6]), ids(parked), "the mark was applied")
			// Replay finds no room either, once the store is full again.
			err = store.Commit(within(t), records(0, 20, "fill"), nil)
			require.ErrorIs(t, err, webhook.ErrQueueFull)
			n, err := store.Replay(within(t), add[5].ID)
			require.ErrorIs(t, err, webhook.ErrQueueFull)
			require.Zero(t, n)
			parked, err = store.List(within(t), webhook.StateParked, "", 5)
			require.NoError(t, err)
			require.Equal(t, ids(add[5:6]), ids(parked))
		})
	}
}

func TestPartitionsOfExistingStream(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			nc := connect(t, url)
			space := newSpace(t, url)
			require.Equal(t, 7, space.on(t, nc, natsstore.WithPartitions(7)).Partitions())
			_, err := space.try(t, nc, natsstore.WithPartitions(8))
			require.ErrorIs(t, err, natsstore.ErrConfig)
			require.ErrorContains(t, err, "WithPartitions(7)")
			s, err := natsstore.New(t.Context(), nc, natsstore.WithName(space.name))
			require.NoError(t, err)
			require.Equal(t, 7, s.Partitions(), "without the option the number is that of the stream")
			require.NoError(t, s.Close())
			other := newSpace(t, url)
			s, err = natsstore.New(t.Context(), nc, natsstore.WithName(other.name))
			require.NoError(t, err)
			require.Equal(t, natsstore.DefaultPartitions, s.Partitions())
			require.NoError(t, s.Close())
		})
	}
}

// TestOpenedAtOnce has many processes start at the same time.
func TestOpenedAtOnce(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url, natsstore.WithKeep(time.Hour))
			stores := make([]*natsstore.Store, 8)
			errs := make([]error, len(stores))
			var all sync.WaitGroup
			for i := range stores {
				nc := connect(t, url)
				all.Go(func() { stores[i], errs[i] = space.try(t, nc, natsstore.WithMaxPending(int64(1000+i))) })
			}
			all.Wait()
			for i, s := range stores {
				require.NoError(t, errs[i])
				commit(t, s, records(0, 1, "record"))
				t.Cleanup(func() { _ = s.Close() })
			}
			require.Len(t, pending(t, stores[0], 0), len(stores))
		})
	}
}

// TestSubjectsTaken opens a store whose subjects another stream has.
func TestSubjectsTaken(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space, other := newSpace(t, url), newSpace(t, url)
			_, err := space.js().CreateStream(t.Context(), jetstream.StreamConfig{Name: other.name, Subjects: []string{space.name + ".>"}})
			require.NoError(t, err)
			_, err = space.try(t, connect(t, url))
			require.ErrorIs(t, err, natsstore.ErrConfig)
			require.ErrorContains(t, err, "overlap")
			require.ErrorContains(t, err, space.name)
		})
	}
}

// TestReplicasOfExistingStream asks for more servers than there are.
func TestReplicasOfExistingStream(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url)
			space.open(t, natsstore.WithReplicas(1))
			_, err := space.try(t, connect(t, url), natsstore.WithReplicas(3))
			require.ErrorIs(t, err, natsstore.ErrConfig)
			require.ErrorContains(t, err, "num_replicas")
			_, err = newSpace(t, url).try(t, connect(t, url), natsstore.WithReplicas(3))
			require.Error(t, err, "one server has no replicas")
			require.NotErrorIs(t, err, natsstore.ErrConfig)
		})
	}
}
