package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// newStore returns a store in memory.
func newStore(tb testing.TB, opts ...webhooktest.MemoryOption) *webhooktest.MemoryStore {
	tb.Helper()
	s, err := webhooktest.NewMemoryStore(opts...)
	require.NoError(tb, err)
	return s
}

// ids are the objects of deliveries.
func ids(got []*event.Delivery) []string {
	all := make([]string, 0, len(got))
	for _, d := range got {
		all = append(all, d.Entity().ID)
	}
	return all
}

// pending returns how many records are pending in a store.
func pending(tb testing.TB, s webhook.Store) int {
	tb.Helper()
	d, err := s.Depth(context.Background())
	require.NoError(tb, err)
	return int(d.Pending)
}

func TestStoredDeliveryIsHandled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		s := newStore(t)
		h := newHandler(t, &r, webhook.WithStore(s))
		synctest.Wait() // for the feed to begin: nothing is recovered
		for i := 1; i <= 10; i++ {
			require.Equal(t, http.StatusOK, post(h, dealUpdate(i)))
		}
		require.NoError(t, h.Idle(t.Context()))
		require.ElementsMatch(t, []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}, ids(r.deliveries()))
		require.Zero(t, pending(t, s))
		stats := h.Stats()
		require.EqualValues(t, 10, stats.Accepted)
		require.EqualValues(t, 10, stats.Handled)
		require.EqualValues(t, 10, stats.Store.Records)
		require.EqualValues(t, 10, stats.Store.Marks)
		require.Zero(t, stats.Store.InMemory)
		require.Zero(t, stats.Store.Places)
		require.Equal(t, 1, stats.Store.Partitions)
		require.NoError(t, h.Health())
		require.NoError(t, h.Shutdown(t.Context()))
		require.ErrorIs(t, h.Health(), webhook.ErrShutdown)
	})
}

func TestRestartGoesOnWithWhatIsStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		receiver := newHandler(t, &recorder{}, webhook.WithStore(s), webhook.WithReceiveOnly())
		for i := range 100 {
			require.Equal(t, http.StatusOK, post(receiver, body("ONCRMDEALUPDATE", fields{"data[FIELDS][ID]": "7", "ts": strconv.Itoa(i + 1)})))
		}
		require.NoError(t, receiver.Shutdown(t.Context()))
		require.Equal(t, 100, pending(t, s))

		var r recorder
		worker := newHandler(t, &r, webhook.WithStore(s.Open()), webhook.WithQueueSize(4))
		require.NoError(t, worker.Idle(t.Context()))
		got := r.deliveries()
		require.Len(t, got, 100)
		for i, d := range got {
			require.EqualValues(t, i+1, d.Time.Unix())
			require.Equal(t, member, d.MemberID())
			require.Equal(t, event.SourceOnline, d.Source)
		}
		require.Zero(t, pending(t, s))
		require.EqualValues(t, 100, worker.Stats().Store.Recovered)
		require.NoError(t, worker.Shutdown(t.Context()))
		<-time.After(time.Minute)
	})
}

// deal is the body of a change of a deal with a time.
func deal(id, ts int) string {
	return body("ONCRMDEALUPDATE", fields{"data[FIELDS][ID]": strconv.Itoa(id), "ts": strconv.Itoa(ts)})
}

// stored puts deliveries into a store, like a process that ends before it has handled any.
func stored(t *testing.T, s *webhooktest.MemoryStore, bodies []string, opts ...webhook.Option) {
	t.Helper()
	h := newHandler(t, &recorder{}, append(opts, webhook.WithStore(s.Open()), webhook.WithReceiveOnly())...)
	for _, b := range bodies {
		require.Equal(t, http.StatusOK, post(h, b))
	}
	require.NoError(t, h.Shutdown(t.Context()))
}

