package webhooktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/b24events/b24events/webhook"
)

const (
	patience = 30 * time.Second      // for a call that should take no time
	prompt   = 10 * time.Second      // for a Feed to yield a new record, and for Depth to count it
	pace     = 10 * time.Millisecond // between two looks
)

// kit is the data that a subtest works on, with the checks that many subtests share.
type kit struct {
	*testing.T
	suite

	store webhook.Store // the handle in use
	parts int
	open  func(t *testing.T) webhook.Store

	mu    sync.Mutex
	ids   map[string]string // every ID that the store gave, with the record that got it
	made  int
	close func()
}

func newKit(t *testing.T, s suite, open func(t *testing.T) func(t *testing.T) webhook.Store) *kit {
	t.Helper()
	k := &kit{T: t, suite: s, open: open(t), ids: make(map[string]string)}
	k.store, k.close = k.handle()
	k.parts = k.store.Partitions()
	if k.parts < 1 {
		t.Fatalf("Partitions() = %d, want at least 1", k.parts)
	}
	return k
}

// handle opens the data once more. The function that it returns closes the handle, once.
func (k *kit) handle() (webhook.Store, func()) {
	k.Helper()
	s := k.open(k.T)
	closer, ok := s.(io.Closer)
	if !ok {
		return s, func() {}
	}
	closeOnce := sync.OnceFunc(func() {
		if err := closer.Close(); err != nil {
			k.Errorf("Close: %v", err)
		}
	})
	k.Cleanup(closeOnce)
	return s, closeOnce
}

// reopen opens the data as the next process would. With one partition it first closes the handle in
// use, because such a store lets only one process open it.
func (k *kit) reopen() {
	k.Helper()
	if k.parts == 1 {
		k.close()
	}
	k.store, k.close = k.handle()
	if n := k.store.Partitions(); n != k.parts {
		k.Fatalf("Partitions() = %d, and was %d before the data were opened again", n, k.parts)
	}
}

// ctx bounds a call that should take no time.
func (k *kit) ctx() context.Context {
	ctx, cancel := context.WithTimeout(k.Context(), patience)
	k.Cleanup(cancel)
	return ctx
}

// record makes a record. Its Data should differ from those of all others in the subtest.
func (k *kit) record(part int, data string) *webhook.Record {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.made++
	return &webhook.Record{
		Part: part, Name: "ONCRMDEALUPDATE", MemberID: fmt.Sprintf("portal-%d", part),
		Received: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC).Add(time.Duration(k.made) * 1001 * time.Microsecond),
		Data:     []byte(data),
	}
}

// records makes n of them.
func (k *kit) records(part, n int, data string) []*webhook.Record {
	list := make([]*webhook.Record, n)
	for i := range list {
		list[i] = k.record(part, fmt.Sprintf("%s/%d", data, i))
	}
	return list
}

// commit stores records and applies marks, and checks the IDs.
func (k *kit) commit(add []*webhook.Record, marks ...webhook.Mark) {
	k.Helper()
	k.commitTo(k.store, add, marks...)
}

func (k *kit) commitTo(s webhook.Store, add []*webhook.Record, marks ...webhook.Mark) {
	k.Helper()
	if err := s.Commit(k.ctx(), add, marks); err != nil {
		k.Fatalf("Commit of %d records and %d marks: %v", len(add), len(marks), err)
	}
	for _, r := range add {
		if r.Rejected != nil {
			k.Fatalf("Commit rejected a record of %d bytes: %v", len(r.Data), r.Rejected)
		}
		k.newID(r)
	}
}

