package webhooktest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/b24events/b24events/webhook"
)

func testDone(k *kit) {
	add := k.records(0, 6, "record")
	k.commit(add)
	k.commit(nil, done(add[0], add[3])...)
	k.hasPending(0, add[1], add[2], add[4], add[5])
	more := k.records(0, 2, "more")
	k.commit(more, done(add[5], add[1])...) // in one Commit with others, in any order
	k.hasPending(0, add[2], add[4], more[0], more[1])
	if found := k.load(0, add[0].ID, add[5].ID); len(found) > 0 {
		k.Errorf("Load returned %d records that are done", len(found))
	}
	k.reopen()
	k.hasPending(0, add[2], add[4], more[0], more[1])
	k.depth(4, 0, k.kept(4))
	k.archived(webhook.StateParked)
}

func testParked(k *kit) {
	add := k.records(0, 5, "record")
	k.commit(add)
	k.commit(nil, park(add[3], add[1])...)
	k.hasPending(0, add[0], add[2], add[4])
	if found := k.load(0, add[1].ID, add[3].ID); len(found) > 0 {
		k.Errorf("Load returned %d records that are parked", len(found))
	}
	k.reopen()
	k.hasPending(0, add[0], add[2], add[4])
	k.depth(3, 2, 0)
	k.archived(webhook.StateParked, add[3], add[1])
	k.archived(webhook.StateDone)
}

// testCounters marks records that stay pending.
func testCounters(k *kit) {
	add := k.records(0, 4, "record")
	k.commit(add)
	due := time.Now().UTC().Add(time.Hour).Truncate(time.Microsecond)
	count := func(r *webhook.Record, attempts, interrupted int, due time.Time, err string) webhook.Mark {
		r.Attempts, r.Interrupted, r.Due, r.Err = attempts, interrupted, due, err
		m := mark(r, webhook.StatePending)
		m.Attempts, m.Interrupted, m.Due, m.Err = attempts, interrupted, due, err
		return m
	}
	k.commit(nil, count(add[1], 1, 0, due, "first"), count(add[2], 0, 1, time.Time{}, ""))
	k.comesBack(add)
	k.commit(nil, count(add[1], 2, 0, due.Add(time.Minute), "second"), count(add[3], 7, 3, due, "seventh"))
	k.comesBack(add)
	k.commit(nil, count(add[1], 0, 0, time.Time{}, "")) // back to zero
	k.comesBack(add)

	// Two marks for one record in one Commit: the later counts.
	k.commit(nil, count(add[0], 1, 0, due, "earlier"), count(add[0], 2, 0, due.Add(time.Second), "later"))
	k.comesBack(add)
	k.commit(nil, count(add[0], 3, 0, due, "not seen any more"), mark(add[0], webhook.StateDone))
	k.comesBack(add[1:])
}

// testMarksTwice applies marks again, as a Handler does after an error.
func testMarksTwice(k *kit) {
	add := k.records(0, 7, "record")
	k.commit(add)
	marks := slices.Concat(done(add[0], add[1]), park(add[2], add[3]))
	counters := mark(add[4], webhook.StatePending)
	counters.Attempts, counters.Err = 2, "again"
	add[4].Attempts, add[4].Err = 2, "again"
	marks = append(marks, counters)
	k.commit(nil, marks...)
	settled := k.list(webhook.StateParked, 10)
	k.commit(nil, marks...)
	k.commit(k.records(0, 1, "more"), slices.Concat(marks, marks)...)
	k.reopen()
	k.commit(nil, marks...)
	k.depth(4, 2, k.kept(2))
	got := k.pending(0)
	if len(got) != 4 {
		k.Fatalf("%d records are pending after the same marks came several times, want 4", len(got))
	}
	k.sameFields("Feed", got[0], add[4])
	k.sameFields("Feed", got[1], add[5])
	for i, r := range k.archived(webhook.StateParked, add[2], add[3]) {
		if !r.Settled.Equal(settled[i].Settled) {
			k.Errorf("a record was settled at %v, and at %v after it was marked again", settled[i].Settled, r.Settled)
		}
	}

	// A late mark does not change a record that another mark settled in the meantime.
	late := mark(add[2], webhook.StatePending)
	late.Attempts, late.Err = 9, "late"
	k.commit(nil, slices.Concat([]webhook.Mark{late}, done(add[3]), park(add[0]))...)
	list := k.archived(webhook.StateParked, add[2], add[3])
	if list[0].Attempts == 9 || list[0].Err == "late" {
		k.Error("a mark for counters changed a record that is parked")
	}
	k.depth(4, 2, k.kept(2))
}

// testStrangers marks records that are not pending, or never existed.
func testStrangers(k *kit) {
	add := k.records(0, 3, "record")
	k.commit(add)
	var marks []webhook.Mark
	for _, id := range hostileIDs {
		for _, state := range []webhook.State{webhook.StateDone, webhook.StateParked, webhook.StatePending} {
			marks = append(marks, webhook.Mark{ID: id, State: state, Attempts: 3, Err: "stranger"})
		}
	}
	k.commit(nil, marks...)
	k.commit(k.records(0, 1, "more"), append(marks, done(add[1])...)...)
	if got := k.pending(0); len(got) != 3 || got[0].ID != add[0].ID || got[1].ID != add[2].ID || got[0].Attempts+got[1].Attempts > 0 {
		k.Fatalf("marks for records that never were changed others: %d records are pending, want 3 without attempts", len(got))
	}
	k.depth(3, 0, k.kept(1))
}

