package offline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strconv"
)

// A packet is lines: a checksum, a space and a document. The first says how many rows follow, and each of the others has the position of its
// row, a space and the row as the portal sent it, in one line. So each line that is whole can be told from one that is not.

// packetHead is the first line.
type packetHead struct {
	Version int  `json:"version"`
	Rows    int  `json:"rows"`
	Parked  bool `json:"parked"` // the records were parked on the portal
}

const (
	packetVersion = 1
	maxRow        = 10_000_000 // bounds the memory that a damaged file asks for
)

// packetLines is what could be read of a packet.
type packetLines struct {
	count  int  // of rows that it should have; what was read where that is not known
	parked bool // the records were parked on the portal
	rows   []packetRow
}

type packetRow struct {
	at  int
	row json.RawMessage
}

func encodePacket(rows []json.RawMessage, parked bool) []byte {
	numbered := make([]packetRow, len(rows))
	for i, row := range rows {
		numbered[i] = packetRow{i, row}
	}
	return packetLines{count: len(rows), parked: parked, rows: numbered}.encode()
}

func (l packetLines) encode() []byte {
	head := fmt.Appendf(nil, `{"version":%d,"rows":%d`, packetVersion, l.count)
	if l.parked {
		head = append(head, `,"parked":true`...)
	}
	doc := appendLine(nil, append(head, '}'))
	for _, r := range l.rows {
		var line bytes.Buffer
		line.WriteString(strconv.Itoa(r.at) + " ")
		if json.Compact(&line, r.row) != nil { // no row of a decoded answer
			continue
		}
		doc = appendLine(doc, line.Bytes())
	}
	return doc
}

func appendLine(doc, line []byte) []byte {
	doc = append(append(doc, checksum(line)...), ' ')
	return append(append(doc, line...), '\n')
}

func checksum(text []byte) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE(text)) }

// decodePacket reads a packet, and reports whether it is whole.
func decodePacket(doc []byte) (lines packetLines, whole bool) {
	whole = true
	head := packetHead{Rows: -1}
	for len(doc) > 0 {
		line, rest, ended := bytes.Cut(doc, []byte("\n"))
		doc = rest
		text, ok := checked(line)
		if !ok || !ended {
			whole = false
			continue
		}
		if text[0] == '{' {
			ok = head.Rows < 0 && json.Unmarshal(text, &head) == nil && head.Version == packetVersion
			whole = whole && ok
			lines.parked = head.Parked
			continue
		}
		position, row, _ := bytes.Cut(text, []byte(" "))
		at, err := strconv.Atoi(string(position))
		if err != nil || at < 0 || at > maxRow {
			whole = false
			continue
		}
		lines.rows = append(lines.rows, packetRow{at, row})
		lines.count = max(lines.count, at+1)
	}
	if head.Rows != len(lines.rows) {
		whole = false
	}
	if head.Rows < 0 {
		lines.parked = true // nobody knows, and records that were parked are never ignored
	}
	return lines, whole
}

// checked returns the document of a line whose checksum is right.
func checked(line []byte) ([]byte, bool) {
	if len(line) < 10 || line[8] != ' ' {
		return nil, false
	}
	return line[9:], string(line[:8]) == checksum(line[9:])
}

// marks are lines too: a letter and the position of a row. They need no checksum: one that is cut short names no row, or leaves a record to be
// handled again.

func appendMark(doc []byte, at int, state rowState) []byte {
	letter := byte('d')
	if state == rowParked {
		letter = 'p'
	}
	doc = append(doc, letter, ' ')
	doc = strconv.AppendInt(doc, int64(at), 10)
	return append(doc, ';', '\n')
}

// applyMarks puts marks on rows, and reports whether the last one is whole. Later marks count.
func applyMarks(rows []rowState, doc []byte) bool {
	for line := range bytes.Lines(doc) {
		letter, position, _ := bytes.Cut(bytes.TrimSuffix(line, []byte(";\n")), []byte(" "))
		at, err := strconv.Atoi(string(position))
		if err != nil || at < 0 || at >= len(rows) || rows[at] == rowMissing || !bytes.HasSuffix(line, []byte(";\n")) {
			continue
		}
		switch string(letter) {
		case "d":
			rows[at] = rowDone
		case "p":
			if rows[at] == rowPending {
				rows[at] = rowParked
			}
		}
	}
	return len(doc) == 0 || doc[len(doc)-1] == '\n'
}
