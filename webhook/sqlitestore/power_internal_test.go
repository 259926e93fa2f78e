package sqlitestore

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
)

// ledger is what a test knows of the records that it stored, by the number in their Data.
type ledger struct {
	next     int
	stored   map[int]string // acknowledged, with their IDs
	settling map[int]bool   // a Commit with their mark began
	settled  map[int]bool   // and was acknowledged
	parked   map[int]bool   // before the last loss of power
	highest  int64          // of the IDs that were given
}

func newLedger() *ledger {
	return &ledger{stored: make(map[int]string), settling: make(map[int]bool), settled: make(map[int]bool), parked: make(map[int]bool)}
}

func (l *ledger) clone() *ledger {
	c := *l
	c.stored, c.settling, c.settled, c.parked = maps.Clone(l.stored), maps.Clone(l.settling), maps.Clone(l.settled), maps.Clone(l.parked)
	return &c
}

func (l *ledger) records(n int) []*webhook.Record {
	add := make([]*webhook.Record, n)
	for i := range add {
		add[i] = record(fmt.Sprintf("%d %s", l.next, strings.Repeat("x", l.next*37%1500)))
		l.next++
	}
	return add
}

func record(data string) *webhook.Record {
	return &webhook.Record{Name: "ONCRMDEALUPDATE", MemberID: "portal", Received: time.Now().UTC(), Data: []byte(data)}
}

