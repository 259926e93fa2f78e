package natsstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/b24events/b24events/webhook"
)

// List implements [webhook.Store]. The record after may have been replayed or discarded meanwhile
// if this Store has listed it lately; otherwise that is an error.
func (s *Store) List(ctx context.Context, state webhook.State, after string, limit int) ([]*webhook.Record, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, failed("list", err)
	}
	defer leave()
	var a archive
	switch state {
	case webhook.StateParked:
		a = s.archiveParked()
	case webhook.StateDone:
		a = s.archiveDone()
	default:
		return nil, failed("list", misconfigured("state %v; want StateParked or StateDone", state))
	}
	list, err := s.list(ctx, a, after, limit)
	if errors.Is(err, ErrNoStream) && state == webhook.StateDone {
		return nil, nil // nothing was ever kept
	}
	return list, failed("list", err)
}

func (s *Store) list(ctx context.Context, a archive, after string, limit int) ([]*webhook.Record, error) {
	if limit <= 0 {
		return nil, nil
	}
	q := query{stream: a.stream, filter: a.all(), ahead: min(limit, readAhead)}
	if after != "" {
		seq, err := s.position(ctx, a, after)
		if err != nil {
			return nil, err
		}
		q.from = seq + 1
	}
	var list []*webhook.Record
	err := s.scan(ctx, q, func(m *message) bool {
		id, ok := parseID(lastToken(m.subject))
		if !ok || m.subject != a.subject(id) {
			return true // another program wrote it
		}
		r := m.archived(id)
		s.listed.add(r.ID, m.seq)
		list = append(list, r)
		return len(list) < limit
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// position returns the sequence that a record has or had in the archive.
func (s *Store) position(ctx context.Context, a archive, name string) (uint64, error) {
	id, ok := parseID(name)
	if !ok {
		return 0, ErrNotArchived
	}
	read := s.getLast(a.stream, a.subject(id))
	if err := s.execute(ctx, []*request{read}); err != nil {
		return 0, err
	}
	m, err := read.found()
	if err != nil {
		return 0, err
	}
	if m != nil {
		return m.seq, nil
	}
	if seq, ok := s.listed.seq(name); ok {
		return seq, nil
	}
	return 0, ErrNotArchived
}

// Replay implements [webhook.Store]. It stores the records again and then deletes them from the
// archive. If the process dies in between, repeat the replay: within half a minute, each record is
// still replayed once; later, it may be replayed twice. If the store has no room for all records,
// the error matches [webhook.ErrQueueFull].
func (s *Store) Replay(ctx context.Context, ids ...string) (int, error) {
	return s.takeOut(ctx, "replay", ids, func(ctx context.Context, list []taken) error {
		var adds []*request
		for _, t := range list {
			uid := replayUID(t.id.String(), t.seq)
			adds = append(adds, s.publish(s.pending(), s.in(t.id.part), replayHeader(t.header, uid), t.data))
		}
		if err := s.execute(ctx, adds); err != nil {
			return err
		}
		for _, r := range adds {
			if e := r.reply.Error; e != nil && e.isFull() {
				return fmt.Errorf("%w: %w", webhook.ErrQueueFull, e)
			}
			if _, err := r.written(); err != nil {
				return err
			}
		}
		return nil
	})
}

// Discard implements [webhook.Store].
func (s *Store) Discard(ctx context.Context, ids ...string) (int, error) {
	return s.takeOut(ctx, "discard", ids, func(context.Context, []taken) error { return nil })
}

// taken is a record that is taken out of an archive.
type taken struct {
	*message

	id recordID
}

// takeOut finds archived records, calls use with some of them at a time, and then deletes them. It
// returns how many were deleted.
func (s *Store) takeOut(ctx context.Context, what string, ids []string, use func(context.Context, []taken) error) (int, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return 0, failed(what, err)
	}
	defer leave()
	var valid []recordID
	for _, name := range ids {
		if id, ok := parseID(name); ok && id.part < s.parts && !slices.Contains(valid, id) {
			valid = append(valid, id)
		}
	}
	n := 0
	for batch := range slices.Chunk(valid, moveBatch) {
		for _, a := range []archive{s.archiveParked(), s.archiveDone()} {
			deleted, err := s.takeFrom(ctx, a, batch, use)
			n += deleted
			if errors.Is(err, ErrNoStream) && a.stream == s.done() {
				continue // nothing was ever kept
			}
			if err != nil {
				return n, failed(what, err)
			}
		}
	}
	return n, nil
}

func (s *Store) takeFrom(ctx context.Context, a archive, ids []recordID, use func(context.Context, []taken) error) (int, error) {
	server := s.linkNow().server
	reads := make([]*request, len(ids))
	for i, id := range ids {
		reads[i] = s.getLast(a.stream, a.subject(id))
	}
	if err := s.executeOn(ctx, server, reads); err != nil {
		return 0, err
	}
	var list []taken
	var deletes []*request
	for i, r := range reads {
		m, err := r.found()
		if err != nil {
			return 0, err
		}
		if m != nil {
			list = append(list, taken{m, ids[i]})
			deletes = append(deletes, s.deleteMessage(a.stream, m.seq))
		}
	}
	if len(list) == 0 {
		return 0, nil
	}
	if err := use(ctx, list); err != nil {
		return 0, err
	}
	err := s.executeOn(ctx, server, deletes)
	n := 0
	for _, r := range deletes {
		if !r.replied {
			continue
		}
		ok, failure := r.deleted()
		if ok {
			n++
		}
		if err == nil {
			err = failure
		}
	}
	return n, err
}

// Load implements [webhook.Store].
func (s *Store) Load(ctx context.Context, part int, ids []string) ([]*webhook.Record, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, failed("load", err)
	}
	defer leave()
	var valid []recordID
	seen := make(map[string]bool, len(ids))
	for _, name := range ids {
		if id, ok := parseID(name); ok && id.part == part && part < s.parts && !seen[name] && !s.settled.has(name) {
			seen[name] = true
			valid = append(valid, id)
		}
	}
	var list []*webhook.Record
	for batch := range slices.Chunk(valid, moveBatch) {
		some, err := s.loadSome(ctx, batch)
		if err != nil {
			return nil, failed("load", err)
		}
		list = append(list, some...)
	}
	return list, nil
}

func (s *Store) loadSome(ctx context.Context, ids []recordID) ([]*webhook.Record, error) {
	reads := make([]*request, 0, 2*len(ids))
	for _, id := range ids {
		reads = append(reads, s.getMessage(s.pending(), id.seq), s.getLast(s.marks(), s.markSubject(id)))
	}
	if err := s.execute(ctx, reads); err != nil {
		return nil, err
	}
	var list []*webhook.Record
	for i, id := range ids {
		m, err := reads[2*i].found()
		if err != nil {
			return nil, err
		}
		counted, err := reads[2*i+1].found()
		if err != nil {
			return nil, err
		}
		if part, ok := s.partOf(subjectOf(m)); !ok || m.idOf(part) != id {
			continue
		}
		r := m.record(id.String(), id.part)
		if counted != nil {
			decodeCounters(counted.data).apply(r)
		}
		list = append(list, r)
	}
	return list, nil
}

// Depth implements [webhook.Store]. It makes up to four requests.
func (s *Store) Depth(ctx context.Context) (webhook.Depth, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return webhook.Depth{}, failed("depth", err)
	}
	defer leave()
	d, err := s.depth(ctx)
	return d, failed("depth", err)
}

