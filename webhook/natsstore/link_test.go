package natsstore_test

import (
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/natsstore"
)

// TestConnectionCut breaks the connection again and again, while the server keeps running.
func TestConnectionCut(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url)
			p := startProxy(t, url)
			store := space.on(t, connect(t, p.url()))
			f := startFeed(t, store, 2)
			stop := make(chan struct{})
			cutting := make(chan struct{})
			go func() {
				defer close(cutting)
				for n := 1; ; n++ {
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(50+n%100) * time.Millisecond):
						p.cut()
					}
				}
			}()
			acked := make(map[string]bool)
			refused := 0
			for n := range 120 {
				add := records(2, 16, fmt.Sprint("commit ", n))
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				err := store.Commit(ctx, add, nil)
				cancel()
				if err != nil {
					refused++
					require.ErrorContains(t, err, "not stored in their order", "there was time to try again")
					continue
				}
				for _, r := range add {
					acked[string(r.Data)] = true
				}
			}
			close(stop)
			<-cutting
			end := records(2, 1, "end")
			commit(t, store, end)
			seen := make(map[string]bool)
			last := ""
			for {
				r := f.take(1)[0]
				if r.ID == end[0].ID {
					break
				}
				require.False(t, seen[string(r.Data)], "%s was yielded twice", r.Data)
				seen[string(r.Data)] = true
				if acked[string(r.Data)] {
					require.True(t, before(last, string(r.Data)), "%s behind %s", r.Data, last)
					last = string(r.Data)
				}
			}
			for data := range acked {
				require.True(t, seen[data], "%s was acknowledged and is lost", data)
			}
			require.Less(t, refused, 30, "most commits succeed when the connection is back")
			f.stop()
		})
	}
}

// before reports whether a record was committed before another.
func before(a, b string) bool {
	var commitA, commitB, a2, b2 int
	_, _ = fmt.Sscanf(a, "commit %d/%d", &commitA, &a2)
	_, _ = fmt.Sscanf(b, "commit %d/%d", &commitB, &b2)
	return a == "" || commitA < commitB || commitA == commitB && a2 < b2
}

// TestConnectionHangs lets the network swallow everything. Methods return when their context ends,
// although writes to the connection hang, and everything continues when the network works again.
func TestConnectionHangs(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url)
			p := startProxy(t, url)
			store := space.on(t, connect(t, p.url(), nats.FlusherTimeout(time.Hour)))
			other := space.open(t)
			f, reading := startFeed(t, store, 0), startFeed(t, store, 3)
			first := records(0, 1, "first")
			commit(t, store, first)
			f.take(1)
			commit(t, store, records(3, 256, "as many as a Feed asks for"))
			reading.take(255)
			p.hang()
			big := make([]byte, 900<<10)
			calls := map[string]func(ctx context.Context) error{
				"Commit": func(ctx context.Context) error {
					var add []*webhook.Record
					for range 16 {
						add = append(add, &webhook.Record{Data: big, Received: time.Now()})
					}
					return store.Commit(ctx, add, nil)
				},
				"Load":    func(ctx context.Context) error { _, err := store.Load(ctx, 0, ids(first)); return err },
				"Depth":   func(ctx context.Context) error { _, err := store.Depth(ctx); return err },
				"List":    func(ctx context.Context) error { _, err := store.List(ctx, webhook.StateParked, "", 1); return err },
				"Replay":  func(ctx context.Context) error { _, err := store.Replay(ctx, first[0].ID); return err },
				"Discard": func(ctx context.Context) error { _, err := store.Discard(ctx, first[0].ID); return err },
				"Acquire": func(ctx context.Context) error { _, err := store.Acquire(ctx, "me", time.Second, "x"); return err },
				"Release": func(ctx context.Context) error { return store.Release(ctx, "me", "x") },
				"Held":    func(ctx context.Context) error { _, err := store.Held(ctx, ""); return err },
				"Fence":   func(ctx context.Context) error { _, err := store.Fence(ctx, "me", "x"); return err },
			}
			for range 2 {
				for _, name := range []string{"Commit", "Load", "Depth", "List", "Replay", "Discard", "Acquire", "Release", "Held", "Fence"} {
					ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
					returned := make(chan error, 1)
					go func() { returned <- calls[name](ctx) }()
					select {
					case err := <-returned:
						require.ErrorIs(t, err, context.DeadlineExceeded, name)
					case <-time.After(patience):
						require.Fail(t, "it does not return", name)
					}
					cancel()
				}
			}
			another := startFeed(t, store, 1)
			reading.take(1) // and asks for more
			for _, f := range []*feed{f, another, reading} {
				f.stop()
			}
			p.resume()
			late := records(0, 1, "late")
			commit(t, store, late)
			list := pending(t, other, 0)
			require.Contains(t, ids(list), late[0].ID)
		})
	}
}

// TestDisconnected closes the network for good. Commits and feeds say so.
func TestDisconnected(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url)
			p := startProxy(t, url)
			store := space.on(t, connect(t, p.url()))
			f := startFeed(t, store, 0)
			first := records(0, 1, "first")
			commit(t, store, first)
			require.Equal(t, ids(first), ids(f.take(1)))
			_ = p.listener.Close()
			p.cut()
			err := f.ended()
			require.ErrorIs(t, err, natsstore.ErrDisconnected)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			err = store.Commit(ctx, records(0, 1, "late"), nil)
			require.ErrorIs(t, err, natsstore.ErrDisconnected)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Len(t, pending(t, space.open(t), 0), 1, "nothing was kept to be sent later")
		})
	}
}

