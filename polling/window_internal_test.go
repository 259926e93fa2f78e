package polling

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func raw(size int) *json.RawMessage {
	doc := make(json.RawMessage, size)
	return &doc
}

// Large events fill the window before there are a thousand, until one of them is finished.
func TestWindowMemory(t *testing.T) {
	t.Parallel()
	var w window
	w.reset(0)
	events, err := w.add(page{events: []Event{{ID: 1, raw: raw(maxMemory - 1)}}, more: true})
	require.NoError(t, err)
	_, limit, ok := w.next(10)
	require.True(t, ok)
	require.Equal(t, 11, limit, "the next page brings the first event again")
	more, err := w.add(page{events: []Event{{ID: 1, raw: raw(maxMemory - 1)}, {ID: 2, raw: raw(1)}}})
	require.NoError(t, err)
	require.Len(t, more, 1)
	_, _, ok = w.next(10)
	require.False(t, ok)
	w.finish(events[0].key)
	w.finish(events[0].key)
	_, _, ok = w.next(10)
	require.True(t, ok)
	require.Equal(t, 1, w.inWork())
	require.EqualValues(t, 2, w.position())
}

// An event without an ID leaves nothing behind when it is finished.
func TestWindowForgetsEventsWithoutID(t *testing.T) {
	t.Parallel()
	var w window
	w.reset(0)
	for n := range int64(2 * maxLimit) {
		events, err := w.add(page{events: []Event{{raw: raw(1)}}, next: n + 2})
		require.NoError(t, err)
		_, _, ok := w.next(10)
		require.False(t, ok, "nobody knows what nextOffset passes")
		require.Equal(t, w.keptOffset(), w.position())
		w.finish(events[0].key)
		require.Equal(t, n+2, w.position())
		w.advance(n + 2)
		offset, limit, ok := w.next(10)
		require.True(t, ok)
		require.Equal(t, n+2, offset)
		require.Equal(t, 10, limit)
	}
}
