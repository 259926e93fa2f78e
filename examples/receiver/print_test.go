package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

// full is a writer that takes so many lines.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if f.left == 0 {
		return 0, errFull
	}
	f.left--
	return len(p), nil
}

var errFull = errors.New("no space left")

// What cannot be printed is refused from then on, and the program ends: nothing is acknowledged
// only to be dropped.
func TestRefusesWhatCannotBePrinted(t *testing.T) {
	t.Parallel()
	ctx, abort := context.WithCancelCause(t.Context())
	p := &printer{w: &full{left: 1}, abort: abort}
	taken := 0
	guarded := p.guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { taken++ }))
	post := func() int {
		w := httptest.NewRecorder()
		guarded.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil))
		_, _ = io.Copy(io.Discard, w.Body)
		return w.Code
	}
	d := &event.Delivery{Name: "ONCRMDEALADD"}
	require.NoError(t, p.print(t.Context(), d))
	require.Equal(t, http.StatusOK, post())
	require.NoError(t, ctx.Err())
	for range 2 {
		err := p.print(t.Context(), d)
		require.ErrorIs(t, err, errFull)
		outcome, _ := event.OutcomeOf(err)
		require.Equal(t, event.Dropped, outcome)
		require.ErrorIs(t, context.Cause(ctx), errFull)
		require.Equal(t, http.StatusServiceUnavailable, post())
	}
	require.Equal(t, 1, taken)
}
