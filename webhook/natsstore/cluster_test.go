package natsstore_test

import (
	"context"
	"fmt"
	"strconv"
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

// TestCluster kills the servers of a cluster of three, one after the other, while a store with
// three replicas commits, feeds and settles.
func TestCluster(t *testing.T) {
	t.Parallel()
	longtest.Skip(t, "it starts a cluster of three servers")
	program := modernBinary(t)
	servers := make([]*server, 3)
	routes := make([]int, 3)
	var urls, peers []string
	for i := range servers {
		routes[i] = freePort(t)
		peers = append(peers, "nats-route://127.0.0.1:"+strconv.Itoa(routes[i]))
	}
	for i := range servers {
		servers[i] = startServer(t, program, fmt.Sprintf("server_name: s%d\ncluster { name: c, listen: \"127.0.0.1:%d\", routes: [%s] }\n",
			i, routes[i], strings.Join(peers, ", ")))
		urls = append(urls, servers[i].url())
	}
	url := strings.Join(urls, ",")
	ready := func() {
		require.Eventually(t, func() bool {
			nc, err := nats.Connect(url)
			if err != nil {
				return false
			}
			defer nc.Close()
			js, err := jetstream.New(nc)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err = js.AccountInfo(ctx)
			return err == nil
		}, patience, 10*pace, "the cluster has no leader")
	}
	ready()
	space := newSpace(t, url, natsstore.WithReplicas(3))
	store := space.open(t)
	everything(t, store)
	f := startFeed(t, store, 0)
	seen := make(map[string]bool)
	next := func() *webhook.Record { // as a Handler reads
		for {
			select {
			case r := <-f.records:
				if !seen[r.ID] {
					seen[r.ID] = true
					return r
				}
			case err := <-f.errs: // the election of a leader took long
				t.Logf("the Feed ended: %v", err)
				f = startFeed(t, store, 0)
			case <-time.After(2 * patience):
				require.Fail(t, "the Feed hangs")
			}
		}
	}
	acked := make(map[string]bool)
	var list []*webhook.Record
	refused := 0
	for n := range 90 {
		if n%30 == 15 {
			servers[n/30].kill()
		}
		if n%30 == 29 {
			servers[n/30].start(t)
			ready()
		}
		add := records(0, 8, fmt.Sprint("commit ", n))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := store.Commit(ctx, add, marks(webhook.StateDone, list...))
		cancel()
		if err != nil {
			refused++
			t.Logf("commit %d: %v", n, err)
			continue
		}
		list = nil
		for _, r := range add {
			acked[r.ID] = true
		}
		for len(list) < 8 {
			list = append(list, next())
		}
	}
	end := records(0, 1, "end")
	commit(t, store, end)
	for next().ID != end[0].ID {
		continue
	}
	for id := range acked {
		require.True(t, seen[id], "a record was acknowledged and is lost")
	}
	t.Logf("%d acknowledged, %d commits refused", len(acked), refused)
	f.stop()
}