// newID checks the ID of a record that was stored just now.
func (k *kit) newID(r *webhook.Record) {
	k.Helper()
	if r.ID == "" || len(r.ID) > 64 {
		k.Fatalf("the ID %q has %d characters, want 1 to 64", r.ID, len(r.ID))
	}
	for _, c := range []byte(r.ID) {
		if c <= ' ' || c > '~' {
			k.Fatalf("the ID %q has other characters than printable ASCII without spaces", r.ID)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if other, used := k.ids[r.ID]; used {
		k.Fatalf("the ID %q of %s was given before, to %s", r.ID, short(r.Data), other)
	}
	k.ids[r.ID] = short(r.Data)
}

// short shortens Data for a message.
func short(data []byte) string {
	if len(data) > 48 {
		return fmt.Sprintf("%q and %d bytes more", data[:48], len(data)-48)
	}
	return fmt.Sprintf("%q", data)
}

func mark(r *webhook.Record, state webhook.State) webhook.Mark {
	return webhook.Mark{Part: r.Part, ID: r.ID, State: state}
}

func done(records ...*webhook.Record) []webhook.Mark {
	return marksOf(webhook.StateDone, records)
}

// park returns the marks that park records, each for a reason that names the record.
func park(records ...*webhook.Record) []webhook.Mark {
	marks := marksOf(webhook.StateParked, records)
	for i := range marks {
		marks[i].Attempts, marks[i].Err = 5, "no luck with "+marks[i].ID
	}
	return marks
}

func marksOf(state webhook.State, records []*webhook.Record) []webhook.Mark {
	marks := make([]webhook.Mark, len(records))
	for i, r := range records {
		marks[i] = mark(r, state)
	}
	return marks
}

// pending returns the pending records of a partition, as a new Feed yields them. To know where they
// end, it stores a record, reads up to that one and settles it. So it does not depend on time.
func (k *kit) pending(part int) []*webhook.Record {
	k.Helper()
	end := k.record(part, fmt.Sprintf("the end of partition %d, %d", part, k.made))
	k.commit([]*webhook.Record{end})
	var list []*webhook.Record
	f := k.feed(k.store, part)
	for {
		r := f.next()
		if r.ID == end.ID {
			break
		}
		list = append(list, r)
	}
	f.stop()
	k.commit(nil, done(end)...)
	if _, err := k.store.Discard(k.ctx(), end.ID); err != nil { // in case the store keeps it
		k.Fatalf("Discard: %v", err)
	}
	return list
}

// hasPending checks that exactly these records are pending in a partition, in this order.
func (k *kit) hasPending(part int, want ...*webhook.Record) {
	k.Helper()
	k.inOrder(k.pending(part), want)
}

// inOrder checks that exactly these records were yielded, in this order.
func (k *kit) inOrder(got, want []*webhook.Record) {
	k.Helper()
	for i, w := range want {
		if i == len(got) {
			k.Fatalf("Feed yielded %d records, want %d; the first that is missing is %s", len(got), len(want), short(w.Data))
		}
		if r := got[i]; r.ID != w.ID || !bytes.Equal(r.Data, w.Data) {
			k.Fatalf("record %d of the Feed is %s with ID %q, want %s with ID %q", i, short(r.Data), r.ID, short(w.Data), w.ID)
		}
	}
	if n := len(want); len(got) > n {
		k.Fatalf("Feed yielded %d records, want %d; the first that should not be there is %s", len(got), n, short(got[n].Data))
	}
}

// sameFields checks a record that came from the store, except for the fields that depend on how it
// came.
func (k *kit) sameFields(how string, got, want *webhook.Record) {
	k.Helper()
	for _, field := range []struct {
		name      string
		got, want any
	}{
		{"ID", got.ID, want.ID},
		{"Part", got.Part, want.Part},
		{"Name", got.Name, want.Name},
		{"MemberID", got.MemberID, want.MemberID},
		{"Attempts", got.Attempts, want.Attempts},
		{"Interrupted", got.Interrupted, want.Interrupted},
		{"Err", got.Err, want.Err},
	} {
		if field.got != field.want {
			k.Errorf("%s: the record %s has %s %#v, want %#v", how, short(want.Data), field.name, field.got, field.want)
		}
	}
	for _, field := range []struct {
		name      string
		got, want time.Time
	}{
		{"Received", got.Received, want.Received},
		{"Due", got.Due, want.Due},
	} {
		switch {
		case field.got.IsZero() != field.want.IsZero() || !field.got.Equal(field.want.Truncate(time.Microsecond)):
			k.Errorf("%s: the record %s has %s %v, want %v", how, short(want.Data), field.name, field.got, field.want)
		case field.got.Location() != time.UTC:
			k.Errorf("%s: the record %s has %s in %v, want UTC", how, short(want.Data), field.name, field.got.Location())
		}
	}
	if !bytes.Equal(got.Data, want.Data) {
		k.Errorf("%s: a record of %d bytes has Data %s, want %s", how, len(want.Data), short(got.Data), short(want.Data))
	}
	if got.Rejected != nil {
		k.Errorf("%s: the record %s has Rejected %v, want none", how, short(want.Data), got.Rejected)
	}
}

// load reads pending records of a partition, by ID.
func (k *kit) load(part int, ids ...string) map[string]*webhook.Record {
	k.Helper()
	list, err := k.store.Load(k.ctx(), part, ids)
	if err != nil {
		k.Fatalf("Load of %d IDs: %v", len(ids), err)
	}
	found := make(map[string]*webhook.Record, len(list))
	for _, r := range list {
		if found[r.ID] != nil {
			k.Fatalf("Load returned the record %q twice", r.ID)
		}
		if !slices.Contains(ids, r.ID) {
			k.Fatalf("Load returned the record %q, which it was not asked for", r.ID)
		}
		found[r.ID] = r
	}
	return found
}

// list reads the archive from its beginning to its end.
func (k *kit) list(state webhook.State, limit int) []*webhook.Record {
	k.Helper()
	var all []*webhook.Record
	for after := ""; ; {
		page, err := k.store.List(k.ctx(), state, after, limit)
		if err != nil {
			k.Fatalf("List of %v after %q: %v", state, after, err)
		}
		if len(page) > limit {
			k.Fatalf("List with limit %d returned %d records", limit, len(page))
		}
		all = append(all, page...)
		if len(page) < limit {
			return all
		}
		if len(all) > len(k.ids) {
			k.Fatalf("List in pages of %d returned more records than there are", limit)
		}
		after = page[limit-1].ID
	}
}

// archived checks the IDs of the archived records, in the order of settling, and returns them.
func (k *kit) archived(state webhook.State, want ...*webhook.Record) []*webhook.Record {
	k.Helper()
	list := k.list(state, 100)
	if got := idsOf(list); !slices.Equal(got, idsOf(want)) {
		k.Fatalf("List of %v returned the IDs %q, want %q", state, got, idsOf(want))
	}
	return list
}

func idsOf(records []*webhook.Record) []string {
	ids := make([]string, len(records))
	for i, r := range records {
		ids[i] = r.ID
	}
	return ids
}

// depth waits until the store counts these numbers. A Depth may be off by what happened just now.
func (k *kit) depth(pending, parked, kept int64) webhook.Depth {
	k.Helper()
	var depth webhook.Depth
	ok := k.eventually(func() bool {
		var err error
		if depth, err = k.store.Depth(k.ctx()); err != nil {
			k.Fatalf("Depth: %v", err)
		}
		return depth.Pending == pending && depth.Parked == parked && depth.Kept == kept
	})
	if !ok {
		k.Fatalf("Depth is %d pending, %d parked and %d kept, want %d, %d and %d",
			depth.Pending, depth.Parked, depth.Kept, pending, parked, kept)
	}
	return depth
}

func (k *kit) eventually(f func() bool) bool {
	for end := time.Now().Add(prompt); !f(); {
		if time.Now().After(end) {
			return false
		}
		select {
		case <-time.After(pace):
		case <-k.Context().Done():
			return false
		}
	}
	return true
}

// replay moves archived records back and checks how many.
func (k *kit) replay(want int, ids ...string) {
	k.Helper()
	k.counts("Replay", k.store.Replay, want, ids)
}

// discard deletes archived records and checks how many.
func (k *kit) discard(want int, ids ...string) {
	k.Helper()
	k.counts("Discard", k.store.Discard, want, ids)
}

// counts calls a method of the archive and checks the number that it returns.
func (k *kit) counts(method string, call func(context.Context, ...string) (int, error), want int, ids []string) {
	k.Helper()
	if n, err := call(k.ctx(), ids...); err != nil || n != want {
		k.Fatalf("%s of %d IDs: %d, %v; want %d and no error", method, len(ids), n, err, want)
	}
}

// feed runs a Feed in a goroutine of its own.
type feed struct {
	k       *kit
	part    int
	records chan *webhook.Record
	cancel  context.CancelFunc
	ended   chan struct{}
	err     error // set before ended is closed
	seen    map[string]bool
	yields  atomic.Int64 // how often the loop body began
}

func (k *kit) feed(s webhook.Store, part int) *feed {
	k.Helper()
	ctx, cancel := context.WithCancel(k.Context())
	k.Cleanup(cancel)
	f := &feed{
		k: k, part: part, records: make(chan *webhook.Record), cancel: cancel, ended: make(chan struct{}), seen: make(map[string]bool),
	}
	go func() {
		defer close(f.ended)
		f.err = f.run(ctx, s)
	}()
	k.Cleanup(func() { // before the store is closed
		select {
		case <-f.ended:
		case <-time.After(prompt):
		}
	})
	return f
}

func (f *feed) run(ctx context.Context, s webhook.Store) error {
	var failed error
	for r, err := range s.Feed(ctx, f.part) {
		if failed != nil {
			return errors.New("it goes on after an error")
		}
		if err != nil {
			failed = err
			if r != nil {
				return errors.New("it yields a record together with an error")
			}
			continue
		}
		f.yields.Add(1)
		select {
		case f.records <- r:
		case <-ctx.Done():
			return nil
		}
	}
	if failed == nil && ctx.Err() == nil {
		return errors.New("it ends before its context, without an error")
	}
	return failed
}

// next returns the next record, which should come soon.
func (f *feed) next() *webhook.Record {
	f.k.Helper()
	r := f.nextOrNil(patience)
	if r == nil {
		f.k.Fatalf("Feed of partition %d yielded %d records, and then nothing for %v", f.part, len(f.seen), patience)
	}
	return r
}

// take returns the next n records.
func (f *feed) take(n int) []*webhook.Record {
	f.k.Helper()
	list := make([]*webhook.Record, n)
	for i := range list {
		list[i] = f.next()
	}
	return list
}

func (f *feed) nextOrNil(wait time.Duration) *webhook.Record {
	f.k.Helper()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case r := <-f.records:
		if r == nil {
			f.k.Fatalf("Feed of partition %d yielded neither a record nor an error", f.part)
		}
		if r.Part != f.part {
			f.k.Fatalf("Feed of partition %d yielded %s of partition %d", f.part, short(r.Data), r.Part)
		}
		if f.seen[r.ID] {
			f.k.Fatalf("Feed of partition %d yielded %s twice", f.part, short(r.Data))
		}
		f.seen[r.ID] = true
		return r
	case <-f.ended:
		f.k.Fatalf("Feed of partition %d ended: %v", f.part, f.err)
	case <-timer.C:
	}
	return nil
}

// stop ends the context of the Feed, which ends soon.
func (f *feed) stop() {
	f.k.Helper()
	f.cancel()
	select {
	case <-f.ended:
		if f.err != nil {
			f.k.Fatalf("Feed of partition %d: %v", f.part, f.err)
		}
	case <-time.After(prompt):
		f.k.Fatalf("Feed of partition %d still runs %v after its context ended", f.part, prompt)
	}
}
