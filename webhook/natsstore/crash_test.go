package natsstore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/natsstore"
)

// TestServerKilled kills the server while several processes commit and one feeds and settles.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	for name, program := range programs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, program(t), "")
			const committers, kills = 3, 3
			space := newSpace(t, s.url())
			worker := space.open(t)
			var (
				stop    atomic.Bool
				refused atomic.Int64
				mu      sync.Mutex
				acked   = make(map[string]string) // Data by ID
				all     sync.WaitGroup
			)
			for who := range committers {
				store := space.open(t)
				all.Go(func() {
					for n := 0; !stop.Load(); n++ {
						var add []*webhook.Record
						for i := range 8 {
							add = append(add, records(0, 1, fmt.Sprintf("%d %d", who, 8*n+i))...)
						}
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						err := store.Commit(ctx, add, nil)
						cancel()
						if err != nil {
							refused.Add(1)
							continue
						}
						mu.Lock()
						for _, r := range add {
							acked[r.ID] = string(r.Data)
						}
						mu.Unlock()
					}
				})
			}
			f := startFeed(t, worker, 0)
			var got []*webhook.Record
			settled := make(map[string]bool)
			read := func(n int) {
				list := f.take(n)
				got = append(got, list...)
				odd := slices.DeleteFunc(slices.Clone(list), func(r *webhook.Record) bool { return len(r.Data)%2 == 0 })
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				require.NoError(t, worker.Commit(ctx, nil, marks(webhook.StateDone, odd...)))
				for _, r := range odd {
					settled[r.ID] = true
				}
			}
			for range kills {
				read(300)
				s.kill()
				s.start(t)
			}
			read(300)
			stop.Store(true)
			all.Wait()
			end := records(0, 1, "end")
			commit(t, worker, end)
			for got[len(got)-1].ID != end[0].ID {
				got = append(got, f.take(1)...)
			}
			f.stop()
			t.Logf("server %s: %d acknowledged, %d commits refused, %d yielded", s.version(t), len(acked), refused.Load(), len(got))

			seen := make(map[string]bool)
			last := make(map[string]int)
			for _, r := range got {
				require.False(t, seen[r.ID], "%s was yielded twice", r.Data)
				seen[r.ID] = true
				if acked[r.ID] == "" {
					continue
				}
				head, _, _ := strings.Cut(string(r.Data), "/")
				who, number, _ := strings.Cut(head, " ")
				n, err := strconv.Atoi(number)
				require.NoError(t, err)
				require.GreaterOrEqual(t, n, last[who], "the order of %s", r.Data)
				last[who] = n
			}
			for id, data := range acked {
				require.True(t, seen[id], "%s was acknowledged and is lost", data)
			}
			left := make(map[string]bool)
			for _, r := range pending(t, worker, 0) {
				require.False(t, settled[r.ID], "%s was settled and is back", r.Data)
				left[r.ID] = true
			}
			for id := range seen {
				require.True(t, settled[id] || left[id], "a record that was not settled is gone")
			}
		})
	}
}

// TestSettledComesBack kills the server after many records were settled between others. Servers
// before 2.10 have them back then. The store does not yield them, and deletes them again, whether a
// Feed is under way or begins later.
func TestSettledComesBack(t *testing.T) {
	t.Parallel()
	for name, program := range programs {
		for _, feeding := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", feeding ", feeding), func(t *testing.T) {
				t.Parallel()
				s := startServer(t, program(t), "")
				space := newSpace(t, s.url())
				store := space.open(t)
				var stay, gone []*webhook.Record
				for n := range 10 {
					add := records(0, 60, fmt.Sprint("commit ", n))
					commit(t, store, add)
					stay, gone = append(stay, add[0]), append(gone, add[1:]...)
				}
				f := startFeed(t, store, 0)
				f.take(len(stay) + len(gone))
				if !feeding {
					f.stop()
				}
				commit(t, store, nil, marks(webhook.StateDone, gone[:300]...)...)
				commit(t, store, nil, marks(webhook.StateDone, gone[300:]...)...)
				require.Equal(t, len(stay), space.count(t, ""))
				s.kill()
				s.start(t)
				back := space.count(t, "") - len(stay)
				t.Logf("server %s has %d records back", s.version(t), back)
				if !s.isOld(t) {
					require.Zero(t, back)
				}
				late := records(0, 1, "late")
				commit(t, store, late)
				if feeding {
					require.Equal(t, ids(late), ids(f.take(1)), "the Feed goes on, and yields nothing twice")
				} else {
					require.Equal(t, ids(append(stay, late...)), ids(fed(t, store, 0, len(stay)+1)))
				}
				require.Eventually(t, func() bool { return space.count(t, "") == len(stay)+1 }, patience, pace)
				require.Equal(t, ids(append(stay, late...)), ids(pending(t, store, 0)))
			})
		}
	}
}

