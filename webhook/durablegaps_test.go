package webhook_test

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// TestDoneAfterTheLease: a handler succeeded after the lease of its partition was lost. That is
// stored, although counters of the record would not be.
func TestDoneAfterTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, webhooktest.WithPartitions(2))
		calls := 0
		h := newHandler(t, do(func(context.Context, *event.Delivery) error {
			calls++
			<-time.After(30 * time.Second)
			return nil
		}), webhook.WithStore(s))
		<-time.After(10 * time.Second)
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpAcquire {
				return webhooktest.Fault{Err: errBoom}
			}
			return webhooktest.Fault{}
		})
		<-time.After(25 * time.Second)
		require.Zero(t, h.Stats().Store.Partitions, "the leases are lost")
		require.Equal(t, 1, pending(t, s))
		<-time.After(10 * time.Second)
		require.Zero(t, pending(t, s))
		s.SetFaults(nil)
		<-time.After(time.Minute)
		require.Equal(t, 1, calls)
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestMarksAfterAFailure: marks that failed are in the end tried one at a time. Once the store
// works again, many are tried at a time.
func TestMarksAfterAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 200
		s := newStore(t)
		var refuse atomic.Bool
		var commits, most atomic.Int64
		refuse.Store(true)
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op != webhooktest.OpCommit || len(c.Marks) == 0 {
				return webhooktest.Fault{}
			}
			if refuse.Load() {
				return webhooktest.Fault{Err: errBoom}
			}
			commits.Add(1)
			most.Store(max(most.Load(), int64(len(c.Marks))))
			return webhooktest.Fault{}
		})
		gate := make(chan struct{})
		h := newHandler(t, do(func(context.Context, *event.Delivery) error { <-gate; return nil }), webhook.WithStore(s))
		synctest.Wait() // for the feed to begin: nothing is recovered
		for i := range n {
			require.Equal(t, http.StatusOK, post(h, deal(i+1, 1)))
		}
		close(gate)
		<-time.After(time.Minute)
		require.Equal(t, n, pending(t, s))
		refuse.Store(false)
		require.NoError(t, h.Idle(t.Context()))
		require.Zero(t, pending(t, s))
		require.Less(t, commits.Load(), int64(20))
		require.Greater(t, most.Load(), int64(50))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestMarkThatFailsRests: one mark always fails, and others are stored all the time. The one is
// tried only now and then.
func TestMarkThatFailsRests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var tried atomic.Int64
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			for _, m := range c.Marks {
				if m.ID == "1" {
					tried.Add(1)
					return webhooktest.Fault{Err: errBoom}
				}
			}
			return webhooktest.Fault{}
		})
		h := newHandler(t, nothing(), webhook.WithStore(s))
		synctest.Wait() // for the feed to begin: nothing is recovered
		require.Equal(t, http.StatusOK, post(h, deal(1, 1)))
		<-time.After(time.Second)
		for i := range 3000 {
			require.Equal(t, http.StatusOK, post(h, deal(i+2, 1)))
			<-time.After(20 * time.Millisecond)
		}
		require.Greater(t, tried.Load(), int64(5))
		require.Less(t, tried.Load(), int64(50), "in a minute")
		s.SetFaults(nil)
		require.NoError(t, h.Idle(t.Context()))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestMarkUnderWayAtTheEnd: a commit of a mark hangs when Shutdown stops waiting. The mark counts
// as one that was not stored.
func TestMarkUnderWayAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		s.SetFaults(func(ctx context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpCommit && len(c.Marks) > 0 {
				<-ctx.Done()
				return webhooktest.Fault{Err: ctx.Err()}
			}
			return webhooktest.Fault{}
		})
		var out loot
		h := newHandler(t, nothing(), webhook.WithStore(s), webhook.WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
		synctest.Wait() // for the feed to begin: nothing is recovered
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		<-time.After(time.Second)
		stop(h)
		require.Contains(t, out.String(), "records=1")
		require.Equal(t, 1, pending(t, s))
		<-time.After(time.Minute)
	})
}

