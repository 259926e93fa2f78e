package natsstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/longtest"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/natsstore"
)

// TestArchivedTwice has a process die after it archived records and before it deleted them: the
// records are in both streams. They are not yielded, not listed twice, and cleaned up.
func TestArchivedTwice(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url, natsstore.WithKeep(time.Hour))
			store := space.open(t)
			add := records(1, 6, "record")
			commit(t, store, add)
			js := space.js()
			for _, c := range []struct {
				kind string
				r    *webhook.Record
			}{{"parked", add[1]}, {"done", add[4]}} {
				_, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: space.name + "." + c.kind + ".1." + c.r.ID, Data: c.r.Data})
				require.NoError(t, err)
			}
			// The process comes back and marks again what it had marked.
			other := records(1, 1, "other")
			commit(t, store, other)
			commit(t, store, nil, slices.Concat(marks(webhook.StateParked, add[1], other[0]), marks(webhook.StateDone, add[4]))...)
			for state, want := range map[webhook.State][]string{webhook.StateParked: {add[1].ID, other[0].ID}, webhook.StateDone: {add[4].ID}} {
				list, err := store.List(within(t), state, "", 10)
				require.NoError(t, err)
				require.Equal(t, want, ids(list))
			}
			require.Equal(t, 4, space.count(t, ""))

			// Another process takes over instead.
			for _, r := range []*webhook.Record{add[0], add[5]} {
				_, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: space.name + ".parked.1." + r.ID, Data: r.Data})
				require.NoError(t, err)
			}
			second := space.open(t)
			require.Equal(t, ids(add[2:4]), ids(pending(t, second, 1)))
			require.Eventually(t, func() bool { return space.count(t, "") == 2 }, patience, pace, "what is archived is deleted")
			list, err := second.List(within(t), webhook.StateParked, "", 10)
			require.NoError(t, err)
			require.Equal(t, []string{add[1].ID, other[0].ID, add[0].ID, add[5].ID}, ids(list))
		})
	}
}

// TestCountersWithoutRecord leaves counters behind, as a process does that dies after it deleted a
// record, or that marks a record late. The next Feed deletes them, and no others.
func TestCountersWithoutRecord(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url)
			store := space.open(t)
			add := records(2, 40, "record")
			commit(t, store, add)
			counted := marks(webhook.StatePending, add...)
			for i := range counted {
				counted[i].Attempts = i + 1
			}
			commit(t, store, nil, counted...)
			second := space.open(t) // knows nothing of the counters
			commit(t, second, nil, marks(webhook.StateDone, add[:30]...)...)
			require.Equal(t, 40, space.count(t, "-marks"))
			third := space.open(t)
			list := pending(t, third, 2)
			require.Equal(t, ids(add[30:]), ids(list))
			for i, r := range list {
				require.Equal(t, 31+i, r.Attempts)
			}
			require.Eventually(t, func() bool { return space.count(t, "-marks") == 10 }, patience, pace,
				"counters of settled records are deleted")
			commit(t, third, nil, marks(webhook.StateDone, list...)...)
			require.Zero(t, space.count(t, "-marks"), "a process that knows the counters deletes them with the record")
			late := counted[35]
			commit(t, store, nil, late)
			require.Empty(t, pending(t, space.open(t), 2))
			require.Eventually(t, func() bool { return space.count(t, "-marks") == 0 }, patience, pace)
		})
	}
}

// TestBacklog counts the messages that a client sends to read a backlog with counters and archived
// records: a few for hundreds of records, not one for each.
func TestBacklog(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			const n = 5000
			space := newSpace(t, url)
			store := space.open(t)
			var add []*webhook.Record
			for i := range n / 500 {
				part := records(0, 500, fmt.Sprint("group ", i))
				commit(t, store, part)
				add = append(add, part...)
			}
			counted := marks(webhook.StatePending, add...)
			for i := range counted {
				counted[i].Interrupted = i
			}
			for part := range slices.Chunk(counted, 1000) {
				commit(t, store, nil, part...)
			}
			commit(t, store, nil, marks(webhook.StateParked, add[:200]...)...)

			nc := connect(t, url)
			second := space.on(t, nc)
			sent := nc.Stats().OutMsgs
			f := startFeed(t, second, 0)
			for i, r := range f.take(n - 200) {
				require.Equal(t, add[200+i].ID, r.ID)
				require.Equal(t, 200+i, r.Interrupted)
				require.True(t, r.Recovered)
			}
			require.Less(t, nc.Stats().OutMsgs-sent, uint64(200))
			f.stop()
		})
	}
}

