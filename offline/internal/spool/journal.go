package spool

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	// MaxPending bounds the pending rows of a journal. While there are so many, take no more from the
	// portal, which keeps its records as safely.
	MaxPending = 100_000
	// ManyParked is how many parked rows deserve an alarm. They are never a reason to stop.
	ManyParked = 100_000
)

// Offset names a row of a journal, for as long as the journal is open. The zero value names none.
type Offset struct {
	segment int64 // ID, from 1
	row     int
}

// IsZero reports whether the offset names no row.
func (o Offset) IsZero() bool { return o.segment == 0 }

func (o Offset) String() string { return fmt.Sprintf("%d/%d", o.segment, o.row) }

// Row is a row that was handed out.
type Row struct {
	Offset    Offset
	Data      json.RawMessage // the caller's own copy
	WasParked bool            // it was parked on the portal when it was taken
}

// Counts are the rows of a journal that are not finished.
type Counts struct {
	Pending int // not done and not parked
	Ready   int // of Pending: not handed out, so that Replay returns them
	Parked  int
	Unsaved int // of Pending and Parked: in memory only, because the disk failed
	Damaged int // files that were put aside, or will be, since Open
}

// Journal holds the records of one queue on disk. See the package comment for its guarantees.
type Journal struct {
	dir  string
	id   Identity
	log  *slog.Logger
	open opener

	// filesMu guards what follows. It is held while files are used, and is locked before mu.
	filesMu    sync.Mutex
	files      folder   // nil while the journal is idle
	users      int      // calls of Acquire without their Release
	claimed    bool     // the name of the identity is on the disk
	last       int64    // the highest number of a file that was used
	unsynced   bool     // names changed since the folder was synced
	staleMarks []string // marks to remove once the folder is synced

	wrote      bool // the flush that is under way wrote something
	failedSize int  // bytes that could not be written last

	// mu guards what follows. No file is used under it.
	mu           sync.Mutex
	segments     []*segment // by ID, which is by age
	lastID       int64
	counts       Counts
	failingSince time.Time // when the disk began to fail; zero while it works
	failure      error     // the latest failure
	closed       bool
}

// Exists reports whether there is a folder for a journal already.
func Exists(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir()
}

// Open opens the journal of a queue in a folder, which it makes if there is none, and finds what a
// process left in it: those rows are ready for [Journal.Replay]. The caller closes the journal.
//
// The error is an [ErrDisk], [ErrOwner] or [ErrInUse]. ctx is for the logger, which gets a line for
// each file that is damaged.
func Open(ctx context.Context, dir string, id Identity, log *slog.Logger) (*Journal, error) {
	return openWith(ctx, dir, id, log, openFolder)
}

func openWith(ctx context.Context, dir string, id Identity, log *slog.Logger, open opener) (*Journal, error) {
	j := &Journal{dir: dir, id: id, log: log, open: open}
	j.filesMu.Lock()
	defer j.filesMu.Unlock()
	if err := j.openFilesLocked(ctx); err != nil {
		return nil, err
	}
	// If rows of a damaged file cannot be written, the next flush tries again, and Failing says so.
	_ = j.flushFilesLocked()
	j.closeIdleFilesLocked()
	return j, nil
}

// openFilesLocked opens the files of an idle journal and takes the lock of the folder. The caller
// holds filesMu.
func (j *Journal) openFilesLocked(ctx context.Context) error {
	if j.files != nil {
		return nil
	}
	f, err := j.open(j.dir)
	if err != nil {
		return diskError(j.dir, err)
	}
	if err := j.recoverFilesLocked(ctx, f); err != nil {
		f.close()
		return err
	}
	j.files = f
	return nil
}

// recoverFilesLocked reads a folder that was just opened. The caller holds filesMu.
func (j *Journal) recoverFilesLocked(ctx context.Context, f folder) error {
	ok, err := f.lock()
	switch {
	case err != nil:
		return diskError(j.dir, err)
	case !ok:
		return fmt.Errorf("%w: folder %q", ErrInUse, filepath.Base(j.dir))
	}
	if err := claim(f, j.dir, j.id); err != nil {
		return err
	}
	if !j.claimed { // a process that wrote the identity may have died before its name was synced
		if err := f.sync(); err != nil {
			return diskError(j.dir, err)
		}
		j.claimed = true
	}
	found, err := readFolder(f)
	if err != nil {
		return diskError(j.dir, err)
	}
	j.last = max(j.last, found.last)
	j.staleMarks = found.staleMarks
	if len(found.segments) > 0 || len(found.staleMarks) > 0 { // their names may not be on the disk
		j.unsynced = true
	}
	for _, s := range found.segments {
		if s.replaces != "" {
			j.reportDamaged(ctx, s.replaces+damagedSuffix, len(s.rows))
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range found.segments {
		j.addMuLocked(s)
	}
	return nil
}

// closeIdleFilesLocked closes the files of a journal without rows and users. The caller holds
// filesMu.
func (j *Journal) closeIdleFilesLocked() {
	if j.files == nil || j.users > 0 || !j.isEmpty() {
		return
	}
	j.files.close()
	j.files = nil
}

func (j *Journal) isEmpty() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.segments) == 0
}