func TestPutAside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const places, pendingOfOne = 100, 1400
		s := newStore(t)
		var bodies []string
		for i := range pendingOfOne {
			bodies = append(bodies, deal(7, i+1))
		}
		bodies = append(bodies, deal(8, 1))
		stored(t, s, bodies)

		var mu sync.Mutex
		var most int64
		var h *webhook.Handler
		began := make(map[string]time.Duration)
		start := time.Now()
		last := int64(0)
		r := recorder{then: func(_ context.Context, d *event.Delivery) error {
			mu.Lock()
			defer mu.Unlock()
			most = max(most, h.Stats().Store.Places)
			if d.Entity().ID == "8" {
				began["8"] = time.Since(start)
				return nil
			}
			require.Equal(t, last+1, d.Time.Unix(), "in order")
			last = d.Time.Unix()
			return nil
		}}
		var err error
		gate := make(chan struct{})
		h, err = webhook.NewHandler(anyPortal(), event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
			<-gate
			return r.HandleEvent(ctx, d)
		}), silent(), webhook.WithStore(s), webhook.WithQueueSize(places))
		require.NoError(t, err)
		synctest.Wait()
		stats := h.Stats()
		require.Equal(t, pendingOfOne+1, stats.Store.InMemory, "the object behind is there, too")
		require.LessOrEqual(t, stats.Store.Places, int64(3*places/4+1))
		close(gate)
		require.NoError(t, h.Idle(t.Context()))
		require.EqualValues(t, pendingOfOne, last)
		require.LessOrEqual(t, most, int64(places))
		require.Less(t, began["8"], time.Second, "it does not wait for the others")
		require.Zero(t, h.Stats().Store.Places)
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var bodies []string
		for i := range 100 {
			bodies = append(bodies, deal(i+1, 1))
		}
		stored(t, s, bodies)
		gate := make(chan struct{})
		r := recorder{then: func(context.Context, *event.Delivery) error { <-gate; return nil }}
		h := newHandler(t, &r, webhook.WithStore(s), webhook.WithQueueSize(2), webhook.WithWorkers(4), webhook.WithPortalWorkers(4))
		synctest.Wait()
		require.Equal(t, 30, h.Stats().Store.InMemory, "three quarters, for one portal")
		close(gate)
		require.NoError(t, h.Idle(t.Context()))
		require.Len(t, r.deliveries(), 100)
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

func TestRetriesOutliveARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		start := time.Now()
		var calls []time.Duration
		var attempts []int
		r := recorder{then: func(ctx context.Context, _ *event.Delivery) error {
			calls = append(calls, time.Since(start))
			attempts = append(attempts, event.AttemptOf(ctx).Number)
			if len(calls) < 3 {
				return event.Retry(errBoom, 10*time.Minute)
			}
			return nil
		}}
		h := newHandler(t, &r, webhook.WithStore(s))
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		<-time.After(time.Minute)
		require.NoError(t, h.Shutdown(t.Context()))
		require.Equal(t, 1, pending(t, s))
		h = newHandler(t, &r, webhook.WithStore(s.Open()))
		require.NoError(t, h.Idle(t.Context()))
		require.Equal(t, []int{1, 2, 3}, attempts)
		require.Less(t, calls[0], time.Second)
		require.InDelta(t, 10*time.Minute, calls[1], float64(time.Second), "its rest goes on")
		require.InDelta(t, 20*time.Minute, calls[2], float64(time.Second))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

