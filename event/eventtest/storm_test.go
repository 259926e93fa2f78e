package eventtest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// A handler that survives any storm: it drops duplicates and changes that are older than the one it
// has.
func ExampleStorm() {
	seen, newest, twice, late := map[string]bool{}, map[string]time.Time{}, 0, 0
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		d, err := event.ParseRequest(r)
		if err != nil {
			fmt.Println(err)
			return
		}
		object := d.Entity().ID
		switch {
		case seen[d.Key()]:
			twice++
		case d.Time.Before(newest[object]):
			late++
		default:
			newest[object] = d.Time
		}
		seen[d.Key()] = true
	})
	storm := eventtest.Storm{Objects: 50, Changes: 1000, Duplicates: 0.1, Reorder: 100}
	report, err := storm.Serve(context.Background(), h)
	if err != nil {
		fmt.Println(err)
		return
	}
	right := len(newest) == len(report.Last)
	for id, last := range report.Last {
		right = right && newest[strconv.FormatInt(id, 10)].Equal(last.Time)
	}
	fmt.Println(report.Sent, "sent,", twice == report.Duplicates, late > 0, right, report.Answers)
	// Output: 1089 sent, true true true map[200:1089]
}

func TestStormIsTheSameBySeed(t *testing.T) {
	t.Parallel()
	bodies := func(s eventtest.Storm) string {
		var all strings.Builder
		for r, err := range s.Requests(t.Context()) {
			require.NoError(t, err)
			body, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			all.Write(body)
			all.WriteByte('\n')
		}
		return all.String()
	}
	s := eventtest.Storm{
		Seed: 3, Events: []eventtest.Event{event.OnTaskUpdate, event.OnCrmDealAdd, event.OnCalendarEntryAdd, event.OnCrmDynamicItemUpdateOf(147)},
		Objects: 5, Changes: 50, Duplicates: 0.5, Reorder: 10, Options: []eventtest.RequestOption{eventtest.WithToken("t")},
	}
	first := bodies(s)
	require.Equal(t, first, bodies(s))
	for _, part := range []string{
		"ONTASKUPDATE&data%5BFIELDS_BEFORE", "ONCRMDEALADD&data%5BFIELDS%5D%5BID", "ENTRYADD&data%5Bid%5D",
		"ENTITY_TYPE_ID%5D=147",
	} {
		require.Contains(t, first, part)
	}
	s.Seed = 4
	require.NotEqual(t, first, bodies(s))
}

func TestStormReports(t *testing.T) {
	t.Parallel()
	r, err := eventtest.Storm{}.Report()
	require.NoError(t, err)
	require.Equal(t, 100, r.Sent)
	require.Len(t, r.Last, 100)
	require.Zero(t, r.Duplicates+r.Overtaken)

	r, err = eventtest.Storm{Objects: 3, Changes: 1000, Duplicates: 1, Reorder: 30}.Report()
	require.NoError(t, err)
	require.Equal(t, 2000, r.Sent)
	require.Equal(t, 1000, r.Duplicates)
	require.Equal(t, 1000, r.Changes)
	require.Greater(t, r.Overtaken, 100)
	require.Len(t, r.Last, 3)
	for _, last := range r.Last {
		require.False(t, last.Again)
		require.Greater(t, last.Time.Unix(), time.Date(2026, 1, 1, 0, 16, 0, 0, time.UTC).Unix(), "one of the last seconds")
	}
	r, err = eventtest.Storm{Changes: 50, Duplicates: 1}.Report()
	require.NoError(t, err)
	require.Zero(t, r.Overtaken, "in order")
}

func TestStormSends(t *testing.T) {
	t.Parallel()
	in := newInbox(t)
	s := eventtest.Storm{
		Changes: 40, Workers: 4, Options: []eventtest.RequestOption{eventtest.WithURL(in.URL)}, Events: []eventtest.Event{event.OnUserAdd},
		Payload: func(_ eventtest.Event, id int64) any { return map[string]any{"ID": id} },
	}
	r, err := s.Send(t.Context(), client)
	require.NoError(t, err)
	require.Equal(t, map[int]int{200: 40}, r.Answers)
	require.Len(t, in.bodies, 40)
	in.Close()
	r, err = s.Send(t.Context(), client)
	require.NoError(t, err)
	require.Equal(t, map[int]int{0: 40}, r.Answers, "nobody answers")
}

func TestStormRefuses(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]eventtest.Storm{
		"negative":       {Changes: -1},
		"too many":       {Changes: 1 << 40},
		"share above 1":  {Duplicates: 1.5},
		"share below 0":  {Duplicates: -1},
		"nameless":       {Events: []eventtest.Event{nil}},
		"unknown data":   {Events: []eventtest.Event{event.OnUserAdd}},
		"bad option":     {Options: []eventtest.RequestOption{eventtest.WithURL("x")}},
		"negative queue": {Workers: -1},
	} {
		_, err := s.Serve(t.Context(), http.NotFoundHandler())
		require.ErrorIs(t, err, eventtest.ErrConfig, name)
	}
	bad := eventtest.Storm{Payload: func(eventtest.Event, int64) any { return make(chan int) }}
	_, err := bad.Serve(t.Context(), http.NotFoundHandler())
	require.Error(t, err, "a payload that cannot be encoded")
	ctx, cancel := context.WithCancel(t.Context())
	stopping := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { cancel() })
	r, err := eventtest.Storm{}.Serve(ctx, stopping)
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, r.Answers[200], 5)
}