// TestMarkBesidesADelivery: a commit of a delivery and a mark fails, which may be because of the
// delivery. The mark is tried by itself at once.
func TestMarkBesidesADelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		h := newHandler(t, nothing(), webhook.WithStore(s))
		synctest.Wait() // for the feed to begin: nothing is recovered
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		synctest.Wait()
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if len(c.Add) > 0 && len(c.Marks) > 0 {
				return webhooktest.Fault{Err: errBoom}
			}
			return webhooktest.Fault{}
		})
		start := time.Now()
		require.Equal(t, http.StatusServiceUnavailable, post(h, dealUpdate(2)), "the mark of the first waits for it")
		synctest.Wait()
		require.Zero(t, time.Since(start))
		require.Zero(t, pending(t, s))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestRemovalKeepsWhatIsNotInMemoryAndNewer: there was no room in memory for deliveries that were
// stored before a removal was reported. Those that were fired after it are handled.
func TestRemovalKeepsWhatIsNotInMemoryAndNewer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const older, newer = 30, 30
		s := newStore(t)
		bodies := []string{body("ONAPPUNINSTALL", fields{"ts": "100"})}
		for i := range older {
			bodies = append(bodies, deal(i+1, 1))
		}
		for i := range newer {
			bodies = append(bodies, deal(1000+i, 101))
		}
		stored(t, s, bodies)
		var after, late atomic.Int32
		var removed atomic.Bool
		h := newHandler(t, do(func(ctx context.Context, d *event.Delivery) error {
			switch {
			case d.Name == "ONAPPUNINSTALL":
				<-time.After(time.Second)
				event.ReportRemoval(ctx, d)
				removed.Store(true)
				return nil
			case d.Time.Unix() == 101:
				after.Add(1)
			case removed.Load():
				late.Add(1)
			}
			<-time.After(2 * time.Second)
			return nil
		}), webhook.WithStore(s), webhook.WithQueueSize(1), webhook.WithWorkers(2))
		require.NoError(t, h.Idle(t.Context()))
		require.EqualValues(t, newer, after.Load())
		require.Zero(t, late.Load())
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestRoomBesidesAFullMemory: the memory is full of deliveries that rest. Events about an
// application, and records that cannot be read, have a little more room.
func TestRoomBesidesAFullMemory(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		then   func(t *testing.T, s webhook.Store, h http.Handler)
		urgent int32 // that begin
		parked int
		most   int // in memory
	}{
		"an application event": {func(t *testing.T, _ webhook.Store, h http.Handler) {
			t.Helper()
			require.Equal(t, http.StatusOK, post(h, body("ONAPPINSTALL", fields{"auth[member_id]": memberOf(4)})))
		}, 1, 0, 21},
		"many of them": {func(t *testing.T, _ webhook.Store, h http.Handler) {
			t.Helper()
			for i := range 20 {
				require.Equal(t, http.StatusOK, post(h, body("ONAPPINSTALL", fields{"auth[member_id]": memberOf(4 + i)})))
			}
		}, 3, 0, 23},
		"what cannot be read": {func(t *testing.T, s webhook.Store, _ http.Handler) {
			t.Helper()
			rec := &webhook.Record{Data: []byte("x"), Name: "ONX", MemberID: "m", Received: time.Now()}
			require.NoError(t, s.Commit(t.Context(), []*webhook.Record{rec}, nil))
		}, 0, 1, 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var urgent atomic.Int32
				release := make(chan struct{})
				h, s := fullHandler(t, do(func(_ context.Context, d *event.Delivery) error {
					if d.Name == "ONAPPINSTALL" {
						urgent.Add(1)
						<-release
						return nil
					}
					return event.Retry(errBoom, time.Hour)
				}))
				test.then(t, s, h)
				<-time.After(time.Second)
				require.Equal(t, test.urgent, urgent.Load())
				depth, err := s.Depth(t.Context())
				require.NoError(t, err)
				require.EqualValues(t, test.parked, depth.Parked)
				require.LessOrEqual(t, h.Stats().Store.InMemory, test.most)
				close(release)
				<-time.After(time.Minute)
				require.NoError(t, h.Shutdown(t.Context()))
			})
		})
	}
}

// fullHandler returns a handler whose memory, which has room for 20 records, is full of deliveries
// that h does not handle.
func fullHandler(t *testing.T, h event.Handler) (*webhook.Handler, webhook.Store) {
	t.Helper()
	s := newStore(t)
	full := newHandler(t, h, webhook.WithStore(s), webhook.WithQueueSize(1), webhook.WithMaxAttempts(100))
	synctest.Wait() // for the feed to begin: nothing is recovered
	for n := range 3 {
		for i := range 20 {
			require.Equal(t, http.StatusOK, post(full, dealOf(n+1, i+1, 1)))
			synctest.Wait()
		}
	}
	require.Equal(t, 20, full.Stats().Store.InMemory)
	return full, s
}

