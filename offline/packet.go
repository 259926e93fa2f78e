package offline

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// rowState is what became of a record in a spool.
type rowState byte

const (
	rowMissing rowState = iota // it could not be read
	rowPending
	rowParked
	rowDone
)

// packet is a file of records.
type packet struct {
	number int64
	rows   []rowState
	counts [rowDone + 1]int // rows by state
	loaded bool             // its pending records are in memory
	marks  []byte           // not written yet
	broken bool             // its marks may end in the middle of a line
}

// spot is the place of a record in a spool.
type spot struct {
	packet *packet
	row    int
}

func newPacket(number int64, rows []rowState) *packet {
	p := &packet{number: number, rows: rows}
	for _, s := range rows {
		p.counts[s]++
	}
	return p
}

// open returns how many records are not finished.
func (p *packet) open() int { return p.counts[rowPending] + p.counts[rowParked] }

// record makes a record of a row.
func (p *packet) record(at int, row json.RawMessage, parked bool) Record {
	r := newRecord(row, "", parked)
	r.Parked = parked // whatever the portal once said of it
	r.spot = &spot{packet: p, row: at}
	return r
}

func fileName(number int64, suffix string) string { return fmt.Sprintf("%016d%s", number, suffix) }

// fileNumber returns the number and the suffix in a file's name; false for a file that is not the spool's.
func fileNumber(name string) (number int64, suffix string, ok bool) {
	digits, suffix, _ := strings.Cut(name, ".")
	number, err := strconv.ParseInt(digits, 10, 64)
	return number, "." + suffix, err == nil && number >= 0 && fileName(number, "."+suffix) == name
}
