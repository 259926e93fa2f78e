package spool

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzSpool reads segments and marks that a crash, a full disk or a careless person left. Rows that
// were written whole are read whole, and a row that is read was written.
func FuzzSpool(f *testing.F) {
	f.Add("1", []byte(`{"ID":1}`), 0, byte(0), []byte("d0"))
	f.Add("[\"a\\n\", {}]", []byte("x"), 40, byte('\n'), []byte("p1 d1"))
	f.Add(`{"EVENT_DATA":false}`, []byte("{\"version\":1,\"rows\":9}\n"), 3, byte('0'), []byte("d-1 d99999999999999999999 p0 p0 d"))
	f.Add(`null`, []byte(""), 12, byte(' '), []byte("d0 p0\n"))
	f.Add(`9e800`, []byte("0e00"), -183, byte('}'), []byte(" "))
	f.Fuzz(func(t *testing.T, row string, other []byte, at int, spoiled byte, marks []byte) {
		decodeSegment(other)
		decodeSegment(appendLine(nil, other))
		decodeMarks(marks)
		for _, doc := range [][]byte{appendLine(nil, marks), appendLine(appendLine(nil, other), marks)} {
			list, ended := decodeMarks(doc)
			require.True(t, ended)
			for _, m := range list {
				require.GreaterOrEqual(t, m.at, 0)
				require.Contains(t, []rowState{rowParked, rowDone}, m.to)
			}
		}

		rows, err := compact([]json.RawMessage{json.RawMessage(row), json.RawMessage(`{}`)})
		if !json.Valid([]byte(row)) {
			require.ErrorIs(t, err, ErrRow)
			return
		}
		require.NoError(t, err)
		written := segmentLines{size: 2, parked: len(row)%2 == 1, rows: []segmentRow{{0, rows[0]}, {1, rows[1]}}}
		doc := written.encode()
		lines, whole := decodeSegment(doc)
		require.True(t, whole)
		require.Equal(t, written, lines, "to the letter, also a number that no float holds")

		if at < 0 || at >= len(doc) {
			return
		}
		cut, whole := decodeSegment(doc[:at])
		require.False(t, whole)
		require.Subset(t, lines.rows, cut.rows)
		damaged := bytes.Clone(doc)
		damaged[at] = spoiled
		found, whole := decodeSegment(damaged)
		require.Equal(t, spoiled == doc[at], whole)
		require.False(t, lines.parked && !found.parked, "a damaged file forgot that its rows were parked")
		require.Subset(t, lines.rows, found.rows, "a damaged row was taken for whole")
	})
}
