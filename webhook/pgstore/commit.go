package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/b24events/b24events/webhook"
)

const (
	// maxText bounds the texts of a record, as webhook does.
	maxText = 128
	maxErr  = 512
	// chunkBytes bounds the data of one INSERT. PostgreSQL takes less than 1 GB in a statement.
	chunkBytes = 16 << 20
)

// Commit implements [webhook.Store]. It is one transaction in one round trip.
//
// A Commit with records is durable as the server's synchronous_commit says, and at least on the
// disk of the primary. So is one that parks records or counts attempts. One that only settles
// handled records reaches that disk a little later, within three times wal_writer_delay, which is
// 0.6 s by default. If the server crashes before that, these records are handled again. Waiting for
// the disk would not prevent that: a crash between handling and Commit has the same effect.
//
// The error matches [webhook.ErrQueueFull] if the bound of [WithMaxPending] is reached or the
// server's disk is full; the marks are applied if possible. It matches [ErrLocked] if another
// transaction holds locks on records to be marked; everything else was stored then.
func (s *Store) Commit(ctx context.Context, add []*webhook.Record, marks []webhook.Mark) error {
	return fail("commit", s.commit(ctx, add, marks))
}

func (s *Store) commit(ctx context.Context, add []*webhook.Record, marks []webhook.Mark) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	adds := s.acceptable(add)
	m := sortMarks(marks)
	if len(adds) > 0 {
		room, err := s.bound.hasRoom(ctx, s, len(adds))
		if err != nil {
			return err
		}
		if !room {
			if room, err = s.makeRoom(ctx, &m, len(adds)); err != nil {
				return err
			}
		}
		if !room {
			return fmt.Errorf("pgstore: %d records are pending: %w", s.bound.limit, webhook.ErrQueueFull)
		}
	}
	if len(adds) == 0 && m.empty() {
		return nil
	}
	err := s.write(ctx, adds, &m)
	if hasCode(err, codeDiskFull) && len(adds) > 0 && !m.empty() {
		_ = s.write(ctx, nil, &m) // this may free space for the records
	}
	return err
}

// makeRoom applies the marks first, and reports whether there is room afterwards.
func (s *Store) makeRoom(ctx context.Context, m *marks, n int) (bool, error) {
	if m.empty() {
		return false, nil
	}
	if err := s.write(ctx, nil, m); err != nil {
		return false, err
	}
	*m = marks{}
	return s.bound.hasRoom(ctx, s, n)
}

// write runs the transaction of a Commit. If marked records are locked, it runs it again without
// them.
func (s *Store) write(ctx context.Context, adds []*webhook.Record, m *marks) error {
	w := writing{s: s, adds: adds, marks: m, tag: newTag()}
	err := w.run(ctx, false)
	if hasCode(err, codeLockNotAvailable, codeDeadlock) && !m.empty() {
		err = w.run(ctx, true)
	}
	if err != nil {
		return err
	}
	w.publish()
	if len(w.left) > 0 {
		return fmt.Errorf("%w: %d of them", ErrLocked, len(w.left))
	}
	return nil
}

// acceptable returns the records that can be stored, and sets Rejected in the others.
func (s *Store) acceptable(add []*webhook.Record) []*webhook.Record {
	adds := make([]*webhook.Record, 0, len(add))
	for _, r := range add {
		switch {
		case len(r.Data) > MaxDataBytes:
			r.Rejected = fmt.Errorf("pgstore: a record of %d bytes is larger than %d", len(r.Data), MaxDataBytes)
		case r.Part < 0 || r.Part >= s.partitions:
			r.Rejected = fmt.Errorf("pgstore: there is no partition %d", r.Part)
		case !isText(r.Name) || !isText(r.MemberID):
			r.Rejected = errors.New("pgstore: the name or the portal of a record is not printable ASCII of 128 bytes at most")
		case r.Received.Year() < 1 || r.Received.Year() > 9999:
			r.Rejected = errors.New("pgstore: a record has a time beyond the year 9999")
		default:
			adds = append(adds, r)
		}
	}
	return adds
}

// isText reports whether s is printable ASCII of the length that a Record may have.
func isText(s string) bool {
	return len(s) <= maxText && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// marks holds the marks of a Commit by kind.
type marks struct {
	done            list // its counters are not used
	parked, counted list
}

// list holds marks as arrays for a statement.
type list struct {
	parts                 []int16
	keys                  []key
	attempts, interrupted []int32
	due                   []*time.Time
	errs                  []string
}

// sortMarks sorts marks by kind. Of several marks for one record, the last one wins. It drops marks
// that cannot belong to a record of this package.
func sortMarks(all []webhook.Mark) (m marks) {
	last := make(map[string]int, len(all))
	for i := range all {
		last[all[i].ID] = i
	}
	for i := range all {
		mark := &all[i]
		k, ok := parseKey(mark.ID)
		if !ok || last[mark.ID] != i || mark.Part < 0 || mark.Part >= webhook.MaxPartitions {
			continue
		}
		switch mark.State {
		case webhook.StateDone:
			m.done.add(k, mark)
		case webhook.StateParked:
			m.parked.add(k, mark)
		case webhook.StatePending:
			m.counted.add(k, mark)
		default:
		}
	}
	return m
}

func (m *marks) empty() bool { return len(m.done.keys)+len(m.parked.keys)+len(m.counted.keys) == 0 }

func (l *list) add(k key, m *webhook.Mark) {
	l.parts = append(l.parts, int16(m.Part)) //nolint:gosec // at most webhook.MaxPartitions
	l.keys = append(l.keys, k)
	l.attempts = append(l.attempts, toInt32(m.Attempts))
	l.interrupted = append(l.interrupted, toInt32(m.Interrupted))
	l.errs = append(l.errs, errText(m.Err))
	var due *time.Time
	if y := m.Due.Year(); !m.Due.IsZero() && y >= 1 && y <= 9999 {
		due = &m.Due
	}
	l.due = append(l.due, due)
}

func toInt32(n int) int32 { return int32(min(max(n, 0), math.MaxInt32)) }

// errText makes a text acceptable to PostgreSQL. It should be so already, but one bad text would
// fail every Commit that passes its mark again.
func errText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxErr {
		s = strings.ToValidUTF8(s[:maxErr], "")
	}
	return s
}

