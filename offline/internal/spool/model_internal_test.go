package spool

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	modelRuns = flag.Int("spool.runs", 1000, "schedules of the model test")
	modelSeed = flag.Int("spool.seed", 0, "the first schedule of the model test")
)

// modelRow is what is known of a row.
type modelRow struct {
	wasParked bool
	durable   bool // it must be there after a crash, unless it is acked
	acked     bool
	done      bool // the ack is on the disk: it must not come back
	parked    bool
	stays     bool // the park is on the disk
	at        Offset
	out       bool // it is handed out
}

// model is a journal with a record of what was done to it.
type model struct {
	t      *testing.T
	seed   int
	random *rand.Rand
	disk   *memDisk
	j      *Journal
	rows   map[int]*modelRow
	next   int
	log    []string
}

func (m *model) require(ok bool, what string, numbers ...int) {
	m.t.Helper()
	if !ok {
		require.Fail(m.t, what, "rows %v; see -spool.seed=%d -spool.runs=1\n%s", numbers, m.seed, strings.Join(m.log, "\n"))
	}
}

// note adds a line to the log of a single schedule.
func (m *model) note(format string, args ...any) {
	if *modelRuns == 1 {
		m.log = append(m.log, fmt.Sprintf(format, args...))
	}
}

// TestModel runs a journal on a disk that fails, is killed and loses power, at every place and in
// any combination, and compares it with what was promised.
func TestModel(t *testing.T) {
	t.Parallel()
	for seed := *modelSeed; seed < *modelSeed+*modelRuns; seed++ {
		random := rand.New(rand.NewPCG(uint64(seed), 7)) //nolint:gosec // repeatable
		m := &model{t: t, seed: seed, random: random, disk: newMemDisk(random), rows: make(map[int]*modelRow)}
		m.disk.note = m.note
		m.disk.faults = []float64{0, 0, 0.1, 0.4}[random.IntN(4)]
		for range 6 {
			m.session()
		}
		m.disk.faults = 0
		m.open()
		m.check(true)
	}
}

// modelNumber returns the number of a row, or 0.
func modelNumber(row []byte) int {
	text, _, _ := strings.Cut(strings.TrimPrefix(string(row), `{"ID":`), ",")
	n, _ := strconv.Atoi(text)
	return n
}

// session opens the journal, uses it and ends it in some way.
func (m *model) session() {
	faults := m.disk.faults
	m.disk.faults = 0
	m.open()
	m.check(false)
	m.disk.faults = faults
	if m.random.IntN(3) > 0 {
		m.disk.left = m.random.IntN(40)
	}
	for range m.random.IntN(40) {
		m.step()
		if m.disk.crashed {
			break
		}
	}
	switch m.random.IntN(3) {
	case 0:
		m.note("close")
		lost, err := m.j.Close(m.t.Context())
		m.require(err == nil || errors.Is(err, ErrDisk), "another error")
		m.require(err != nil || lost == 0, "rows are lost without an error")
		if err == nil {
			m.flushed()
		}
		m.disk.restart()
	case 1:
		m.note("kill")
		m.disk.restart()
	default:
		m.note("power")
		m.disk.losePower()
	}
}

func (m *model) open() {
	m.note("open")
	for m.random.IntN(2) == 0 { // the start crashes as well
		m.disk.left = m.random.IntN(10)
		j, err := openWith(m.t.Context(), "dir", ours, slog.New(slog.DiscardHandler), m.disk.open)
		if err != nil {
			m.require(errors.Is(err, ErrDisk), err.Error())
		} else if m.random.IntN(2) == 0 {
			_ = j.Flush(m.t.Context())
		}
		if m.random.IntN(2) == 0 {
			m.disk.losePower()
		}
		m.disk.restart()
	}
	j, err := openWith(m.t.Context(), "dir", ours, slog.New(slog.DiscardHandler), m.disk.open)
	if err != nil {
		m.require(false, err.Error())
	}
	m.j = j
	for _, r := range m.rows {
		r.at, r.out = Offset{}, false
	}
}