// lose lets the leases of a store run out, and gives them back.
func lose(s *webhooktest.MemoryStore) {
	s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
		if c.Op == webhooktest.OpAcquire {
			return webhooktest.Fault{Err: errBoom}
		}
		return webhooktest.Fault{}
	})
	<-time.After(30 * time.Second)
	s.SetFaults(nil)
	<-time.After(30 * time.Second)
}

// TestRemovalKeepsApplicationEventsThatWait: an event about the application waits for the end of a
// handler that began before the lease was lost. That handler reports a removal.
func TestRemovalKeepsApplicationEventsThatWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, webhooktest.WithPartitions(2))
		gate := make(chan struct{})
		installs := 0
		h := newHandler(t, do(func(ctx context.Context, d *event.Delivery) error {
			switch d.Name {
			case "ONAPPUNINSTALL":
				<-gate
				event.ReportRemoval(ctx, d)
			case "ONAPPINSTALL":
				installs++
			}
			return nil
		}), webhook.WithStore(s))
		<-time.After(10 * time.Second)
		require.Equal(t, http.StatusOK, post(h, body("ONAPPUNINSTALL", fields{"ts": "100"})))
		<-time.After(time.Second)
		lose(s)
		require.Equal(t, http.StatusOK, post(h, body("ONAPPINSTALL", fields{"ts": "50"})))
		<-time.After(time.Second)
		require.Zero(t, installs, "it waits")
		close(gate)
		require.NoError(t, h.Idle(t.Context()))
		require.Equal(t, 1, installs)
		require.Zero(t, h.Stats().Removed)
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestHealthOfAFeed: a feed that failed counts until it yields a record, or has gone on for five
// seconds.
func TestHealthOfAFeed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		sends bool
		well  time.Duration // after the feed works
	}{
		"a record comes": {true, time.Second},
		"nothing comes":  {false, 6 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				var works time.Time
				s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
					switch {
					case c.Op != webhooktest.OpFeed || time.Now().After(works) && !works.IsZero():
						return webhooktest.Fault{}
					case works.IsZero():
						works = time.Now().Add(time.Second)
					}
					return webhooktest.Fault{Err: errBoom}
				})
				h := newHandler(t, nothing(), webhook.WithStore(s))
				<-time.After(time.Second)
				require.ErrorIs(t, h.Health(), errBoom)
				<-time.After(time.Second) // for the feed to begin again
				require.ErrorIs(t, h.Health(), errBoom)
				if test.sends {
					require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
				}
				<-time.After(test.well - 500*time.Millisecond)
				require.NoError(t, h.Health())
				require.NoError(t, h.Shutdown(t.Context()))
			})
		})
	}
}

