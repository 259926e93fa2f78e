package offline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/b24events/b24events/internal/disk"
	"github.com/b24events/b24events/internal/filelock"
)

const (
	spoolPerm     = 0o600 // of files, which hold payloads
	spoolLock     = "lock"
	packetSuffix  = ".packet"
	marksSuffix   = ".marks"
	newSuffix     = ".new"     // a packet that is being written
	damagedSuffix = ".damaged" // what could not be read, for a person to look at

	// maxSpooled bounds the unfinished records in a spool. Beyond it nothing more is taken from the portal, which keeps them as well.
	maxSpooled = 100_000
)

// spool keeps on disk the records of one queue that were taken from it and are not finished. Each answer of the portal is a file, a
// packet, which is on the disk as a whole before its first record is handled; beside it a file of marks says what became of the records.
// It is for the one goroutine that has the engine.
type spool struct {
	root    *os.Root
	lock    *os.File
	log     *slog.Logger
	packets []*packet // the oldest first
	last    int64     // number of the newest packet
	open    int       // records that are not finished
	damaged int       // files that were put aside, and not counted yet
}

// states returns the places of the records in a state.
func (s *spool) states(state rowState) []*spot {
	var found []*spot
	for _, p := range s.packets {
		if p.counts[state] == 0 {
			continue
		}
		for i, r := range p.rows {
			if r == state {
				found = append(found, &spot{packet: p, row: i})
			}
		}
	}
	return found
}

// hasSpool reports whether there is a spool already.
func hasSpool(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir()
}

