package offline

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzSpool reads packets and marks that a crash, a full disk or a careless person left: whatever is in them, rows that were written whole are
// read whole, and a mark concerns no other row than its own.
func FuzzSpool(f *testing.F) {
	f.Add("1", []byte(`{"ID":1}`), 0, byte(0), []byte("d 0;\n"))
	f.Add("[\"a\\n\", {}]", []byte("x"), 40, byte('\n'), []byte("p 1;\nd 1"))
	f.Add(`{"EVENT_DATA":false}`, []byte("{\"version\":1,\"rows\":9}\n"), 3, byte('0'), []byte("d -1;\nd 99999999999999999999;\np 0;\np 0"))
	f.Add(`null`, []byte(""), 12, byte(' '), []byte("d 0;\np 0;\n"))
	f.Add(`9e800`, []byte("0e00"), -183, byte('}'), []byte("0e000"))
	f.Fuzz(func(t *testing.T, row string, other []byte, at int, spoiled byte, marks []byte) {
		decodePacket(other)
		decodePacket(appendLine(nil, other))

		if !json.Valid([]byte(row)) {
			return
		}
		parked := len(row)%2 == 1
		doc := encodePacket([]json.RawMessage{json.RawMessage(row), json.RawMessage(`{}`)}, parked)
		lines, whole := decodePacket(doc)
		require.True(t, whole)
		require.Equal(t, 2, lines.count)
		require.Equal(t, parked, lines.parked)
		var compact bytes.Buffer
		require.NoError(t, json.Compact(&compact, []byte(row)))
		require.Equal(t, compact.String(), string(lines.rows[0].row), "to the letter, also a number that no float holds")
		require.Equal(t, doc, lines.encode())

		if at < 0 || at >= len(doc) {
			return
		}
		cut, _ := decodePacket(doc[:at])
		require.LessOrEqual(t, len(cut.rows), 2)
		damaged := bytes.Clone(doc)
		damaged[at] = spoiled
		found, whole := decodePacket(damaged)
		require.False(t, parked && !found.parked, "a damaged file forgot that its records were parked")
		require.Equal(t, spoiled == doc[at], whole)
		for _, r := range found.rows {
			require.Equal(t, lines.rows[r.at].row, r.row, "a damaged row was taken for whole")
		}

		states := make([]rowState, 2)
		states[0] = rowMissing
		applyMarks(states, marks)
		require.Equal(t, rowMissing, states[0], "a row that is not there has no mark")
	})
}