// TestStreamDeleted deletes streams by hand while the store is open, and makes them again.
func TestStreamDeleted(t *testing.T) {
	t.Parallel()
	longtest.Skip(t, "it waits out leases")
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url)
			store := space.open(t)
			old := records(0, 5, "old")
			commit(t, store, old)
			f, idle := startFeed(t, store, 0), startFeed(t, store, 1)
			f.take(5)
			js := space.js()
			require.NoError(t, js.DeleteStream(t.Context(), space.name))
			require.ErrorIs(t, f.ended(), natsstore.ErrNoStream)
			require.ErrorIs(t, idle.ended(), natsstore.ErrNoStream)
			err := store.Commit(within(t), records(0, 1, "lost"), nil)
			require.ErrorIs(t, err, natsstore.ErrNoStream)
			require.ErrorContains(t, err, space.name, "the error names the stream")
			require.ErrorIs(t, startFeed(t, store, 0).ended(), natsstore.ErrNoStream)
			require.ErrorIs(t, second(store.Depth(within(t))), natsstore.ErrNoStream)
			require.ErrorIs(t, second(store.Load(within(t), 0, ids(old))), natsstore.ErrNoStream)

			// Another process starts and makes it again. The first one continues.
			other := space.open(t)
			fresh := records(0, 5, "new")
			commit(t, other, fresh)
			f = startFeed(t, store, 0)
			require.Equal(t, ids(fresh), ids(f.take(5)))
			more := records(0, 1, "more")
			commit(t, store, more, marks(webhook.StateDone, old...)...)
			require.Equal(t, ids(more), ids(f.take(1)))
			f.stop()
			require.Equal(t, ids(append(slices.Clone(fresh), more...)), ids(pending(t, store, 0)),
				"marks of old records settle no new ones")

			// Made again by hand, with something that the store must not use.
			f = startFeed(t, store, 0)
			f.take(6)
			require.NoError(t, js.DeleteStream(t.Context(), space.name))
			_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{
				Name: space.name, Subjects: []string{space.name + ".in.4.*"}, Storage: jetstream.MemoryStorage, Discard: jetstream.DiscardNew,
			})
			require.NoError(t, err)
			err = f.ended()
			require.Condition(t, func() bool {
				return errors.Is(err, natsstore.ErrNoStream) || errors.Is(err, natsstore.ErrConfig)
			}, "%v", err)
			err = startFeed(t, store, 0).ended()
			require.ErrorIs(t, err, natsstore.ErrConfig)
			require.ErrorContains(t, err, "storage")

			for stream, call := range map[string]func() error{
				"-marks":  func() error { return store.Commit(within(t), nil, marks(webhook.StatePending, more...)) },
				"-parked": func() error { return second(store.List(within(t), webhook.StateParked, "", 5)) },
				"-leases": func() error { return second(store.Acquire(within(t), "me", time.Minute, "x")) },
			} {
				require.NoError(t, js.DeleteStream(t.Context(), space.name+stream))
				require.ErrorIs(t, call(), natsstore.ErrNoStream, stream)
			}
		})
	}
}

// TestReplayTwice repeats a replay of which the process died before it deleted the archived record.
func TestReplayTwice(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url)
			store := space.open(t)
			add := records(0, 3, "record")
			commit(t, store, add)
			commit(t, store, nil, marks(webhook.StateParked, add...)...)
			js := space.js()
			st, err := js.Stream(t.Context(), space.name+"-parked")
			require.NoError(t, err)
			copied, err := st.GetLastMsgForSubject(t.Context(), space.name+".parked.0."+add[1].ID)
			require.NoError(t, err)
			n, err := store.Replay(within(t), ids(add)...)
			require.NoError(t, err)
			require.Equal(t, 3, n)

			// As if it had not been deleted, with the same sequence.
			require.NoError(t, js.DeleteStream(t.Context(), space.name+"-parked"))
			_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{
				Name: space.name + "-parked", Subjects: []string{space.name + ".parked.*.*"}, Discard: jetstream.DiscardNew,
			})
			require.NoError(t, err)
			for seq := range copied.Sequence {
				subject := space.name + ".parked.0." + add[1].ID
				if seq+1 < copied.Sequence {
					subject = space.name + ".parked.0.filler" + strconv.FormatUint(seq, 10)
				}
				_, err = js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: copied.Header, Data: copied.Data},
					jetstream.WithExpectLastSequencePerSubject(0))
				require.NoError(t, err)
			}
			n, err = store.Replay(within(t), ids(add)...)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			list := pending(t, store, 0)
			require.Equal(t, data(add), data(list), "the second replay stores nothing")
		})
	}
}

