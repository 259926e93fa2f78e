package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// ours is the identity of the journals in these tests.
var ours = Identity{ClientID: "app.1", MemberID: "m"}

func testRow(n int) json.RawMessage {
	return fmt.Appendf(nil, `{"ID": %d, "EVENT_NAME":"ONCRMDEALUPDATE",`+"\n"+`"EVENT_DATA":{"FIELDS":{"ID":%d}}}`, n, n)
}

func testRows(numbers ...int) []json.RawMessage {
	rows := make([]json.RawMessage, len(numbers))
	for i, n := range numbers {
		rows[i] = testRow(n)
	}
	return rows
}

// numbers returns the numbers of rows.
func numbers(t *testing.T, rows []Row) []int {
	t.Helper()
	var list []int
	for _, r := range rows {
		var doc struct {
			ID int `json:"ID"`
		}
		require.NoError(t, json.Unmarshal(r.Data, &doc))
		compacted, err := compact(testRows(doc.ID))
		require.NoError(t, err)
		require.Equal(t, string(compacted[0]), string(r.Data))
		list = append(list, doc.ID)
	}
	return list
}

func openJournal(t *testing.T, dir string) *Journal {
	t.Helper()
	return openWrapped(t, dir, openFolder)
}

// openWrapped opens a journal through an opener, and closes it after the test.
func openWrapped(t *testing.T, dir string, open opener) *Journal {
	t.Helper()
	j, err := openWith(t.Context(), dir, ours, slog.New(slog.DiscardHandler), open)
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = j.Close(t.Context()) })
	return j
}

func appendRows(t *testing.T, j *Journal, numbers ...int) []Offset {
	t.Helper()
	offsets, err := j.Append(t.Context(), testRows(numbers...), false)
	require.NoError(t, err)
	require.Len(t, offsets, len(numbers))
	return offsets
}

func flush(t *testing.T, j *Journal) {
	t.Helper()
	require.NoError(t, j.Flush(t.Context()))
}

func closeJournal(t *testing.T, j *Journal) {
	t.Helper()
	lost, err := j.Close(t.Context())
	require.NoError(t, err)
	require.Zero(t, lost)
}

// replay hands out all pending rows.
func replay(t *testing.T, j *Journal) []Row {
	t.Helper()
	rows, err := j.Replay(t.Context(), MaxPending)
	require.NoError(t, err)
	require.Zero(t, j.Counts().Ready)
	return rows
}

// parkedRows hands out all parked rows.
func parkedRows(t *testing.T, j *Journal) []Row {
	t.Helper()
	rows, err := j.ParkedPass().Next(t.Context(), MaxPending)
	require.NoError(t, err)
	return rows
}

func offsets(rows []Row) []Offset {
	list := make([]Offset, len(rows))
	for i, r := range rows {
		list[i] = r.Offset
	}
	return list
}

// fileNames returns the names in a folder, but for the lock and the identity.
func fileNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, entry := range entries {
		if name := entry.Name(); name != lockName && name != identityName {
			names = append(names, name)
		}
	}
	return names
}

// leftFolder returns a folder of two segments, with rows 1 to 4, of which 1 is done and 2 is
// parked.
func leftFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	j := openJournal(t, dir)
	rows := appendRows(t, j, 1, 2, 3)
	appendRows(t, j, 4)
	j.Ack(rows[0])
	flush(t, j)
	j.Park(rows[1])
	closeJournal(t, j)
	return dir
}

func TestJournalRemembers(t *testing.T) {
	t.Parallel()
	dir := leftFolder(t)
	j := openJournal(t, dir)
	require.Equal(t, Counts{Pending: 2, Ready: 2, Parked: 1}, j.Counts())
	pending, parked := replay(t, j), parkedRows(t, j)
	require.Equal(t, []int{3, 4}, numbers(t, pending))
	require.Equal(t, []int{2}, numbers(t, parked))
	require.Equal(t, Counts{Pending: 2, Parked: 1}, j.Counts())
	require.Empty(t, replay(t, j), "they are handed out")
	require.Empty(t, parkedRows(t, j))
	for _, at := range append(offsets(pending), offsets(parked)...) {
		j.Ack(at)
		j.Park(at) // too late
		j.Nack(at)
	}
	flush(t, j)
	require.Zero(t, j.Counts())
	require.Empty(t, fileNames(t, dir))
	require.Nil(t, j.files)
}

