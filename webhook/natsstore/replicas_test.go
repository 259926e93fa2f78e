package natsstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/natsstore"
)

// replica is a process that receives and handles events.
type replica struct {
	*webhook.Handler

	store *natsstore.Store
	die   func() // as a process does that is killed
}

// deed is one handling of an event.
type deed struct {
	portal string
	object int
	n      int
	who    int
}

// deed is d without the process.
func (d deed) deed() deed {
	d.who = 0
	return d
}

// cast is several replicas and what they did.
type cast struct {
	mu     sync.Mutex
	deeds  []deed
	failed map[deed]bool
	active map[string]int // handlers that run, by object
	broken string
}

// trusting accepts every sender.
type trusting struct{}

func (trusting) Verify(_ context.Context, d *event.Delivery) (event.Proof, error) {
	return event.Proof{By: event.ProofInstallation, ClientID: "app", MemberID: d.ClaimedMemberID()}, nil
}

func (c *cast) start(t *testing.T, space *space, who int) *replica {
	t.Helper()
	nc := connect(t, space.url)
	store := space.on(t, nc)
	dead := make(chan struct{})
	handle := event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
		object, err := strconv.Atoi(d.Data.Get("FIELDS", "ID").Text())
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(d.Data.Get("FIELDS", "N").Text())
		if err != nil {
			return err
		}
		select {
		case <-dead:
			<-ctx.Done() // a process that is dead does nothing
			return ctx.Err()
		default:
		}
		key := d.MemberID() + " " + strconv.Itoa(object)
		c.mu.Lock()
		if c.active[key]++; c.active[key] > 1 {
			c.broken = key + " is handled twice at a time"
		}
		did := deed{d.MemberID(), object, n, who}
		fails := n%10 == 5 && !c.failed[did]
		if c.failed[did] = fails; !fails {
			c.deeds = append(c.deeds, did)
		}
		c.mu.Unlock()
		defer func() {
			c.mu.Lock()
			c.active[key]--
			c.mu.Unlock()
		}()
		if fails {
			return event.Retry(errors.New("the first attempt fails"), pace)
		}
		return nil
	})
	h, err := webhook.NewHandler(trusting{}, handle, webhook.WithStore(store), webhook.WithLeaseTTL(2*time.Second),
		webhook.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		cancel()
		_ = h.Shutdown(ended)
	})
	return &replica{h, store, func() {
		close(dead)
		nc.Close() // nothing of it reaches the server any more
	}}
}

// post sends an event and returns whether it was accepted.
func (r *replica) post(t *testing.T, portal string, object, n int) bool {
	t.Helper()
	req, err := eventtest.NewRequest(t.Context(), event.OnCrmDealUpdate,
		map[string]any{"FIELDS": map[string]any{"ID": object, "N": n}}, eventtest.WithMember(portal), eventtest.WithToken("token"))
	require.NoError(t, err)
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w.Code == 200
}

// TestReplicas has three Handlers share the work. One dies, and another one is shut down. All that
// was accepted is handled, in the order of each object.
func TestReplicas(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			const portals, objects, rounds = 12, 3, 30
			space := newSpace(t, url, natsstore.WithPartitions(8))
			c := &cast{failed: make(map[deed]bool), active: make(map[string]int)}
			replicas := []*replica{c.start(t, space, 0), c.start(t, space, 1), c.start(t, space, 2)}
			accepted := make(map[deed]bool)
			to := 0
			for n := 1; n <= rounds; n++ {
				switch n {
				case 2:
					require.Eventually(t, func() bool { // all of them work
						for _, r := range replicas {
							if r.Stats().Store.Partitions == 0 {
								return false
							}
						}
						return true
					}, patience, pace)
				case rounds / 3:
					replicas[2].die()
					replicas = replicas[:2]
				case 2 * rounds / 3:
					require.NoError(t, replicas[1].Shutdown(within(t)))
					replicas = replicas[:1]
				}
				for p := range portals {
					for object := 1; object <= objects; object++ { // zero is no object
						portal := "portal-" + strconv.Itoa(p)
						if to++; replicas[to%len(replicas)].post(t, portal, object, n) {
							accepted[deed{portal: portal, object: object, n: n}] = true
						}
					}
				}
			}
			require.Greater(t, len(accepted), portals*objects*rounds*9/10)
			require.Eventually(t, func() bool {
				d, err := replicas[0].store.Depth(within(t))
				return err == nil && d.Pending == 0
			}, patience, pace, "all is handled")
			require.NoError(t, replicas[0].Shutdown(within(t)))

			c.mu.Lock()
			defer c.mu.Unlock()
			require.Empty(t, c.broken)
			last := make(map[string]int)
			workers := make(map[int]bool)
			seen := make(map[deed]bool)
			twice := 0
			for _, d := range c.deeds {
				key := fmt.Sprint(d.portal, " ", d.object)
				if d.n > last[key] {
					last[key] = d.n
				} else if d.n < last[key] {
					require.True(t, seen[d.deed()], "%v came behind %d", d, last[key])
				}
				if seen[d.deed()] {
					twice++ // it ran, or its mark was not stored, when the process died
				}
				seen[d.deed()] = true
				workers[d.who] = true
				delete(accepted, d.deed())
			}
			require.Less(t, twice, 100)
			require.Empty(t, accepted, "what was accepted is handled")
			require.Len(t, workers, 3)
			depth, err := replicas[0].store.Depth(within(t))
			require.NoError(t, err)
			require.Zero(t, depth.Parked)
			require.Zero(t, space.count(t, "-marks"), "no counters are left")
		})
	}
}
