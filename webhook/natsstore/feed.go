package natsstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/b24events/b24events/internal/timing"
	"github.com/b24events/b24events/webhook"
)

const (
	// feedPatience is how long a Feed waits for the connection, or retries, before it ends with an
	// error for its caller.
	feedPatience = 5 * time.Second
	// staleAfter is how long the loop body may take before the Feed discards the messages that it has
	// read ahead, and reads them again. Many may be settled by then, and the server may have deleted
	// the cursor.
	staleAfter = time.Minute
	// clockSlack is how much the clock of the server may have been set back between two messages.
	clockSlack = time.Minute
	// repairBatch is how many records that should be gone are deleted at a time.
	repairBatch = 512
)

// Feed implements [webhook.Store]. It continues by itself after the connection was broken for a
// short time or the server was restarted, and yields nothing twice. It ends with an error if an
// outage takes longer than five seconds, or if the stream was deleted.
func (s *Store) Feed(ctx context.Context, part int) iter.Seq2[*webhook.Record, error] {
	return func(yield func(*webhook.Record, error) bool) {
		err := s.feed(ctx, part, func(r *webhook.Record) bool { return yield(r, nil) })
		if err != nil && !errors.Is(err, errStopped) && ctx.Err() == nil {
			yield(nil, failed(fmt.Sprintf("feed of partition %d", part), err))
		}
	}
}

func (s *Store) feed(ctx context.Context, part int, yield func(*webhook.Record) bool) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if part < 0 || part >= s.parts {
		return misconfigured("there are %d partitions", s.parts)
	}
	f := &feeding{s: s, part: part, yield: yield}
	for failing := (time.Time{}); ; {
		worked, err := f.run(ctx)
		if worked {
			failing = time.Time{}
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !canContinue(err):
			return err
		case failing.IsZero():
			failing = time.Now()
		case time.Since(failing) > feedPatience:
			return err
		}
		if timing.Sleep(ctx, minRetry) != nil {
			return context.Cause(ctx)
		}
	}
}

// feeding is a running Feed.
type feeding struct {
	s     *Store
	part  int
	yield func(*webhook.Record) bool

	begun  bool
	start  uint64    // last sequence when the Feed began
	server string    // the server of the last cursor
	last   uint64    // sequence of the last record that was yielded or skipped
	lastAt time.Time // when that record was stored
	whole  bool      // the cursor is one of all partitions, until that has read everything

	// For records that are older than the Feed, until all of them were read.
	old      bool
	counters map[string]storedCounters // by ID
	archived map[string]struct{}       // IDs; nil before the first such record
	gone     []recordID                // records that should have been deleted
}

// storedCounters is the stored counters of a record.
type storedCounters struct {
	counters

	seq uint64
}