func TestOffsetsThatNameNoRow(t *testing.T) {
	t.Parallel()
	j := openJournal(t, t.TempDir())
	at := appendRows(t, j, 1)[0]
	require.True(t, Offset{}.IsZero())
	require.False(t, at.IsZero())
	require.Equal(t, "1/0", at.String())
	for _, wrong := range []Offset{{}, {segment: 9}, {segment: at.segment, row: 1}, {segment: at.segment, row: -1}} {
		j.Ack(wrong)
		j.Park(wrong)
		j.Nack(wrong)
	}
	require.Equal(t, Counts{Pending: 1}, j.Counts())
}

func TestAppendOfWhatIsNoRow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir)
	offsets, err := j.Append(t.Context(), []json.RawMessage{testRow(1), json.RawMessage(`{`)}, false)
	require.ErrorIs(t, err, ErrRow)
	require.Nil(t, offsets)
	offsets, err = j.Append(t.Context(), nil, false)
	require.NoError(t, err)
	require.Nil(t, offsets)
	require.Zero(t, j.Counts())
	require.Empty(t, fileNames(t, dir))
}

func TestNackedRowsComeAgain(t *testing.T) {
	t.Parallel()
	j := openJournal(t, t.TempDir())
	rows := appendRows(t, j, 1, 2, 3)
	j.Park(rows[2])
	j.Nack(rows[1])
	require.Equal(t, Counts{Pending: 2, Ready: 1, Parked: 1}, j.Counts())
	require.Equal(t, []int{2}, numbers(t, replay(t, j)))
	pass := j.ParkedPass()
	for range 2 {
		require.Equal(t, []int{3}, numbers(t, parkedRows(t, j)))
		j.Nack(rows[2])
	}
	got, err := pass.Next(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, []int{3}, numbers(t, got))
}

// The flag is in the file, so that it survives a crash.
func TestRowsRememberThatTheyWereParked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir)
	rows, err := j.Append(t.Context(), testRows(1, 2), true)
	require.NoError(t, err)
	appendRows(t, j, 3)
	j.Nack(rows[0])
	j.Park(rows[1])
	require.True(t, replay(t, j)[0].WasParked)
	closeJournal(t, j)

	j = openJournal(t, dir)
	pending := replay(t, j)
	require.Equal(t, []int{1, 3}, numbers(t, pending))
	require.True(t, pending[0].WasParked)
	require.False(t, pending[1].WasParked)
	require.True(t, parkedRows(t, j)[0].WasParked)
}

func TestReplayIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir)
	for i := range 5 {
		appendRows(t, j, 10*i, 10*i+1, 10*i+2)
	}
	closeJournal(t, j)
	j = openJournal(t, dir)
	var got []int
	for j.Counts().Ready > 0 {
		rows, err := j.Replay(t.Context(), 4)
		require.NoError(t, err)
		require.LessOrEqual(t, len(rows), 4)
		got = append(got, numbers(t, rows)...)
	}
	require.Equal(t, []int{0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42}, got)
}

func TestPassVisitsEachParkedRowOnce(t *testing.T) {
	t.Parallel()
	j := openJournal(t, t.TempDir())
	for i := range 4 {
		for _, at := range appendRows(t, j, 10*i, 10*i+1, 10*i+2) {
			if at.row != 1 {
				j.Park(at)
			}
		}
	}
	pass := j.ParkedPass()
	j.Park(appendRows(t, j, 99)[0])
	var got []int
	for {
		rows, err := pass.Next(t.Context(), 3)
		require.NoError(t, err)
		if len(rows) == 0 {
			break
		}
		got = append(got, numbers(t, rows)...)
		for _, r := range rows {
			j.Park(r.Offset) // it failed again
		}
	}
	require.Equal(t, []int{0, 2, 10, 12, 20, 22, 30, 32}, got, "without what was appended since")
	require.Len(t, parkedRows(t, j), 9)
}