// TestPaging lists page by page while the records of the pages before are discarded and replayed.
func TestPaging(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url)
			store := space.open(t)
			add := records(3, 25, "record")
			commit(t, store, add)
			commit(t, store, nil, marks(webhook.StateParked, add...)...)
			var got []string
			for after := ""; ; {
				page, err := store.List(within(t), webhook.StateParked, after, 4)
				require.NoError(t, err)
				got = append(got, ids(page)...)
				if len(page) < 4 {
					break
				}
				after = page[3].ID
				_, err = store.Discard(within(t), page[0].ID, page[3].ID)
				require.NoError(t, err)
				_, err = store.Replay(within(t), page[1].ID)
				require.NoError(t, err)
			}
			require.Equal(t, ids(add), got)
			_, err := space.open(t).List(within(t), webhook.StateParked, got[3], 4)
			require.ErrorIs(t, err, natsstore.ErrNotArchived, "another process does not know where it was")
			_, err = store.List(within(t), webhook.StatePending, "", 4)
			require.ErrorIs(t, err, natsstore.ErrConfig)
			require.ErrorContains(t, err, "StateParked")
			list, err := store.List(within(t), webhook.StateParked, "", 0)
			require.NoError(t, err)
			require.Empty(t, list)
		})
	}
}

// TestStrangers writes messages of another program into the streams of the store.
func TestStrangers(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url)
			store := space.open(t)
			js := space.js()
			for _, m := range []*nats.Msg{
				{Subject: space.name + ".in.4.0", Data: []byte("plain")},
				{
					Subject: space.name + ".in.4.0", Header: nats.Header{"Nats-Msg-Id": {"has spaces and is longer than an ID"}},
					Data: []byte("odd"),
				},
				{Subject: space.name + ".in.4.0", Header: nats.Header{"B24-Event": {"%zz"}, "B24-Received": {"never"}}},
				{Subject: space.name + ".in.4.7", Data: []byte("a partition that is none")},
				{Subject: space.name + ".mark.0.no-id", Data: []byte("no JSON")},
				{Subject: space.name + ".parked.0.no-id", Data: []byte("?")},
				{Subject: space.name + ".parked.9.0-1-A", Data: []byte("?")},
				{Subject: space.name + ".lease.!", Data: []byte("?")},
				{Subject: space.name + ".lease.nYQ", Data: []byte("?")},
			} {
				_, err := js.PublishMsg(t.Context(), m)
				require.NoError(t, err)
			}
			list := pending(t, store, 0)
			require.Equal(t, []string{"plain", "odd", ""}, data(list))
			require.Equal(t, "%zz", list[2].Name)
			require.False(t, list[2].Received.IsZero())
			found, err := store.Load(within(t), 0, ids(list))
			require.NoError(t, err)
			require.Equal(t, ids(list), ids(found))
			parked, err := store.List(within(t), webhook.StateParked, "", 10)
			require.NoError(t, err)
			require.Empty(t, parked)
			held, err := store.Held(within(t), "")
			require.NoError(t, err)
			require.Empty(t, held)
			got, err := store.Acquire(within(t), "me", time.Minute, "a")
			require.NoError(t, err)
			require.Equal(t, []string{"a"}, got)
			commit(t, store, nil, marks(webhook.StateParked, list...)...)
			require.Empty(t, pending(t, store, 0))
			n, err := store.Discard(within(t), ids(list)...)
			require.NoError(t, err)
			require.Equal(t, 3, n)
		})
	}
}

// TestMisuse calls with arguments that are wrong.
func TestMisuse(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			store := newSpace(t, url).open(t)
			add := records(0, 1, "record")
			commit(t, store, add)
			for _, part := range []int{-1, 4} {
				require.ErrorIs(t, store.Commit(within(t), records(part, 1, "record"), nil), natsstore.ErrConfig)
				require.ErrorIs(t, startFeed(t, store, part).ended(), natsstore.ErrConfig)
				list, err := store.Load(within(t), part, ids(add))
				require.NoError(t, err)
				require.Empty(t, list)
			}
			require.ErrorIs(t, store.Commit(within(t), nil, marks(webhook.State(9), add...)), natsstore.ErrConfig)
			commit(t, store, nil, webhook.Mark{Part: 1, ID: add[0].ID, State: webhook.StateDone})
			require.Equal(t, ids(add), ids(pending(t, store, 0)), "the mark named another partition")
		})
	}
}

// TestPartitionsDoNotWait blocks the loop of one Feed for all the others.
func TestPartitionsDoNotWait(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			store := newSpace(t, url).open(t)
			large := make([]byte, 300<<10)
			for part := range 4 {
				for range 12 {
					commit(t, store,
						[]*webhook.Record{{Part: part, Data: large, Received: time.Now()}, {Part: part, Data: large, Received: time.Now()}})
				}
			}
			blocked := startFeed(t, store, 0) // nobody takes its records
			for part := 1; part < 4; part++ {
				f := startFeed(t, store, part)
				require.Len(t, f.take(24), 24)
				f.stop()
			}
			require.Len(t, blocked.take(24), 24)
			blocked.stop()
			ctx, cancel := context.WithCancel(t.Context())
			n := 0
			for _, err := range store.Feed(ctx, 1) {
				require.NoError(t, err)
				if n++; n == 3 {
					cancel() // while the loop runs
				}
				require.LessOrEqual(t, n, 24)
			}
			cancel()
		})
	}
}