// openSpool opens the spool of a queue in a folder, which it makes when there is none, and recovers
// what a process left in it. The caller closes it.
func openSpool(ctx context.Context, dir string, id identity, log *slog.Logger) (*spool, error) {
	if !hasSpool(dir) {
		if err := disk.MakePrivate(dir); err != nil {
			return nil, spoolError(err)
		}
		syncAbove(dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, spoolError(err)
	}
	s := &spool{root: root, log: log}
	if err := s.begin(ctx, id); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// syncAbove puts a new folder on the disk, and the one that it is in. Where these may not be opened, the system does so in its own time.
func syncAbove(dir string) {
	for range 2 {
		dir = filepath.Dir(dir)
		if f, err := os.Open(dir); err == nil { //nolint:gosec // the user names it
			_ = f.Sync()
			_ = f.Close()
		}
	}
}

// spoolError is an error at the opening, which ends the consumer; writeError one afterwards, which may pass.
func spoolError(err error) error { return fmt.Errorf("%w: %w", ErrSpool, err) }

func writeError(err error) error { return fmt.Errorf("offline: the spool: %w", err) }

func (s *spool) begin(ctx context.Context, id identity) error {
	lock, err := s.root.OpenFile(spoolLock, os.O_RDWR|os.O_CREATE, spoolPerm)
	if err != nil {
		return spoolError(err)
	}
	ok, err := filelock.Try(lock)
	if !ok {
		_ = lock.Close()
		if err != nil {
			return spoolError(err)
		}
		return ErrSpoolInUse
	}
	s.lock = lock
	if err := s.claim(id); err != nil {
		return err
	}
	return s.recover(ctx)
}

func (s *spool) close() {
	if s.lock != nil {
		filelock.Release(s.lock)
		_ = s.lock.Close()
	}
	_ = s.root.Close()
}

// add writes the rows of a response to the disk. They are safe once it returns. parked says that
// the records were parked on the portal.
func (s *spool) add(rows []json.RawMessage, parked bool) (*packet, error) {
	number := s.last + 1
	if err := s.write(number, encodePacket(rows, parked)); err != nil {
		return nil, writeError(err)
	}
	s.last = number
	p := newPacket(number, slices.Repeat([]rowState{rowPending}, len(rows)))
	p.loaded = true
	s.packets = append(s.packets, p)
	s.open += p.open()
	return p, nil
}

// write puts a packet in its place, whole and on the disk.
func (s *spool) write(number int64, data []byte) error {
	temp := fileName(number, newSuffix)
	if err := s.put(temp, os.O_TRUNC, data); err != nil {
		return err
	}
	return s.place(number)
}

// place gives a packet that is on the disk its name.
func (s *spool) place(number int64) error {
	return disk.Rename(s.root, fileName(number, newSuffix), fileName(number, packetSuffix))
}

// put writes data to a file, with the flags os.O_TRUNC or os.O_APPEND, and to the disk.
func (s *spool) put(name string, flags int, data []byte) error {
	var f *os.File
	err := disk.Retry(func() (err error) {
		f, err = s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|flags, spoolPerm)
		return err
	})
	if err != nil {
		return err
	}
	return disk.Fill(f, data)
}

// rescue keeps an answer that could not be read. What it holds is nowhere else.
func (s *spool) rescue(ctx context.Context, doc []byte) {
	s.last++
	name := fileName(s.last, damagedSuffix)
	err := cmp.Or(s.put(name, os.O_TRUNC, doc), disk.SyncFolder(s.root))
	s.damaged++
	s.log.LogAttrs(ctx, slog.LevelError, "offline queue: an answer with records that were deleted on the portal cannot be read; "+
		"it was kept in the spool", slog.String(keyFile, name), errorAttr(nil, err))
}

// mark notes what became of a record. flush writes it.
func (s *spool) mark(at *spot, state rowState) {
	p := at.packet
	before := p.rows[at.row]
	if before == state || before == rowDone {
		return
	}
	if state == rowDone {
		s.open--
	}
	p.counts[before]--
	p.counts[state]++
	p.rows[at.row] = state
	p.marks = appendMark(p.marks, at.row, state)
}

// flush puts the marks on the disk, and removes the packets that are finished.
func (s *spool) flush() error {
	for _, p := range s.packets {
		if len(p.marks) == 0 || p.open() == 0 {
			continue
		}
		if p.broken {
			p.marks = slices.Insert(p.marks, 0, '\n')
		}
		if err := s.put(fileName(p.number, marksSuffix), os.O_APPEND, p.marks); err != nil {
			p.broken = true // part of it may have been written
			return writeError(err)
		}
		p.marks, p.broken = nil, false
	}
	var failure error
	s.packets = slices.DeleteFunc(s.packets, func(p *packet) bool {
		if p.open() > 0 || failure != nil {
			return false
		}
		failure = s.remove(p.number)
		return failure == nil
	})
	if failure != nil {
		return writeError(failure)
	}
	return nil
}

// remove removes a packet, and then its marks: without marks its records would be handled again.
func (s *spool) remove(number int64) error {
	for _, suffix := range []string{packetSuffix, marksSuffix} {
		if err := disk.Remove(s.root, fileName(number, suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// unread returns the oldest packet that has pending records which are not in memory, or nil.
func (s *spool) unread() *packet {
	for _, p := range s.packets {
		if !p.loaded && p.counts[rowPending] > 0 {
			return p
		}
	}
	return nil
}

// load reads the records of a packet that are in a state.
func (s *spool) load(p *packet, state rowState) ([]Record, error) {
	data, err := s.read(fileName(p.number, packetSuffix))
	if err != nil {
		return nil, writeError(err)
	}
	lines, _ := decodePacket(data)
	var records []Record
	for _, l := range lines.rows {
		if l.at < len(p.rows) && p.rows[l.at] == state {
			r := p.record(l.at, l.row, state == rowParked)
			r.stands = lines.parked
			records = append(records, r)
		}
	}
	sortRecords(records)
	return records, nil
}

func (s *spool) read(name string) (data []byte, err error) {
	err = disk.Retry(func() error {
		data, err = s.readOnce(name)
		return err
	})
	return data, err
}

func (s *spool) readOnce(name string) ([]byte, error) {
	info, err := s.root.Lstat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular(): // to open a pipe would wait for its writer
		return nil, fmt.Errorf("%s is not a regular file", name)
	default:
		return s.root.ReadFile(name)
	}
}
