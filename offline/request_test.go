package offline_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
)

// requests is a caller that keeps which calls left together.
type requests struct {
	event.Caller

	refuse func(method string) error // in the portal's place

	mu   sync.Mutex
	made []string
	ids  []int // named in each clearing
}

func (r *requests) Call(ctx context.Context, method string, params, result any) error {
	sent, _ := params.(map[string]any)
	short := map[string]string{
		"event.offline.get": "get", "event.offline.list": "list", "event.offline.clear": "clear", "event.offline.error": "error",
	}
	names := make([]string, 0, 4)
	r.mu.Lock()
	for _, one := range commands(method, sent) {
		names = append(names, short[one.method])
		if one.method == "event.offline.clear" {
			r.ids = append(r.ids, length(one.params["message_id"]))
		}
	}
	text := strings.Join(names, " ")
	if method == "batch" {
		text = "batch: " + text
	}
	r.made = append(r.made, text)
	r.mu.Unlock()
	if r.refuse != nil {
		if err := r.refuse(method); err != nil {
			return err
		}
	}
	return r.Caller.Call(ctx, method, params, result)
}

// length returns the length of a list, as it was sent by itself or within a batch.
func length(list any) int {
	doc, err := json.Marshal(list)
	if err != nil {
		return 0
	}
	var items []string
	_ = json.Unmarshal(doc, &items) // none, if it is no list
	return len(items)
}

func TestClearingsLeaveWithTheNextReservation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", upTo(120)...)
	r := &requests{Caller: f.api}
	require.NoError(t, newConsumer(t, r, new(journal).HandleEvent).Drain(t.Context()))
	require.Equal(t, []string{
		"batch: list list get",  // for abandoned and parked records, and 50 records
		"batch: clear list get", // of what waits, and 70 records
		"batch: clear get",
	}, r.made)
	require.Equal(t, []int{50, 70}, r.ids)
	require.Empty(t, f.OfflineRows())
}

func TestClearingsNameNoMoreThan500Records(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", upTo(1600)...)
	r := &requests{Caller: f.api}
	require.NoError(t, newConsumer(t, r, new(journal).HandleEvent, offline.WithBatchSize(2000)).Drain(t.Context()))
	require.Equal(t, []int{50, 100, 200, 400, 500, 300, 50}, r.ids)
	require.Empty(t, f.OfflineRows())
	require.Len(t, r.made, 7)
}

// A clearing that fails within a batch is made again before anything else is reserved.
func TestClearingThatFailsInABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", upTo(60)...)
		f.Times(2, "event.offline.clear", eventtest.Fail(400, "ERROR_CORE", "SQL query error!"))
		r := &requests{Caller: f.api}
		var seen journal
		require.NoError(t, newConsumer(t, r, seen.HandleEvent).Drain(t.Context()))
		require.Equal(t, []string{
			"batch: list list get",
			"batch: clear list get", // fails to clear 50 records, and reserves 10
			"batch: clear clear",    // fails to clear the 50
			"clear",
			"get",
		}, r.made)
		require.Len(t, seen.entries(), 60)
		require.Empty(t, f.OfflineRows())
	})
}

func TestConnectorStandsOutsideTheCommands(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.bind("erp", "ONCRMDEALUPDATE")
	f.change("UPDATE", 1)
	batches := 0
	c := newConsumer(t, tap{Caller: f.api, whole: func(method string, params map[string]any) {
		if method != "batch" {
			return
		}
		batches++
		require.Equal(t, "erp", params["auth_connector"])
		for _, one := range commands(method, params) {
			require.NotContains(t, one.params, "auth_connector", "PROTOCOL 1.2: an item cannot change it")
		}
	}}, new(journal).HandleEvent, offline.WithConnector("erp"))
	require.NoError(t, c.Drain(t.Context()))
	require.Positive(t, batches)
}

func TestWithoutBatches(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		refuse error
	}{
		{"refused", refusal{code: "ERROR_METHOD_NOT_FOUND"}},
		{"to be confirmed", refusal{code: "METHOD_CONFIRM_DENIED"}},
		{"some error", errors.New("this client makes no batches")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.change("UPDATE", upTo(60)...)
				_, err := f.queue().Reserve(t.Context(), 10)
				require.NoError(t, err)
				r := &requests{Caller: f.api, refuse: func(method string) error {
					if method == "batch" {
						return tt.refuse
					}
					return nil
				}}
				var h refuses
				h.set(true, "7")
				c := newConsumer(t, r, h.HandleEvent)
				require.NoError(t, c.Drain(t.Context()))
				require.Len(t, h.entries(), 60)
				require.Equal(t, []string{"parked"}, f.states())
				tries := slices.IndexFunc(r.made, func(s string) bool { return !strings.HasPrefix(s, "batch") })
				require.LessOrEqual(t, tries, 3)
				require.False(
					t,
					slices.ContainsFunc(r.made[tries:], func(s string) bool { return strings.HasPrefix(s, "batch") }),
					"not tried again at once",
				)

				r.refuse = nil
				time.Sleep(time.Hour) //nolint:forbidigo // in fake time
				h.set(false, "7")
				require.NoError(t, c.Drain(t.Context()))
				require.Empty(t, f.states())
				require.True(t, strings.HasPrefix(r.made[len(r.made)-1], "batch"), "after an hour it is")
			})
		})
	}
}

// A crowd of small reservations, as a process leaves them that was restarted again and again.
func TestManySmallReservationsAreClearedInFewRequests(t *testing.T) {
	t.Parallel()
	const records = 1000
	f := newFixture(t)
	f.change("UPDATE", upTo(records)...)
	q := f.queue()
	for range records {
		_, err := q.Reserve(t.Context(), 1)
		require.NoError(t, err)
	}
	f.ResetRecords()
	var j journal
	f.drain(j.HandleEvent)
	require.Empty(t, f.states())
	require.Len(t, j.entries(), records)
	requests := f.Requests().REST
	expect(t, requests <= records/20, "%d requests for %d reservations of one record", requests, records)
}
