package webhooktest_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/longtest"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// faultEnv is the environment variable that names the fault, for a process that runs the suite.
const faultEnv = "WEBHOOKTEST_FAULT"

// broken is a correct store except for one fault.
type broken struct {
	*webhooktest.MemoryStore
	fault string
	data  *brokenData // of all handles

	opened int // how many records there were when the handle was opened
	ended  bool
}

type brokenData struct {
	mu      sync.Mutex
	commits int
	opens   int
	stored  []string       // IDs, in order
	late    map[string]int // IDs that a Feed misses if it began earlier, with when they were stored
	lock    chan struct{}
}

func (b *broken) has(faults ...string) bool { return slices.Contains(faults, b.fault) }

// context returns the context that a method goes on with.
func (b *broken) context(ctx context.Context, method string) context.Context {
	if b.has(method+" ignores its context", "ignores deadlines") && (method != "" || errors.Is(ctx.Err(), context.DeadlineExceeded)) {
		return context.WithoutCancel(ctx)
	}
	if ctx.Err() != nil {
		b.ended = true
	}
	return ctx
}

func (b *broken) Commit(ctx context.Context, add []*webhook.Record, marks []webhook.Mark) error {
	ctx = b.context(ctx, "Commit")
	switch {
	case b.has("dies of a cancelled call") && b.ended:
		return errors.New("it is dead")
	case b.has("holds a lock while it feeds"):
		select {
		case b.data.lock <- struct{}{}:
			defer func() { <-b.data.lock }()
		case <-time.After(time.Second):
			return errors.New("the lock is not free")
		}
	case b.has("forgets marks that come with records") && len(add) > 0,
		b.has("ignores done") && len(marks) > 0 && marks[0].State == webhook.StateDone:
		marks = nil
	case b.has("applies marks of one partition") && len(marks) > 0:
		part := marks[0].Part
		marks = slices.DeleteFunc(slices.Clone(marks), func(m webhook.Mark) bool { return m.Part != part })
	case b.has("fails for strange marks"):
		for _, m := range marks {
			if found, err := b.MemoryStore.Load(ctx, m.Part, []string{m.ID}); err == nil && len(found) == 0 {
				return errors.New("there is no such record")
			}
		}
	case b.has("marks what is parked"):
		for _, m := range marks {
			if m.State == webhook.StateDone {
				_, _ = b.MemoryStore.Discard(ctx, m.ID)
			}
		}
	case b.has("reads IDs as numbers"):
		marks = slices.Clone(marks)
		for i := range marks {
			marks[i].ID = number(marks[i].ID)
		}
	case b.has("fails for nothing") && len(add)+len(marks) == 0:
		return errors.New("there is nothing to do")
	case b.has("adds attempts"):
		marks = slices.Clone(marks)
		for i, m := range marks {
			if found, err := b.MemoryStore.Load(ctx, m.Part, []string{m.ID}); err == nil && len(found) > 0 {
				marks[i].Attempts += found[0].Attempts
			}
		}
	}
	if b.has("stores 100 at most") && len(add) > 100 {
		if err := b.commit(ctx, add[:100], marks); err != nil {
			return err
		}
		for i, r := range add[100:] {
			r.ID = "lost-" + add[i].ID
		}
		return nil
	}
	return b.commit(ctx, add, marks)
}

// number returns the number that a database reads from an ID.
func number(id string) string { return strings.TrimLeft(strings.TrimSpace(id), "0+") }

func (b *broken) commit(ctx context.Context, add []*webhook.Record, marks []webhook.Mark) error {
	b.data.mu.Lock()
	began := b.data.commits
	b.data.mu.Unlock()
	slow := len(add) > 0 && len(add[0].Data) > 32<<10
	if slow {
		<-time.After(5 * time.Millisecond)
	}
	full := func(err error) bool { return errors.Is(err, webhook.ErrQueueFull) }
	var err error
	if b.has("rejects the whole commit", "refuses marks when full") {
		if depth, _ := b.MemoryStore.Depth(context.WithoutCancel(ctx)); b.has("refuses marks when full") && depth.Pending >= 100 && len(add) == 0 {
			return webhook.ErrQueueFull
		}
		given := make([]*webhook.Record, len(add))
		for i, r := range add {
			given[i] = &webhook.Record{Part: r.Part, Name: r.Name, MemberID: r.MemberID, Received: r.Received, Data: r.Data}
		}
		err = b.MemoryStore.Commit(ctx, given, marks)
		for i, r := range given {
			add[i].ID = r.ID
			if r.Rejected != nil {
				return r.Rejected
			}
		}
	} else {
		err = b.MemoryStore.Commit(ctx, b.given(add), marks)
	}
	if full(err) && b.has("has another error when full") {
		return errors.New("no room")
	}
	b.data.mu.Lock()
	defer b.data.mu.Unlock()
	b.data.commits++
	for _, r := range add {
		b.data.stored = append(b.data.stored, r.ID)
		if slow && b.data.commits > began+1 {
			b.data.late[r.ID] = len(b.data.stored)
		}
	}
	return err
}