// TestPowerCut brings back an older state of the server's files, as a power cut does. The sequences
// of what was lost are given to other records then.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for name, program := range programs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, program(t), "")
			space := newSpace(t, s.url())
			store := space.open(t)
			kept := records(0, 10, "kept")
			commit(t, store, kept)
			s.stop()
			older := filepath.Join(t.TempDir(), "older")
			copyDir(t, s.store(), older)
			s.start(t)
			lost := records(0, 10, "lost")
			commit(t, store, lost)
			f := startFeed(t, store, 0)
			require.Equal(t, ids(append(slices.Clone(kept), lost...)), ids(f.take(20)))
			counted := marks(webhook.StatePending, lost...)
			for i := range counted {
				counted[i].Attempts = 3
			}
			commit(t, store, nil, counted...)

			s.kill()
			require.NoError(t, os.RemoveAll(s.store()))
			copyDir(t, older, s.store())
			s.start(t)
			other := space.open(t)
			later := records(0, 10, "later")
			commit(t, other, later)
			require.Equal(t, sequences(lost), sequences(later), "the sequences are those of the lost ones")
			require.NotEqual(t, ids(lost), ids(later))
			got := f.take(10)
			require.Equal(t, ids(later), ids(got), "the Feed yields what has a sequence that it had before")
			f.stop()

			// The process handles what it had read before the cut.
			list, err := store.Load(within(t), 0, ids(lost))
			require.NoError(t, err)
			require.Empty(t, list)
			commit(t, store, nil, marks(webhook.StateDone, lost[:5]...)...)
			commit(t, store, nil, marks(webhook.StateParked, lost[5:]...)...)
			require.Equal(t, ids(append(slices.Clone(kept), later...)), ids(pending(t, store, 0)), "marks of lost records settle no others")
			require.Zero(t, space.count(t, "-parked"))
			commit(t, store, nil, marks(webhook.StateDone, append(kept[:3:3], later[:3]...)...)...)
			require.Equal(t, ids(append(slices.Clone(kept[3:]), later[3:]...)), ids(pending(t, store, 0)))
		})
	}
}

// TestPowerCutUnderDeletes has the power fail while records are being deleted. The deletes are not
// repeated on what has the sequences then.
func TestPowerCutUnderDeletes(t *testing.T) {
	t.Parallel()
	for name, program := range programs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, program(t), "")
			swallowed := make(chan struct{}, 1000)
			var swallow atomic.Bool
			b := startBetween(t, s.url(), func(_ *between, operation string, _ *nats.Msg) bool {
				if !swallow.Load() || !strings.HasPrefix(operation, "STREAM.MSG.DELETE.") {
					return false
				}
				swallowed <- struct{}{}
				return true
			})
			space := newSpace(t, s.url())
			kept := records(0, 10, "kept")
			commit(t, space.open(t), kept)
			store := space.open(t, natsstore.WithDomain(b.domain))
			s.stop()
			older := filepath.Join(t.TempDir(), "older")
			copyDir(t, s.store(), older)
			s.start(t)
			lost := records(0, 10, "lost")
			commit(t, store, lost)
			f := startFeed(t, store, 0)
			f.take(20)
			f.stop()
			swallow.Store(true)
			marked := make(chan error, 1)
			parked := marks(webhook.StateParked, lost[8:]...)
			go func() {
				marked <- store.Commit(within(t), nil, append(parked, marks(webhook.StateDone, append(kept[:1:1], lost[:8]...)...)...))
			}()
			for range 9 {
				<-swallowed
			}
			s.kill()
			swallow.Store(false)
			require.NoError(t, os.RemoveAll(s.store()))
			copyDir(t, older, s.store())
			// The others are faster: they store before the deletes are repeated.
			late := &server{program: s.program, dir: filepath.Join(s.dir, "late"), port: freePort(t)}
			copyDir(t, s.store(), late.store())
			late.start(t)
			later := records(0, 10, "later")
			elsewhere := *space
			elsewhere.url = late.url()
			commit(t, elsewhere.open(t), later)
			late.stop()
			require.NoError(t, os.RemoveAll(s.store()))
			copyDir(t, late.store(), s.store())
			s.start(t)
			require.NoError(t, <-marked)
			require.Equal(t, sequences(lost), sequences(later))
			require.Equal(t, ids(append(slices.Clone(kept[1:]), later...)), ids(pending(t, space.open(t), 0)))
			require.Zero(t, space.count(t, "-parked"))
		})
	}
}

// sequences is the part of IDs that a server gives again.
func sequences(list []*webhook.Record) []string {
	var all []string
	for _, r := range list {
		all = append(all, strings.Split(r.ID, "-")[1])
	}
	return all
}

// TestRestartWhileIdle restarts the server under a Feed that waits.
func TestRestartWhileIdle(t *testing.T) {
	t.Parallel()
	for name, program := range programs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, program(t), "")
			space := newSpace(t, s.url())
			store := space.open(t)
			f := startFeed(t, store, 1)
			for n := range 3 {
				add := records(1, 2, fmt.Sprint("before ", n))
				commit(t, store, add)
				require.Equal(t, ids(add), ids(f.take(2)))
				began := time.Now()
				s.stop()
				s.start(t)
				add = records(1, 2, fmt.Sprint("after ", n))
				commit(t, store, add)
				require.Equal(t, ids(add), ids(f.take(2)))
				t.Logf("server %s: restarted and read on after %v", s.version(t), time.Since(began))
			}
			f.stop()
		})
	}
}