// canContinue reports whether the Feed can continue after an error.
func canContinue(err error) bool {
	for _, final := range []error{ErrNoStream, ErrConfig, ErrClosed, errStopped} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

// run yields records from one cursor until that ends. It reports whether the cursor worked.
func (f *feeding) run(ctx context.Context) (worked bool, err error) {
	waiting, cancel := context.WithTimeoutCause(ctx, feedPatience, ErrDisconnected)
	defer cancel()
	if err := f.s.online(waiting); err != nil {
		return false, err
	}
	ctx, release := f.s.whileConnected(ctx)
	defer release()
	from, err := f.begin(ctx)
	if err != nil {
		return false, err
	}
	q := query{stream: f.s.pending(), filter: f.s.in(f.part), from: from}
	if f.whole {
		q.filter = ""
	}
	c, err := f.s.open(ctx, q)
	if err != nil {
		return false, err
	}
	defer c.close()
	if c.left == 0 {
		f.caughtUp(ctx)
	}
	for opened := time.Now(); ; {
		m, err := c.next(ctx, 0)
		if errors.Is(err, errHidden) {
			f.readWhole(ctx)
			return true, err
		}
		if err != nil {
			return worked || time.Since(opened) > feedPatience && !errors.Is(err, errSilence), err
		}
		worked = true
		began := time.Now()
		if !f.whole || m.subject == f.s.in(f.part) {
			if err := f.take(ctx, m); err != nil {
				return worked, err
			}
		}
		if m.pending == 0 || m.seq >= f.start {
			f.caughtUp(ctx)
		}
		if f.whole && m.pending == 0 {
			f.whole = false
			return worked, errReopen
		}
		if time.Since(began) > staleAfter {
			return worked, errGap
		}
	}
}

// readWhole makes the next cursor one of all partitions. Servers before 2.10 hide records now and
// then: after many deletes, what they keep of a subject is wrong for some minutes, and a cursor
// with a filter then passes its records over.
func (f *feeding) readWhole(ctx context.Context) {
	f.whole = true
	f.s.log.LogAttrs(ctx, slog.LevelInfo, "natsstore: the server passes records of a partition over; reading all partitions",
		slog.String(KeyStream, f.s.pending()), slog.Int(KeyPartition, f.part))
}

// begin reads the state of the stream and returns the sequence to read from. After a restart of the
// server that is the first one, because a server that lost its last messages in a power failure
// gives their sequences to others.
func (f *feeding) begin(ctx context.Context) (from uint64, err error) {
	server := f.s.linkNow().server
	info, err := f.s.info(ctx, f.s.pending())
	if err != nil {
		return 0, err
	}
	same, err := f.s.adopt(info)
	if err != nil {
		return 0, err
	}
	if f.begun {
		if !same {
			return 0, fmt.Errorf("%w and made again", ErrNoStream)
		}
		if f.server != server {
			f.server = server
			return 1, nil
		}
		return f.last + 1, nil
	}
	f.start, f.server, f.old = info.State.LastSeq, server, true
	if f.counters, err = f.s.readCounters(ctx, f.part); err != nil {
		return 0, err
	}
	f.begun = true
	return 1, nil
}

// readCounters reads the counters of the pending records of a partition.
func (s *Store) readCounters(ctx context.Context, part int) (map[string]storedCounters, error) {
	list := make(map[string]storedCounters)
	there, err := s.subjects(ctx, s.marks(), s.markAll(part))
	if err != nil {
		return nil, err
	}
	if len(there) == 0 {
		return list, nil
	}
	err = s.scan(ctx, query{stream: s.marks(), filter: s.markAll(part)}, func(m *message) bool {
		list[lastToken(m.subject)] = storedCounters{decodeCounters(m.data), m.seq}
		return true
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := make(map[string]uint64, len(list))
	for id, m := range list {
		known[id] = max(m.seq, s.marked[part][id])
	}
	s.marked[part] = known
	return list, nil
}

// take yields a record, unless it was yielded before or was settled.
func (f *feeding) take(ctx context.Context, m *message) error {
	id := m.idOf(f.part)
	name := id.String()
	if m.seq <= f.last && !m.time.After(f.lastAt) { // before the server was restarted
		if f.s.settled.has(name) {
			f.remove(ctx, id)
		}
		return nil
	}
	old := m.seq <= f.start
	if old && f.archived == nil {
		if err := f.readArchived(ctx, m.time.Add(-clockSlack)); err != nil {
			return err
		}
	}
	f.last, f.lastAt = m.seq, m.time // only now, so that after an error the record is read again
	if _, ok := f.archived[name]; ok || f.s.settled.has(name) {
		f.remove(ctx, id)
		return nil
	}
	f.s.knew(m.seq)
	r := m.record(name, f.part)
	r.Recovered = old
	if known, ok := f.counters[name]; ok {
		known.apply(r)
		delete(f.counters, name)
	}
	if !f.yield(r) {
		return errStopped
	}
	return nil
}

// readArchived reads the IDs of the partition's records that were archived since a time. A process
// that died may have archived a record without deleting it.
func (f *feeding) readArchived(ctx context.Context, since time.Time) error {
	found := make(map[string]struct{})
	for _, a := range []archive{f.s.archiveParked(), f.s.archiveDone()} {
		err := f.s.scan(ctx, query{stream: a.stream, filter: a.part(f.part), since: since, headers: true}, func(m *message) bool {
			found[lastToken(m.subject)] = struct{}{}
			return true
		})
		if err != nil && (a.stream != f.s.done() || !errors.Is(err, ErrNoStream)) {
			return err
		}
	}
	f.archived = found
	return nil
}

// remove notes a record that should be gone. sweep deletes it later.
func (f *feeding) remove(ctx context.Context, id recordID) {
	if f.gone = append(f.gone, id); len(f.gone) >= repairBatch {
		f.sweep(ctx, nil)
	}
}

// caughtUp drops the state for records that are older than the Feed, once all of them were read.
// Counters that are left have no record.
func (f *feeding) caughtUp(ctx context.Context) {
	var orphans map[string]storedCounters
	if f.old {
		orphans = f.counters
		f.old, f.counters, f.archived = false, nil, map[string]struct{}{}
	}
	f.sweep(ctx, orphans)
}

// sweep deletes the records that should be gone, and counters without a record, in the background.
func (f *feeding) sweep(ctx context.Context, orphans map[string]storedCounters) {
	gone, server := f.gone, f.server
	f.gone = nil
	if len(gone)+len(orphans) == 0 {
		return
	}
	f.s.repair(ctx, f.s.pending(), func(ctx context.Context) error {
		deletes := make([]*request, len(gone))
		for i, id := range gone {
			deletes[i] = f.s.deleteMessage(f.s.pending(), id.seq)
		}
		if err := f.s.executeOn(ctx, server, deletes); err != nil {
			return err
		}
		if len(gone) > 0 {
			f.s.log.LogAttrs(ctx, slog.LevelInfo, "natsstore: deleted records that were settled before the server or a process was killed",
				slog.String(KeyStream, f.s.pending()), slog.Int(KeyPartition, f.part), slog.Int(KeyRecords, len(gone)))
		}
		return f.s.deleteOrphans(ctx, f.part, orphans)
	})
}

// deleteOrphans deletes counters whose record is gone.
func (s *Store) deleteOrphans(ctx context.Context, part int, orphans map[string]storedCounters) error {
	var reads, deletes []*request
	var names []string
	for name := range orphans {
		id, ok := parseID(name)
		if !ok {
			continue
		}
		names = append(names, name)
		reads = append(reads, s.getMessage(s.pending(), id.seq))
	}
	for len(reads) > 0 {
		n := min(moveBatch, len(reads))
		if err := s.execute(ctx, reads[:n]); err != nil {
			return err
		}
		for i, r := range reads[:n] {
			m, err := r.found()
			if err != nil {
				return err
			}
			if m == nil || m.idOf(part).String() != names[i] {
				deletes = append(deletes, s.deleteMessage(s.marks(), orphans[names[i]].seq))
				s.mu.Lock()
				delete(s.marked[part], names[i])
				s.mu.Unlock()
			}
		}
		reads, names = reads[n:], names[n:]
	}
	return s.execute(ctx, deletes)
}
