package webhooktest

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/webhook"
)

func testEmpty(k *kit) {
	depth := k.depth(0, 0, 0)
	if !depth.OldestPending.IsZero() || !depth.OldestParked.IsZero() {
		k.Errorf("Depth of nothing has the times %v and %v, want zero", depth.OldestPending, depth.OldestParked)
	}
	for _, state := range []webhook.State{webhook.StateParked, webhook.StateDone} {
		k.archived(state)
	}
	for part := range k.parts {
		if found := k.load(part, "1"); len(found) > 0 {
			k.Errorf("Load from nothing returned %d records", len(found))
		}
	}
	k.replay(0, "1")
	k.discard(0, "1")
	k.hasPending(k.parts - 1)
}

// testNothing makes calls without anything to do.
func testNothing(k *kit) {
	r := k.record(0, "alone")
	k.commit(nil)
	k.commit([]*webhook.Record{})
	k.commit([]*webhook.Record{r})
	k.commit(nil)
	if found := k.load(0); len(found) > 0 {
		k.Errorf("Load of no IDs returned %d records", len(found))
	}
	k.replay(0)
	k.discard(0)
	k.depth(1, 0, 0)
	k.hasPending(0, r)
}

// testOrder commits in several sizes and by several handles, one after the other.
func testOrder(k *kit) {
	part := k.parts - 1
	f := k.feed(k.store, part)
	var want []*webhook.Record
	for i, n := range []int{1, 1, 3, 64, 1, 512, 2} {
		add := k.records(part, n, fmt.Sprint("commit ", i))
		k.commit(add)
		want = append(want, add...)
	}
	k.inOrder(f.take(len(want)), want)
	f.stop()
	for i, n := range []int{2, 100, 1} {
		k.reopen()
		add := k.records(part, n, fmt.Sprint("handle ", i))
		k.commit(add)
		want = append(want, add...)
	}
	k.hasPending(part, want...)
	k.reopen()
	k.hasPending(part, want...)
}

// span says when the Commit of a record began and ended, by a clock that counts events.
type span struct{ began, ended int64 }

// never is the end of a Commit that failed: its record may be there or not.
const never = math.MaxInt64

// race is a run of several committers and Feeds at the same time.
type race struct {
	*kit
	part  int
	clock atomic.Int64

	mu    sync.Mutex
	spans map[string]span // by Data
}

// commitAt commits records and notes when. It returns false if the Commit failed.
func (r *race) commitAt(ctx context.Context, s webhook.Store, add []*webhook.Record) bool {
	when := span{began: r.clock.Add(1)}
	r.note(add, span{began: when.began, ended: never}) // a Feed may be faster than the Commit returns
	err := s.Commit(ctx, add, nil)
	when.ended = r.clock.Add(1)
	if err != nil {
		return false
	}
	r.note(add, when)
	return true
}

func (r *race) note(add []*webhook.Record, when span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, record := range add {
		r.spans[string(record.Data)] = when
	}
}

// check checks the order in which a Feed yielded records, and that it yielded none twice. A
// complete Feed has all records whose Commit succeeded.
func (r *race) check(who string, got []*webhook.Record, complete bool) {
	r.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var latest int64 // the latest beginning so far
	var after string
	seen := make(map[string]bool, len(got))
	for _, record := range got {
		data := string(record.Data)
		when, known := r.spans[data]
		if !known {
			r.Fatalf("%s yielded %s, which nobody committed", who, short(record.Data))
		}
		if seen[data] {
			r.Fatalf("%s yielded %s twice", who, short(record.Data))
		}
		seen[data] = true
		if when.ended < latest {
			r.Fatalf("%s yielded %s behind %s, and its Commit had returned before the Commit of that one began",
				who, short(record.Data), after)
		}
		if when.began > latest {
			latest, after = when.began, short(record.Data)
		}
		if follower, ok := follower(data); ok && seen[follower] {
			r.Fatalf("%s yielded %s behind the one that followed it in its Commit", who, short(record.Data))
		}
	}
	if !complete {
		return
	}
	for data, when := range r.spans {
		if !seen[data] && when.ended != never {
			r.Fatalf("%s did not yield %s, whose Commit succeeded", who, short([]byte(data)))
		}
	}
}

// follower returns the Data of the record that comes next in the same Commit. Data are a head, a
// slash, the number in the Commit, and a filling.
func follower(data string) (string, bool) {
	head, rest, ok := strings.Cut(data, "/")
	if !ok {
		return "", false
	}
	number, filling, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(number)
	if err != nil {
		return "", false
	}
	return strings.TrimSuffix(fmt.Sprintf("%s/%d %s", head, n+1, filling), " "), true
}