// TestPortalGoesOnThoughMarksFail: all records of a portal that are in memory are handled, and the
// store does not take the marks. Records that were left in the store come, as long as there is
// room.
func TestPortalGoesOnThoughMarksFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpCommit && len(c.Add) == 0 {
				return webhooktest.Fault{Err: errBoom}
			}
			return webhooktest.Fault{}
		})
		gate := make(chan struct{})
		var calls atomic.Int32
		h := newHandler(t, do(func(context.Context, *event.Delivery) error { <-gate; calls.Add(1); return nil }),
			webhook.WithStore(s), webhook.WithQueueSize(1)) // 20 records
		synctest.Wait() // for the feed to begin: nothing is recovered
		for i := range 60 {
			require.Equal(t, http.StatusOK, post(h, deal(i+1, 1)))
			synctest.Wait()
		}
		require.Equal(t, 15, h.Stats().Store.InMemory)
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpCommit {
				for _, m := range c.Marks {
					if m.State == webhook.StateDone {
						return webhooktest.Fault{Err: errBoom}
					}
				}
			}
			return webhooktest.Fault{}
		})
		close(gate)
		<-time.After(10 * time.Second)
		require.GreaterOrEqual(t, calls.Load(), int32(15))
		require.Greater(t, h.Stats().Store.InMemory, 15)
		s.SetFaults(nil)
		require.NoError(t, h.Idle(t.Context()))
		require.EqualValues(t, 60, calls.Load())
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestNewRecordsThatFoundNoRoom: the store was empty when the feed began, so a restart disturbs no
// reading. Records that found no room come as soon as there is some.
func TestNewRecordsThatFoundNoRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		h := newHandler(t, do(func(context.Context, *event.Delivery) error { <-gate; return nil }),
			webhook.WithStore(newStore(t)), webhook.WithQueueSize(1)) // 20 records
		synctest.Wait() // for the feed to begin
		for i := range 60 {
			require.Equal(t, http.StatusOK, post(h, deal(i+1, 1)))
		}
		require.Less(t, h.Stats().Store.InMemory, 60)
		start := time.Now()
		close(gate)
		require.NoError(t, h.Idle(t.Context()))
		require.Less(t, time.Since(start), 3*time.Second)
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestRoomFromAnotherPartition: the memory is full of records of one partition, and a record of
// another one finds no room. It comes when there is some, although its own partition has nothing in
// memory.
func TestRoomFromAnotherPartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		parts := make(map[string]int) // by portal
		s := newStore(t, webhooktest.WithPartitions(2))
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if c.Op == webhooktest.OpCommit {
				mu.Lock()
				defer mu.Unlock()
				for _, r := range c.Add {
					parts[r.MemberID] = r.Part
				}
			}
			return webhooktest.Fault{}
		})
		gate := make(chan struct{})
		h := newHandler(t, do(func(_ context.Context, d *event.Delivery) error {
			if d.Entity().ID != "1" {
				<-gate
			}
			return nil
		}), webhook.WithStore(s), webhook.WithQueueSize(1)) // 20 records
		<-time.After(10 * time.Second) // for both partitions
		const portals = 12
		for n := range portals {
			require.Equal(t, http.StatusOK, post(h, dealOf(n, 1, 1)))
		}
		require.NoError(t, h.Idle(t.Context()))
		for n := range portals {
			for i := range 20 {
				if parts[memberOf(n)] == 0 {
					require.Equal(t, http.StatusOK, post(h, dealOf(n, i+2, 2)))
				}
			}
		}
		synctest.Wait()
		require.Equal(t, 20, h.Stats().Store.InMemory)
		for n := range portals {
			if parts[memberOf(n)] == 1 {
				require.Equal(t, http.StatusOK, post(h, dealOf(n, 1, 2)))
			}
		}
		synctest.Wait()
		require.Equal(t, 20, h.Stats().Store.InMemory)
		close(gate)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, h.Idle(ctx))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// patientTx is a store whose transactions begin when the context of the attempt has ended.
type patientTx struct {
	*webhooktest.MemoryStore

	finished []error
}

func (s *patientTx) Attempt(ctx context.Context, _ int, _ string) (context.Context, func(error) error) {
	<-ctx.Done()
	return ctx, func(err error) error { s.finished = append(s.finished, err); return err }
}

// TestTransactionOfAHandlerThatDoesNotBegin: the transaction ends, and with an error.
func TestTransactionOfAHandlerThatDoesNotBegin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &patientTx{MemoryStore: newStore(t)}
		var r recorder
		h := newHandler(t, &r, webhook.WithStore(s))
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		<-time.After(time.Second)
		stop(h)
		<-time.After(time.Minute)
		require.Empty(t, r.deliveries())
		require.Len(t, s.finished, 1)
		require.Error(t, s.finished[0])
		require.Equal(t, 1, pending(t, s))
	})
}

// TestWhatEndsAfterTheNextFeedPassedIt: a handler goes on although the lease is lost, and ends
// after the next feed has passed its record. The record, which stays in the store, is handled at
// once, with the attempts that it had.
func TestWhatEndsAfterTheNextFeedPassedIt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		body string
		err  error // nil for that of the context
	}{
		"it was ended":                   {dealUpdate(1), nil},
		"it was ended, without an order": {body("ONX", nil), nil},
		"it is to be parked":             {dealUpdate(1), permanentError{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t, webhooktest.WithPartitions(2))
				gate := make(chan struct{})
				var attempts, counted []int
				h := newHandler(t, do(func(ctx context.Context, _ *event.Delivery) error {
					attempts = append(attempts, event.AttemptOf(ctx).Number)
					for part := range 2 {
						recs, err := s.Load(ctx, part, []string{"1"})
						if err == nil && len(recs) > 0 {
							counted = append(counted, recs[0].Attempts)
						}
					}
					switch len(attempts) {
					case 1:
						return event.Retry(errBoom, time.Second)
					case 2:
						<-gate
						if test.err != nil {
							return test.err
						}
						return context.Cause(ctx)
					}
					return nil
				}), webhook.WithStore(s))
				<-time.After(10 * time.Second)
				require.Equal(t, http.StatusOK, post(h, test.body))
				<-time.After(5 * time.Second)
				lose(s)
				require.Equal(t, []int{1, 2}, attempts)
				close(gate)
				<-time.After(5 * time.Second)
				require.Equal(t, []int{1, 2, 2}, attempts)
				require.Equal(t, []int{0, 1, 1}, counted)
				require.Zero(t, pending(t, s))
				require.NoError(t, h.Shutdown(t.Context()))
			})
		})
	}
}