func TestJournalOfAProcessThatDied(t *testing.T) {
	t.Parallel()
	const segment, marks = "0000000000000001.segment", "0000000000000001.marks"
	lines, err := compact(testRows(7, 8))
	require.NoError(t, err)
	whole := segmentLines{rows: []segmentRow{{0, lines[0]}, {1, lines[1]}}}.encode()
	type folderOf struct {
		t   *testing.T
		dir string
	}
	put := func(f folderOf, name string, doc []byte) {
		require.NoError(f.t, os.WriteFile(filepath.Join(f.dir, name), doc, filePerm))
	}
	get := func(f folderOf, name string) []byte {
		doc, err := os.ReadFile(filepath.Join(f.dir, name)) //nolint:gosec // a path of the test
		require.NoError(f.t, err)
		return doc
	}
	remove := func(f folderOf, name string) {
		require.NoError(f.t, os.Remove(filepath.Join(f.dir, name)))
	}
	tests := []struct {
		name            string
		spoil           func(f folderOf)
		pending, parked []int
		damaged         []string
		saidBefore      bool // that there is a damaged file
	}{
		{name: "nothing", spoil: func(folderOf) {}, pending: []int{3, 4}, parked: []int{2}},
		{
			name: "a segment whole but for its name", pending: []int{3, 4, 7, 8}, parked: []int{2},
			spoil: func(f folderOf) { put(f, "0000000000000003.new", whole) },
		},
		{
			name: "a segment just begun", pending: []int{3, 4}, parked: []int{2},
			spoil: func(f folderOf) { put(f, "0000000000000003.new", nil) },
		},
		{
			name: "half a segment", pending: []int{3, 4, 7}, parked: []int{2}, damaged: []string{"0000000000000003.new.damaged"},
			spoil: func(f folderOf) { put(f, "0000000000000003.new", whole[:len(whole)-20]) },
		},
		{
			name: "half of a segment that is there", pending: []int{3, 4}, parked: []int{2},
			spoil: func(f folderOf) { put(f, "0000000000000001.new", whole[:len(whole)-20]) },
		},
		{
			name: "noise in a segment", pending: []int{3, 4}, parked: []int{2}, damaged: []string{"0000000000000009.segment.damaged"},
			spoil: func(f folderOf) { put(f, "0000000000000009.segment", []byte("\x00\xff\n\n8a8a8a8a {}\n")) },
		},
		{
			name: "a flipped bit", pending: []int{4}, parked: []int{2}, damaged: []string{segment + ".damaged"},
			spoil: func(f folderOf) {
				doc := get(f, segment)
				doc[len(doc)-5]++ // in row 3
				put(f, segment, doc)
			},
		},
		{
			name: "a head that is gone", pending: []int{3, 4}, parked: []int{2}, damaged: []string{segment + ".damaged"},
			spoil: func(f folderOf) {
				_, rest, _ := checkedLine(get(f, segment))
				put(f, segment, rest)
			},
		},
		{
			name: "a row that is there twice", pending: []int{3, 4}, parked: []int{2}, damaged: []string{segment + ".damaged"},
			spoil: func(f folderOf) { put(f, segment, appendLine(get(f, segment), []byte("2 {}"))) },
		},
		{
			name: "a damaged file whose rows were saved", saidBefore: true, pending: []int{3, 4, 7}, parked: []int{2}, damaged: []string{"0000000000000003.new.damaged"},
			spoil: func(f folderOf) {
				put(f, "0000000000000003.new", whole[:len(whole)-20])
				saved := segmentLines{rows: []segmentRow{{0, lines[0]}}, from: "0000000000000003.new"}
				put(f, "0000000000000004.segment", saved.encode())
			},
		},
		{
			name: "a damaged file that came back whole", saidBefore: true, pending: []int{3, 4, 7}, parked: []int{2},
			damaged: []string{"0000000000000003.new.damaged"},
			spoil: func(f folderOf) {
				put(f, "0000000000000003.new", whole)
				saved := segmentLines{rows: []segmentRow{{0, lines[0]}}, from: "0000000000000003.new"}
				put(f, "0000000000000004.segment", saved.encode())
			},
		},
		{
			name: "a row parked after it was done", pending: []int{4}, parked: []int{2},
			spoil: func(f folderOf) { put(f, marks, appendLine(get(f, marks), []byte("d2 p2"))) },
		},
		{
			name: "torn marks", pending: []int{2, 3, 4},
			spoil: func(f folderOf) {
				doc := get(f, marks)
				put(f, marks, doc[:len(doc)-1])
			},
		},
		{name: "no marks", pending: []int{1, 2, 3, 4}, spoil: func(f folderOf) { remove(f, marks) }},
		{
			name: "marks of rows that are not there", pending: []int{3, 4}, parked: []int{2},
			spoil: func(f folderOf) {
				doc := appendLine(get(f, marks), []byte("d99 d-1 x2 d p99"))
				put(f, marks, append(doc, "d2\n"...))
			},
		},
		{name: "marks without a segment", pending: []int{4}, spoil: func(f folderOf) { remove(f, segment) }},
		{
			name: "files of others", pending: []int{3, 4}, parked: []int{2},
			spoil: func(f folderOf) {
				for _, name := range []string{"README", "1.segment", "-000000000000001.segment", "x.new"} {
					put(f, name, []byte("mine"))
				}
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := leftFolder(t)
			tt.spoil(folderOf{t, dir})
			j := openJournal(t, dir)
			pending := replay(t, j)
			require.Equal(t, tt.pending, numbers(t, pending))
			require.Equal(t, tt.parked, numbers(t, parkedRows(t, j)))
			require.Equal(t, len(tt.damaged) > 0 && !tt.saidBefore, j.Counts().Damaged > 0)
			aside, err := filepath.Glob(filepath.Join(dir, "*"+damagedSuffix))
			require.NoError(t, err)
			for i := range aside {
				aside[i] = filepath.Base(aside[i])
			}
			require.ElementsMatch(t, tt.damaged, aside)
			j.Ack(pending[0].Offset)
			closeJournal(t, j)

			j = openJournal(t, dir)
			require.Equal(t, tt.pending[1:], append([]int{}, numbers(t, replay(t, j))...), "it is whole now, and goes on from there")
			require.Equal(t, tt.parked, numbers(t, parkedRows(t, j)))
			require.Zero(t, j.Counts().Damaged, "said once")
		})
	}
}

