package webhooktest

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/webhook"
)

func testRecovered(k *kit) {
	old := k.records(0, 3, "old")
	k.commit(old)
	f := k.feed(k.store, 0)
	k.recovered("committed before the Feed began", true, f.take(3)...)
	recent := k.records(0, 3, "recent")
	k.commit(recent[:2])
	k.commit(recent[2:])
	k.recovered("committed after the Feed began", false, f.take(3)...)
	f.stop()
	f = k.feed(k.store, 0) // of the same handle
	k.recovered("committed before a second Feed began", true, f.take(6)...)
	f.stop()
	k.reopen()
	f = k.feed(k.store, 0)
	k.recovered("committed before the data were opened", true, f.take(6)...)
	more := k.records(0, 1, "more")
	k.commit(more)
	k.recovered("committed after the data were opened", false, f.next())
	f.stop()

	// A Feed that begins with nothing to yield. The test can only guess that it has begun.
	k.commit(nil, done(slices.Concat(old, recent, more)...)...)
	k.reopen()
	for try := 1; ; try++ {
		f = k.feed(k.store, 0)
		if r := f.nextOrNil(time.Duration(try) * time.Second); r != nil {
			k.Fatalf("Feed yielded %s, which is done", short(r.Data))
		}
		late := k.records(0, 1, "late")
		k.commit(late)
		got := f.next()
		f.stop()
		if !got.Recovered {
			return
		}
		if try == 3 {
			k.recovered("committed while the Feed waited", false, got)
		}
		k.commit(nil, done(late...)...)
	}
}

func (k *kit) recovered(what string, want bool, records ...*webhook.Record) {
	k.Helper()
	for _, r := range records {
		if r.Recovered != want {
			k.Fatalf("the record %s, %s, has Recovered %v, want %v", short(r.Data), what, r.Recovered, want)
		}
	}
}

// testFeedGoesOn commits single records to a Feed that waits.
func testFeedGoesOn(k *kit) {
	part := k.parts - 1
	f := k.feed(k.store, part)
	writer := k.store
	for n := range 12 {
		if n == 6 && k.parts > 1 { // from another process
			writer, _ = k.handle()
		}
		r := k.record(part, fmt.Sprint("record ", n))
		k.commitTo(writer, []*webhook.Record{r})
		got := f.nextOrNil(prompt)
		if got == nil {
			k.Fatalf("Feed did not yield a new record within %v", prompt)
		}
		k.sameFields("Feed", got, r)
		if n%3 == 2 {
			k.commitTo(writer, nil, done(r)...)
		}
	}
	f.stop()
}

// testFeedBlocked holds up a Feed in its loop body. Nothing else may wait for that.
func testFeedBlocked(k *kit) {
	k.commit(k.records(0, 600, "blocked"))
	blocked := k.feed(k.store, 0) // nobody takes its records
	if !k.eventually(func() bool { return blocked.yields.Load() > 0 }) {
		k.Fatalf("Feed yielded nothing for %v", prompt)
	}
	parked := k.records(0, 1, "parked")
	k.commit(parked)
	k.commit(nil, park(parked...)...)
	for n := range 20 {
		add := k.records(0, 5, fmt.Sprint("more ", n))
		k.commit(add)
		k.commit(nil, done(add...)...)
	}
	k.depth(600, 1, k.kept(100))
	k.archived(webhook.StateParked, parked...)
	if k.parts > 1 {
		f := k.feed(k.store, 1)
		for n := range 5 {
			add := k.records(1, 3, fmt.Sprint("beside ", n))
			k.commit(add)
			k.inOrder(f.take(3), add)
		}
		f.stop()
	}
	blocked.stop()
	if got := k.pending(0); len(got) != 600 {
		k.Fatalf("Feed yielded %d records, want 600", len(got))
	}
}

// testFeedBehind lets a Feed fall behind by more records than a store will hold in memory, settles
// some that it has not yielded yet, and lets it catch up.
func testFeedBehind(k *kit) {
	first := k.records(0, 1, "first")
	k.commit(first)
	f := k.feed(k.store, 0)
	k.inOrder(f.take(1), first)
	var want, gone []*webhook.Record
	for i := range 14 {
		add := k.records(0, 500, fmt.Sprint("commit ", i))
		k.commit(add)
		for j, r := range add {
			if i > 6 && j%5 == 2 || i == 10 {
				gone = append(gone, r)
			} else {
				want = append(want, r)
			}
		}
	}
	for part := range slices.Chunk(gone, 400) {
		k.commit(nil, done(part...)...)
	}
	settled := make(map[string]bool)
	for _, r := range gone {
		settled[r.ID] = true
	}
	last := k.record(0, "last")
	k.commit([]*webhook.Record{last})
	var got []*webhook.Record
	read := 0
	for r := f.next(); r.ID != last.ID; r = f.next() {
		k.recovered("committed after the Feed began", false, r)
		if settled[r.ID] {
			read++ // just before it was settled
			continue
		}
		got = append(got, r)
	}
	k.inOrder(got, want)
	if read > len(gone)/2 {
		k.Errorf("Feed yielded %d of %d records that were settled long before", read, len(gone))
	}
	more := k.records(0, 3, "more")
	k.commit(more)
	k.inOrder(f.take(3), more)
	f.stop()
	k.hasPending(0, slices.Concat(first, want, []*webhook.Record{last}, more)...)
}

