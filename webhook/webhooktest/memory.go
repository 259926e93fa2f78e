package webhooktest

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/b24events/b24events/webhook"
)

// MemoryStore is a [webhook.Store] and a [webhook.Leaser] for tests. Its records outlive a Handler,
// but not the process. It is safe for concurrent use. Make one with [NewMemoryStore].
//
// A test that simulates several processes gives each of them a MemoryStore of its own on the same
// data; see [MemoryStore.Open]. A test that needs errors or delays sets [MemoryStore.SetFaults].
type MemoryStore struct {
	data *memoryData

	mu     sync.Mutex
	faults func(context.Context, Call) Fault
}

// memoryData is the data that several MemoryStores may share.
type memoryData struct {
	memoryConfig

	mu       sync.Mutex
	lastID   int64
	settled  time.Time // the latest time of settling
	parts    []memoryPart
	byID     map[string]*memoryRow
	archive  []*memoryRow // in the order of settling
	archived map[string]*memoryRow
	leases   map[string]memoryLease
}

// memoryPart is the pending records of a partition.
type memoryPart struct {
	rows    []*memoryRow  // by seq, with those that are gone
	gone    int           // how many of rows are gone
	changed chan struct{} // closed when a row comes
}

type memoryRow struct {
	webhook.Record // only exported fields

	seq   int64
	state webhook.State
	gone  bool // from the pending ones
	// given is the record that Commit got, until a Feed yields it, and by the MemoryStore that
	// committed it.
	given *webhook.Record
	by    *MemoryStore
}

// NewMemoryStore returns a store without records and with one partition, unless an option says
// otherwise. A nil option is skipped. An error matches [webhook.ErrConfig].
func NewMemoryStore(opts ...MemoryOption) (*MemoryStore, error) {
	config := memoryConfig{partitions: 1}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&config); err != nil {
			return nil, err
		}
	}
	data := &memoryData{
		memoryConfig: config,
		parts:        make([]memoryPart, config.partitions),
		byID:         make(map[string]*memoryRow),
		archived:     make(map[string]*memoryRow),
		leases:       make(map[string]memoryLease),
	}
	for i := range data.parts {
		data.parts[i].changed = make(chan struct{})
	}
	return &MemoryStore{data: data}, nil
}

// Open returns another MemoryStore on the same data, as another process would open it. It has no
// faults. Its Feed yields copies of the records that other MemoryStores committed.
func (m *MemoryStore) Open() *MemoryStore { return &MemoryStore{data: m.data} }

// Partitions implements [webhook.Store].
func (m *MemoryStore) Partitions() int { return m.data.partitions }

