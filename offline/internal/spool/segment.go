package spool

import "encoding/json"

// rowState is what became of a row.
type rowState byte

const (
	rowMissing rowState = iota // there is none, or it cannot be read
	rowPending
	rowParked
	rowDone
)

// row is a row in a segment.
type row struct {
	state rowState
	out   bool // it was handed out, and is not concluded
}

// segment is a file of rows, or rows that are to become one. Journal.mu guards it, except for the
// fields that say otherwise.
type segment struct {
	id        int64 // constant once the segment is in a journal
	wasParked bool  // constant: the rows were parked on the portal

	rows    []row
	pending int // rows by state
	parked  int
	ready   int    // pending rows that may be handed out
	marks   []mark // not written yet

	// unsaved holds the rows while they are in no file; nil once they are. A row that is done is nil.
	unsaved []json.RawMessage

	// Journal.filesMu guards these.
	number    int64  // of the files; 0 if there was never one
	replaces  string // the damaged file that the segment replaces once it is written
	attempted bool   // writing it failed, so there may be a part of the file
	damaged   bool   // the file has lines that cannot be read
	torn      bool   // the marks may end in the middle of a line
	hasMarks  bool   // there is a file of marks
	removed   bool   // the files are gone
}

// open returns how many rows are not finished.
func (s *segment) open() int { return s.pending + s.parked }