func TestParkedDeliveries(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err    error
		parked bool
	}{
		"out of attempts": {errBoom, true},
		"permanent":       {permanentError{}, true},
		"dropped":         {event.Drop(errBoom), false},
		"unhandled":       {event.ErrUnhandled, false},
		"handled":         {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var lost []error
				s := newStore(t)
				fail := true
				r := recorder{then: func(context.Context, *event.Delivery) error {
					if fail {
						return test.err
					}
					return nil
				}}
				h := newHandler(t, &r, webhook.WithStore(s), webhook.WithMaxAttempts(2), webhook.WithOnDropped(func(d *event.Delivery, err error) {
					require.Equal(t, "7", d.Entity().ID)
					lost = append(lost, err)
				}))
				require.Equal(t, http.StatusOK, post(h, dealUpdate(7)))
				require.NoError(t, h.Idle(t.Context()))
				parked, err := archive(t, s).Parked(t.Context(), "", 10)
				require.NoError(t, err)
				depth, err := archive(t, s).Depth(t.Context())
				require.NoError(t, err)
				if !test.parked {
					require.Empty(t, parked)
					require.Zero(t, depth.Parked)
					require.NoError(t, h.Shutdown(t.Context()))
					return
				}
				require.Len(t, parked, 1)
				require.EqualValues(t, 1, depth.Parked)
				require.Len(t, lost, 1)
				p := parked[0]
				require.Equal(t, "ONCRMDEALUPDATE", p.Event)
				require.Equal(t, member, p.MemberID)
				require.Equal(t, "7", p.Delivery.Entity().ID)
				require.Contains(t, p.Err, test.err.Error())
				require.Equal(t, webhook.StateParked, p.State)
				require.NoError(t, p.Unreadable)
				require.EqualValues(t, 1, h.Stats().Store.Parked)

				fail = false
				n, err := archive(t, s).Replay(t.Context(), p.ID, "unknown")
				require.NoError(t, err)
				require.Equal(t, 1, n)
				require.NoError(t, h.Idle(t.Context()))
				depth, err = archive(t, s).Depth(t.Context())
				require.NoError(t, err)
				require.Zero(t, depth)
				require.NoError(t, h.Shutdown(t.Context()))
			})
		})
	}
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, webhooktest.WithKeep())
		r := recorder{then: func(_ context.Context, d *event.Delivery) error {
			if d.Entity().ID == "1" {
				return permanentError{}
			}
			return nil
		}}
		h := newHandler(t, &r, webhook.WithStore(s))
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		require.Equal(t, http.StatusOK, post(h, dealUpdate(2)))
		require.NoError(t, h.Idle(t.Context()))
		parked, err := archive(t, s).Parked(t.Context(), "", 10)
		require.NoError(t, err)
		kept, err := archive(t, s).Kept(t.Context(), "", 10)
		require.NoError(t, err)
		require.Len(t, parked, 1)
		require.Len(t, kept, 1)
		require.Equal(t, webhook.StateDone, kept[0].State)
		n, err := archive(t, s).Discard(t.Context(), parked[0].ID, kept[0].ID, parked[0].ID)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		depth, err := archive(t, s).Depth(t.Context())
		require.NoError(t, err)
		require.Zero(t, depth)
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestPoison simulates a delivery that ends the process: its handler never returns, and the next
// process begins with the same data.
func TestPoison(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var bodies []string
		for i := range 40 {
			bodies = append(bodies, deal(i+1, 1))
		}
		stored(t, s, bodies)
		lives := 0
		for done := false; !done; lives++ {
			require.Less(t, lives, 10)
			died := make(chan struct{})
			gone := make(chan struct{})
			r := recorder{then: func(ctx context.Context, d *event.Delivery) error {
				if d.Entity().ID == "13" {
					close(died)
				}
				select {
				case <-gone: // the process is gone
					<-ctx.Done()
					return ctx.Err()
				case <-time.After(time.Second):
					return nil
				}
			}}
			data := s.Open()
			h := newHandler(t, &r, webhook.WithStore(data))
			idle := make(chan error, 1)
			go func() { idle <- h.Idle(t.Context()) }()
			select {
			case <-died:
				data.SetFaults(func(context.Context, webhooktest.Call) webhooktest.Fault { return webhooktest.Fault{Err: errBoom} })
				close(gone)
			case err := <-idle:
				require.NoError(t, err)
				parked, err := archive(t, s).Parked(t.Context(), "", 10)
				require.NoError(t, err)
				require.Len(t, parked, 1)
				require.Equal(t, "13", parked[0].Delivery.Entity().ID)
				require.Contains(t, parked[0].Err, "the process ended each time")
				done = true
			}
			stop(h)
			<-time.After(time.Minute)
		}
		require.Zero(t, pending(t, s))
		require.Equal(t, 6, lives)
	})
}

func TestCommitsThatFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		var lost []error
		s := newStore(t)
		h := newHandler(t, &r, webhook.WithStore(s), webhook.WithOnDropped(func(_ *event.Delivery, err error) { lost = append(lost, err) }))
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpCommit {
				return webhooktest.Fault{Err: errBoom}
			}
			return webhooktest.Fault{}
		})
		require.Equal(t, http.StatusServiceUnavailable, post(h, dealUpdate(1)))
		require.Len(t, lost, 1)
		require.ErrorIs(t, lost[0], webhook.ErrNotStored)
		require.ErrorIs(t, lost[0], errBoom)
		require.ErrorIs(t, h.Health(), webhook.ErrNotStored)
		stats := h.Stats()
		require.Zero(t, stats.Accepted)
		require.EqualValues(t, 1, stats.Lost)
		require.EqualValues(t, 1, stats.Rejected[webhook.ReasonUnavailable])
		require.EqualValues(t, 1, stats.Store.Failures)
		s.SetFaults(nil)
		require.Equal(t, http.StatusOK, post(h, dealUpdate(2)))
		require.NoError(t, h.Health())
		require.NoError(t, h.Idle(t.Context()))
		require.Equal(t, []string{"2"}, ids(r.deliveries()))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

func TestMarksOutliveCommitsThatFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var r recorder
		h := newHandler(t, &r, webhook.WithStore(s))
		refuse := true
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpCommit && len(c.Marks) > 0 && refuse {
				return webhooktest.Fault{Err: errBoom, Marked: len(c.Marks) / 2, Added: len(c.Add)}
			}
			return webhooktest.Fault{}
		})
		answers := make(map[int]int)
		for i := range 20 {
			answers[post(h, deal(i+1, 1))]++
			<-time.After(30 * time.Millisecond)
		}
		require.GreaterOrEqual(t, answers[http.StatusOK], 15, "failing marks do not stop deliveries from being stored: %v", answers)
		require.NotZero(t, pending(t, s))
		refuse = false
		require.NoError(t, h.Idle(t.Context()))
		seen := make(map[string]int)
		for _, id := range ids(r.deliveries()) {
			seen[id]++
		}
		for id, n := range seen {
			require.Equal(t, 1, n, "a mark that is late makes nothing run again: %s", id)
		}
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

func TestSlowCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		s := newStore(t)
		h := newHandler(t, &r, webhook.WithStore(s), webhook.WithEnqueueTimeout(time.Second))
		hold := make(chan struct{})
		s.SetFaults(func(ctx context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpCommit {
				select {
				case <-hold:
				case <-ctx.Done():
				}
			}
			return webhooktest.Fault{}
		})
		start := time.Now()
		first := make(chan int)
		go func() { first <- post(h, dealUpdate(1)) }()
		synctest.Wait()
		require.Equal(t, http.StatusServiceUnavailable, post(h, dealUpdate(2)), "its commit has not begun: it is not stored")
		require.Equal(t, http.StatusServiceUnavailable, <-first, "it may be stored")
		require.Equal(t, time.Second, time.Since(start))
		<-time.After(time.Millisecond)
		require.ErrorIs(t, h.Health(), webhook.ErrNotStored)
		close(hold)
		require.NoError(t, h.Idle(t.Context()))
		require.Equal(t, []string{"1"}, ids(r.deliveries()))
		require.NoError(t, h.Health())
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

func TestFullStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, webhooktest.WithMaxPending(3))
		gate := make(chan struct{})
		r := recorder{then: func(context.Context, *event.Delivery) error { <-gate; return nil }}
		h := newHandler(t, &r, webhook.WithStore(s))
		for i := range 3 {
			require.Equal(t, http.StatusOK, post(h, deal(i+1, 1)))
		}
		require.Equal(t, http.StatusServiceUnavailable, post(h, deal(4, 1)))
		require.EqualValues(t, 1, h.Stats().Rejected[webhook.ReasonQueueFull])
		close(gate)
		require.NoError(t, h.Idle(t.Context()))
		require.Equal(t, http.StatusOK, post(h, deal(5, 1)))
		require.NoError(t, h.Idle(t.Context()))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

func TestRejectedRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, webhooktest.WithMaxData(4000))
		var r recorder
		h := newHandler(t, &r, webhook.WithStore(s))
		require.Equal(t, http.StatusServiceUnavailable,
			post(h, body("ONCRMDEALUPDATE", fields{"data[FIELDS][ID]": "1", "data[X]": string(make([]byte, 4000))})))
		require.Equal(t, http.StatusOK, post(h, dealUpdate(2)))
		require.NoError(t, h.Health(), "a delivery that is too large is not the store's failure")
		require.NoError(t, h.Idle(t.Context()))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

func TestTokensInTheStore(t *testing.T) {
	t.Parallel()
	key, other := make([]byte, 32), make([]byte, 32)
	other[0] = 1
	const secret = "plantedtokenplantedtoken"
	event1 := body("ONCRMDEALUPDATE", fields{"data[FIELDS][ID]": "1", "auth[access_token]": secret, "auth[refresh_token]": secret})
	install := body("ONAPPINSTALL", fields{"auth[access_token]": secret})
	for name, test := range map[string]struct {
		body    string
		write   []webhook.Option
		read    []webhook.Option
		clear   bool // the store holds the token in clear
		handler bool // the handler gets it
		parked  bool
	}{
		"without a key":             {event1, nil, nil, false, false, false},
		"of the application itself": {install, nil, nil, true, true, false},
		"with a key":                {event1, []webhook.Option{webhook.WithEncryptionKey(key)}, []webhook.Option{webhook.WithEncryptionKey(key)}, false, true, false},
		"with a new key first": {
			event1,
			[]webhook.Option{webhook.WithEncryptionKey(key)},
			[]webhook.Option{webhook.WithEncryptionKey(other), webhook.WithEncryptionKey(key)},
			false, true, false,
		},
		"the application, with a key": {install, []webhook.Option{webhook.WithEncryptionKey(key)}, []webhook.Option{webhook.WithEncryptionKey(key)}, false, true, false},
		"a key that came later":       {event1, nil, []webhook.Option{webhook.WithEncryptionKey(key)}, false, false, false},
		"a key that is gone":          {event1, []webhook.Option{webhook.WithEncryptionKey(key)}, nil, false, false, true},
		"another key":                 {event1, []webhook.Option{webhook.WithEncryptionKey(key)}, []webhook.Option{webhook.WithEncryptionKey(other)}, false, false, true},
	} {
		for _, restart := range []bool{true, false} {
			if !restart && len(test.write) != len(test.read) {
				continue
			}
			t.Run(name+", restart "+strconv.FormatBool(restart), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := newStore(t)
					var data []byte
					watched := s.Open()
					watched.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
						for _, rec := range c.Add {
							data = append(data, rec.Data...)
						}
						return webhooktest.Fault{}
					})
					var r recorder
					var h *webhook.Handler
					if restart {
						receiver := newHandler(t, &r, append(test.write, webhook.WithStore(watched), webhook.WithReceiveOnly())...)
						require.Equal(t, http.StatusOK, post(receiver, test.body))
						require.NoError(t, receiver.Shutdown(t.Context()))
						h = newHandler(t, &r, append(test.read, webhook.WithStore(s))...)
					} else {
						h = newHandler(t, &r, append(test.write, webhook.WithStore(watched))...)
						require.Equal(t, http.StatusOK, post(h, test.body))
					}
					require.NoError(t, h.Idle(t.Context()))
					require.Equal(t, test.clear, containsText(data, secret))
					if test.parked && restart {
						require.Empty(t, r.deliveries())
						parked, err := archive(t, s).Parked(t.Context(), "", 10)
						require.NoError(t, err)
						require.Len(t, parked, 1)
						require.Error(t, parked[0].Unreadable)
						require.Nil(t, parked[0].Delivery)
						require.NoError(t, h.Shutdown(t.Context()))
						return
					}
					if test.parked {
						require.NoError(t, h.Shutdown(t.Context()))
						return
					}
					got := r.deliveries()
					require.Len(t, got, 1)
					require.Equal(t, test.handler, got[0].Auth.AccessToken == secret)
					require.NoError(t, h.Shutdown(t.Context()))
				})
			})
		}
	}
}