// number is the one in the Data of a record.
func number(t *testing.T, r *webhook.Record) int {
	t.Helper()
	text, _, _ := strings.Cut(string(r.Data), " ")
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// work stores and settles records until the disk has crashed. It keeps the ledger, and a copy of it
// for each moment.
func (l *ledger) work(t *testing.T, s *Store, d *fakeDisk, random *rand.Rand, at *atomic.Pointer[ledger]) {
	t.Helper()
	var open []int
	for n := range l.stored {
		if !l.settling[n] {
			open = append(open, n)
		}
	}
	for range 2000 {
		select {
		case <-d.crashed:
			return
		default:
		}
		add := l.records(random.IntN(12))
		first := l.next - len(add)
		var marks []webhook.Mark
		var ended []int
		for len(open) > 60 || len(open) > 0 && random.IntN(3) > 0 {
			i := random.IntN(len(open))
			n := open[i]
			open = append(open[:i], open[i+1:]...)
			l.settling[n] = true
			ended = append(ended, n)
			state := webhook.StateDone
			if random.IntN(8) == 0 {
				state = webhook.StateParked
			}
			marks = append(marks, webhook.Mark{ID: l.stored[n], State: state, Attempts: 5, Err: "no"})
		}
		at.Store(l.clone()) // the Commit has begun
		if err := s.Commit(t.Context(), add, marks); err != nil {
			select {
			case <-d.crashed:
				return
			default:
				require.NoError(t, err)
			}
		}
		for i, r := range add {
			l.stored[first+i] = r.ID
			l.highest = max(l.highest, parseID(r.ID))
			open = append(open, first+i)
		}
		for _, n := range ended {
			l.settled[n] = true
		}
		at.Store(l.clone()) // the Commit was acknowledged
	}
	t.Fatal("the disk did not crash")
}

// audit compares what is in the store with the ledger. It returns what was acknowledged and is not
// there.
func (l *ledger) audit(t *testing.T, s *Store) (lost []int) {
	t.Helper()
	end := record("-1 end")
	require.NoError(t, s.Commit(t.Context(), []*webhook.Record{end}, nil))
	if s.sync == Full {
		require.Greater(t, parseID(end.ID), l.highest, "an ID came back")
	}
	present, parked := make(map[int]bool), make(map[int]bool)
	last := -1
	for r, err := range s.Feed(t.Context(), 0) {
		require.NoError(t, err)
		n := number(t, r)
		if r.ID == end.ID {
			break
		}
		if n == -1 { // the end of an audit that the power did not survive
			continue
		}
		require.Greater(t, n, last, "out of order")
		require.Equal(t, fmt.Sprintf("%d %s", n, strings.Repeat("x", n*37%1500)), string(r.Data))
		if id := l.stored[n]; id != "" && s.sync == Full {
			require.Equal(t, id, r.ID)
		}
		present[n], last = true, n
	}
	require.NoError(t, s.Commit(t.Context(), nil, []webhook.Mark{{ID: end.ID, State: webhook.StateDone}}))
	for _, r := range archive(t, s) {
		n := number(t, r)
		parked[n] = true
		require.False(t, present[n], "record %d is pending and parked", n)
		require.True(t, l.settling[n] || l.parked[n], "record %d is parked, and nobody parked it", n)
	}
	for n := range l.parked {
		if !parked[n] {
			lost = append(lost, n)
		}
	}
	for n := range l.stored {
		if !present[n] && !l.settling[n] || present[n] && l.settled[n] {
			lost = append(lost, n) // the record, or its mark
		}
	}
	return lost
}

func archive(t *testing.T, s *Store) []*webhook.Record {
	t.Helper()
	var all []*webhook.Record
	for after := ""; ; {
		page, err := s.List(t.Context(), webhook.StateParked, after, 100)
		require.NoError(t, err)
		all = append(all, page...)
		if len(page) < 100 {
			return all
		}
		after = page[99].ID
	}
}

// adopt takes over what is in the store: what was not acknowledged may be there or not.
func (l *ledger) adopt(t *testing.T, s *Store) {
	t.Helper()
	next := l.next
	*l = *newLedger()
	l.next = next
	end := record("-1 end")
	require.NoError(t, s.Commit(t.Context(), []*webhook.Record{end}, nil))
	marks := []webhook.Mark{{ID: end.ID, State: webhook.StateDone}}
	for r, err := range s.Feed(t.Context(), 0) {
		require.NoError(t, err)
		l.highest = max(l.highest, parseID(r.ID))
		if r.ID == end.ID {
			break
		}
		if n := number(t, r); n >= 0 {
			l.stored[n] = r.ID
		} else {
			marks = append(marks, webhook.Mark{ID: r.ID, State: webhook.StateDone})
		}
	}
	for _, r := range archive(t, s) {
		l.parked[number(t, r)] = true
	}
	require.NoError(t, s.Commit(t.Context(), nil, marks))
}

// crashes lets the power fail again and again, at random moments, and returns how many records or
// marks were acknowledged and lost.
func crashes(t *testing.T, c config, rounds int, seed uint64) (lost, acknowledged int) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // the same in each run
	image := map[string][]byte{}
	l := newLedger()
	for round := range rounds {
		d := newDisk(t, image, random.Uint64())
		var at atomic.Pointer[ledger]
		var crashed *ledger
		at.Store(l.clone())
		d.onCrash = func() { crashed = at.Load() }
		d.crashAt = 1 + random.IntN(1+random.IntN(1500)) // often early: while the file is opened
		s, err := openEngine(t.Context(), d.engine(t), c)
		require.NoError(t, err, "round %d of seed %d", round, seed)
		if round > 0 {
			failed := l.audit(t, s)
			lost += len(failed)
			if c.sync == Full {
				require.Empty(t, failed, "round %d of seed %d", round, seed)
			}
			l.adopt(t, s)
		}
		l.work(t, s, d, random, &at)
		require.NoError(t, s.Close())
		image = d.image
		crashed.next = l.next
		l = crashed
		acknowledged += len(l.stored)
	}
	return lost, acknowledged
}

// TestPowerLoss runs the store on a disk that forgets what was not synced, and checks what is there
// after the power has failed: all that was acknowledged, in order, and nothing that was settled.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	rounds := 60
	if testing.Short() {
		rounds = 8
	}
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			_, acknowledged := crashes(t, config{logPages: 30}, rounds, seed) // with many checkpoints
			require.Greater(t, acknowledged, rounds*10)
		})
	}
}

// TestPowerLossIsNoticed runs the same with syncs that come later than the Commit, which must lose
// something: else the test above proves nothing.
func TestPowerLossIsNoticed(t *testing.T) {
	t.Parallel()
	lost, _ := crashes(t, config{logPages: 30, sync: Normal}, 20, 1)
	require.Positive(t, lost)
}

// fail makes a fault of the disk.
func (d *fakeDisk) fail(fault func(op, file string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = fault
}
