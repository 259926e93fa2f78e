package webhooktest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/b24events/b24events/webhook"
)

// hostileIDs are texts that no store gave as IDs.
var hostileIDs = []string{
	"", " ", "0", "-1", "-0", "+1", "1.0", "1e3", "0x1", "01", " 1", "1 ", "1\n", "1;", "x'; DROP TABLE records; --",
	`"`, `\`, "%", "_", "*", ">", ".", "..", "../1",
	"NULL", "null", "true", "\x00", "1\x00", "\xff", "é",
	"99999999999999999999", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
	"18446744073709551615", strings.Repeat("9", 64), strings.Repeat("1", 10<<10), strings.Repeat("x", 10<<10),
	"00000000-0000-0000-0000-000000000000", "1-1", "1/1", "1:1", "0-0",
}

// strangers returns the hostile IDs that name none of these records.
func strangers(ids ...string) []string {
	return slices.DeleteFunc(slices.Clone(hostileIDs), func(id string) bool { return slices.Contains(ids, id) })
}

func testLoad(k *kit) {
	add := k.records(0, 10, "record")
	k.commit(add)
	k.commit(nil, slices.Concat(done(add[1]), park(add[2]))...)
	ask := []string{add[7].ID, add[0].ID, add[1].ID, "no-such-record", add[2].ID, add[0].ID, add[9].ID}
	for range 2 {
		found := k.load(0, ask...)
		for _, i := range []int{7, 0, 9} {
			if found[add[i].ID] == nil {
				k.Fatalf("Load left out the pending record %s", short(add[i].Data))
			}
			k.sameFields("Load", found[add[i].ID], add[i])
		}
		if len(found) != 3 {
			k.Fatalf("Load of 3 pending records, one of them twice, and of 3 others returned %d, want 3", len(found))
		}
		if found := k.load(0, add[1].ID, add[2].ID, "no-such-record"); len(found) > 0 {
			k.Fatalf("Load of records that are not pending returned %d", len(found))
		}
		k.reopen()
	}
	many := k.records(0, 512, "many")
	k.commit(many)
	if found := k.load(0, idsOf(many)...); len(found) != 512 {
		k.Fatalf("Load of 512 pending records returned %d", len(found))
	}
}

func testDepth(k *kit) {
	part := k.parts - 1
	add := slices.Concat(k.records(0, 3, "first"), k.records(part, 3, "second"))
	k.commit(add)
	oldest := func(want *webhook.Record, depth webhook.Depth) {
		k.Helper()
		if !depth.OldestPending.Equal(want.Received) {
			k.Errorf("Depth has OldestPending %v, want %v", depth.OldestPending, want.Received)
		}
	}
	depth := k.depth(6, 0, 0)
	oldest(add[0], depth)
	if !depth.OldestParked.IsZero() {
		k.Errorf("Depth has OldestParked %v, want zero", depth.OldestParked)
	}
	k.commit(nil, park(add[4])...)
	k.commit(nil, slices.Concat(park(add[0]), done(add[1]))...)
	for range 2 {
		depth = k.depth(3, 2, k.kept(1))
		oldest(add[2], depth)
		parked := k.archived(webhook.StateParked, add[4], add[0])
		if !depth.OldestParked.Equal(parked[0].Settled) {
			k.Errorf("Depth has OldestParked %v, want %v", depth.OldestParked, parked[0].Settled)
		}
		k.reopen()
	}
	k.discard(1, add[4].ID)
	depth = k.depth(3, 1, k.kept(1))
	if parked := k.archived(webhook.StateParked, add[0]); !depth.OldestParked.Equal(parked[0].Settled) {
		k.Errorf("Depth has OldestParked %v, want %v", depth.OldestParked, parked[0].Settled)
	}
	k.replay(1, add[0].ID)
	if depth = k.depth(4, 0, k.kept(1)); !depth.OldestParked.IsZero() {
		k.Errorf("Depth has OldestParked %v, want zero", depth.OldestParked)
	}
	for _, part := range slices.Compact([]int{0, k.parts - 1}) {
		k.commit(nil, done(k.pending(part)...)...)
	}
	if depth = k.depth(0, 0, int64(len(k.list(webhook.StateDone, 100)))); !depth.OldestPending.IsZero() {
		k.Errorf("Depth has OldestPending %v, want zero", depth.OldestPending)
	}
}

// testList parks records in an order other than that in which they came, some in one Commit.
func testList(k *kit) {
	add := k.records(0, 12, "record")
	for i := range add {
		add[i].Part = i % min(k.parts, 3)
	}
	k.commit(add)
	var want []*webhook.Record
	for _, i := range []int{7, 2, 11, 0} {
		k.commit(nil, park(add[i])...)
		want = append(want, add[i])
	}
	k.commit(nil, park(add[10], add[1], add[5])...)
	want = append(want, add[10], add[1], add[5])
	k.commit(nil, done(add[3])...)
	for range 2 {
		all := k.list(webhook.StateParked, 100)
		if len(all) != len(want) {
			k.Fatalf("List returned %d parked records, want %d", len(all), len(want))
		}
		// The order within one Commit is the store's.
		if got := idsOf(all[:4]); !slices.Equal(got, idsOf(want[:4])) {
			k.Fatalf("List returned the IDs %q first, want %q, in the order of settling", got, idsOf(want[:4]))
		}
		if got := slices.Sorted(slices.Values(idsOf(all))); !slices.Equal(got, slices.Sorted(slices.Values(idsOf(want)))) {
			k.Fatalf("List returned the IDs %q, want %q", got, idsOf(want))
		}
		for i, r := range all {
			k.justSettled(r)
			if i > 0 && r.Settled.Before(all[i-1].Settled) {
				k.Errorf("List returned a record settled at %v behind one settled at %v", r.Settled, all[i-1].Settled)
			}
			if r.Err != "no luck with "+r.ID || r.Attempts != 5 {
				k.Errorf("List returned the record %s with %d attempts and the error %q, want those of the mark",
					short(r.Data), r.Attempts, r.Err)
			}
		}
		for _, limit := range []int{1, 2, 3, 6, 7, 8} {
			if got := idsOf(k.list(webhook.StateParked, limit)); !slices.Equal(got, idsOf(all)) {
				k.Fatalf("List in pages of %d returned the IDs %q, want %q", limit, got, idsOf(all))
			}
		}
		page, err := k.store.List(k.ctx(), webhook.StateParked, all[2].ID, 2)
		if err != nil || !slices.Equal(idsOf(page), idsOf(all[3:5])) {
			k.Fatalf("List after the third record with limit 2 returned the IDs %q, %v; want %q", idsOf(page), err, idsOf(all[3:5]))
		}
		page, err = k.store.List(k.ctx(), webhook.StateParked, all[6].ID, 2)
		if err != nil || len(page) > 0 {
			k.Fatalf("List after the last record returned %d records, %v; want none", len(page), err)
		}
		k.reopen()
	}
	more := k.record(0, "more")
	k.commit([]*webhook.Record{more})
	k.commit(nil, park(more)...)
	if all := k.list(webhook.StateParked, 3); all[len(all)-1].ID != more.ID {
		k.Errorf("List returned %s last, want the one that was parked last", short(all[len(all)-1].Data))
	}
}

func testReplay(k *kit) {
	add := k.records(0, 6, "record")
	k.commit(add)
	marks := park(add[0], add[1], add[2])
	for i := range marks {
		marks[i].Interrupted, marks[i].Due = 2, time.Now().Add(time.Hour)
	}
	k.commit(nil, marks...)
	f := k.feed(k.store, 0)
	k.inOrder(f.take(3), add[3:])
	k.replay(1, add[1].ID, add[1].ID, "no-such-record", add[4].ID) // twice, never there, pending
	again := f.next()
	k.newID(again)
	k.isReplayed("Feed", again, add[1])
	k.replay(0, add[1].ID)
	behind := k.record(0, "behind")
	k.commit([]*webhook.Record{behind})
	k.inOrder(f.take(1), []*webhook.Record{behind})
	f.stop()

	want := slices.Concat(add[3:], []*webhook.Record{again, behind})
	k.hasPending(0, want...)
	k.archived(webhook.StateParked, add[0], add[2])
	k.depth(5, 2, 0)
	k.reopen()
	k.hasPending(0, want...)
	found := k.load(0, again.ID, add[1].ID)
	if len(found) != 1 || found[again.ID] == nil {
		k.Fatalf("Load of a record that was replayed, by its new and its old ID, returned %d, want 1", len(found))
	}
	k.isReplayed("Load", found[again.ID], add[1])

	// A mark for the old ID has no effect.
	k.commit(nil, slices.Concat(done(add[1]), park(add[1]))...)
	k.hasPending(0, want...)

	// Several at once, and parked again under the new ID.
	k.replay(2, add[0].ID, add[2].ID)
	got := k.pending(0)
	if len(got) != 7 {
		k.Fatalf("%d records are pending after Replay of 2, want 7", len(got))
	}
	k.inOrder(got[:5], want)
	if a, b := string(got[5].Data), string(got[6].Data); a+b != "record/0record/2" && a+b != "record/2record/0" {
		k.Fatalf("Replay moved records with the Data %q and %q, want record/0 and record/2", a, b)
	}
	k.newID(got[5])
	k.newID(got[6])
	k.archived(webhook.StateParked)
	k.commit(nil, park(got[6])...)
	k.archived(webhook.StateParked, got[6])
	k.hasPending(0, got[:6]...)
	k.replay(1, got[6].ID)
	k.depth(7, 0, 0)
}

// isReplayed checks a record that was replayed.
func (k *kit) isReplayed(how string, got, old *webhook.Record) {
	k.Helper()
	want := *old
	want.ID, want.Attempts, want.Interrupted, want.Due = got.ID, 0, 0, time.Time{}
	want.Err = got.Err // a store may keep the last error or drop it
	k.sameFields(how+" of a replayed record", got, &want)
	if !got.Settled.IsZero() {
		k.Errorf("%s of a replayed record: Settled is %v, want zero", how, got.Settled)
	}
}

func testDiscard(k *kit) {
	add := k.records(0, 6, "record")
	k.commit(add)
	k.commit(nil, park(add[:4]...)...)
	k.discard(2, add[1].ID, add[3].ID, add[1].ID, "no-such-record", add[5].ID) // twice, never there, pending
	k.discard(0, add[1].ID, add[3].ID)
	k.replay(0, add[1].ID, add[3].ID)
	for range 2 {
		want := slices.Sorted(slices.Values([]string{add[0].ID, add[2].ID}))
		if got := slices.Sorted(slices.Values(idsOf(k.list(webhook.StateParked, 10)))); !slices.Equal(got, want) {
			k.Fatalf("List returned the IDs %q after Discard, want %q and %q", got, add[0].ID, add[2].ID)
		}
		k.hasPending(0, add[4:]...)
		k.depth(2, 2, 0)
		k.reopen()
	}
}

// testKept checks records that are done, which a store archives or deletes.
func testKept(k *kit) {
	add := k.records(0, 6, "record")
	k.commit(add)
	k.commit(nil, done(add[2])...)
	k.commit(nil, slices.Concat(done(add[0]), park(add[1]))...)
	if !k.keeps {
		k.archived(webhook.StateDone)
		k.replay(0, add[2].ID, add[0].ID)
		k.discard(0, add[2].ID, add[0].ID)
		k.depth(3, 1, 0)
		return
	}
	for range 2 {
		for i, r := range k.archived(webhook.StateDone, add[2], add[0]) {
			k.justSettled(r)
			want := []*webhook.Record{add[2], add[0]}[i]
			if string(r.Data) != string(want.Data) || r.Name != want.Name || !r.Received.Equal(want.Received) {
				k.Errorf("List returned %s as done, want %s", short(r.Data), short(want.Data))
			}
		}
		if got := k.list(webhook.StateDone, 1); len(got) != 2 {
			k.Errorf("List in pages of 1 returned %d records, want 2", len(got))
		}
		k.archived(webhook.StateParked, add[1])
		k.depth(3, 1, 2)
		k.reopen()
	}
	k.replay(1, add[2].ID)
	got := k.pending(0)
	k.inOrder(got[:3], add[3:])
	if len(got) != 4 {
		k.Fatalf("%d records are pending after Replay of one that was done, want 4", len(got))
	}
	k.newID(got[3])
	k.isReplayed("Feed", got[3], add[2])
	k.discard(1, add[0].ID)
	k.archived(webhook.StateDone)
	k.depth(4, 1, 0)
}

// testHostileIDs asks for records that never existed, by IDs that a database may take for others.
func testHostileIDs(k *kit) {
	pending, parked := k.records(0, 2, "pending"), k.records(0, 2, "parked")
	k.commit(slices.Concat(pending, parked))
	k.commit(nil, park(parked...)...)
	ids := strangers(slices.Concat(idsOf(pending), idsOf(parked))...)
	for _, id := range ids {
		if found := k.load(0, id); len(found) > 0 {
			k.Errorf("Load of the ID %s returned %d records", short([]byte(id)), len(found))
		}
		k.replay(0, id)
		k.discard(0, id)
		if id != "" { // a wrong ID may cause an error, and no more
			_, _ = k.store.List(k.ctx(), webhook.StateParked, id, 10)
		}
	}
	found := k.load(0, append(slices.Clone(ids), pending[1].ID)...)
	if len(found) != 1 || found[pending[1].ID] == nil {
		k.Errorf("Load of one pending record among strange IDs returned %d, want 1", len(found))
	}
	k.archived(webhook.StateParked, parked...)
	k.discard(1, append(slices.Clone(ids), parked[0].ID)...)
	k.replay(1, append(slices.Clone(ids), parked[1].ID)...)
	got := k.pending(0)
	if len(got) != 3 {
		k.Fatalf("%d records are pending, want 3", len(got))
	}
	k.inOrder(got[:2], pending)
}

// testIDs settles the newest records. A store that counts IDs from what is there would then give
// some again.
func testIDs(k *kit) {
	var last *webhook.Record
	for n := range 4 {
		add := k.records(0, 3, fmt.Sprint("record ", n))
		k.commit(add)
		switch n % 2 {
		case 0:
			k.commit(nil, done(add[1], add[2])...)
		case 1:
			k.commit(nil, park(add...)...)
			k.discard(1, add[2].ID)
			k.replay(1, add[1].ID)
			got := k.pending(0)
			again := got[len(got)-1]
			k.newID(again)
			k.commit(nil, done(again)...)
		}
		last = add[2]
		k.reopen()
	}
	k.commit(nil, done(k.pending(0)...)...)
	k.reopen()
	k.commit(k.records(0, 3, "new")) // which checks their IDs
	k.commit(nil, done(last)...)     // as a Handler that was frozen may do
	if got := k.pending(0); len(got) != 3 {
		k.Fatalf("%d records are pending, want 3", len(got))
	}
}

// testCancelled calls with a context that has ended.
func testCancelled(k *kit) {
	pending, parked := k.records(0, 3, "pending"), k.records(0, 2, "parked")
	k.commit(slices.Concat(pending, parked))
	k.commit(nil, park(parked...)...)
	ctx, cancel := context.WithCancel(k.Context())
	cancel()
	past, cancel := context.WithDeadline(k.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for _, ctx := range []context.Context{ctx, past} {
		for _, c := range []struct {
			method string
			call   func() error
		}{
			{"Commit", func() error { return k.store.Commit(ctx, k.records(0, 2, "cancelled"), nil) }},
			{"Commit of marks", func() error { return k.store.Commit(ctx, nil, done(pending[2])) }},
			{"Load", func() error { _, err := k.store.Load(ctx, 0, idsOf(pending)); return err }},
			{"Depth", func() error { _, err := k.store.Depth(ctx); return err }},
			{"List", func() error { _, err := k.store.List(ctx, webhook.StateParked, "", 10); return err }},
			{"Replay", func() error { _, err := k.store.Replay(ctx, parked[0].ID); return err }},
			{"Discard", func() error { _, err := k.store.Discard(ctx, parked[0].ID); return err }},
		} {
			if err := c.call(); err == nil {
				k.Errorf("%s with a context that has ended returned no error", c.method)
			}
		}
	}
	more := k.record(0, "more")
	k.commit([]*webhook.Record{more}, done(pending[2])...)
	for range 2 {
		got := slices.DeleteFunc(k.pending(0), func(r *webhook.Record) bool { return strings.HasPrefix(string(r.Data), "cancelled") })
		got = slices.DeleteFunc(got, func(r *webhook.Record) bool { return strings.HasPrefix(string(r.Data), "parked") })
		k.inOrder(got, []*webhook.Record{pending[0], pending[1], more})
		k.reopen()
	}
}
