package spool

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
)

const (
	keyFile    = "file"
	keyRecords = "records"
	keyError   = "error"
)

// Append adds rows that were taken from the portal, in the order in which they are to be handled.
// They are on the disk when it returns nil. parked says that they were parked on the portal. The
// rows count as handed out. The caller may change rows afterwards.
//
// After an [ErrDisk], [ErrInUse] or [ErrOwner] the journal holds the rows in memory, and the
// offsets are as valid as without an error. Handle the rows at once, because waiting for the disk
// makes their loss more likely. [Journal.Flush] tries again to write those that are not done.
// After an [ErrClosed] or [ErrRow] there are no offsets, and the journal has none of the rows.
func (j *Journal) Append(ctx context.Context, rows []json.RawMessage, parked bool) ([]Offset, error) {
	j.filesMu.Lock()
	defer j.filesMu.Unlock()
	if j.isClosed() {
		return nil, ErrClosed
	}
	if len(rows) == 0 {
		return nil, nil
	}
	lines, err := compact(rows)
	if err != nil {
		return nil, err
	}
	err = j.noteResult(j.openFilesLocked(ctx)) // first, because older rows may be found
	s := &segment{
		wasParked: parked,
		rows:      slices.Repeat([]row{{state: rowPending, out: true}}, len(lines)),
		unsaved:   lines,
	}
	j.mu.Lock()
	j.addMuLocked(s)
	j.mu.Unlock()
	offsets := make([]Offset, len(lines))
	for i := range offsets {
		offsets[i] = Offset{s.id, i}
	}
	if err == nil {
		err = j.noteResult(j.saveFilesLocked(s))
	}
	return offsets, err
}

// Rescue keeps a response that holds rows and cannot be read, as a damaged file. It logs the name
// of the file, or the error: an [ErrDisk], [ErrInUse], [ErrOwner] or [ErrClosed].
func (j *Journal) Rescue(ctx context.Context, response []byte) error {
	j.filesMu.Lock()
	defer j.filesMu.Unlock()
	if j.isClosed() {
		return ErrClosed
	}
	err := j.noteResult(j.openFilesLocked(ctx))
	name := fileName(j.numberFilesLocked(), damagedSuffix)
	if err == nil {
		err = j.noteResult(j.writeFilesLocked(name, writingNew, response))
	}
	if err == nil {
		err = j.noteResult(j.files.sync())
	}
	j.mu.Lock()
	j.counts.Damaged++
	j.mu.Unlock()
	if err != nil {
		j.log.LogAttrs(ctx, slog.LevelError, "offline queue: a response with records that were deleted on the portal can be neither read "+
			"nor kept in the spool; the records are lost", slog.Any(keyError, err))
	} else {
		j.log.LogAttrs(ctx, slog.LevelError, "offline queue: a response with records that were deleted on the portal cannot be read; "+
			"it is kept in the spool", slog.String(keyFile, name))
	}
	j.closeIdleFilesLocked()
	return err
}

// reportDamaged counts and logs a file that is damaged.
func (j *Journal) reportDamaged(ctx context.Context, name string, rows int) {
	j.mu.Lock()
	j.counts.Damaged++
	j.mu.Unlock()
	j.log.LogAttrs(ctx, slog.LevelError, "offline queue: a file of the spool is damaged and is put aside; the records in it that can be read "+
		"are worked on, the others are lost unless you can read them", slog.String(keyFile, name), slog.Int(keyRecords, rows))
}