// testFeedAgain runs several Feeds of a partition, one after another.
func testFeedAgain(k *kit) {
	add := k.records(0, 30, "record")
	k.commit(add)
	for n := range 3 {
		f := k.feed(k.store, 0)
		k.inOrder(f.take(10), add[n:n+10]) // and ends in the middle
		f.stop()
		k.commit(nil, done(add[n])...)
	}
	yielded := 0
	for r, err := range k.store.Feed(k.ctx(), 0) {
		if err != nil {
			k.Fatalf("Feed: %v", err)
		}
		if r.ID != add[3+yielded].ID {
			k.Fatalf("Feed yielded %s, want %s", short(r.Data), short(add[3+yielded].Data))
		}
		if yielded++; yielded == 5 {
			break
		}
	}
	k.hasPending(0, add[3:]...)
	more := k.records(0, 3, "more")
	f := k.feed(k.store, 0)
	f.take(27)
	k.commit(more)
	k.inOrder(f.take(3), more)
	f.stop()
	k.hasPending(0, slices.Concat(add[3:], more)...)
}

// testFeedEnds ends the context of a Feed at different times.
func testFeedEnds(k *kit) {
	f := k.feed(k.store, 0) // while it waits for the first record
	if r := f.nextOrNil(100 * time.Millisecond); r != nil {
		k.Fatalf("Feed of nothing yielded %s", short(r.Data))
	}
	f.stop()
	k.commit(k.records(0, 700, "record"))
	f = k.feed(k.store, 0)
	f.take(1)
	f.stop() // while it yields
	f = k.feed(k.store, 0)
	f.take(700)
	f.stop() // while it waits for more

	ctx, cancel := context.WithCancel(k.Context())
	cancel()
	for r, err := range k.store.Feed(ctx, 0) { // before it began
		k.Fatalf("Feed with a context that has ended yielded %v, %v", r, err)
	}
	ctx, cancel = context.WithDeadline(k.Context(), time.Now().Add(200*time.Millisecond))
	defer cancel()
	for _, err := range k.store.Feed(ctx, 0) {
		if err != nil {
			k.Fatalf("Feed yielded %v at the deadline of its context, want nothing", err)
		}
	}
	if ctx.Err() == nil {
		k.Fatal("Feed ended before its context, without an error")
	}
	if got := k.pending(0); len(got) != 700 {
		k.Fatalf("Feed yielded %d records, want 700", len(got))
	}
}

// feedLabel marks the goroutines that a Feed starts.
const feedLabel = "webhooktest_feed"

// testFeedLeaks counts the goroutines that many Feeds leave. A few may belong to a pool.
func testFeedLeaks(k *kit) {
	const feeds, allowed = 60, 20
	k.commit(k.records(0, 3, "record"))
	name := strconv.FormatInt(time.Now().UnixNano(), 36)
	run := func(n int) {
		for r, err := range k.store.Feed(k.ctx(), 0) {
			if err != nil {
				k.Fatalf("Feed: %v", err)
			}
			if n%2 == 0 || string(r.Data) == "record/2" {
				return
			}
		}
	}
	for n := range feeds {
		pprof.Do(k.Context(), pprof.Labels(feedLabel, name), func(context.Context) {
			if n%3 > 0 {
				run(n)
				return
			}
			f := k.feed(k.store, 0) //nolint:contextcheck // only the labels of the goroutine matter here
			f.take(3)
			f.stop()
		})
	}
	left := 0
	if !k.eventually(func() bool { left = countLabeled(name); return left < allowed }) {
		k.Fatalf("%d goroutines are left of %d Feeds that have ended", left, feeds)
	}
}

// countLabeled counts the goroutines with the label.
func countLabeled(name string) int {
	var b bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
	total := 0
	for stack := range strings.SplitSeq(b.String(), "\n\n") {
		if !strings.Contains(stack, strconv.Quote(feedLabel)+":"+strconv.Quote(name)) {
			continue
		}
		n, _, _ := strings.Cut(stack[strings.LastIndexByte(stack[:strings.Index(stack+" @", " @")], '\n')+1:], " @")
		if count, err := strconv.Atoi(n); err == nil {
			total += count
		}
	}
	return total
}