// What was written whole holds records that exist nowhere else: if it were written once more, over
// itself, a failure would lose them.
func TestWholeSegmentIsNotWrittenAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeJournal(t, openJournal(t, dir))
	lines, err := compact(testRows(7))
	require.NoError(t, err)
	written := filepath.Join(dir, "0000000000000003.new")
	require.NoError(t, os.WriteFile(written, segmentLines{rows: []segmentRow{{0, lines[0]}}}.encode(), filePerm))
	long := time.Unix(1_000_000_000, 0)
	require.NoError(t, os.Chtimes(written, long, long))
	require.Equal(t, []int{7}, numbers(t, replay(t, openJournal(t, dir))))
	info, err := os.Stat(filepath.Join(dir, "0000000000000003.segment"))
	require.NoError(t, err)
	require.True(t, long.Equal(info.ModTime()), "it was renamed")
	require.NoFileExists(t, written)
}

func TestFolderThatCannotBeRead(t *testing.T) {
	t.Parallel()
	dir := leftFolder(t)
	obstacle := filepath.Join(dir, "0000000000000005.segment")
	require.NoError(t, os.Mkdir(obstacle, 0o700))
	_, err := Open(t.Context(), dir, ours, slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, ErrDisk)
	require.ErrorContains(t, err, "0000000000000005.segment is not a regular file")
	require.NoError(t, os.Remove(obstacle))
	openJournal(t, dir) // the lock was given back
}

func TestFolderThatIsAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.False(t, Exists(file))
	_, err := Open(t.Context(), file, ours, slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, ErrDisk)
	require.ErrorAs(t, err, new(*fs.PathError))
	require.ErrorContains(t, err, `folder "file"`)
}

func TestNumbersOfFilesGoOn(t *testing.T) {
	t.Parallel()
	dir := leftFolder(t)
	j := openJournal(t, dir)
	appendRows(t, j, 5)
	require.FileExists(t, filepath.Join(dir, "0000000000000003.segment"))
	for _, r := range replay(t, j) {
		j.Ack(r.Offset)
	}
	flush(t, j)
	require.Equal(t, []int{5}, func() []int { closeJournal(t, j); return numbers(t, replay(t, openJournal(t, dir))) }())
}

// An offset must never come to name another row, however late a mark arrives.
func TestLateMarksOfFinishedRows(t *testing.T) {
	t.Parallel()
	j := openJournal(t, t.TempDir())
	old := appendRows(t, j, 1)[0]
	j.Ack(old)
	flush(t, j)
	require.Nil(t, j.files)
	appendRows(t, j, 2)
	j.Ack(old)
	j.Park(old)
	require.Equal(t, Counts{Pending: 1}, j.Counts())
}

func TestClosedJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir)
	at := appendRows(t, j, 1)[0]
	pass := j.ParkedPass()
	closeJournal(t, j)
	closeJournal(t, j)
	j.Ack(at)
	j.Release()
	require.ErrorIs(t, j.Flush(t.Context()), ErrClosed)
	require.Zero(t, j.Counts())
	offsets, err := j.Append(t.Context(), testRows(2), false)
	require.ErrorIs(t, err, ErrClosed)
	require.Nil(t, offsets)
	_, err = j.Replay(t.Context(), 1)
	require.ErrorIs(t, err, ErrClosed)
	_, err = pass.Next(t.Context(), 1)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, j.Acquire(t.Context()), ErrClosed)
	require.ErrorIs(t, j.Rescue(t.Context(), nil), ErrClosed)
	require.Equal(t, []int{1}, numbers(t, replay(t, openJournal(t, dir))))
}

func TestRescue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir)
	require.NoError(t, j.Rescue(t.Context(), []byte("odd")))
	require.Equal(t, 1, j.Counts().Damaged)
	require.Equal(t, []string{"0000000000000001.damaged"}, fileNames(t, dir))
	require.Nil(t, j.files)
	appendRows(t, j, 1)
	require.FileExists(t, filepath.Join(dir, "0000000000000002.segment"))
}

// The log names the file that is put aside, and holds no payload.
func TestDamagedFilesAreLogged(t *testing.T) {
	t.Parallel()
	dir := leftFolder(t)
	name := filepath.Join(dir, "0000000000000001.segment")
	doc, err := os.ReadFile(name) //nolint:gosec // a path of the test
	require.NoError(t, err)
	require.NoError(t, os.Truncate(name, int64(len(doc)-1)))
	var log bytes.Buffer
	j, err := Open(t.Context(), dir, ours, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	require.Contains(t, log.String(), "level=ERROR")
	require.Contains(t, log.String(), "file=0000000000000001.segment.damaged records=1\n", "row 2; 1 is done and 3 is cut off")
	require.NotContains(t, log.String(), "EVENT_DATA")
	closeJournal(t, j)
}

func TestIdleJournalHasNoLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := openJournal(t, dir), openJournal(t, dir)
	require.NoError(t, a.Acquire(t.Context()))
	require.ErrorIs(t, b.Acquire(t.Context()), ErrInUse)
	_, err := Open(t.Context(), dir, ours, slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, ErrInUse)
	require.NoError(t, a.Acquire(t.Context()))
	a.Release()
	flush(t, a)
	require.ErrorIs(t, b.Acquire(t.Context()), ErrInUse, "it is acquired still")
	a.Release()
	require.NoError(t, b.Acquire(t.Context()))
	at := appendRows(t, b, 1)[0]
	b.Release()
	require.ErrorIs(t, a.Acquire(t.Context()), ErrInUse, "it has a row")
	b.Ack(at)
	require.ErrorIs(t, a.Acquire(t.Context()), ErrInUse, "the mark is not written")
	flush(t, b)
	require.NoError(t, a.Acquire(t.Context()))
	a.Release()
}

// Rows that another process left while the journal was idle are found by Acquire.
func TestAcquireFindsRowsOfAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	idle := openJournal(t, dir)
	old := appendRows(t, idle, 1)[0]
	idle.Ack(old)
	flush(t, idle)
	other := openJournal(t, dir)
	appendRows(t, other, 2)
	closeJournal(t, other)

	require.NoError(t, idle.Acquire(t.Context()))
	require.Equal(t, 1, idle.Counts().Ready)
	idle.Ack(old)
	appendRows(t, idle, 3)
	idle.Release()
	require.Equal(t, []int{2}, numbers(t, replay(t, idle)))
	closeJournal(t, idle)
	require.Equal(t, []int{2, 3}, numbers(t, replay(t, openJournal(t, dir))))
}

