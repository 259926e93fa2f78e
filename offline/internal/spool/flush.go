package spool

import (
	"context"
	"errors"
	"io/fs"
	"slices"
)

const (
	probeName = "probe"
	minProbe  = 4096 // bytes
)

// Flush writes the marks, tries again to write rows that are in memory only, and removes the
// segments whose rows are all done. When it returns nil, the marks that were made before the call
// are on the disk. After an error, the next Flush tries again. If no rows are left, the journal
// closes its files.
//
// The error is an [ErrDisk] or [ErrClosed], and an [ErrInUse] or [ErrOwner] if Append returned one
// and the folder cannot be opened yet. ctx is for the logger.
func (j *Journal) Flush(ctx context.Context) error {
	j.filesMu.Lock()
	defer j.filesMu.Unlock()
	if j.isClosed() {
		return ErrClosed
	}
	err := j.openAndFlushFilesLocked(ctx)
	j.closeIdleFilesLocked()
	return err
}

// openAndFlushFilesLocked flushes, and opens the files first if there is anything to write. The
// caller holds filesMu.
func (j *Journal) openAndFlushFilesLocked(ctx context.Context) error {
	if j.files == nil {
		j.dropUnsavedDone()
		if since, _ := j.Failing(); since.IsZero() && j.isEmpty() {
			return nil
		}
		if err := j.noteResult(j.openFilesLocked(ctx)); err != nil {
			return err
		}
	}
	return j.flushFilesLocked()
}

// dropUnsavedDone drops the segments whose rows are done and that have no files.
func (j *Journal) dropUnsavedDone() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.segments = slices.DeleteFunc(j.segments, func(s *segment) bool {
		return s.open() == 0 && s.number == 0 && s.replaces == ""
	})
}

// flushFilesLocked flushes to open files. Each step is tried even if the one before it fails. The
// caller holds filesMu.
func (j *Journal) flushFilesLocked() error {
	j.wrote = false
	var err error
	for _, step := range []func() error{
		j.removeFinishedFilesLocked, // first, because it makes room on a full disk
		j.saveUnsavedFilesLocked,
		j.writeMarksFilesLocked,
		j.syncFilesLocked,
	} {
		if failed := step(); err == nil {
			err = failed
		}
	}
	if since, _ := j.Failing(); err == nil && !since.IsZero() {
		if !j.wrote {
			err = j.probeFilesLocked()
		}
		if err == nil {
			j.noteRecovery()
		}
	}
	return j.noteResult(err)
}

func (j *Journal) removeFinishedFilesLocked() error {
	err := j.eachFilesLocked(func(s *segment) bool { return s.open() == 0 }, j.removeFilesLocked)
	j.dropRemoved()
	return err
}

func (j *Journal) saveUnsavedFilesLocked() error {
	return j.eachFilesLocked(func(s *segment) bool { return s.unsaved != nil || s.replaces != "" }, j.saveFilesLocked)
}

func (j *Journal) writeMarksFilesLocked() error {
	return j.eachFilesLocked(func(s *segment) bool { return s.unsaved == nil && len(s.marks) > 0 }, j.markFilesLocked)
}

// eachFilesLocked calls do for the segments that match, the oldest first, until it fails. match is
// called with mu. The caller holds filesMu.
func (j *Journal) eachFilesLocked(match func(*segment) bool, do func(*segment) error) error {
	var matching []*segment
	j.mu.Lock()
	for _, s := range j.segments {
		if match(s) {
			matching = append(matching, s)
		}
	}
	j.mu.Unlock()
	for _, s := range matching {
		if err := do(s); err != nil {
			return err
		}
	}
	return nil
}