// TestMarkThatIsOutOfDate: a newer mark of a record comes while the commit of the older one fails.
// The older one is not stored any more.
func TestMarkThatIsOutOfDate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		calls, commits := 0, 0
		h := newHandler(t, do(func(context.Context, *event.Delivery) error {
			if calls++; calls == 1 {
				return event.Retry(errBoom, time.Second)
			}
			return event.Retry(errBoom, time.Hour)
		}), webhook.WithStore(s))
		synctest.Wait() // for the feed to begin: nothing is recovered
		s.SetFaults(func(_ context.Context, c webhooktest.Call) webhooktest.Fault {
			if len(c.Marks) == 0 {
				return webhooktest.Fault{}
			}
			switch commits++; commits {
			case 1:
				return webhooktest.Fault{Err: errBoom}
			case 2: // it rests for a while then
				<-time.After(3 * time.Second)
				return webhooktest.Fault{Err: errBoom}
			}
			return webhooktest.Fault{}
		})
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		<-time.After(10 * time.Second)
		for range 60 {
			recs, err := s.Load(t.Context(), 0, []string{"1"})
			require.NoError(t, err)
			require.Len(t, recs, 1)
			require.Equal(t, 2, recs[0].Attempts)
			<-time.After(time.Second)
		}
		require.Equal(t, 2, calls)
		stop(h)
	})
}

// TestSuspectsOneByOne: records whose attempts were interrupted are handled one at a time.
func TestSuspectsOneByOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		stored(t, s, []string{deal(1, 1), deal(2, 1), deal(3, 1), deal(4, 1)})
		var marks []webhook.Mark
		for _, id := range []string{"1", "2", "3", "4"} {
			marks = append(marks, webhook.Mark{ID: id, Interrupted: 1})
		}
		require.NoError(t, s.Commit(t.Context(), nil, marks))
		var running, most, calls atomic.Int32
		h := newHandler(t, do(func(context.Context, *event.Delivery) error {
			most.Store(max(most.Load(), running.Add(1)))
			calls.Add(1)
			<-time.After(time.Second)
			running.Add(-1)
			return nil
		}), webhook.WithStore(s))
		require.NoError(t, h.Idle(t.Context()))
		require.EqualValues(t, 4, calls.Load())
		require.EqualValues(t, 1, most.Load())
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// TestSealedRecordIsBound: an encrypted record that got another partition, time, name or portal is
// not read.
func TestSealedRecordIsBound(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(rec *webhook.Record)
		calls  int
	}{
		"as it was":         {func(*webhook.Record) {}, 1},
		"another partition": {func(rec *webhook.Record) { rec.Part = 1 - rec.Part }, 0},
		"another time":      {func(rec *webhook.Record) { rec.Received = rec.Received.Add(time.Second) }, 0},
		"another name":      {func(rec *webhook.Record) { rec.Name = "ONX" }, 0},
		"another portal":    {func(rec *webhook.Record) { rec.MemberID = memberOf(1) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				key := webhook.WithEncryptionKey(make([]byte, 32))
				source, s := newStore(t, webhooktest.WithPartitions(2)), newStore(t, webhooktest.WithPartitions(2))
				stored(t, source, []string{dealUpdate(1)}, key)
				for part := range 2 {
					recs, err := source.Load(t.Context(), part, []string{"1"})
					require.NoError(t, err)
					for _, rec := range recs {
						rec.ID = ""
						test.change(rec)
						require.NoError(t, s.Commit(t.Context(), []*webhook.Record{rec}, nil))
					}
				}
				var r recorder
				h := newHandler(t, &r, webhook.WithStore(s), key)
				require.NoError(t, h.Idle(t.Context()))
				require.Len(t, r.deliveries(), test.calls)
				depth, err := s.Depth(t.Context())
				require.NoError(t, err)
				require.EqualValues(t, 1-test.calls, depth.Parked)
				require.NoError(t, h.Shutdown(t.Context()))
			})
		})
	}
}