// Commit implements [webhook.Store]. If there is no room for add, it still applies the marks.
func (m *MemoryStore) Commit(ctx context.Context, add []*webhook.Record, marks []webhook.Mark) error {
	fault := m.fault(ctx, Call{Op: OpCommit, Add: add, Marks: marks})
	if fault.Err != nil {
		_ = m.commit(add[:min(fault.Added, len(add))], marks[:min(fault.Marked, len(marks))])
		return fault.Err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.commit(add, marks)
}

func (m *MemoryStore) commit(add []*webhook.Record, marks []webhook.Mark) error {
	d := m.data
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range marks {
		d.markLocked(&marks[i])
	}
	if d.maxPending > 0 && len(add) > 0 && len(d.byID)+len(add) > d.maxPending {
		return webhook.ErrQueueFull
	}
	for _, r := range add {
		if d.maxData > 0 && len(r.Data) > d.maxData {
			r.Rejected = errTooLarge
			continue
		}
		row := d.appendLocked(r)
		row.given, row.by = r, m
		r.ID = row.ID
	}
	return nil
}

// exported copies the exported fields of a record. A Handler keeps more in it, which no other store
// keeps either.
func exported(r *webhook.Record) webhook.Record {
	return webhook.Record{
		ID: r.ID, Part: r.Part, Name: r.Name, MemberID: r.MemberID, Received: r.Received, Data: r.Data, Attempts: r.Attempts,
		Interrupted: r.Interrupted, Due: r.Due, Err: r.Err, Settled: r.Settled,
	}
}

// appendLocked puts a record behind all pending ones, with a new ID. d.mu is held.
func (d *memoryData) appendLocked(r *webhook.Record) *memoryRow {
	d.lastID++
	row := &memoryRow{Record: exported(r), seq: d.lastID}
	row.ID, row.Settled = strconv.FormatInt(d.lastID, 10), time.Time{}
	row.Received = row.Received.UTC().Truncate(time.Microsecond)
	part := &d.parts[r.Part]
	part.rows = append(part.rows, row)
	d.byID[row.ID] = row
	close(part.changed)
	part.changed = make(chan struct{})
	return row
}

// markLocked applies a mark. d.mu is held.
func (d *memoryData) markLocked(mark *webhook.Mark) {
	row := d.byID[mark.ID]
	if row == nil || row.Part != mark.Part {
		return
	}
	row.given, row.by = nil, nil
	if mark.State != webhook.StateDone {
		row.Attempts, row.Interrupted, row.Err = mark.Attempts, mark.Interrupted, mark.Err
		row.Due = mark.Due
		if !row.Due.IsZero() {
			row.Due = row.Due.UTC().Truncate(time.Microsecond)
		}
	}
	if mark.State == webhook.StatePending {
		return
	}
	d.removeLocked(row)
	if mark.State == webhook.StateDone && !d.keep {
		return
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	if now.Before(d.settled) { // the clock was set back
		now = d.settled
	}
	d.settled = now
	archived := &memoryRow{Record: row.Record, seq: row.seq, state: mark.State}
	archived.Settled = now
	d.archive = append(d.archive, archived)
	d.archived[archived.ID] = archived
}

// removeLocked takes a row from the pending ones. d.mu is held.
func (d *memoryData) removeLocked(row *memoryRow) {
	delete(d.byID, row.ID)
	row.gone = true
	part := &d.parts[row.Part]
	part.gone++
	if part.gone > len(part.rows)/2 {
		part.rows = slices.DeleteFunc(part.rows, func(r *memoryRow) bool { return r.gone })
		part.gone = 0
	}
}

// Feed implements [webhook.Store]. It yields the same pointers that Commit of this MemoryStore got
// since the Feed began, and copies of all other records.
func (m *MemoryStore) Feed(ctx context.Context, part int) iter.Seq2[*webhook.Record, error] {
	return func(yield func(*webhook.Record, error) bool) {
		m.data.mu.Lock()
		begun := m.data.lastID
		m.data.mu.Unlock()
		for at, n := int64(0), 0; ; n++ {
			if fault := m.fault(ctx, Call{Op: OpFeed, Part: part, Fed: n}); fault.Err != nil && ctx.Err() == nil {
				yield(nil, fault.Err)
				return
			}
			r, seq := m.next(ctx, part, at, begun)
			if r == nil || !yield(r, nil) {
				return
			}
			at = seq
		}
	}
}

// next waits for the first pending record behind seq. It returns nil at the end of ctx.
func (m *MemoryStore) next(ctx context.Context, part int, seq, begun int64) (*webhook.Record, int64) {
	for ctx.Err() == nil {
		r, at, changed := m.look(part, seq, begun)
		if r != nil {
			return r, at
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return nil, 0
}

// look returns the first pending record behind seq, or a channel that is closed when one comes.
func (m *MemoryStore) look(n int, seq, begun int64) (*webhook.Record, int64, <-chan struct{}) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	part := &m.data.parts[n]
	i, _ := slices.BinarySearchFunc(part.rows, seq+1, func(r *memoryRow, seq int64) int { return cmp.Compare(r.seq, seq) })
	for i < len(part.rows) && part.rows[i].gone {
		i++
	}
	if i == len(part.rows) {
		return nil, 0, part.changed
	}
	row := part.rows[i]
	if row.seq > begun && row.by == m {
		given := row.given
		row.given, row.by = nil, nil
		return given, row.seq, nil
	}
	r := row.Record
	r.Recovered = row.seq <= begun
	return &r, row.seq, nil
}

// Load implements [webhook.Store].
func (m *MemoryStore) Load(ctx context.Context, part int, ids []string) ([]*webhook.Record, error) {
	if err := m.begin(ctx, Call{Op: OpLoad, Part: part, IDs: ids}); err != nil {
		return nil, err
	}
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	var found []*webhook.Record
	for _, id := range distinct(ids) {
		if row := m.data.byID[id]; row != nil && row.Part == part {
			r := row.Record
			found = append(found, &r)
		}
	}
	return found, nil
}

func distinct(ids []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(ids)))
}

// Depth implements [webhook.Store].
func (m *MemoryStore) Depth(ctx context.Context) (webhook.Depth, error) {
	if err := m.begin(ctx, Call{Op: OpDepth}); err != nil {
		return webhook.Depth{}, err
	}
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	var depth webhook.Depth
	for _, row := range m.data.byID {
		depth.Pending++
		if depth.OldestPending.IsZero() || row.Received.Before(depth.OldestPending) {
			depth.OldestPending = row.Received
		}
	}
	for _, row := range m.data.archive {
		if row.state == webhook.StateDone {
			depth.Kept++
			continue
		}
		depth.Parked++
		if depth.OldestParked.IsZero() {
			depth.OldestParked = row.Settled
		}
	}
	return depth, nil
}

// List implements [webhook.Store].
func (m *MemoryStore) List(ctx context.Context, state webhook.State, after string, limit int) ([]*webhook.Record, error) {
	if err := m.begin(ctx, Call{Op: OpList, State: state, After: after, Limit: limit}); err != nil {
		return nil, err
	}
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	rows := m.data.archive
	if after != "" {
		i := slices.IndexFunc(rows, func(r *memoryRow) bool { return r.ID == after })
		if i < 0 {
			return nil, errAfter
		}
		rows = rows[i+1:]
	}
	var list []*webhook.Record
	for _, row := range rows {
		if len(list) >= limit {
			break
		}
		if row.state == state {
			r := row.Record
			list = append(list, &r)
		}
	}
	return list, nil
}

// Replay implements [webhook.Store].
func (m *MemoryStore) Replay(ctx context.Context, ids ...string) (int, error) {
	if err := m.begin(ctx, Call{Op: OpReplay, IDs: ids}); err != nil {
		return 0, err
	}
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	rows := m.data.takeLocked(ids)
	for _, row := range rows {
		again := m.data.appendLocked(&row.Record)
		again.Attempts, again.Interrupted, again.Due, again.Err = 0, 0, time.Time{}, ""
	}
	return len(rows), nil
}

// Discard implements [webhook.Store].
func (m *MemoryStore) Discard(ctx context.Context, ids ...string) (int, error) {
	if err := m.begin(ctx, Call{Op: OpDiscard, IDs: ids}); err != nil {
		return 0, err
	}
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	return len(m.data.takeLocked(ids)), nil
}

// takeLocked removes rows from the archive and returns them in the order of settling. d.mu is held.
func (d *memoryData) takeLocked(ids []string) []*memoryRow {
	for _, id := range ids {
		delete(d.archived, id)
	}
	var taken []*memoryRow
	d.archive = slices.DeleteFunc(d.archive, func(r *memoryRow) bool {
		if d.archived[r.ID] == r {
			return false
		}
		taken = append(taken, r)
		return true
	})
	return taken
}