func TestUnknownRecordsAreParked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		ok := []byte(nil)
		source := newStore(t)
		source.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			for _, rec := range c.Add {
				ok = rec.Data
			}
			return webhooktest.Fault{}
		})
		stored2 := newHandler(t, &recorder{}, webhook.WithStore(source), webhook.WithReceiveOnly())
		require.Equal(t, http.StatusOK, post(stored2, dealUpdate(1)))
		require.NoError(t, stored2.Shutdown(t.Context()))
		later := append([]byte(nil), ok...)
		later[4]++
		form2 := append([]byte(nil), ok...)
		form2[5] = 9
		damaged := append([]byte(nil), ok...)
		damaged[len(damaged)/2] ^= 1
		var recs []*webhook.Record
		for _, data := range [][]byte{later, form2, damaged, ok[:10], []byte("b24r"), []byte("x"), ok} {
			recs = append(recs, &webhook.Record{Data: data, Name: "ONX", MemberID: "m", Received: time.Now()})
		}
		require.NoError(t, s.Commit(t.Context(), recs, nil))
		var r recorder
		h := newHandler(t, &r, webhook.WithStore(s))
		require.NoError(t, h.Idle(t.Context()))
		require.Equal(t, []string{"1"}, ids(r.deliveries()))
		parked, err := archive(t, s).Parked(t.Context(), "", 10)
		require.NoError(t, err)
		require.Len(t, parked, 6)
		for _, p := range parked {
			require.Error(t, p.Unreadable)
			require.NotEmpty(t, p.Err)
		}
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

func containsText(data []byte, text string) bool { return bytes.Contains(data, []byte(text)) }

var errBoom = errors.New("boom")

// permanentError is an error that is permanent.
type permanentError struct{}

func (permanentError) Error() string   { return "it will never work" }
func (permanentError) Permanent() bool { return true }

// archive returns the archive of a store.
func archive(tb testing.TB, s webhook.Store, keys ...[]byte) *webhook.Archive {
	tb.Helper()
	a, err := webhook.NewArchive(s, keys...)
	require.NoError(tb, err)
	return a
}

func TestNewArchive(t *testing.T) {
	t.Parallel()
	_, err := webhook.NewArchive(nil)
	require.ErrorIs(t, err, webhook.ErrConfig)
	_, err = webhook.NewArchive(newStore(t), make([]byte, 31))
	require.ErrorIs(t, err, webhook.ErrConfig)
	require.Equal(t, "webhook.Archive", fmt.Sprintf("%+v", archive(t, newStore(t))))
}

func TestArchiveOfEncryptedDeliveries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key := make([]byte, 32)
		s := newStore(t)
		r := recorder{then: func(context.Context, *event.Delivery) error { return permanentError{} }}
		h := newHandler(t, &r, webhook.WithStore(s), webhook.WithEncryptionKey(key))
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		require.NoError(t, h.Idle(t.Context()))
		for _, keys := range [][][]byte{nil, {key}} {
			parked, err := archive(t, s, keys...).Parked(t.Context(), "", 10)
			require.NoError(t, err)
			require.Len(t, parked, 1)
			require.Equal(t, len(keys) > 0, parked[0].Delivery != nil)
			require.Equal(t, len(keys) == 0, parked[0].Unreadable != nil)
			require.Equal(t, "ONCRMDEALUPDATE", parked[0].Event)
		}
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

func TestErrorsOfTheArchive(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.SetFaults(func(context.Context, webhooktest.Call) webhooktest.Fault { return webhooktest.Fault{Err: errBoom} })
	a := archive(t, s)
	_, err := a.Parked(t.Context(), "", 1)
	require.ErrorIs(t, err, errBoom)
	_, err = a.Kept(t.Context(), "", 1)
	require.ErrorIs(t, err, errBoom)
	_, err = a.Replay(t.Context(), "1")
	require.ErrorIs(t, err, errBoom)
	_, err = a.Discard(t.Context(), "1")
	require.ErrorIs(t, err, errBoom)
	_, err = a.Depth(t.Context())
	require.ErrorIs(t, err, errBoom)
}