// Acquire makes sure that rows can be appended: it locks the folder, and checks that a disk that
// failed can be written again. It keeps the folder until [Journal.Release], which must follow each
// Acquire that returned nil.
//
// Call it before a request that takes rows from the portal, and do not send the request after an
// error: an [ErrDisk], [ErrOwner], [ErrInUse] or [ErrClosed]. If the journal was idle, another
// process may have left rows in the folder. They are ready for [Journal.Replay] then.
func (j *Journal) Acquire(ctx context.Context) error {
	j.filesMu.Lock()
	defer j.filesMu.Unlock()
	if j.isClosed() {
		return ErrClosed
	}
	err := j.noteResult(j.openFilesLocked(ctx))
	if err == nil {
		err = j.flushFilesLocked()
	}
	if err != nil {
		j.closeIdleFilesLocked()
		return err
	}
	j.users++
	return nil
}

// Release ends what [Journal.Acquire] began.
func (j *Journal) Release() {
	j.filesMu.Lock()
	defer j.filesMu.Unlock()
	if j.users > 0 {
		j.users--
	}
	j.closeIdleFilesLocked()
}

// Ack marks a row as done. [Journal.Flush] writes the mark. Later marks of the row are ignored.
func (j *Journal) Ack(at Offset) { j.endHandout(at, rowDone) }

// Park marks a row as parked. It is handed out by passes only; see [Journal.ParkedPass].
func (j *Journal) Park(at Offset) { j.endHandout(at, rowParked) }

// Nack returns a row that was handed out and was not finished. A pending row is ready for
// [Journal.Replay] again, a parked row for the next pass.
func (j *Journal) Nack(at Offset) { j.endHandout(at, rowMissing) }

// endHandout marks a row that was handed out. With rowMissing the row keeps its state.
func (j *Journal) endHandout(at Offset, to rowState) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.findMuLocked(at.segment)
	if s == nil || at.row < 0 || at.row >= len(s.rows) {
		return
	}
	from := s.rows[at.row].state
	if from != rowPending && from != rowParked {
		return
	}
	if to == rowMissing {
		to = from
	}
	j.setMuLocked(s, at.row, row{state: to})
	if to != from {
		s.marks = append(s.marks, mark{at.row, to})
	}
}

// Counts returns the numbers of rows.
func (j *Journal) Counts() Counts {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.counts
}

// Failing returns since when the disk cannot be written, and its latest error, an [ErrDisk]. The
// time is zero while the disk works. A flush that succeeds ends a failure. It tries to write even
// if it has nothing to write.
func (j *Journal) Failing() (since time.Time, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failingSince, j.failure
}

// Close flushes and closes the journal. It returns how many rows are lost because they could not be
// written, and the error of the flush. If none is lost, an error means that rows that are done will
// be handed out again. Marks that come later are ignored.
func (j *Journal) Close(ctx context.Context) (lost int, err error) {
	j.filesMu.Lock()
	defer j.filesMu.Unlock()
	if j.isClosed() {
		return 0, nil
	}
	err = j.openAndFlushFilesLocked(ctx)
	if j.files != nil {
		j.files.close()
		j.files = nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	for _, s := range j.segments {
		if s.unsaved != nil && s.replaces == "" { // what comes from a damaged file is still in it
			lost += s.open()
		}
	}
	j.segments = nil
	j.counts = Counts{Damaged: j.counts.Damaged}
	return lost, err
}

func (j *Journal) isClosed() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.closed
}

// numberFilesLocked returns the number for a new file. The caller holds filesMu.
func (j *Journal) numberFilesLocked() int64 {
	j.last++
	return j.last
}

// addMuLocked adds a segment, the newest. The caller holds mu.
func (j *Journal) addMuLocked(s *segment) {
	j.lastID++
	s.id = j.lastID
	j.segments = append(j.segments, s)
	for _, r := range s.rows {
		j.countMuLocked(s, r, 1)
	}
	if s.unsaved != nil {
		j.counts.Unsaved += s.open()
	}
}

// setMuLocked sets the state of a row and counts it. The caller holds mu.
func (j *Journal) setMuLocked(s *segment, at int, to row) {
	from := s.rows[at]
	s.rows[at] = to
	j.countMuLocked(s, from, -1)
	j.countMuLocked(s, to, 1)
	if s.unsaved != nil && to.state == rowDone && from.state != rowMissing {
		s.unsaved[at] = nil
		j.counts.Unsaved--
	}
}

func (j *Journal) countMuLocked(s *segment, r row, n int) {
	switch r.state {
	case rowPending:
		s.pending += n
		j.counts.Pending += n
		if !r.out {
			s.ready += n
			j.counts.Ready += n
		}
	case rowParked:
		s.parked += n
		j.counts.Parked += n
	case rowMissing, rowDone:
	}
}

// findMuLocked returns the segment with an ID, or nil. The caller holds mu.
func (j *Journal) findMuLocked(id int64) *segment {
	i, ok := slices.BinarySearchFunc(j.segments, id, func(s *segment, id int64) int { return cmp.Compare(s.id, id) })
	if !ok {
		return nil
	}
	return j.segments[i]
}

// noteResult notes the result of a use of the disk. It returns an error of the system as an
// ErrDisk.
func (j *Journal) noteResult(err error) error {
	if kind := Error(""); err != nil && !errors.As(err, &kind) {
		err = diskError(j.dir, err)
	}
	if !errors.Is(err, ErrDisk) {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failingSince.IsZero() {
		j.failingSince = time.Now()
	}
	j.failure = err
	return err
}

// noteRecovery notes that the disk works again.
func (j *Journal) noteRecovery() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failingSince, j.failure = time.Time{}, nil
}