func testMarksOfTwo(k *kit) {
	if k.parts == 1 {
		k.Skip("the store has one partition")
	}
	add := slices.Concat(k.records(0, 4, "first"), k.records(1, 4, "second"))
	k.commit(add)
	counters := mark(add[6], webhook.StatePending)
	counters.Part, counters.Attempts, counters.Err = 1, 1, "once"
	add[6].Attempts, add[6].Err = 1, "once"
	more := []*webhook.Record{k.record(1, "more"), k.record(0, "more too")}
	k.commit(more, slices.Concat(done(add[4]), park(add[0]), done(add[1]), park(add[5]), []webhook.Mark{counters})...)
	for range 2 {
		k.hasPending(0, add[2], add[3], more[1])
		got := k.pending(1)
		k.inOrder(got, []*webhook.Record{add[6], add[7], more[0]})
		k.sameFields("Feed", got[0], add[6])
		k.depth(6, 2, k.kept(2))
		k.reopen()
	}
	want := []string{add[0].ID, add[5].ID}
	slices.Sort(want)
	if got := slices.Sorted(slices.Values(idsOf(k.list(webhook.StateParked, 1)))); !slices.Equal(got, want) {
		k.Errorf("List returned the IDs %q of two partitions, want %q", got, want)
	}
}

func testRejected(k *kit) {
	add := k.records(0, 5, "record")
	add[2].Data = bulk(k.tooMuch, 1)
	if err := k.store.Commit(k.ctx(), add, nil); err != nil {
		k.Fatalf("Commit with a record of %d bytes: %v, want no error and Rejected", k.tooMuch, err)
	}
	if add[2].Rejected == nil {
		k.Fatalf("Commit stored a record of %d bytes, want Rejected", k.tooMuch)
	}
	rest := slices.Concat(add[:2], add[3:])
	for _, r := range rest {
		if r.Rejected != nil {
			k.Errorf("Commit rejected the record %s together with one that is too large: %v", short(r.Data), r.Rejected)
		}
		k.newID(r)
	}
	k.comesBack(rest)
	k.depth(4, 0, 0)
	alone := k.record(0, "")
	alone.Data = bulk(k.tooMuch, 2)
	if err := k.store.Commit(k.ctx(), []*webhook.Record{alone}, done(rest[0])); err != nil || alone.Rejected == nil {
		k.Fatalf("Commit of nothing but a record of %d bytes: %v, Rejected %v; want no error and Rejected", k.tooMuch, err, alone.Rejected)
	}
	k.hasPending(0, rest[1:]...)
}

// fullRoom is the room of a store that the suite fills.
const fullRoom = 100

func testFull(k *kit) {
	add := k.records(0, fullRoom, "record")
	k.commit(add[:60])
	k.commit(add[60:])
	k.fill()
	k.fill() // it stays full
	depth, err := k.store.Depth(k.ctx())
	if err != nil || depth.Pending < fullRoom {
		k.Fatalf("Depth of a full store with room for %d: %d pending, %v", fullRoom, depth.Pending, err)
	}
	f := k.feed(k.store, 0)
	k.inOrder(f.take(fullRoom), add)
	f.stop()
	if found := k.load(0, add[0].ID, add[99].ID); len(found) != 2 {
		k.Errorf("Load from a full store returned %d records, want 2", len(found))
	}

	// Marks of a full store are applied, and make room.
	k.commit(nil, mark(add[50], webhook.StatePending))
	k.fill()
	k.commit(nil, done(add...)...)
	more := k.records(0, 20, "more")
	k.add(more)
	if err := k.store.Commit(k.ctx(), k.records(0, 10*fullRoom, "too many"), nil); !errors.Is(err, webhook.ErrQueueFull) {
		k.Fatalf("Commit of ten times the room: %v, want ErrQueueFull", err)
	}
	k.reopen()
	f = k.feed(k.store, 0)
	for fed := 0; fed < len(more); {
		switch r := f.next(); {
		case r.ID == more[fed].ID:
			fed++
		case slices.ContainsFunc(add, func(a *webhook.Record) bool { return a.ID == r.ID }):
			k.Fatalf("Feed yielded %s, which is done", short(r.Data))
		}
	}
	f.stop()
}

// add commits to a store that was full and has room again. The store may need a moment to notice.
func (k *kit) add(records []*webhook.Record) {
	k.Helper()
	var err error
	if !k.eventually(func() bool { err = k.store.Commit(k.ctx(), records, nil); return err == nil }) {
		k.Fatalf("Commit of %d records to a store that has room again: %v", len(records), err)
	}
	for _, r := range records {
		k.newID(r)
	}
}

// fill commits until the store returns that it is full. A store that counts roughly may take more
// than it has room for.
func (k *kit) fill() {
	k.Helper()
	for n := range fullRoom {
		r := k.record(0, fmt.Sprint("one too many ", n))
		err := k.store.Commit(k.ctx(), []*webhook.Record{r}, nil)
		if errors.Is(err, webhook.ErrQueueFull) {
			return
		}
		if err != nil {
			k.Fatalf("Commit to a full store: %v, want ErrQueueFull", err)
		}
	}
	k.Fatalf("a store with room for %d records took %d more", fullRoom, fullRoom)
}