// given returns what the store keeps of a record that it is given.
func (b *broken) given(add []*webhook.Record) []*webhook.Record {
	if b.has("stores in reverse") {
		add = slices.Clone(add)
		slices.Reverse(add)
	}
	return add
}

// yielded returns what comes back of a record.
func (b *broken) yielded(r *webhook.Record) *webhook.Record {
	if r == nil {
		return r
	}
	c := *r
	r = &c
	switch {
	case b.has("forgets the portal"):
		r.MemberID = ""
	case b.has("keeps milliseconds"):
		r.Received = r.Received.Truncate(time.Millisecond)
	case b.has("returns local times"):
		r.Received = r.Received.In(time.FixedZone("", 3600))
	case b.has("zero times become epochs") && r.Due.IsZero():
		r.Due = time.Unix(0, 0).UTC()
	case b.has("cuts at NUL"):
		r.Data, _, _ = bytes.Cut(r.Data, []byte{0})
	case b.has("stores text"):
		r.Data = bytes.ToValidUTF8(r.Data, []byte("?"))
	case b.has("trims names"):
		r.Name = strings.TrimSpace(r.Name)
	case b.has("cuts errors"):
		r.Err = r.Err[:min(len(r.Err), 255)]
	case b.has("takes 64 KB"):
		r.Data = r.Data[:min(len(r.Data), 64<<10)]
	case b.has("forgets counters at the end"):
		b.data.mu.Lock()
		defer b.data.mu.Unlock()
		if b.opened > 0 && slices.Contains(b.data.stored[:b.opened], r.ID) && r.Settled.IsZero() {
			r.Attempts, r.Interrupted = 0, 0
		}
	case b.has("counts no interruptions"):
		r.Interrupted = 0
	}
	return r
}

func (b *broken) Feed(ctx context.Context, part int) iter.Seq2[*webhook.Record, error] {
	return func(yield func(*webhook.Record, error) bool) {
		if b.has("leaks a goroutine") {
			go func() { <-context.WithoutCancel(ctx).Done() }()
		}
		b.data.mu.Lock()
		began := len(b.data.stored)
		b.data.mu.Unlock()
		var held *webhook.Record
		n := 0
		feed := ctx
		if b.has("feeds after the end") {
			feed = context.WithoutCancel(ctx)
		}
		if b.has("ends with what is there") {
			var cancel context.CancelFunc
			feed, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
		}
		for r, err := range b.MemoryStore.Feed(feed, part) {
			if err != nil {
				yield(r, err)
				return
			}
			n++
			r = b.yielded(r)
			b.data.mu.Lock()
			at := slices.Index(b.data.stored, r.ID)
			late := b.data.late[r.ID] > began
			b.data.mu.Unlock()
			switch {
			case b.has("misses what commits late") && late,
				b.has("misses what comes") && !r.Recovered,
				b.has("reads one page") && r.Recovered && n > 500,
				b.has("loses what does not fit") && n > 5000:
				continue
			case b.has("never recovers"):
				r.Recovered = false
			case b.has("always recovers"):
				r.Recovered = true
			case b.has("recovers by handle"):
				r.Recovered = at >= 0 && at < b.opened
			case b.has("lets later ones pass") && held == nil && n%7 == 3:
				if more := b.pendingAfter(ctx, part, r.ID); more {
					held = r
					continue
				}
			}
			if b.has("holds a lock while it feeds") {
				b.data.lock <- struct{}{}
			}
			ok := yield(r, nil)
			if b.has("holds a lock while it feeds") {
				<-b.data.lock
			}
			if ok && b.has("yields twice") && n%50 == 0 {
				ok = yield(r, nil)
			}
			if ok && held != nil {
				ok, held = yield(held, nil), nil
			}
			if !ok {
				return
			}
		}
		if b.has("yields the end of its context") {
			yield(nil, ctx.Err())
		}
	}
}