// removeFilesLocked removes the files of a segment whose rows are all done. Its marks are removed
// only after the removal of the rows is on the disk, because without marks the rows would be handed
// out again. The caller holds filesMu.
func (j *Journal) removeFilesLocked(s *segment) error {
	if err := j.replaceFilesLocked(s); err != nil {
		return err
	}
	if s.number > 0 {
		name := fileName(s.number, segmentSuffix)
		remove := []string{name}
		if s.attempted {
			remove = append(remove, fileName(s.number, newSuffix))
		}
		if s.damaged {
			if err := j.files.rename(name, name+damagedSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		for _, name := range remove {
			if err := j.files.remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		j.staleMarks = append(j.staleMarks, fileName(s.number, marksSuffix))
		j.unsynced = true
	}
	s.removed = true
	return nil
}

// dropRemoved drops the segments whose files are removed.
func (j *Journal) dropRemoved() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.segments = slices.DeleteFunc(j.segments, func(s *segment) bool { return s.removed })
}

// saveFilesLocked writes the rows of a segment that are not done, unless they are on the disk
// already. The caller holds filesMu.
func (j *Journal) saveFilesLocked(s *segment) error {
	if s.unsaved == nil {
		return j.replaceFilesLocked(s)
	}
	lines := segmentLines{parked: s.wasParked, from: s.replaces}
	j.mu.Lock()
	s.marks = nil
	for i, r := range s.rows {
		if r.state == rowPending || r.state == rowParked {
			lines.rows = append(lines.rows, segmentRow{i, s.unsaved[i]})
		}
		if r.state == rowParked {
			s.marks = append(s.marks, mark{i, rowParked})
		}
	}
	j.mu.Unlock()
	if len(lines.rows) == 0 { // the last one was done just now
		return nil
	}
	if s.number == 0 {
		s.number = j.numberFilesLocked()
	}
	s.attempted = true
	name := fileName(s.number, newSuffix)
	if err := j.writeFilesLocked(name, writingNew, lines.encode()); err != nil {
		return err
	}
	if err := j.files.rename(name, fileName(s.number, segmentSuffix)); err != nil {
		return err
	}
	s.attempted = false
	j.mu.Lock()
	j.counts.Unsaved -= s.open()
	s.unsaved = nil
	j.mu.Unlock()
	return j.replaceFilesLocked(s)
}

// replaceFilesLocked puts aside the damaged file that a segment replaces. If the process ends
// before that, the segment still names the file, so that its rows are not read twice. The caller
// holds filesMu.
func (j *Journal) replaceFilesLocked(s *segment) error {
	if s.replaces == "" {
		return nil
	}
	if err := putAside(j.files, s.replaces); err != nil {
		return err
	}
	if number, suffix, _ := fileNumber(s.replaces); suffix == segmentSuffix {
		j.staleMarks = append(j.staleMarks, fileName(number, marksSuffix))
		j.unsynced = true
	}
	s.replaces = ""
	return nil
}

// putAside renames a damaged file, so that a person can look at it.
func putAside(f folder, name string) error {
	if err := f.rename(name, name+damagedSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// markFilesLocked writes the marks of a segment. The caller holds filesMu.
func (j *Journal) markFilesLocked(s *segment) error {
	j.mu.Lock()
	marks := s.marks
	s.marks = nil
	j.mu.Unlock()
	doc := encodeMarks(marks)
	if s.torn {
		doc = append([]byte(spoilLine), doc...)
	}
	if err := j.writeFilesLocked(fileName(s.number, marksSuffix), writingAppend, doc); err != nil {
		s.torn = true // a part of the line may have been written
		j.mu.Lock()
		s.marks = append(marks, s.marks...)
		j.mu.Unlock()
		return err
	}
	s.torn = false
	if !s.hasMarks {
		s.hasMarks = true
		j.unsynced = true
	}
	return nil
}

// syncFilesLocked syncs the names in the folder, if any changed. The caller holds filesMu.
func (j *Journal) syncFilesLocked() error {
	if !j.unsynced {
		return nil
	}
	if err := j.files.sync(); err != nil {
		return err
	}
	j.unsynced = false
	for _, name := range j.staleMarks {
		_ = j.files.remove(name) // what is left is removed by the next Open
	}
	j.staleMarks = nil
	return nil
}

// probeFilesLocked writes a file as large as the last one that could not be written, and removes
// it. The caller holds filesMu.
func (j *Journal) probeFilesLocked() error {
	err := j.files.write(probeName, writingNew, make([]byte, max(minProbe, j.failedSize)))
	if removed := j.files.remove(probeName); err == nil {
		err = removed
	}
	return err
}

// writeFilesLocked writes a file. The caller holds filesMu.
func (j *Journal) writeFilesLocked(name string, how writing, data []byte) error {
	if err := j.files.write(name, how, data); err != nil {
		j.failedSize = len(data)
		return err
	}
	j.wrote = true
	return nil
}
