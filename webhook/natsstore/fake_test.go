package natsstore_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/longtest"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/natsstore"
)

// between stands between a store and the JetStream API, which it reaches under another domain. It
// passes requests on, unless handle does something else with them.
type between struct {
	nc     *nats.Conn
	domain string
	handle func(b *between, operation string, m *nats.Msg) (handled bool)
}

func startBetween(t *testing.T, url string, handle func(*between, string, *nats.Msg) bool) *between {
	t.Helper()
	b := &between{nc: connect(t, url), domain: rand.Text(), handle: handle}
	prefix := "$JS." + b.domain + ".API."
	_, err := b.nc.Subscribe(prefix+">", func(m *nats.Msg) {
		operation := strings.TrimPrefix(m.Subject, prefix)
		if !b.handle(b, operation, m) {
			b.pass(operation, m, m.Reply)
		}
	})
	require.NoError(t, err)
	require.NoError(t, b.nc.Flush())
	return b
}

func (b *between) pass(operation string, m *nats.Msg, reply string) {
	_ = b.nc.PublishRequest("$JS.API."+operation, reply, m.Data)
}

// TestDeletesInFlight counts the requests to the API that wait for a reply. A server drops them all
// if there are too many.
func TestDeletesInFlight(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			const limit = 256
			var mu sync.Mutex
			var waiting []func()
			most := 0
			release := func() {
				mu.Lock()
				list := waiting
				waiting = nil
				mu.Unlock()
				for _, f := range list {
					f()
				}
			}
			b := startBetween(t, url, func(b *between, operation string, m *nats.Msg) bool {
				if !strings.HasPrefix(operation, "STREAM.MSG.DELETE.") {
					return false
				}
				mu.Lock()
				defer mu.Unlock()
				waiting = append(waiting, func() { b.pass(operation, m, m.Reply) })
				most = max(most, len(waiting))
				return true
			})
			store := newSpace(t, url, natsstore.WithDomain(b.domain)).open(t)
			var add []*webhook.Record
			for n := range 4 {
				group := records(0, 500, fmt.Sprint("group ", n))
				commit(t, store, group)
				add = append(add, group...)
			}
			done := make(chan error, 1)
			go func() { done <- store.Commit(within(t), nil, marks(webhook.StateDone, add...)) }()
			for {
				select {
				case err := <-done:
					require.NoError(t, err)
					depth, err := store.Depth(within(t))
					require.NoError(t, err)
					require.Zero(t, depth.Pending)
					mu.Lock()
					defer mu.Unlock()
					require.Greater(t, most, 10, "they wait together")
					require.LessOrEqual(t, most, limit)
					return
				case <-time.After(2 * pace):
					release()
				}
			}
		})
	}
}

// TestAPIFails has the server lose requests, reply errors that pass, and reply nonsense.
func TestAPIFails(t *testing.T) {
	t.Parallel()
	longtest.Skip(t, "it waits for requests to time out")
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			var mu sync.Mutex
			seen := make(map[string]int)
			reply := func(m *nats.Msg, err int, text string) bool {
				data, _ := json.Marshal(map[string]any{"error": map[string]any{"code": 503, "err_code": err, "description": text}})
				return m.Respond(data) == nil
			}
			b := startBetween(t, url, func(_ *between, operation string, m *nats.Msg) bool {
				mu.Lock()
				defer mu.Unlock()
				if strings.HasPrefix(operation, "STREAM.MSG.") {
					seen[operation+string(m.Data)]++
				}
				first := seen[operation+string(m.Data)] == 1
				switch {
				case strings.HasPrefix(operation, "STREAM.MSG.DELETE.") && strings.HasSuffix(string(m.Data), "3}"):
					return first // lost
				case strings.HasPrefix(operation, "STREAM.MSG.DELETE.") && strings.HasSuffix(string(m.Data), "4}"):
					return first && reply(m, 10008, "JetStream system temporarily unavailable")
				case strings.HasPrefix(operation, "STREAM.MSG.DELETE.") && strings.HasSuffix(string(m.Data), "5}"):
					return first && m.RespondMsg(&nats.Msg{Header: nats.Header{"Status": {"503"}}}) == nil
				case strings.HasPrefix(operation, "STREAM.MSG.DELETE.") && strings.HasSuffix(string(m.Data), ":6}"):
					return reply(m, 10057, "disk failure")
				case strings.HasPrefix(operation, "STREAM.MSG.GET.") && strings.HasSuffix(string(m.Data), ":7}"):
					return m.Respond([]byte("nonsense")) == nil
				default:
					return false
				}
			})
			store := newSpace(t, url, natsstore.WithDomain(b.domain)).open(t)
			add := records(0, 20, "record")
			commit(t, store, add)
			commit(t, store, nil, marks(webhook.StateDone, add[:5]...)...)
			require.Equal(t, ids(add[5:]), ids(fed(t, store, 0, 15)))
			err := store.Commit(within(t), nil, marks(webhook.StateDone, add[5], add[7]))
			require.ErrorContains(t, err, "disk failure")
			require.ErrorContains(t, err, "10057")
			list, err := store.Load(within(t), 0, ids(add[7:9]))
			require.NoError(t, err)
			require.Equal(t, ids(add[8:9]), ids(list), "the other mark was applied")
			_, err = store.Load(within(t), 0, ids(add[6:7]))
			require.ErrorContains(t, err, "not JetStream's")
			require.NotContains(t, err.Error(), "nonsense")
		})
	}
}

// TestHiddenRecords has the server count the records of a partition and not deliver them, as
// servers before 2.10 do after many deletes. The Feed reads them in another way, in their order,
// and yields none twice.
func TestHiddenRecords(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			var mu sync.Mutex
			filtered := 0
			b := startBetween(t, url, func(b *between, operation string, m *nats.Msg) bool {
				if !strings.HasPrefix(operation, "CONSUMER.CREATE.") || !strings.Contains(operation, ".in.") || !strings.HasSuffix(operation, ".0") {
					return false
				}
				mu.Lock()
				filtered++
				first := filtered == 1
				mu.Unlock()
				if !first {
					return false
				}
				hidden := strings.Replace(string(m.Data), `"opt_start_seq":1`, `"opt_start_seq":1000000`, 1)
				answer, err := b.nc.Request("$JS.API."+operation, []byte(hidden), 5*time.Second)
				if err != nil {
					return false
				}
				return m.Respond([]byte(strings.Replace(string(answer.Data), `"num_pending":0`, `"num_pending":3`, 1))) == nil
			})
			store := newSpace(t, url, natsstore.WithDomain(b.domain)).open(t)
			add := records(0, 3, "record")
			commit(t, store, add)
			commit(t, store, records(1, 5, "of another partition"))
			feed := startFeed(t, store, 0)
			require.Equal(t, ids(add), ids(feed.take(3)))
			later := records(0, 2, "later")
			commit(t, store, later)
			require.Equal(t, ids(later), ids(feed.take(2)))
			feed.stop()
			mu.Lock()
			defer mu.Unlock()
			require.GreaterOrEqual(t, filtered, 2, "the Feed goes back to its partition")
		})
	}
}