// testConcurrent lets several handles commit at the same time, or one if the store has one
// partition: single records, groups, large ones that take long, and some whose context ends. Feeds
// of several handles run meanwhile. What committed before another's Commit began comes before it.
func testConcurrent(k *kit) {
	r := &race{kit: k, part: k.parts / 2, spans: make(map[string]span)}
	old := k.record(r.part, "old")
	k.commit([]*webhook.Record{old})
	r.note([]*webhook.Record{old}, span{r.clock.Add(1), r.clock.Add(1)})
	large := strings.Repeat("x", 64<<10)
	kinds := []struct {
		name    string
		commits int
		records int
		filling string
		timeout time.Duration
	}{
		{"single", 150, 1, "", patience},
		{"single too", 150, 1, "", patience},
		{"group", 40, 32, "", patience},
		{"slow", 12, 32, " " + large, patience},
		{"slow too", 12, 24, " " + large, patience},
		{"cut off", 60, 4, "", 2 * time.Millisecond},
	}
	stores := make([]webhook.Store, len(kinds))
	for i := range stores {
		if stores[i] = k.store; k.parts > 1 {
			stores[i], _ = k.handle()
		}
	}
	feeds := []*feed{k.feed(k.store, r.part), k.feed(stores[len(stores)-1], r.part)}
	began := r.clock.Add(1)
	first := []*webhook.Record{feeds[0].next(), feeds[1].next()} // the Feeds have begun
	begun := r.clock.Add(1)

	var committers sync.WaitGroup
	var turn sync.Mutex // of a store with one partition
	for i, kind := range kinds {
		committers.Go(func() {
			for n := range kind.commits {
				add := k.records(r.part, kind.records, fmt.Sprint(kind.name, " ", n))
				for _, record := range add {
					record.Data = append(record.Data, kind.filling...)
				}
				ctx, cancel := context.WithTimeout(k.Context(), kind.timeout)
				if k.parts == 1 {
					turn.Lock()
				}
				if ok := r.commitAt(ctx, stores[i], add); !ok && kind.timeout == patience {
					k.Errorf("a Commit of %s failed while others committed", kind.name)
				}
				if k.parts == 1 {
					turn.Unlock()
				}
				cancel()
			}
		})
	}
	readers := k.read(r.part)
	results := make([][]*webhook.Record, len(feeds))
	var all sync.WaitGroup
	for i, f := range feeds {
		all.Go(func() { results[i] = append(first[i:i+1:i+1], f.until("the end")...) })
	}
	committers.Wait()
	r.commitAt(k.ctx(), k.store, []*webhook.Record{k.record(r.part, "the end")})
	all.Wait()
	readers()
	for i, f := range feeds {
		f.stop()
		r.check(fmt.Sprintf("Feed %d", i), results[i], true)
		r.recovered(results[i], began, begun)
	}
	if k.Failed() {
		k.FailNow()
	}
	r.check("a new Feed", k.pending(r.part), true)
	k.reopen()
	r.check("a Feed of a new handle", k.pending(r.part), true)
}

// recovered checks Recovered of the records of a Feed that began between two times.
func (r *race) recovered(got []*webhook.Record, from, to int64) {
	r.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, record := range got {
		when := r.spans[string(record.Data)]
		switch {
		case when.ended < from && !record.Recovered:
			r.Fatalf("%s was committed before the Feed began, and is not Recovered", short(record.Data))
		case when.began > to && record.Recovered:
			r.Fatalf("%s was committed after the Feed began, and is Recovered", short(record.Data))
		}
	}
}

// read calls the methods that only read, until the function that it returns is called.
func (k *kit) read(part int) (stop func()) {
	end := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			_, err := k.store.Depth(k.ctx())
			if err == nil {
				_, err = k.store.Load(k.ctx(), part, []string{"1", "2"})
			}
			if err == nil {
				_, err = k.store.List(k.ctx(), webhook.StateParked, "", 10)
			}
			if err != nil {
				k.Errorf("reading while others commit: %v", err)
				return
			}
			select {
			case <-end:
				return
			case <-time.After(pace):
			}
		}
	})
	return func() { close(end); readers.Wait() }
}

// until takes records up to the one with these Data. Any goroutine may call it.
func (f *feed) until(data string) []*webhook.Record {
	var list []*webhook.Record
	for {
		select {
		case r := <-f.records:
			list = append(list, r)
			if string(r.Data) == data {
				return list
			}
		case <-f.ended:
			f.k.Errorf("Feed of partition %d ended: %v", f.part, f.err)
			return list
		case <-time.After(patience):
			f.k.Errorf("Feed of partition %d yielded %d records, and then nothing for %v", f.part, len(list), patience)
			return list
		}
	}
}

// testBacklog leaves the next process more than a store will read at once, with holes.
func testBacklog(k *kit) {
	var want, gone []*webhook.Record
	for i := range 5 {
		add := k.records(0, 512, fmt.Sprint("commit ", i))
		k.commit(add)
		for j, r := range add {
			if i == 2 || j%3 == 1 {
				gone = append(gone, r)
			} else {
				want = append(want, r)
			}
		}
	}
	for len(gone) > 0 {
		n := min(500, len(gone))
		k.commit(nil, done(gone[:n]...)...)
		gone = gone[n:]
	}
	k.hasPending(0, want...)
	k.reopen()
	k.depth(int64(len(want)), 0, k.kept(5*512-len(want)))
	k.hasPending(0, want...)
}

// kept returns how many of n records that are done the store keeps.
func (k *kit) kept(n int) int64 {
	if k.keeps {
		return int64(n)
	}
	return 0
}

func testPartitions(k *kit) {
	want := make([][]*webhook.Record, k.parts)
	var add []*webhook.Record
	for i := range 3 * k.parts {
		part := i * 7 % k.parts
		r := k.record(part, fmt.Sprint("record ", i))
		add = append(add, r)
		want[part] = append(want[part], r)
	}
	k.commit(add[:len(add)/2])
	k.commit(add[len(add)/2:])
	for part := range min(k.parts, 4) {
		k.hasPending(part, want[part]...)
	}
	if k.parts > 1 {
		r := want[0][0]
		if found := k.load(1, r.ID); len(found) > 0 {
			k.Errorf("Load from partition 1 returned a record of partition 0")
		}
		k.commit(nil, done(want[0]...)...)
		k.hasPending(0)
		k.hasPending(1, want[1]...)
	}
}
