package misfits_test

import (
	"bytes"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/misfits"
)

func logged(t *testing.T) (l *misfits.Log, lines func() []string) {
	t.Helper()
	var text bytes.Buffer
	options := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	l = misfits.New(slog.New(slog.NewTextHandler(&text, options)))
	return l, func() []string { return strings.Split(strings.TrimSpace(text.String()), "\n") }
}

func TestEachPlaceIsLoggedOnce(t *testing.T) {
	t.Parallel()
	l, lines := logged(t)
	for range 3 {
		l.Report(t.Context(), "ONCRMDEALADD", "data.COST", "a number")
		l.Report(t.Context(), "ONCRMDEALUPDATE", "data.COST", "a number")
		l.Report(t.Context(), "ONCRMDEALADD", "data.IDS.0", "a number")
	}
	l.Report(t.Context(), "ONCRMDEALADD", "data.IDS.17", "a number")
	const say = `level=WARN msg="a value of an event does not fit its field, which stays zero" event=`
	require.Equal(t, []string{
		say + `ONCRMDEALADD path=data.COST want="a number"`,
		say + `ONCRMDEALUPDATE path=data.COST want="a number"`,
		say + `ONCRMDEALADD path=data.IDS.0 want="a number"`,
	}, lines())
	require.EqualValues(t, 10, l.Count())
}

func TestPlacesAreBounded(t *testing.T) {
	t.Parallel()
	l, lines := logged(t)
	var wait sync.WaitGroup
	for i := range 4 * misfits.MaxPlaces {
		wait.Go(func() { l.Report(t.Context(), "ONX", "data.k"+strconv.Itoa(i), "a number") })
	}
	wait.Wait()
	all := lines()
	require.Len(t, all, misfits.MaxPlaces+1)
	require.Equal(t, 1, strings.Count(strings.Join(all, "\n"), "no more are logged"))
	require.EqualValues(t, 4*misfits.MaxPlaces, l.Count())
}