// Without Acquire, rows can meet the lock of another process. They are held in memory until it is
// released.
func TestAppendWhileAnotherProcessHasTheFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := openJournal(t, dir), openJournal(t, dir)
	theirs := appendRows(t, b, 1)
	offsets, err := a.Append(t.Context(), testRows(2, 3), false)
	require.ErrorIs(t, err, ErrInUse)
	require.Equal(t, Counts{Pending: 2, Unsaved: 2}, a.Counts())
	since, _ := a.Failing()
	require.Zero(t, since, "the disk is well")
	a.Ack(offsets[0])
	require.ErrorIs(t, a.Flush(t.Context()), ErrInUse)
	b.Ack(theirs[0])
	flush(t, b)
	flush(t, a)
	require.Equal(t, Counts{Pending: 1}, a.Counts())
	closeJournal(t, a)
	require.Equal(t, []int{3}, numbers(t, replay(t, openJournal(t, dir))))
}

func TestFolderOfAnotherQueue(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		spoil   func(t *testing.T, dir string)
		records bool // rows are left in the folder
		says    string
		fine    bool
	}{
		"another application": {
			records: true, says: `holds records of the application "app.2", portal "m", connector "erp"`,
			spoil: identityFile(`{"version":2,"client_id":"app.2","member_id":"m","connector":"erp"}`),
		},
		"another application, without records": {
			says:  `holds records of the application "app.2", portal "m"`,
			spoil: identityFile(`{"version":2,"client_id":"app.2","member_id":"m"}`),
		},
		"not readable":                     {says: "cannot be read", spoil: identityFile(`{`)},
		"a newer version":                  {says: "cannot be read", spoil: identityFile(`{"version":3,"client_id":"app.1","member_id":"m"}`)},
		"the first version":                {records: true, says: "older version", spoil: identityFile(`{"version":1,"client_id":"app.1","member_id":"m"}`)},
		"the first version of another":     {says: "holds records of", spoil: identityFile(`{"version":1,"client_id":"app.2","member_id":"m"}`)},
		"the first version, without files": {fine: true, spoil: identityFile(`{"version":1,"client_id":"app.1","member_id":"m"}`)},
		"no identity": {records: true, says: "older version", spoil: func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.Remove(filepath.Join(dir, identityName)))
		}},
		"no identity, without files": {fine: true, spoil: func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.Remove(filepath.Join(dir, identityName)))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "folder")
			j := openJournal(t, dir)
			if tt.records {
				appendRows(t, j, 1)
			}
			closeJournal(t, j)
			has, err := HoldsRecords(dir)
			require.NoError(t, err)
			require.Equal(t, tt.records, has)
			tt.spoil(t, dir)
			before, err := os.ReadFile(filepath.Join(dir, identityName)) //nolint:gosec // a path of the test
			if err != nil {
				require.ErrorIs(t, err, fs.ErrNotExist)
			}
			names := fileNames(t, dir)
			_, err = Open(t.Context(), dir, ours, slog.New(slog.DiscardHandler))
			if tt.fine {
				require.NoError(t, err)
				openJournal(t, dir)
				return
			}
			require.ErrorIs(t, err, ErrOwner)
			require.ErrorContains(t, err, tt.says)
			require.ErrorContains(t, err, `the folder "folder"`)
			after, _ := os.ReadFile(filepath.Join(dir, identityName)) //nolint:gosec // a path of the test
			require.Equal(t, before, after, "nothing was touched")
			require.Equal(t, names, fileNames(t, dir))
		})
	}
	has, err := HoldsRecords(filepath.Join(t.TempDir(), "none"))
	require.NoError(t, err)
	require.False(t, has)
}

func identityFile(doc string) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, identityName), []byte(doc), filePerm))
	}
}

// errFull is what the disks of these tests fail with.
var errFull = errors.New("no space left on device")

// faulty is a folder whose uses can fail.
type faulty struct {
	folder

	fail func(op, name string) error // nil for no failure
}

func (f *faulty) write(name string, how writing, data []byte) error {
	if err := f.fail("write", name); err != nil && len(data) > 0 {
		_ = f.folder.write(name, how, data[:len(data)/2]) // as a disk that gets full does
		return err
	}
	return f.folder.write(name, how, data)
}

func (f *faulty) rename(from, to string) error {
	if err := f.fail("rename", from); err != nil {
		return err
	}
	return f.folder.rename(from, to)
}

func (f *faulty) remove(name string) error {
	if err := f.fail("remove", name); err != nil {
		return err
	}
	return f.folder.remove(name)
}

func (f *faulty) sync() error {
	if err := f.fail("sync", ""); err != nil {
		return err
	}
	return f.folder.sync()
}