// keyArgs returns the arguments that identify the records.
func (l *list) keyArgs() []any {
	ids, tags := columns(l.keys)
	return []any{l.parts, ids, tags}
}

// markArgs returns the arguments that identify the records, and their new counters.
func (l *list) markArgs() []any {
	return append(l.keyArgs(), l.attempts, l.interrupted, l.due, l.errs)
}

// writing is one transaction of a Commit.
type writing struct {
	s     *Store
	adds  []*webhook.Record
	marks *marks
	tag   int32

	bases   []int64 // the first IDs of the chunks of adds
	chunks  []int   // their lengths
	updated map[key]bool
	left    map[key]bool // marked records that other transactions lock
	gone    int64        // records that are not pending any more
}

// run runs the transaction. With skip it leaves out marked records that other transactions lock.
func (w *writing) run(ctx context.Context, skip bool) error {
	q, m := &w.s.q, w.marks
	w.bases, w.chunks, w.updated, w.left, w.gone = nil, nil, make(map[key]bool), make(map[key]bool), 0
	// Records come first. Large ones take long to send, and they lock nothing that others need.
	statements := w.inserts()
	form := func(f marking) string {
		if skip {
			return f.skip
		}
		return f.wait
	}
	if !m.empty() {
		statements = append(statements, statement{sql: shortLockTimeout})
	}
	var done, parked int64
	if len(m.counted.keys) > 0 {
		statements = append(statements, statement{sql: form(q.counted), args: m.counted.markArgs(), rows: each(func(rows pgx.Rows) error {
			return scanKey(rows, w.updated)
		})})
	}
	if len(m.parked.keys) > 0 {
		statements = append(statements, statement{sql: form(q.parked), args: m.parked.markArgs(), affected: &parked})
	}
	if len(m.done.keys) > 0 {
		statements = append(statements, statement{sql: form(q.done), args: m.done.keyArgs(), affected: &done})
	}
	if skip {
		for _, l := range []*list{&m.counted, &m.parked, &m.done} {
			statements = append(statements, statement{sql: q.left, args: l.keyArgs(), rows: each(func(rows pgx.Rows) error {
				return scanKey(rows, w.left)
			})})
		}
	}
	relax := len(w.adds)+len(m.parked.keys)+len(m.counted.keys) == 0
	if err := w.s.change(ctx, relax, statements...); err != nil {
		return err
	}
	for k := range w.updated {
		delete(w.left, k)
	}
	w.gone = done + parked
	return nil
}

func scanKey(rows pgx.Rows, into map[key]bool) error {
	var k key
	if err := rows.Scan(&k.id, &k.tag); err != nil {
		return err
	}
	into[k] = true
	return nil
}

// inserts returns the statements that insert the records, in chunks.
func (w *writing) inserts() (statements []statement) {
	for rest := w.adds; len(rest) > 0; {
		n, size := 0, 0
		for n < len(rest) && n < perCommit && (n == 0 || size+len(rest[n].Data) <= chunkBytes) {
			size += len(rest[n].Data)
			n++
		}
		w.chunks = append(w.chunks, n)
		statements = append(statements, w.insert(rest[:n]))
		rest = rest[n:]
	}
	return statements
}

func (w *writing) insert(adds []*webhook.Record) statement {
	n := len(adds)
	parts, names, portals := make([]int16, n), make([]string, n), make([]string, n)
	received, data := make([]time.Time, n), make([][]byte, n)
	for i, r := range adds {
		parts[i], names[i], portals[i] = int16(r.Part), r.Name, r.MemberID //nolint:gosec // at most webhook.MaxPartitions
		received[i], data[i] = r.Received, r.Data
		if data[i] == nil {
			data[i] = []byte{}
		}
	}
	return statement{
		sql: w.s.q.insert, args: []any{w.tag, parts, names, portals, received, data},
		rows: func(rows pgx.Rows) error {
			var base int64
			if err := one(&base)(rows); err != nil {
				return err
			}
			w.bases = append(w.bases, base)
			return nil
		},
	}
}

// publish sets the IDs of the records, and passes the changes to the feeds.
func (w *writing) publish() {
	fresh := make([]key, 0, len(w.adds))
	for i, n := range w.chunks {
		for place := range int64(n) {
			fresh = append(fresh, key{id: w.bases[i] + place, tag: w.tag})
		}
	}
	for i, r := range w.adds {
		r.ID, r.Rejected = fresh[i].String(), nil
	}
	w.s.bound.changed(len(w.adds), w.gone)
	w.s.stored(w.adds, fresh)
	for _, l := range []*list{&w.marks.done, &w.marks.parked} {
		for i, k := range l.keys {
			if !w.left[k] {
				w.s.settled(int(l.parts[i]), k)
			}
		}
	}
}

// milliseconds formats a duration for PostgreSQL's settings. It is 1 or more, as 0 would switch a
// limit off.
func milliseconds(d time.Duration) string {
	return strconv.FormatInt(min(max(1, d.Milliseconds()), math.MaxInt32), 10)
}
