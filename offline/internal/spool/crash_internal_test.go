package spool

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// A segment that is cut off at any byte: the rows before the cut are handed out, and only those.
func TestSegmentCutAtEveryByte(t *testing.T) {
	t.Parallel()
	lines, err := compact(testRows(1, 22, 333))
	require.NoError(t, err)
	written := segmentLines{size: 3, parked: true, rows: []segmentRow{{0, lines[0]}, {1, lines[1]}, {2, lines[2]}}}
	doc := written.encode()
	ends := []int{len(segmentLines{size: 3, parked: true, rows: written.rows}.encode())}
	for at := 2; at >= 0; at-- { // where the line of each row begins
		ends = append(ends, ends[len(ends)-1]-len(appendLine(nil, append([]byte("0 "), lines[at]...))))
	}
	for _, suffix := range []string{segmentSuffix, newSuffix} {
		for cut := range len(doc) + 1 {
			disk := newMemDisk(rand.New(rand.NewPCG(1, 2))) //nolint:gosec // it decides nothing here
			closeJournal(t, openWrapped(t, "", disk.open))
			disk.names[fileName(7, suffix)] = &memFile{data: doc[:cut]}
			var want []int
			for i, n := range []int{1, 22, 333} {
				if cut >= ends[2-i] {
					want = append(want, n)
				}
			}
			for range 2 { // the second process finds what the first one made of it
				j := openWrapped(t, "", disk.open)
				rows := replay(t, j)
				require.Equal(t, want, numbers(t, rows), "cut at %d", cut)
				for _, r := range rows {
					require.True(t, r.WasParked)
				}
				closeJournal(t, j)
			}
			if len(want) == 0 {
				continue
			}
			j := openWrapped(t, "", disk.open)
			j.Ack(replay(t, j)[0].Offset)
			closeJournal(t, j)
			require.Equal(t, want[1:], append([]int{}, numbers(t, replay(t, openWrapped(t, "", disk.open)))...))
		}
	}
}

// Marks that are cut off at any byte: those of a flush before the cut count, and those of a flush
// that was cut off do not, not even when other marks follow.
func TestMarksCutAtEveryByte(t *testing.T) {
	t.Parallel()
	first, second := encodeMarks([]mark{{0, rowDone}, {1, rowParked}}), encodeMarks([]mark{{1, rowDone}, {2, rowDone}})
	doc := append(append([]byte{}, first...), second...)
	for cut := range len(doc) + 1 {
		disk := newMemDisk(rand.New(rand.NewPCG(1, 2))) //nolint:gosec // it decides nothing here
		j := openWrapped(t, "", disk.open)
		appendRows(t, j, 1, 2, 3, 4)
		closeJournal(t, j)
		disk.names[fileName(1, marksSuffix)] = &memFile{data: doc[:cut]}

		pending, parked := []int{1, 2, 3, 4}, []int(nil)
		switch {
		case cut == len(doc):
			pending = []int{4}
		case cut >= len(first):
			pending, parked = []int{3, 4}, []int{2}
		}
		j = openWrapped(t, "", disk.open)
		rows := replay(t, j)
		require.Equal(t, pending, numbers(t, rows), "cut at %d", cut)
		require.Equal(t, parked, numbers(t, parkedRows(t, j)), "cut at %d", cut)
		j.Ack(rows[len(rows)-1].Offset)
		closeJournal(t, j)

		j = openWrapped(t, "", disk.open)
		require.Equal(t, pending[:len(pending)-1], append([]int{}, numbers(t, replay(t, j))...), "cut at %d", cut)
		require.Equal(t, parked, numbers(t, parkedRows(t, j)), "cut at %d", cut)
	}
}

// A part of a segment must not come back after the rows of the whole one are done.
func TestSecondCopyIsRemovedForGood(t *testing.T) {
	t.Parallel()
	lines, err := compact(testRows(1))
	require.NoError(t, err)
	doc := segmentLines{rows: []segmentRow{{0, lines[0]}}}.encode()
	disk := newMemDisk(rand.New(rand.NewPCG(1, 2))) //nolint:gosec // it decides nothing here
	closeJournal(t, openWrapped(t, "", disk.open))
	for name, data := range map[string][]byte{fileName(1, segmentSuffix): doc, fileName(1, newSuffix): doc[:len(doc)-1]} {
		require.NoError(t, disk.write(name, writingNew, data))
	}
	require.NoError(t, disk.sync())
	found, err := readFolder(disk)
	require.NoError(t, err)
	require.Len(t, found.segments, 1)
	require.NotContains(t, disk.synced, fileName(1, newSuffix))
}