func (f *faulty) read(name string) ([]byte, error) {
	if err := f.fail("read", name); err != nil {
		return nil, err
	}
	return f.folder.read(name)
}

// faultyOpener returns an opener of folders whose uses fail as fail says.
func faultyOpener(fail func(op, name string) error) opener {
	return func(dir string) (folder, error) {
		if err := fail("open", ""); err != nil {
			return nil, err
		}
		f, err := openFolder(dir)
		if err != nil {
			return nil, err
		}
		return &faulty{f, fail}, nil
	}
}

// fullDisk is a disk that can be full. Files can be removed from it then, and renamed.
type fullDisk struct{ full bool }

func (d *fullDisk) fail(op, _ string) error {
	if d.full && op == "write" {
		return errFull
	}
	return nil
}

func TestRowsOfAFullDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "app_member")
		var disk fullDisk
		j := openWrapped(t, dir, faultyOpener(disk.fail))
		require.NoError(t, j.Acquire(t.Context()))
		disk.full = true
		rows, err := j.Append(t.Context(), testRows(1, 2, 3, 4), true)
		require.ErrorIs(t, err, ErrDisk)
		require.ErrorIs(t, err, errFull)
		require.ErrorContains(t, err, `folder "app_member"`)
		require.Len(t, rows, 4)
		j.Release()
		began := time.Now()
		require.Equal(t, Counts{Pending: 4, Unsaved: 4}, j.Counts())

		time.Sleep(time.Minute) //nolint:forbidigo // in a bubble
		j.Ack(rows[0])
		j.Park(rows[1])
		j.Nack(rows[2])
		require.ErrorIs(t, j.Flush(t.Context()), errFull)
		require.ErrorIs(t, j.Acquire(t.Context()), errFull, "nothing more is to be taken")
		since, err := j.Failing()
		require.Equal(t, began, since)
		require.ErrorIs(t, err, ErrDisk)
		require.Equal(t, Counts{Pending: 2, Ready: 1, Parked: 1, Unsaved: 3}, j.Counts())
		require.Equal(t, []int{3}, numbers(t, replay(t, j)), "from memory")
		require.Equal(t, []int{2}, numbers(t, parkedRows(t, j)))

		disk.full = false
		flush(t, j)
		since, err = j.Failing()
		require.Zero(t, since)
		require.NoError(t, err)
		require.Equal(t, Counts{Pending: 2, Parked: 1}, j.Counts())
		require.NoError(t, j.Acquire(t.Context()))
		j.Release()
		j.Ack(rows[2])
		closeJournal(t, j)

		j = openJournal(t, dir)
		require.Equal(t, []int{4}, numbers(t, replay(t, j)))
		parked := parkedRows(t, j)
		require.Equal(t, []int{2}, numbers(t, parked))
		require.True(t, parked[0].WasParked)
		require.Zero(t, j.Counts().Damaged)
	})
}

// Rows that are done before the disk works again are never written, and leave nothing behind.
func TestRowsThatAreDoneBeforeTheDiskWorks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var disk fullDisk
	j := openWrapped(t, dir, faultyOpener(disk.fail))
	disk.full = true
	rows, err := j.Append(t.Context(), testRows(1), false)
	require.ErrorIs(t, err, errFull)
	require.NotEmpty(t, fileNames(t, dir), "a part of it")
	j.Ack(rows[0])
	require.ErrorIs(t, j.Flush(t.Context()), errFull, "the disk was probed")
	require.Zero(t, j.Counts())
	require.Empty(t, fileNames(t, dir))
	require.ErrorIs(t, j.Acquire(t.Context()), errFull)
	disk.full = false
	flush(t, j)
	since, _ := j.Failing()
	require.Zero(t, since)
	require.Empty(t, fileNames(t, dir))
	require.Nil(t, j.files)
}

func TestRowsThatAreLost(t *testing.T) {
	t.Parallel()
	var disk fullDisk
	j := openWrapped(t, t.TempDir(), faultyOpener(disk.fail))
	disk.full = true
	rows, err := j.Append(t.Context(), testRows(1, 2, 3), false)
	require.ErrorIs(t, err, errFull)
	j.Ack(rows[1])
	j.Park(rows[2])
	lost, err := j.Close(t.Context())
	require.Equal(t, 2, lost)
	require.ErrorIs(t, err, errFull)
}

func TestMarksThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var disk fullDisk
	j := openWrapped(t, dir, faultyOpener(disk.fail))
	rows := appendRows(t, j, 1, 2, 3)
	j.Ack(rows[0])
	disk.full = true
	require.ErrorIs(t, j.Flush(t.Context()), errFull)
	j.Park(rows[1])
	lost, err := j.Close(t.Context())
	require.Zero(t, lost)
	require.ErrorIs(t, err, errFull, "they come again")
	require.Equal(t, []int{1, 2, 3}, numbers(t, replay(t, openJournal(t, dir))))
}

// A full disk gets room when finished segments are removed.
func TestFullDiskIsClearedFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openWrapped(t, dir, faultyOpener(func(op, _ string) error {
		if op == "write" && len(fileNames(t, dir)) > 1 {
			return errFull
		}
		return nil
	}))
	first := appendRows(t, j, 1)[0]
	second := appendRows(t, j, 2)[0]
	_, err := j.Append(t.Context(), testRows(3), false)
	require.ErrorIs(t, err, errFull)
	j.Ack(first)
	j.Ack(second)
	flush(t, j)
	require.Equal(t, Counts{Pending: 1}, j.Counts())
}

// A disk that is full at the start must not keep the rows of a damaged file from being handled.
func TestDamagedFileOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := leftFolder(t)
	name := filepath.Join(dir, "0000000000000001.segment")
	doc, err := os.ReadFile(name) //nolint:gosec // a path of the test
	require.NoError(t, err)
	require.NoError(t, os.Truncate(name, int64(len(doc)-1)))
	disk := fullDisk{full: true}
	j := openWrapped(t, dir, faultyOpener(disk.fail))
	since, _ := j.Failing()
	require.NotZero(t, since)
	require.Equal(t, Counts{Pending: 1, Ready: 1, Parked: 1, Unsaved: 1, Damaged: 1}, j.Counts())
	lost, err := j.Close(t.Context())
	require.ErrorIs(t, err, errFull)
	require.Zero(t, lost, "the row is in the damaged file still")

	j = openWrapped(t, dir, faultyOpener(disk.fail))
	require.Equal(t, []int{4}, numbers(t, replay(t, j)))
	parked := parkedRows(t, j)
	require.Equal(t, []int{2}, numbers(t, parked))
	j.Ack(parked[0].Offset)
	require.ErrorIs(t, j.Flush(t.Context()), errFull)
	require.Equal(t, []string{"0000000000000001.segment.damaged", "0000000000000002.segment"}, fileNames(t, dir))
}

// A disk that loses what it held: the rows that can be read are handed out, and the file is kept.
func TestSegmentThatGetsDamagedLater(t *testing.T) {
	t.Parallel()
	dir := leftFolder(t)
	j := openJournal(t, dir)
	name := filepath.Join(dir, "0000000000000001.segment")
	doc, err := os.ReadFile(name) //nolint:gosec // a path of the test
	require.NoError(t, err)
	doc[len(doc)-5]++                                     // in row 3
	require.NoError(t, os.WriteFile(name, doc, filePerm)) //nolint:gosec // a path of the test
	rows := replay(t, j)
	require.Equal(t, []int{4}, numbers(t, rows))
	require.Equal(t, Counts{Pending: 1, Parked: 1, Damaged: 1}, j.Counts())
	for _, r := range append(rows, parkedRows(t, j)...) {
		j.Ack(r.Offset)
	}
	flush(t, j)
	require.Equal(t, []string{"0000000000000001.segment.damaged"}, fileNames(t, dir))
}

func TestSegmentThatCannotBeReadForAWhile(t *testing.T) {
	t.Parallel()
	dir := leftFolder(t)
	broken := false
	j := openWrapped(t, dir, faultyOpener(func(op, name string) error {
		if broken && op == "read" && name == "0000000000000002.segment" {
			return errFull
		}
		return nil
	}))
	broken = true
	rows, err := j.Replay(t.Context(), 10)
	require.NoError(t, err, "there is one that can be read")
	require.Equal(t, []int{3}, numbers(t, rows))
	_, err = j.Replay(t.Context(), 10)
	require.ErrorIs(t, err, ErrDisk)
	require.ErrorIs(t, err, errFull)
	broken = false
	require.Equal(t, []int{4}, numbers(t, replay(t, j)))
}
