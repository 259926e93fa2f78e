package natsstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/b24events/b24events/webhook"
)

// moveBatch is how many records are read at a time to be archived or replayed. It bounds the memory
// for that.
const moveBatch = 64

// adding is a record to be stored.
type adding struct {
	*request

	rec *webhook.Record
	uid string
}

// marking is a mark for a pending record.
type marking struct {
	*request // stores the counters, or deletes the record; nil if the record is to be archived

	mark webhook.Mark
	id   recordID
}

// commit is one call of Commit.
type commit struct {
	s *Store

	adds   []adding
	counts []marking // counters of records that stay pending
	drops  []marking // records to be deleted
	moves  []marking // records to be read first, to archive them or because they are in doubt
	server string    // the server that drops are for
	freed  bool      // something was deleted
}

// Commit implements [webhook.Store]. It publishes the records in their order without waiting in
// between, and then waits for all acknowledgements of the server. If the connection breaks
// meanwhile, Commit waits for it and repeats what was not acknowledged; the server recognizes
// records that it has by their IDs. If the records were stored in another order, Commit returns an
// error.
func (s *Store) Commit(ctx context.Context, add []*webhook.Record, marks []webhook.Mark) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return failed("commit", err)
	}
	defer leave()
	if err := s.online(ctx); err != nil {
		return failed("commit", err)
	}
	c := commit{s: s}
	if err := c.plan(add, marks); err != nil {
		return failed("commit", err)
	}
	return failed("commit", c.run(ctx))
}

// plan makes the requests.
func (c *commit) plan(add []*webhook.Record, marks []webhook.Mark) error {
	for _, r := range add {
		if r.Part < 0 || r.Part >= c.s.parts {
			return misconfigured("a record of partition %d; there are %d", r.Part, c.s.parts)
		}
	}
	for _, r := range add {
		r.Rejected = c.s.tooLarge(r)
		if r.Rejected != nil {
			continue
		}
		uid := newUID()
		c.adds = append(c.adds, adding{c.s.publish(c.s.pending(), c.s.in(r.Part), recordHeader(r, uid), r.Data), r, uid})
	}
	return c.planMarks(marks)
}

// planMarks makes the requests of the marks. For each record, the first mark that settles it
// counts, or else the last mark.
func (c *commit) planMarks(marks []webhook.Mark) error {
	c.s.mu.Lock()
	doubt := c.s.doubt
	c.server = c.s.link.server
	c.s.mu.Unlock()
	last := make(map[string]int, len(marks))
	var order []marking
	for _, m := range marks {
		id, ok := parseID(m.ID)
		if !ok || id.part != m.Part || id.part >= c.s.parts || c.s.settled.has(m.ID) {
			continue // not a pending record
		}
		if i, known := last[m.ID]; known {
			if order[i].mark.State == webhook.StatePending {
				order[i].mark = m
			}
			continue
		}
		last[m.ID] = len(order)
		order = append(order, marking{mark: m, id: id})
	}
	for _, m := range order {
		switch {
		case m.mark.State > webhook.StateParked:
			return misconfigured("a mark with the unknown state %d", m.mark.State)
		case m.mark.State == webhook.StatePending:
			data, err := encodeCounters(m.mark)
			if err != nil {
				return err
			}
			m.request = c.s.publish(c.s.marks(), c.s.markSubject(m.id), nil, data)
			c.counts = append(c.counts, m)
		case m.mark.State == webhook.StateParked, m.mark.State == webhook.StateDone && c.s.keep, m.id.seq <= doubt:
			c.moves = append(c.moves, m)
		default:
			m.request = c.s.deleteMessage(c.s.pending(), m.id.seq)
			c.drops = append(c.drops, m)
		}
	}
	return nil
}

// tooLarge returns an error for a record that the server can never store.
func (s *Store) tooLarge(r *webhook.Record) error {
	limit, what := s.linkNow().maxPayload, "max_payload of the server"
	if n := s.maxMessage.Load(); n > 0 && n < limit {
		limit, what = n, "limits of the stream"
	}
	if size := int64(len(r.Data)) + headerRoom; size > limit {
		return fmt.Errorf("natsstore: a record of %d bytes, with %d for its headers, is larger than the %s, %d bytes",
			len(r.Data), headerRoom, what, limit)
	}
	return nil
}

// run sends the requests. Marks are applied even if there is no room for the records.
func (c *commit) run(ctx context.Context) error {
	sent := c.send(ctx)
	marked := c.afterMarks()
	if sent != nil {
		return sent
	}
	for batch := range slices.Chunk(c.moves, moveBatch) {
		if err := c.s.move(ctx, batch); err != nil {
			marked = errors.Join(marked, err)
			break
		}
		c.freed = true
	}
	if marked == nil {
		marked = c.deleteCounters(ctx)
	}
	stored := c.afterAdds()
	if errors.Is(stored, webhook.ErrQueueFull) && c.freed { // the marks may have made room
		for _, a := range c.adds {
			if a.reply.Error != nil {
				a.again()
			}
		}
		if err := c.s.execute(ctx, c.requests()); err != nil {
			return err
		}
		stored = c.afterAdds()
	}
	return errors.Join(stored, marked)
}

// requests returns the requests that can be repeated on any server.
func (c *commit) requests() []*request {
	var list []*request
	for _, a := range c.adds {
		list = append(list, a.request)
	}
	for _, m := range c.counts {
		list = append(list, m.request)
	}
	return list
}

