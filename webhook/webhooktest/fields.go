package webhooktest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/b24events/b24events/webhook"
)

// testBytes stores Data that mean nothing or something else, and fields with strange texts.
func testBytes(k *kit) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	var want []*webhook.Record
	for _, data := range []string{
		"\x00", "\xff", "\x00\x00\x00\x00", "\xff\xfe\xfd", " ", "\n", "\r\n", "'", `"`, `\`, `\x00`, `\000`,
		"NULL", "null", "{}", "%", "%s%n", "$1", "?",
		"x'; DROP TABLE records; --", "\xef\xbb\xbf", "\xc3\x28", "e\u0301", "\u00e9", "0", "-1",
		string(every), strings.Repeat("\x00", 1000),
	} {
		want = append(want, k.record(0, data))
	}
	for i, text := range []string{
		"", " ", "  spaces  ", "'", `"`, `\`, `\n`, "NULL", "null", "%", "$1", "?", "x'; DROP TABLE records; --",
		"{}", "a,b", "(1)", "0", "-1", "*", ">",
		strings.Repeat("n", 128),
	} {
		r := k.record(0, fmt.Sprint("names ", i))
		r.Name, r.MemberID = text, text
		want = append(want, r)
	}
	k.commit(want[:10])
	k.commit(want[10:])
	k.comesBack(want)
	var marks []webhook.Mark
	for i, r := range want {
		m := mark(r, webhook.StatePending)
		m.Attempts = 1
		m.Err = []string{
			"é 名 \U0001f600", "'", `"`, `\`, `\x00`, "%", "NULL", strings.Repeat("e", 512), "x'; DROP TABLE records; --", "?",
		}[i%10]
		r.Attempts, r.Err = m.Attempts, m.Err
		marks = append(marks, m)
	}
	k.commit(nil, marks...)
	k.comesBack(want)
}

// comesBack checks that records come back as they were, from a Feed and from Load, now and after
// the data are opened again.
func (k *kit) comesBack(want []*webhook.Record) {
	k.Helper()
	for _, when := range []string{"", " after the data were opened again"} {
		if when != "" {
			k.reopen()
		}
		got := k.pending(want[0].Part)
		k.inOrder(got, want)
		found := k.load(want[0].Part, idsOf(want)...)
		for i, r := range want {
			k.sameFields("Feed"+when, got[i], r)
			if !got[i].Settled.IsZero() {
				k.Errorf("Feed%s: the pending record %s has Settled %v, want zero", when, short(r.Data), got[i].Settled)
			}
			if found[r.ID] == nil {
				k.Fatalf("Load%s left out the pending record %s", when, short(r.Data))
			}
			k.sameFields("Load"+when, found[r.ID], r)
		}
	}
}

// bulk is n bytes that do not compress and hold every byte.
func bulk(n, seed int) []byte {
	b := make([]byte, n)
	x := uint32(seed)*2654435761 + 1 //nolint:gosec // any number will do
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x & 0xff)
	}
	return b
}

func testLarge(k *kit) {
	small := k.record(0, "small")
	large := k.record(0, "large")
	large.Data = bulk(900<<10, 1)
	k.commit([]*webhook.Record{small, large})
	k.comesBack([]*webhook.Record{small, large})
	k.commit(nil, park(large)...)
	got := k.archived(webhook.StateParked, large)
	if !slices.Equal(got[0].Data, large.Data) {
		k.Errorf("List returned a record of %d bytes with Data %s, want %s", len(large.Data), short(got[0].Data), short(large.Data))
	}
}

// testManyLarge commits the most that a Handler puts into one Commit.
func testManyLarge(k *kit) {
	add := k.records(0, 512, "large")
	for i, r := range add {
		r.Data = append(r.Data, bulk(8<<10, i)...)
	}
	k.commit(add)
	k.comesBack(add)
	k.commit(nil, done(add...)...)
	k.hasPending(0)
}

// testFields stores records that differ in every field.
func testFields(k *kit) {
	part := k.parts - 1
	full := k.record(part, "full")
	full.Name, full.MemberID = "ONCRMDYNAMICITEMADD_147", "a223c6b3710f85df22e9377d6c4f7553"
	full.Received = time.Date(2038, 1, 19, 3, 14, 8, 123456000, time.UTC)
	old := k.record(part, "old")
	old.Received = time.Date(2001, 9, 9, 1, 46, 39, 999999000, time.UTC)
	bare := k.record(part, "bare")
	bare.Name, bare.MemberID = "", ""
	want := []*webhook.Record{full, old, bare}
	k.commit(want)
	k.comesBack(want)
	marks := []webhook.Mark{mark(full, webhook.StatePending), mark(old, webhook.StatePending)}
	marks[0].Attempts, marks[0].Interrupted, marks[0].Err = 1<<31-1, 1<<15, "temporary: é"
	marks[0].Due = time.Date(2039, 12, 31, 23, 59, 59, 1000, time.UTC)
	marks[1].Attempts, marks[1].Interrupted = 0, 1
	for i, r := range want[:2] {
		r.Attempts, r.Interrupted, r.Due, r.Err = marks[i].Attempts, marks[i].Interrupted, marks[i].Due, marks[i].Err
	}
	k.commit(nil, marks...)
	k.comesBack(want)

	marks = marksOf(webhook.StateParked, want)
	for i, r := range want {
		marks[i].Attempts, marks[i].Interrupted, marks[i].Err = i+7, 2-i, fmt.Sprint("given up ", i)
		r.Attempts, r.Interrupted, r.Due, r.Err = marks[i].Attempts, marks[i].Interrupted, time.Time{}, marks[i].Err
	}
	k.commit(nil, marks...)
	for range 2 {
		for i, got := range k.archived(webhook.StateParked, want...) {
			k.sameFields("List", got, want[i])
			k.justSettled(got)
		}
		k.reopen()
	}
}

// justSettled checks the time of an archived record. The clock may be that of another machine.
func (k *kit) justSettled(r *webhook.Record) {
	k.Helper()
	if off := time.Since(r.Settled); off.Abs() > time.Hour || r.Settled.Location() != time.UTC {
		k.Errorf("List: the record %s was settled at %v, which should be about now, in UTC", short(r.Data), r.Settled)
	}
}

// testOwned changes records that methods returned, because the caller owns them.
func testOwned(k *kit) {
	pending, parked := k.records(0, 3, "pending"), k.records(0, 3, "parked")
	k.commit(append(slices.Clone(pending), parked...))
	k.commit(nil, park(parked...)...)
	scribble := func(records ...*webhook.Record) {
		for _, r := range records {
			*r = webhook.Record{ID: "scribble", Part: -1, Name: "scribble", Data: []byte("scribble"), Attempts: -1}
		}
	}
	for range 2 {
		for _, r := range k.load(0, idsOf(pending)...) {
			scribble(r)
		}
		scribble(k.list(webhook.StateParked, 2)...)
		scribble(k.pending(0)...)
	}
	found := k.load(0, idsOf(pending)...)
	for _, r := range pending {
		if found[r.ID] == nil {
			k.Fatalf("Load left out the pending record %s after the caller changed what it returned before", short(r.Data))
		}
		k.sameFields("Load", found[r.ID], r)
	}
	for i, r := range k.archived(webhook.StateParked, parked...) {
		if string(r.Data) != string(parked[i].Data) {
			k.Errorf("List returned Data %s, want %s", short(r.Data), short(parked[i].Data))
		}
	}
	k.hasPending(0, pending...)
}