func (s *Store) depth(ctx context.Context) (webhook.Depth, error) {
	var d webhook.Depth
	parked, err := s.info(ctx, s.parked())
	if err != nil {
		return d, err
	}
	if d.Parked = int64(parked.State.Msgs); d.Parked > 0 { //nolint:gosec // fits
		d.OldestParked = parked.State.FirstTime.UTC().Truncate(time.Microsecond)
	}
	done, err := s.info(ctx, s.done())
	switch {
	case err == nil:
		d.Kept = int64(done.State.Msgs) //nolint:gosec // fits
	case !errors.Is(err, ErrNoStream):
		return d, err
	}
	pending, err := s.info(ctx, s.pending())
	if err != nil {
		return d, err
	}
	if d.Pending = int64(pending.State.Msgs); d.Pending == 0 { //nolint:gosec // fits
		return d, nil
	}
	d.OldestPending = pending.State.FirstTime.UTC().Truncate(time.Microsecond)
	oldest := s.getMessage(s.pending(), pending.State.FirstSeq)
	if err := s.execute(ctx, []*request{oldest}); err != nil {
		return d, err
	}
	m, err := oldest.found()
	if m != nil { // otherwise it was settled just now
		d.OldestPending = m.record("", 0).Received
	}
	return d, err
}