// pendingAfter reports whether another record follows, so that holding one back loses nothing.
func (b *broken) pendingAfter(ctx context.Context, part int, id string) bool {
	b.data.mu.Lock()
	i := slices.Index(b.data.stored, id)
	later := slices.Clone(b.data.stored[i+1:])
	b.data.mu.Unlock()
	found, err := b.MemoryStore.Load(ctx, part, later)
	return err == nil && len(found) > 0
}

func (b *broken) Load(ctx context.Context, part int, ids []string) ([]*webhook.Record, error) {
	ctx = b.context(ctx, "Load")
	if b.has("loads from every partition") {
		var all []*webhook.Record
		for part := range b.Partitions() {
			found, err := b.MemoryStore.Load(ctx, part, ids)
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
		return all, nil
	}
	if b.has("reads IDs as numbers") {
		ids = slices.Clone(ids)
		for i := range ids {
			ids[i] = number(ids[i])
		}
	}
	if b.has("loads 100 at most") {
		ids = ids[:min(len(ids), 100)]
	}
	found, err := b.MemoryStore.Load(ctx, part, ids)
	for i := range found {
		found[i] = b.yielded(found[i])
	}
	switch {
	case err != nil:
		return nil, err
	case b.has("loads all or nothing") && len(found) < len(ids):
		return nil, errors.New("one is missing")
	case b.has("loads as often as asked"):
		for _, id := range ids {
			if i := slices.IndexFunc(found, func(r *webhook.Record) bool { return r.ID == id }); i >= 0 && slices.Index(ids, id) >= 0 {
				found = append(found, found[i])
			}
		}
		return found[len(found)/2:], nil
	case b.has("loads what is parked"):
		list, _ := b.MemoryStore.List(ctx, webhook.StateParked, "", 100)
		for _, r := range list {
			if slices.Contains(ids, r.ID) {
				found = append(found, r)
			}
		}
	}
	return found, nil
}

func (b *broken) Depth(ctx context.Context) (webhook.Depth, error) {
	depth, err := b.MemoryStore.Depth(b.context(ctx, "Depth"))
	switch {
	case b.has("counts parked ones as pending"):
		depth.Pending, depth.Parked = depth.Pending+depth.Parked, 0
	case b.has("knows no times"):
		depth.OldestPending, depth.OldestParked = time.Time{}, time.Time{}
	case b.has("keeps the oldest time") && depth.OldestParked.IsZero():
		depth.OldestParked = time.Unix(0, 0)
	}
	return depth, err
}

func (b *broken) List(ctx context.Context, state webhook.State, after string, limit int) ([]*webhook.Record, error) {
	ctx = b.context(ctx, "List")
	switch {
	case b.has("lists by ID"):
		all, err := b.MemoryStore.List(ctx, state, "", 1000)
		slices.SortFunc(all, func(a, b *webhook.Record) int { return strings.Compare(a.ID, b.ID) })
		i := slices.IndexFunc(all, func(r *webhook.Record) bool { return r.ID > after })
		if i < 0 || err != nil {
			return nil, err
		}
		return all[i:min(i+limit, len(all))], nil
	case b.has("lists all at once"):
		limit = 1000
	case b.has("has short pages") && limit > 2:
		limit--
	case b.has("overlaps pages") && after != "":
		all, err := b.MemoryStore.List(ctx, state, "", 1000)
		i := slices.IndexFunc(all, func(r *webhook.Record) bool { return r.ID == after })
		if i < 0 || err != nil {
			return nil, err
		}
		return all[i:min(i+limit, len(all))], nil
	case b.has("lists every state"):
		state = webhook.StateParked
	}
	list, err := b.MemoryStore.List(ctx, state, after, limit)
	for i := range list {
		list[i] = b.yielded(list[i])
	}
	return list, err
}

func (b *broken) Replay(ctx context.Context, ids ...string) (int, error) {
	ctx = b.context(ctx, "Replay")
	if b.has("replays without removing") {
		for _, r := range b.found(ctx, ids) {
			again := *r
			again.ID, again.Settled, again.Attempts = "", time.Time{}, 0
			if err := b.MemoryStore.Commit(ctx, []*webhook.Record{&again}, nil); err != nil {
				return 0, err
			}
		}
		return len(b.found(ctx, ids)), nil
	}
	if b.has("replays with attempts") {
		var records []*webhook.Record
		var marks []webhook.Mark
		for _, r := range b.found(ctx, ids) {
			again := *r
			again.ID, again.Settled = "", time.Time{}
			records = append(records, &again)
		}
		if err := b.MemoryStore.Commit(ctx, records, nil); err != nil {
			return 0, err
		}
		for _, r := range records {
			marks = append(marks, webhook.Mark{Part: r.Part, ID: r.ID, Attempts: r.Attempts, Err: r.Err})
		}
		if err := b.MemoryStore.Commit(ctx, nil, marks); err != nil {
			return 0, err
		}
		return b.MemoryStore.Discard(ctx, ids...)
	}
	n, err := b.MemoryStore.Replay(ctx, ids...)
	if b.has("counts what it was asked for") {
		n = len(ids)
	}
	return n, err
}

// found returns the parked records with these IDs.
func (b *broken) found(ctx context.Context, ids []string) []*webhook.Record {
	list, _ := b.MemoryStore.List(ctx, webhook.StateParked, "", 1000)
	return slices.DeleteFunc(list, func(r *webhook.Record) bool { return !slices.Contains(ids, r.ID) })
}

func (b *broken) Discard(ctx context.Context, ids ...string) (int, error) {
	ctx = b.context(ctx, "Discard")
	n, err := b.MemoryStore.Discard(ctx, ids...)
	switch {
	case err != nil:
		return 0, err
	case b.has("discards what is pending"):
		for part := range b.Partitions() {
			found, _ := b.MemoryStore.Load(ctx, part, ids)
			for _, r := range found {
				_ = b.MemoryStore.Commit(ctx, nil, []webhook.Mark{{Part: part, ID: r.ID, State: webhook.StateDone}})
				n++
			}
		}
	case b.has("fails for strange IDs") && n < len(ids):
		return n, errors.New("there is no such record")
	}
	return n, nil
}

// openBroken returns the function that TestStore needs.
func openBroken(fault string, opts ...webhooktest.MemoryOption) func(*testing.T) func(*testing.T) webhook.Store {
	return func(t *testing.T) func(*testing.T) webhook.Store {
		t.Helper()
		if fault == "keeps nothing" {
			opts = nil
		}
		store, err := webhooktest.NewMemoryStore(opts...)
		require.NoError(t, err)
		data := &brokenData{late: make(map[string]int), lock: make(chan struct{}, 1)}
		return func(t *testing.T) webhook.Store {
			t.Helper()
			data.mu.Lock()
			defer data.mu.Unlock()
			data.opens++
			switch {
			case fault == "uses IDs again":
				store.ForgetIDs()
			case fault == "shares nothing" && data.opens > 1:
				store, err = webhooktest.NewMemoryStore(opts...)
				require.NoError(t, err)
			}
			b := &broken{MemoryStore: store.Open(), fault: fault, data: data}
			if data.opens > 1 {
				b.opened = len(data.stored)
			}
			return b
		}
	}
}

// TestBrokenStore runs in a process that TestSuiteFindsFaults starts.
func TestBrokenStore(t *testing.T) {
	t.Parallel()
	fault := os.Getenv(faultEnv)
	if fault == "" {
		t.Skip("for TestSuiteFindsFaults")
	}
	parts := webhooktest.WithPartitions(3)
	webhooktest.TestStore(t, openBroken(fault, parts, webhooktest.WithMaxData(2<<20)),
		webhooktest.CheckRejected(2<<20+1),
		webhooktest.CheckFull(func(t *testing.T, room int) func(*testing.T) webhook.Store {
			t.Helper()
			if fault == "is never full" {
				return openBroken(fault, parts)(t)
			}
			return openBroken(fault, parts, webhooktest.WithMaxPending(room))(t)
		}))
}

// TestBrokenKeepingStore does the same for stores that keep what is done.
func TestBrokenKeepingStore(t *testing.T) {
	t.Parallel()
	fault := os.Getenv(faultEnv)
	if fault == "" {
		t.Skip("for TestSuiteFindsFaults")
	}
	webhooktest.TestStore(t, openBroken(fault, webhooktest.WithKeep()), webhooktest.CheckKept())
}

// TestSuiteFindsFaults runs the suite on stores that have a fault each. The suite fails its
// testing.T, so each run is a process.
func TestSuiteFindsFaults(t *testing.T) {
	t.Parallel()
	longtest.Skip(t, "it starts a process for each fault")
	const store, keeping = "TestBrokenStore", "TestBrokenKeepingStore"
	for _, c := range []struct{ fault, test, subtest string }{
		{"none", store, ""},
		{"none", keeping, ""},
		{"fails for nothing", store, "nothing to commit"},
		{"stores in reverse", store, "order$"},
		{"stores 100 at most", store, "order$"},
		{"shares nothing", store, "order$"},
		{"yields twice", store, "order$"},
		{"lets later ones pass", store, "order$"},
		{"lets later ones pass", store, "order of concurrent commits"},
		{"misses what commits late", store, "order of concurrent commits"},
		{"never recovers", store, "order of concurrent commits"},
		{"always recovers", store, "order of concurrent commits"},
		{"reads one page", store, "backlog with holes"},
		{"loads from every partition", store, "partitions apart"},
		{"cuts at NUL", store, "hostile bytes"},
		{"stores text", store, "hostile bytes"},
		{"trims names", store, "hostile bytes"},
		{"cuts errors", store, "hostile bytes"},
		{"takes 64 KB", store, "large record"},
		{"forgets the portal", store, "every field"},
		{"keeps milliseconds", store, "every field"},
		{"returns local times", store, "every field"},
		{"zero times become epochs", store, "every field"},
		{"counts no interruptions", store, "every field"},
		{"ignores done", store, "done"},
		{"forgets marks that come with records", store, "done"},
		{"loads what is parked", store, "parked"},
		{"forgets counters at the end", store, "marks of records that stay"},
		{"adds attempts", store, "marks twice"},
		{"marks what is parked", store, "marks twice"},
		{"fails for strange marks", store, "marks twice"},
		{"fails for strange marks", store, "marks of strangers"},
		{"reads IDs as numbers", store, "marks of strangers"},
		{"reads IDs as numbers", store, "hostile ids"},
		{"applies marks of one partition", store, "marks of two partitions"},
		{"never recovers", store, "recovered"},
		{"always recovers", store, "recovered"},
		{"recovers by handle", store, "recovered"},
		{"misses what comes", store, "feed goes on"},
		{"ends with what is there", store, "feed ends"},
		{"holds a lock while it feeds", store, "feed blocked"},
		{"loses what does not fit", store, "feed far behind"},
		{"yields twice", store, "feed far behind"},
		{"yields the end of its context", store, "feed ends"},
		{"feeds after the end", store, "feed ends"},
		{"leaks a goroutine", store, "feed leaks nothing"},
		{"loads all or nothing", store, "load"},
		{"loads as often as asked", store, "load"},
		{"loads 100 at most", store, "load"},
		{"counts parked ones as pending", store, "depth"},
		{"knows no times", store, "depth"},
		{"keeps the oldest time", store, "depth"},
		{"lists by ID", store, "list in pages"},
		{"lists all at once", store, "list in pages"},
		{"has short pages", store, "list in pages"},
		{"overlaps pages", store, "list in pages"},
		{"replays without removing", store, "replay"},
		{"replays with attempts", store, "replay"},
		{"counts what it was asked for", store, "replay"},
		{"discards what is pending", store, "discard"},
		{"fails for strange IDs", store, "discard"},
		{"keeps nothing", keeping, "kept"},
		{"lists every state", keeping, "kept"},
		{"uses IDs again", store, "ids never come back"},
		{"Commit ignores its context", store, "cancelled"},
		{"Load ignores its context", store, "cancelled"},
		{"Depth ignores its context", store, "cancelled"},
		{"List ignores its context", store, "cancelled"},
		{"Replay ignores its context", store, "cancelled"},
		{"Discard ignores its context", store, "cancelled"},
		{"dies of a cancelled call", store, "cancelled"},
		{"is never full", store, "full"},
		{"has another error when full", store, "full"},
		{"refuses marks when full", store, "full"},
		{"rejects the whole commit", store, "rejected"},
	} {
		t.Run(c.fault+" "+c.subtest, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			self, err := os.Executable()
			require.NoError(t, err)
			subtest := strings.ReplaceAll(c.subtest, " ", "_")
			cmd := exec.CommandContext(ctx, self, "-test.v", "-test.timeout=2m", "-test.run=^"+c.test+"$/^"+subtest) //nolint:gosec // this very program
			cmd.Env = append(os.Environ(), faultEnv+"="+c.fault)
			out, err := cmd.CombinedOutput()
			if c.subtest == "" {
				require.NoError(t, err, "%s", out)
				assert.Contains(t, string(out), "--- PASS: "+c.test)
				return
			}
			require.Error(t, err, "the suite did not notice:\n%s", out)
			assert.Contains(t, string(out), "--- FAIL: "+c.test+"/"+strings.TrimSuffix(subtest, "$"))
			assert.NotContains(t, string(out), "panic:")
		})
	}
}