// send sends all requests together. If the server was restarted before it replied to all deletes,
// the remaining records are moved to c.moves, to be read before they are deleted.
func (c *commit) send(ctx context.Context) error {
	requests := c.requests()
	for _, m := range c.drops {
		requests = append(requests, m.request)
	}
	err := c.s.executeOn(ctx, c.server, requests)
	if !errors.Is(err, errOtherServer) {
		return err
	}
	c.drops = slices.DeleteFunc(c.drops, func(m marking) bool {
		if !m.replied {
			c.moves = append(c.moves, m)
		}
		return !m.replied
	})
	return c.s.execute(ctx, c.requests())
}

// afterAdds sets the IDs of records that were stored.
func (c *commit) afterAdds() error {
	var failure, full error
	last := make(map[int]uint64)
	for _, a := range c.adds {
		if e := a.reply.Error; e != nil && e.ErrCode == codeMessageTooLarge {
			a.rec.Rejected = fmt.Errorf("natsstore: the server does not store a record of %d bytes: %w", len(a.rec.Data), e)
			continue
		}
		seq, err := a.written()
		if e := a.reply.Error; e != nil && e.isFull() {
			full = fmt.Errorf("%w: %w", webhook.ErrQueueFull, e)
			continue
		}
		if err != nil {
			failure = err
			continue
		}
		if seq <= last[a.rec.Part] && failure == nil {
			failure = errors.New("the connection broke and the records were not stored in their order")
		}
		last[a.rec.Part] = seq
		c.s.knew(seq)
		a.rec.ID = recordID{a.rec.Part, seq, a.uid}.String()
	}
	if failure != nil {
		return failure
	}
	return full
}

// afterMarks notes which marks were applied, and returns an error if one was not.
func (c *commit) afterMarks() error {
	var failure error
	for _, m := range c.counts {
		if !m.replied {
			continue
		}
		seq, err := m.written()
		if err != nil {
			failure = err
			continue
		}
		c.s.noteMarked(m.id, seq)
	}
	for _, m := range c.drops {
		if !m.replied {
			continue
		}
		if _, err := m.deleted(); err != nil {
			failure = err
			continue
		}
		c.freed = true
		c.s.settled.add(m.mark.ID, 0)
	}
	return failure
}

// noteMarked notes the sequence of the counters of a record.
func (s *Store) noteMarked(id recordID, seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	part := s.marked[id.part]
	part[id.String()] = max(seq, part[id.String()])
}

// deleteCounters deletes the counters of records that were settled. After a crash before that, the
// next Feed deletes them.
func (c *commit) deleteCounters(ctx context.Context) error {
	var requests []*request
	c.s.mu.Lock()
	for _, list := range [][]marking{c.drops, c.moves} {
		for _, m := range list {
			if seq, ok := c.s.marked[m.id.part][m.mark.ID]; ok {
				delete(c.s.marked[m.id.part], m.mark.ID)
				requests = append(requests, c.s.deleteMessage(c.s.marks(), seq))
			}
		}
	}
	c.s.mu.Unlock()
	return c.s.deleteAll(ctx, requests)
}

// move archives pending records, or deletes them if they are in doubt and done. To archive a
// record, it reads it, stores it in the archive and deletes it. If the process dies in between, the
// record is in both streams. Then the next Feed deletes it, and the archive accepts no second copy.
func (s *Store) move(ctx context.Context, batch []marking) error {
	for {
		err := s.moveHere(ctx, batch)
		if !errors.Is(err, errOtherServer) || ctx.Err() != nil {
			return err
		}
	}
}

// moveHere is move on one server. It returns errOtherServer if that restarts meanwhile.
func (s *Store) moveHere(ctx context.Context, batch []marking) error {
	server := s.linkNow().server
	reads := make([]*request, len(batch))
	for i, m := range batch {
		reads[i] = s.getMessage(s.pending(), m.id.seq)
	}
	if err := s.executeOn(ctx, server, reads); err != nil {
		return err
	}
	var copies, deletes []*request
	var present []marking
	for i, m := range batch {
		msg, err := reads[i].found()
		if err != nil {
			return err
		}
		reads[i] = nil
		if part, ok := s.partOf(subjectOf(msg)); !ok || msg.idOf(part) != m.id {
			continue // it was settled earlier
		}
		present = append(present, m)
		deletes = append(deletes, s.deleteMessage(s.pending(), m.id.seq))
		if to, ok := s.archiveFor(m.mark.State); ok {
			copies = append(copies, s.publish(to.stream, to.subject(m.id), archiveHeader(msg.header, m.mark), msg.data))
		}
	}
	if err := s.execute(ctx, copies); err != nil {
		return err
	}
	for _, r := range copies {
		if e := r.reply.Error; e != nil && e.isConflict() {
			continue // it is archived already
		}
		if _, err := r.written(); err != nil {
			return fmt.Errorf("archive: %w", err)
		}
	}
	if err := s.executeOn(ctx, server, deletes); err != nil {
		return err
	}
	for i, r := range deletes {
		if _, err := r.deleted(); err != nil {
			return err
		}
		s.settled.add(present[i].mark.ID, 0)
	}
	return nil
}

// archiveFor returns the archive for records of a state, if there is one.
func (s *Store) archiveFor(state webhook.State) (archive, bool) {
	switch {
	case state == webhook.StateParked:
		return s.archiveParked(), true
	case state == webhook.StateDone && s.keep:
		return s.archiveDone(), true
	default:
		return archive{}, false
	}
}

func subjectOf(m *message) string {
	if m == nil {
		return ""
	}
	return m.subject
}
