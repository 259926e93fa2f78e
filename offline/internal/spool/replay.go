package spool

import (
	"bytes"
	"context"
	"encoding/json"
)

// Replay hands out pending rows that are not handed out, the oldest first, at most limit of them:
// rows that an earlier process left, and rows that came back with [Journal.Nack]. It returns no
// rows when there are none. Each call reads as many segments as it needs.
//
// The error is an [ErrDisk] or [ErrClosed]. ctx is for the logger.
func (j *Journal) Replay(ctx context.Context, limit int) ([]Row, error) {
	j.filesMu.Lock()
	defer j.filesMu.Unlock()
	if j.isClosed() {
		return nil, ErrClosed
	}
	var rows []Row
	for len(rows) < limit {
		s := j.firstReady()
		if s == nil {
			break
		}
		part, _, err := j.handOutFilesLocked(ctx, handout{segment: s, state: rowPending, limit: limit - len(rows)})
		if err != nil && len(rows) > 0 { // the next call returns the error
			break
		}
		if err != nil {
			return nil, err
		}
		rows = append(rows, part...)
	}
	return rows, nil
}

func (j *Journal) firstReady() *segment {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.counts.Ready == 0 {
		return nil
	}
	for _, s := range j.segments {
		if s.ready > 0 {
			return s
		}
	}
	return nil
}

// Pass goes once through the rows that are parked when it begins, the oldest first.
type Pass struct {
	journal *Journal
	next    Offset // the first row that was not looked at
	last    int64  // the ID of the last segment of the pass
}

// ParkedPass begins a pass over the parked rows. Several passes may run at a time: a row that one
// of them handed out is not in the others until it is concluded.
func (j *Journal) ParkedPass() *Pass {
	j.mu.Lock()
	defer j.mu.Unlock()
	return &Pass{journal: j, last: j.lastID}
}

// Next hands out the next parked rows of the pass, at most limit of them, and none at its end. A
// row that is parked again meanwhile does not come twice. Only one goroutine at a time may call
// Next.
//
// The error is an [ErrDisk] or [ErrClosed], after which Next may be called again. ctx is for the
// logger.
func (p *Pass) Next(ctx context.Context, limit int) ([]Row, error) {
	j := p.journal
	j.filesMu.Lock()
	defer j.filesMu.Unlock()
	if j.isClosed() {
		return nil, ErrClosed
	}
	var rows []Row
	for len(rows) < limit {
		s := p.nextSegment()
		if s == nil {
			break
		}
		from := 0
		if s.id == p.next.segment {
			from = p.next.row
		}
		part, next, err := j.handOutFilesLocked(ctx, handout{segment: s, state: rowParked, from: from, limit: limit - len(rows)})
		if err != nil && len(rows) > 0 {
			break
		}
		if err != nil {
			return nil, err
		}
		rows = append(rows, part...)
		p.next = Offset{s.id, next}
		if next == len(s.rows) {
			p.next = Offset{s.id + 1, 0}
		}
	}
	return rows, nil
}

// nextSegment returns the next segment of the pass with parked rows, or nil.
func (p *Pass) nextSegment() *segment {
	p.journal.mu.Lock()
	defer p.journal.mu.Unlock()
	for _, s := range p.journal.segments {
		if s.id > p.last {
			return nil
		}
		if s.id >= p.next.segment && s.parked > 0 {
			return s
		}
	}
	return nil
}

// handout says which rows of a segment to hand out.
type handout struct {
	segment *segment
	state   rowState
	from    int // the first row
	limit   int
}

// handOutFilesLocked hands out rows that are in a state and not handed out. It returns the row to
// go on from. The caller holds filesMu.
func (j *Journal) handOutFilesLocked(ctx context.Context, h handout) (rows []Row, next int, err error) {
	s := h.segment
	data := make(map[int]json.RawMessage)
	saved := s.unsaved == nil
	if saved {
		doc, err := j.files.read(fileName(s.number, segmentSuffix))
		if err != nil {
			return nil, 0, diskError(j.dir, err)
		}
		lines, _ := decodeSegment(doc)
		for _, l := range lines.rows {
			data[l.at] = l.row
		}
	}
	j.mu.Lock()
	lost := 0
	for next = h.from; next < len(s.rows) && len(rows) < h.limit; next++ {
		if r := s.rows[next]; r.state != h.state || r.out {
			continue
		}
		text := data[next]
		if !saved {
			text = s.unsaved[next]
		}
		if text == nil { // it could be read when the journal was opened
			j.setMuLocked(s, next, row{state: rowMissing})
			lost++
			continue
		}
		j.setMuLocked(s, next, row{state: h.state, out: true})
		rows = append(rows, Row{Offset: Offset{s.id, next}, Data: bytes.Clone(text), WasParked: s.wasParked})
	}
	j.mu.Unlock()
	if lost > 0 && !s.damaged {
		s.damaged = true
		j.reportDamaged(ctx, fileName(s.number, segmentSuffix), len(data))
	}
	return rows, next, nil
}
