package spool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// Files are lines: a checksum, a space and a text. So a reader recognizes each line that is whole.
//
// The first line of a segment is its head. Each of the others has the index of a row within the
// segment, a space and the row, in one line.
//
// A line of marks is what one flush wrote: a letter and a row for each mark, separated by spaces,
// for example "d0 d2 p1". A torn line marks nothing, so its rows are handed out again. The next
// flush ends it with spoilLine, because a line that lacks only its end would mark rows from then
// on.

const (
	segmentSuffix = ".segment"
	marksSuffix   = ".marks"
	newSuffix     = ".new"     // a segment that is being written
	damagedSuffix = ".damaged" // what could not be read, for a person to look at
)

func fileName(number int64, suffix string) string { return fmt.Sprintf("%016d%s", number, suffix) }

// fileNumber returns the number and the suffix in the name of a file; false for a file that is not
// the journal's.
func fileNumber(name string) (number int64, suffix string, ok bool) {
	digits, suffix, _ := strings.Cut(name, ".")
	number, err := strconv.ParseInt(digits, 10, 64)
	return number, "." + suffix, err == nil && number >= 0 && fileName(number, "."+suffix) == name
}

// segmentHead is the first line of a segment.
type segmentHead struct {
	Version int    `json:"version"`
	Rows    int    `json:"rows"`             // lines that follow
	Parked  bool   `json:"parked,omitempty"` // the rows were parked on the portal
	From    string `json:"from,omitempty"`   // the damaged file whose rows these are
}

const (
	segmentVersion = 1
	maxRow         = 10_000_000 // bounds the memory that a damaged file asks for
)

// segmentLines is the content of a segment, as far as it can be read.
type segmentLines struct {
	size   int    // one more than the highest index of a row
	parked bool   // the rows were parked on the portal
	from   string // the damaged file whose rows these are
	rows   []segmentRow
}

type segmentRow struct {
	at  int
	row json.RawMessage // in one line
}

// compact returns rows in one line each, as copies.
func compact(rows []json.RawMessage) ([]json.RawMessage, error) {
	lines := make([]json.RawMessage, len(rows))
	for i, row := range rows {
		var line bytes.Buffer
		if err := json.Compact(&line, row); err != nil {
			return nil, fmt.Errorf("%w: row %d of %d is not JSON", ErrRow, i+1, len(rows))
		}
		lines[i] = line.Bytes()
	}
	return lines, nil
}

func (l segmentLines) encode() []byte {
	head, _ := json.Marshal(segmentHead{ //nolint:errchkjson // no field can fail
		Version: segmentVersion, Rows: len(l.rows), Parked: l.parked, From: l.from,
	})
	doc := appendLine(nil, head)
	for _, r := range l.rows {
		doc = appendLine(doc, append(append(strconv.AppendInt(nil, int64(r.at), 10), ' '), r.row...))
	}
	return doc
}

func appendLine(doc, line []byte) []byte {
	doc = append(append(doc, checksum(line)...), ' ')
	return append(append(doc, line...), '\n')
}

func checksum(text []byte) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE(text)) }

// checkedLine returns the text of the first line of a document. ok is false if the line is not
// whole.
func checkedLine(doc []byte) (text, rest []byte, ok bool) {
	line, rest, ended := bytes.Cut(doc, []byte("\n"))
	if !ended || len(line) < 10 || line[8] != ' ' || string(line[:8]) != checksum(line[9:]) {
		return nil, rest, false
	}
	return line[9:], rest, true
}

// decodeSegment reads a segment, and reports whether it is whole.
func decodeSegment(doc []byte) (lines segmentLines, whole bool) {
	whole = true
	head := segmentHead{Rows: -1}
	seen := make(map[int]bool)
	for len(doc) > 0 {
		text, rest, ok := checkedLine(doc)
		doc = rest
		switch {
		case !ok:
			whole = false
		case text[0] == '{':
			ok = head.Rows < 0 && json.Unmarshal(text, &head) == nil && head.Version == segmentVersion
			whole = whole && ok
		default:
			number, row, _ := bytes.Cut(text, []byte(" "))
			at, err := strconv.Atoi(string(number))
			if err != nil || at < 0 || at > maxRow || seen[at] {
				whole = false
				continue
			}
			seen[at] = true
			lines.rows = append(lines.rows, segmentRow{at, row})
			lines.size = max(lines.size, at+1)
		}
	}
	lines.parked, lines.from = head.Parked, head.From
	if head.Rows < 0 {
		lines.parked = true // unknown; rows that were parked must not count as others
	}
	return lines, whole && head.Rows == len(lines.rows)
}

// mark says that a row is done or parked.
type mark struct {
	at int
	to rowState // rowParked or rowDone
}

const (
	spoilLine  = "!\n"
	markDone   = 'd'
	markParked = 'p'
)

// encodeMarks returns a line of marks.
func encodeMarks(marks []mark) []byte {
	var line []byte
	for i, m := range marks {
		if i > 0 {
			line = append(line, ' ')
		}
		letter := byte(markDone)
		if m.to == rowParked {
			letter = markParked
		}
		line = strconv.AppendInt(append(line, letter), int64(m.at), 10)
	}
	return appendLine(nil, line)
}

// decodeMarks reads lines of marks, and reports whether the last line has its end.
func decodeMarks(doc []byte) (marks []mark, ended bool) {
	ended = len(doc) == 0 || doc[len(doc)-1] == '\n'
	for len(doc) > 0 {
		text, rest, ok := checkedLine(doc)
		doc = rest
		if !ok {
			continue
		}
		for word := range strings.FieldsSeq(string(text)) {
			at, err := strconv.Atoi(word[1:])
			switch {
			case err != nil || at < 0:
			case word[0] == markDone:
				marks = append(marks, mark{at, rowDone})
			case word[0] == markParked:
				marks = append(marks, mark{at, rowParked})
			}
		}
	}
	return marks, ended
}
