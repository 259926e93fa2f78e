package webhooktest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/offline/offlinetest"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// openMemory returns the function that TestStore needs.
func openMemory(opts ...webhooktest.MemoryOption) func(*testing.T) func(*testing.T) webhook.Store {
	return func(t *testing.T) func(*testing.T) webhook.Store {
		t.Helper()
		store, err := webhooktest.NewMemoryStore(opts...)
		require.NoError(t, err)
		return func(*testing.T) webhook.Store { return store.Open() }
	}
}

func TestMemoryStore(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]webhooktest.MemoryOption{
		"one partition":   nil,
		"five partitions": {webhooktest.WithPartitions(5)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			webhooktest.TestStore(t, openMemory(append(opts, webhooktest.WithMaxData(2<<20))...),
				webhooktest.CheckFull(func(t *testing.T, room int) func(*testing.T) webhook.Store {
					t.Helper()
					return openMemory(append(opts, webhooktest.WithMaxPending(room))...)(t)
				}),
				webhooktest.CheckRejected(2<<20+1), nil)
		})
		t.Run(name+" kept", func(t *testing.T) {
			t.Parallel()
			webhooktest.TestStore(t, openMemory(append(opts, webhooktest.WithKeep(), nil)...), webhooktest.CheckKept())
		})
	}
}

func TestMemoryStoreLeases(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	offlinetest.TestLeaser(t, func(t *testing.T) offline.Leaser {
		t.Helper()
		store, err := webhooktest.NewMemoryStore()
		require.NoError(t, err)
		return store
	})
}

func TestMemoryOptions(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]webhooktest.MemoryOption{
		"no partition": webhooktest.WithPartitions(0),
		"no room":      webhooktest.WithMaxPending(0),
		"no data":      webhooktest.WithMaxData(-1),
	} {
		_, err := webhooktest.NewMemoryStore(opt)
		require.ErrorIs(t, err, webhook.ErrConfig, name)
	}
}

func records(n int) []*webhook.Record {
	list := make([]*webhook.Record, n)
	for i := range list {
		list[i] = &webhook.Record{Name: "ONX", Received: time.Unix(int64(i), 0), Data: []byte{byte(i)}}
	}
	return list
}

// take reads n records of a Feed, and its error.
func take(ctx context.Context, s webhook.Store, n int) (list []*webhook.Record, err error) {
	for r, err := range s.Feed(ctx, 0) {
		if err != nil {
			return list, err
		}
		if list = append(list, r); len(list) == n {
			break
		}
	}
	return list, nil
}

func TestMemoryFaults(t *testing.T) {
	t.Parallel()
	store, err := webhooktest.NewMemoryStore()
	require.NoError(t, err)
	broken := errors.New("broken")
	var calls []webhooktest.Op
	fault := webhooktest.Fault{Err: broken}
	store.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
		calls = append(calls, c.Op)
		return fault
	})
	other := store.Open() // has no faults
	add := records(3)
	require.NoError(t, other.Commit(t.Context(), add, nil))

	_, err = take(t.Context(), store, 1)
	require.ErrorIs(t, err, broken)
	_, err = store.Load(t.Context(), 0, nil)
	require.ErrorIs(t, err, broken)
	_, err = store.Depth(t.Context())
	require.ErrorIs(t, err, broken)
	_, err = store.List(t.Context(), webhook.StateParked, "", 1)
	require.ErrorIs(t, err, broken)
	_, err = store.Replay(t.Context(), "1")
	require.ErrorIs(t, err, broken)
	_, err = store.Discard(t.Context(), "1")
	require.ErrorIs(t, err, broken)
	_, err = store.Acquire(t.Context(), "owner", time.Second, "name")
	require.ErrorIs(t, err, broken)
	require.ErrorIs(t, store.Release(t.Context(), "owner", "name"), broken)
	_, err = store.Held(t.Context(), "")
	require.ErrorIs(t, err, broken)

	marks := []webhook.Mark{{ID: add[0].ID, State: webhook.StateDone}, {ID: add[1].ID, State: webhook.StateDone}}
	require.ErrorIs(t, store.Commit(t.Context(), records(2), marks), broken)
	depth, err := other.Depth(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(3), depth.Pending)
	fault.Added, fault.Marked = 1, 9
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, store.Commit(ended, records(2), marks), broken)
	depth, err = other.Depth(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(2), depth.Pending)
	require.Equal(t, []webhooktest.Op{
		webhooktest.OpFeed, webhooktest.OpLoad, webhooktest.OpDepth, webhooktest.OpList, webhooktest.OpReplay, webhooktest.OpDiscard,
		webhooktest.OpAcquire, webhooktest.OpRelease, webhooktest.OpHeld, webhooktest.OpCommit, webhooktest.OpCommit,
	}, calls)
	store.SetFaults(nil)
	require.NoError(t, store.Commit(t.Context(), records(1), nil))
}

func TestMemoryFeedBreaks(t *testing.T) {
	t.Parallel()
	store, err := webhooktest.NewMemoryStore()
	require.NoError(t, err)
	require.NoError(t, store.Commit(t.Context(), records(5), nil))
	broken := errors.New("broken")
	store.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
		if c.Fed == 3 {
			return webhooktest.Fault{Err: broken}
		}
		return webhooktest.Fault{}
	})
	got, err := take(t.Context(), store, 5)
	require.ErrorIs(t, err, broken)
	require.Len(t, got, 3)
}

// A Feed yields the pointers that Commit got, once, and only in the store that committed them.
func TestMemoryFeedYieldsWhatWasGiven(t *testing.T) {
	t.Parallel()
	store, err := webhooktest.NewMemoryStore()
	require.NoError(t, err)
	other := store.Open()
	old, add := records(1), records(2)
	require.NoError(t, store.Commit(t.Context(), old, nil))
	var others []*webhook.Record
	for r, err := range store.Feed(t.Context(), 0) {
		require.NoError(t, err)
		if r.Recovered {
			require.NotSame(t, old[0], r)
			require.NoError(t, store.Commit(t.Context(), add, nil))
			continue
		}
		if len(others) == 0 {
			others, err = take(t.Context(), other, 3)
			require.NoError(t, err)
			require.Same(t, add[0], r)
			continue
		}
		require.Same(t, add[1], r)
		break
	}
	require.NotSame(t, add[1], others[2])
	again, err := take(t.Context(), store, 3)
	require.NoError(t, err)
	require.NotSame(t, add[0], again[1])
	require.Equal(t, add[0].Data, again[1].Data)
}