// TestClosedConnection closes the connection that the store uses.
func TestClosedConnection(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url)
			nc := connect(t, url)
			store := space.on(t, nc)
			f := startFeed(t, store, 0)
			commit(t, store, records(0, 1, "first"))
			f.take(1)
			nc.Close()
			require.ErrorIs(t, f.ended(), natsstore.ErrClosed)
			require.ErrorIs(t, store.Commit(within(t), records(0, 1, "late"), nil), natsstore.ErrClosed)
			_, err := store.Depth(within(t))
			require.ErrorIs(t, err, natsstore.ErrClosed)
			require.NoError(t, store.Close())
		})
	}
}

// TestClose closes a store in use. Its goroutines end, and the connection stays.
func TestClose(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url)
			nc := connect(t, url)
			require.NoError(t, space.on(t, nc).Close()) // the connection keeps one subscription for replies
			subscriptions := nc.NumSubscriptions()
			pprof.SetGoroutineLabels(pprof.WithLabels(t.Context(), pprof.Labels("test", t.Name())))
			store := space.on(t, nc)
			commit(t, store, records(0, 5, "first"))
			f := startFeed(t, store, 0)
			f.take(3) // and is blocked
			idle := startFeed(t, store, 1)
			require.NoError(t, store.Close())
			require.NoError(t, store.Close(), "twice")
			require.ErrorIs(t, f.ended(), natsstore.ErrClosed)
			require.ErrorIs(t, idle.ended(), natsstore.ErrClosed)
			for name, err := range map[string]error{
				"Commit":  store.Commit(t.Context(), nil, nil),
				"Feed":    startFeed(t, store, 0).ended(),
				"Load":    second(store.Load(t.Context(), 0, nil)),
				"Depth":   second(store.Depth(t.Context())),
				"List":    second(store.List(t.Context(), webhook.StateParked, "", 1)),
				"Replay":  second(store.Replay(t.Context())),
				"Discard": second(store.Discard(t.Context())),
				"Acquire": second(store.Acquire(t.Context(), "me", time.Second)),
				"Release": store.Release(t.Context(), "me"),
				"Held":    second(store.Held(t.Context(), "")),
				"Fence":   second(store.Fence(t.Context(), "me", "x")),
			} {
				require.ErrorIs(t, err, natsstore.ErrClosed, name)
			}
			pprof.SetGoroutineLabels(t.Context())
			require.Eventually(t, func() bool { return goroutines(t) == 0 && nc.NumSubscriptions() == subscriptions }, patience, pace,
				"goroutines or subscriptions are left")
			require.True(t, nc.IsConnected())
			commit(t, space.on(t, nc), records(0, 1, "again"))
		})
	}
}

func second[T any](_ T, err error) error { return err }

// goroutines counts those that carry the label of the test.
func goroutines(t *testing.T) int {
	t.Helper()
	var b strings.Builder
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&b, 1))
	return strings.Count(b.String(), fmt.Sprintf("%q:%q", "test", t.Name()))
}

// TestCancelled calls with contexts that have ended, or end meanwhile, with a cause.
func TestCancelled(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			store := newSpace(t, url).open(t)
			why := errors.New("why")
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(why)
			for name, err := range map[string]error{
				"Commit":  store.Commit(ctx, nil, nil),
				"Load":    second(store.Load(ctx, 0, nil)),
				"Acquire": second(store.Acquire(ctx, "me", time.Second)),
				"Fence":   second(store.Fence(ctx, "me", "x")),
			} {
				require.ErrorIs(t, err, why, name)
			}
			for r, err := range store.Feed(ctx, 0) {
				require.Fail(t, "a Feed with a context that has ended yields", "%v %v", r, err)
			}
			for n := range 60 { // in the middle of something
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*50*time.Microsecond)
				_ = store.Commit(ctx, records(3, 20, fmt.Sprint("cut off ", n)), nil)
				_, _ = store.Depth(ctx)
				_, _ = store.List(ctx, webhook.StateParked, "", 5)
				_, _ = store.Acquire(ctx, "me", time.Minute, "a", "b")
				for range store.Feed(ctx, 3) {
					break
				}
				cancel()
			}
			commit(t, store, records(3, 1, "after"))
			depth, err := store.Depth(within(t))
			require.NoError(t, err)
			require.Positive(t, depth.Pending)
			held, err := store.Acquire(within(t), "me", time.Minute, "a", "b")
			require.NoError(t, err)
			require.ElementsMatch(t, []string{"a", "b"}, held)
		})
	}
}

// TestCloseWhileHanging closes a store of which the connection swallows everything.
func TestCloseWhileHanging(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url)
			p := startProxy(t, url)
			store := space.on(t, connect(t, p.url(), nats.FlusherTimeout(time.Hour)))
			f := startFeed(t, store, 0)
			commit(t, store, records(0, 1, "first"))
			f.take(1)
			p.hang()
			var add []*webhook.Record
			for range 16 {
				add = append(add, &webhook.Record{Data: make([]byte, 900<<10)})
			}
			for range 6 { // more than the buffers of the system take
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				require.ErrorIs(t, store.Commit(ctx, add, nil), context.DeadlineExceeded)
				cancel()
			}
			closed := make(chan error, 1)
			go func() { closed <- store.Close() }()
			require.ErrorIs(t, f.ended(), natsstore.ErrClosed)
			select {
			case err := <-closed:
				require.ErrorContains(t, err, "natsstore: close: no reply in time")
			case <-time.After(patience):
				require.Fail(t, "Close hangs")
			}
			p.resume()
			require.NoError(t, store.Close())
		})
	}
}
