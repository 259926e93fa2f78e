package pgstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/pgstore"
)

// witness notes when commits begin and return, and in which order records are fed. Its clock
// counts.
type witness struct {
	testing.TB

	mu     sync.Mutex
	clock  int
	began  map[string]int // by data
	ended  map[string]int // of commits that succeeded
	place  map[string]int // of a record in its commit
	fed    map[int][]string
	failed int // commits
	feeds  sync.WaitGroup
	stop   context.CancelFunc
	ctx    context.Context //nolint:containedctx // of the feeds
}

func newWitness(tb testing.TB) *witness {
	tb.Helper()
	w := &witness{
		TB: tb, began: make(map[string]int), ended: make(map[string]int), place: make(map[string]int), fed: make(map[int][]string),
	}
	w.ctx, w.stop = context.WithCancel(tb.Context())
	tb.Cleanup(func() {
		w.stop()
		w.feeds.Wait()
	})
	return w
}

// replica is one process.
type replica struct {
	*witness

	store *pgstore.Store
	name  string
	marks chan webhook.Mark
}

// follow feeds a partition and marks what comes.
func (r *replica) follow(part int) {
	r.feeds.Go(func() {
		for rec, err := range r.store.Feed(r.ctx, part) {
			if err != nil {
				r.Error(err)
				return
			}
			r.mu.Lock()
			r.fed[part] = append(r.fed[part], string(rec.Data))
			r.mu.Unlock()
			r.marks <- done(rec)
		}
	})
}

// commit stores a group of records, and the marks that wait. It returns its error.
func (r *replica) commit(ctx context.Context, parts, group, n int) error {
	var add []*webhook.Record
	for i := range group {
		add = append(add, record((n+i)%parts, fmt.Sprintf("%s, commit %d, record %d", r.name, n, i)))
	}
	r.mu.Lock()
	r.clock++
	for i, rec := range add {
		r.began[string(rec.Data)], r.place[string(rec.Data)] = r.clock, i
	}
	r.mu.Unlock()
	err := r.store.Commit(ctx, add, r.waiting())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock++
	if err != nil {
		r.failed++
		return err
	}
	for _, rec := range add {
		r.ended[string(rec.Data)] = r.clock
	}
	return nil
}

func (r *replica) waiting() (marks []webhook.Mark) {
	for {
		select {
		case m := <-r.marks:
			marks = append(marks, m)
		default:
			return marks
		}
	}
}

// finish waits until all that was committed has been fed, and marks it.
func (r *replica) finish(parts int) {
	r.Helper()
	eventually(r, "everything that was committed is fed", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		fed := 0
		seen := make(map[string]bool)
		for part := range parts {
			for _, data := range r.fed[part] {
				seen[data] = true
			}
		}
		for data := range r.ended {
			if seen[data] {
				fed++
			}
		}
		return fed == len(r.ended)
	})
	mark(r, r.store, r.waiting()...)
}

// check checks that everything was fed once, and in order.
func (w *witness) check(want int) {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Len(w, w.ended, want)
	seen := make(map[string]bool)
	for part, fed := range w.fed {
		latest, before := 0, ""
		last := make(map[int]int) // place of the last record of a commit
		for _, data := range fed {
			require.False(w, seen[data], "fed twice: %s", data)
			seen[data] = true
			began := w.began[data]
			require.NotZero(w, began, "nobody has committed %s", data)
			if ended, ok := w.ended[data]; ok {
				require.LessOrEqual(w, latest, ended,
					"partition %d: %s came behind %s, and its commit had returned before the other began", part, data, before)
			}
			if began > latest {
				latest, before = began, data
			}
			require.LessOrEqual(w, last[began], w.place[data], "partition %d: %s came behind one that follows it in its commit", part, data)
			last[began] = w.place[data]
		}
	}
	for data := range w.ended {
		require.True(w, seen[data], "never fed: %s", data)
	}
}