// check hands out all rows, and compares them with what is known.
func (m *model) check(last bool) {
	seen := make(map[int]bool)
	for _, parked := range []bool{false, true} {
		pass := m.j.ParkedPass()
		for {
			limit := 1 + m.random.IntN(4)
			get := m.j.Replay
			if parked {
				get = pass.Next
			}
			rows, err := get(m.t.Context(), limit)
			m.require(err == nil, "a row cannot be read")
			m.require(len(rows) <= limit, "too many rows")
			if len(rows) == 0 {
				break
			}
			for i := range rows {
				n := modelNumber(rows[i].Data)
				r := m.rows[n]
				m.require(r != nil, "a row that was never there", n)
				m.require(!seen[n], "a row came twice", n)
				m.require(!r.done, "a row came back although its mark was flushed", n)
				m.require(!r.stays || parked || r.acked, "a parked row is pending", n)
				m.require(r.wasParked == rows[i].WasParked, "a row forgot whether it was parked", n)
				seen[n] = true
				r.at, r.out, r.acked, r.parked = rows[i].Offset, true, false, parked
			}
		}
	}
	for n, r := range m.rows {
		switch {
		case seen[n]:
		case r.durable && !r.acked:
			m.require(false, "a row is lost", n)
		default:
			r.acked, r.durable, r.at = true, false, Offset{} // it may still come back, unless it is done
		}
	}
	if last {
		m.require(m.j.Counts().Pending+m.j.Counts().Parked == len(seen), "wrong counts")
		return
	}
	for _, n := range slices.Sorted(maps.Keys(seen)) {
		if m.random.IntN(2) == 0 {
			m.note("nack %d", n)
			m.j.Nack(m.rows[n].at)
			m.rows[n].out = false
		}
	}
}

func (m *model) step() {
	switch m.random.IntN(6) {
	case 0:
		m.append()
	case 1, 2, 3:
		m.conclude()
	case 4:
		m.note("flush")
		err := m.j.Flush(m.t.Context())
		m.require(err == nil || errors.Is(err, ErrDisk), "another error")
		since, _ := m.j.Failing()
		m.require(since.IsZero() == (err == nil), "the failure of the disk is not reported")
		if err == nil {
			m.flushed()
		}
	default:
		m.note("acquire")
		if m.j.Acquire(m.t.Context()) == nil {
			m.flushed()
			m.append()
			m.j.Release()
		}
	}
}

func (m *model) append() {
	numbers := make([]int, 1+m.random.IntN(3))
	parked := m.random.IntN(3) == 0
	for i := range numbers {
		m.next++
		numbers[i] = m.next
		m.rows[m.next] = &modelRow{wasParked: parked, out: true}
	}
	offsets, err := m.j.Append(m.t.Context(), testRows(numbers...), parked)
	m.note("append %v: %v", numbers, err)
	m.require(len(offsets) == len(numbers), "no offsets")
	for i, n := range numbers {
		m.rows[n].at, m.rows[n].durable = offsets[i], err == nil
	}
}

// conclude concludes a row that is handed out, if there is one.
func (m *model) conclude() {
	for _, n := range slices.Sorted(maps.Keys(m.rows)) {
		r := m.rows[n]
		if r.at.IsZero() || !r.out || m.random.IntN(3) == 0 {
			continue
		}
		r.out = false
		switch m.random.IntN(4) {
		case 0:
			m.note("park %d", n)
			m.j.Park(r.at)
			r.parked = true
		default:
			m.note("ack %d", n)
			m.j.Ack(r.at)
			r.acked = true
		}
		return
	}
}

// flushed takes in that all marks and rows are on the disk.
func (m *model) flushed() {
	counts := m.j.Counts()
	m.require(counts.Unsaved == 0, "rows are unsaved after a flush")
	for _, r := range m.rows {
		if r.at.IsZero() {
			continue
		}
		r.durable = !r.acked
		r.done = r.acked
		r.stays = r.parked
	}
}
