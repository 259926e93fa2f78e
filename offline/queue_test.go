package offline_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
)

func TestQueueReserveResumeClear(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	q := f.queue()
	f.change("UPDATE", 1, 2, 3)

	b, err := q.Reserve(t.Context(), 2)
	require.NoError(t, err)
	require.Len(t, b.ProcessID, 32)
	require.Len(t, b.Records, 2)
	row := f.OfflineRows()[0]
	r := b.Records[0]
	require.NoError(t, r.Err)
	require.Equal(t, row.ID, r.ID)
	require.Equal(t, row.MessageID, r.MessageID)
	require.Equal(t, b.ProcessID, r.ProcessID)
	require.False(t, r.Parked)
	require.Equal(t, "UPDATE 1", name(r.Delivery))
	require.Equal(t, event.SourceOffline, r.Delivery.Source)
	require.Equal(t, row.ID, r.Delivery.ID)
	require.Equal(t, row.MessageID, r.Delivery.MessageID)
	require.Equal(t, b.ProcessID, r.Delivery.ProcessID)
	require.Equal(t, int64(7), r.Delivery.Auth.UserID)
	require.True(t, row.Time.Equal(r.Delivery.Time))
	require.Contains(t, string(r.Raw()), row.MessageID)

	other, err := q.Reserve(t.Context(), 50)
	require.NoError(t, err)
	require.Len(t, other.Records, 1, "what is reserved is hidden")
	require.NotEqual(t, b.ProcessID, other.ProcessID)

	again, err := q.Resume(t.Context(), b.ProcessID, 50)
	require.NoError(t, err)
	require.Equal(t, b.ProcessID, again.ProcessID)
	require.Len(t, again.Records, 2)
	require.Equal(t, b.Records[1].Delivery, again.Records[1].Delivery)

	require.NoError(t, q.Clear(t.Context(), b.ProcessID, r.MessageID))
	require.NoError(t, q.ClearIDs(t.Context(), b.ProcessID, b.Records[1].ID))
	again, err = q.Resume(t.Context(), b.ProcessID, 50)
	require.NoError(t, err)
	require.Empty(t, again.Records)
	require.Len(t, f.OfflineRows(), 1, "the other reservation is untouched")
}

func TestQueueClearIsBoundToItsReservation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	q := f.queue()
	f.change("UPDATE", 1)
	first, err := q.Reserve(t.Context(), 50)
	require.NoError(t, err)
	f.change("UPDATE", 1)
	second, err := q.Reserve(t.Context(), 50)
	require.NoError(t, err)
	require.Equal(t, first.Records[0].MessageID, second.Records[0].MessageID, "one object in two reservations")

	require.NoError(t, q.Clear(t.Context(), first.ProcessID, first.Records[0].MessageID))
	rows := f.OfflineRows()
	require.Len(t, rows, 1)
	require.Equal(t, second.ProcessID, rows[0].ProcessID)
}

func TestQueueClearNamesManyRecordsInChunks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	q := f.queue()
	f.change("UPDATE", upTo(501)...)
	b, err := q.Reserve(t.Context(), 1000)
	require.NoError(t, err)
	require.Len(t, b.Records, 501)
	ids := make([]string, len(b.Records))
	numbers := make([]int64, len(b.Records))
	for i, r := range b.Records {
		ids[i], numbers[i] = r.MessageID, r.ID
	}
	require.NoError(t, q.Clear(t.Context(), b.ProcessID, ids...))
	require.Equal(t, 2, f.CallCount("event.offline.clear"))
	require.Empty(t, f.OfflineRows())
	require.NoError(t, q.ClearIDs(t.Context(), b.ProcessID, numbers...), "what is gone does not matter")
	require.Equal(t, 4, f.CallCount("event.offline.clear"))
}

func TestQueuePop(t *testing.T) {
	t.Parallel()
	f := newFixture(t, eventtest.WithoutExtendedOffline())
	q := f.queue()
	f.change("UPDATE", 1, 2, 3)
	records, err := q.Pop(t.Context(), 2)
	require.NoError(t, err)
	require.Len(t, records, 2)
	require.Equal(t, "UPDATE 1", name(records[0].Delivery))
	require.Empty(t, records[0].ProcessID)
	require.Len(t, f.OfflineRows(), 1)
}

func TestQueueSortsByLastChange(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1)
	f.change("DELETE", 2)
	f.change("UPDATE", 3)
	f.Advance(time.Minute)
	f.change("UPDATE", 1) // merged into the first row, which keeps its number
	b, err := f.queue().Reserve(t.Context(), 50)
	require.NoError(t, err)
	var order []string
	for _, r := range b.Records {
		order = append(order, name(r.Delivery))
	}
	require.Equal(t, []string{"DELETE 2", "UPDATE 3", "UPDATE 1"}, order)
}

func TestQueueParkHasTwoTraps(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	q := f.queue()
	f.change("UPDATE", 1)
	b, err := q.Reserve(t.Context(), 50)
	require.NoError(t, err)
	id := b.Records[0].MessageID
	f.change("UPDATE", 1)
	require.Len(t, f.OfflineRows(), 2)

	require.NoError(t, q.Park(t.Context(), b.ProcessID, id))
	rows := f.OfflineRows()
	require.Len(t, rows, 1, "the newer change is deleted")
	require.True(t, rows[0].Error)

	f.change("UPDATE", 1)
	b, err = q.Reserve(t.Context(), 50)
	require.NoError(t, err)
	require.Empty(t, b.Records, "later changes are merged into the parked record")

	failed, err := q.ReserveParked(t.Context(), 50)
	require.NoError(t, err)
	require.Len(t, failed.Records, 1)
	require.True(t, failed.Records[0].Parked)

	again, err := q.Resume(t.Context(), failed.ProcessID, 50)
	require.NoError(t, err)
	require.Empty(t, again.Records, "parked records are not read as others are")
	again, err = q.ResumeParked(t.Context(), failed.ProcessID, 50)
	require.NoError(t, err)
	require.Len(t, again.Records, 1)
	require.True(t, again.Records[0].Parked)

	require.NoError(t, q.Clear(t.Context(), failed.ProcessID, id))
	require.Empty(t, f.OfflineRows())
}

func TestQueueList(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	q := f.queue()
	f.change("UPDATE", upTo(120)...)
	reserved, err := q.Reserve(t.Context(), 3)
	require.NoError(t, err)
	require.NoError(t, q.Park(t.Context(), reserved.ProcessID, reserved.Records[0].MessageID))

	seen := make(map[int64]offline.Record)
	last := int64(0)
	for r, err := range q.List(t.Context()) {
		require.NoError(t, err)
		require.Greater(t, r.ID, last)
		last = r.ID
		seen[r.ID] = r
		if len(seen) == 60 { // the queue moves while it is read
			require.NoError(t, q.ClearIDs(t.Context(), reserved.ProcessID, reserved.Records[1].ID, reserved.Records[2].ID))
		}
	}
	require.Len(t, seen, 120)
	require.Equal(t, 3, f.CallCount("event.offline.list"))
	require.True(t, seen[reserved.Records[0].ID].Parked)
	require.Empty(t, seen[reserved.Records[0].ID].ProcessID)
	require.Equal(t, reserved.ProcessID, seen[reserved.Records[1].ID].ProcessID)
	require.Equal(t, reserved.ProcessID, seen[reserved.Records[1].ID].Delivery.ProcessID)

	var first []int64
	for r, err := range q.List(t.Context(), nil) {
		require.NoError(t, err)
		if first = append(first, r.ID); len(first) == 2 {
			break
		}
	}
	require.Len(t, first, 2)
}

func TestQueueFilters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	q := f.queue()
	f.change("UPDATE", 1, 2, 3)
	f.change("DELETE", 1)
	rows := f.OfflineRows()

	list := func(filters ...offline.Filter) []int64 {
		var ids []int64
		for r, err := range q.List(t.Context(), filters...) {
			require.NoError(t, err)
			ids = append(ids, r.ID)
		}
		return ids
	}
	require.Equal(t, []int64{rows[3].ID}, list(offline.Filter{"event_name": "ONCRMDEALDELETE"}))
	require.Equal(t, []int64{rows[1].ID, rows[2].ID},
		list(offline.Filter{">ID": rows[0].ID}, offline.Filter{"%EVENT_NAME": "update"}))
	require.Equal(t, []int64{rows[0].ID, rows[3].ID}, list(offline.Filter{"@MESSAGE_ID": []string{rows[0].MessageID, rows[3].MessageID}}))
	require.Len(t, list(offline.Filter{"PROCESS_ID": "", "=ERROR": 0, "<=TIMESTAMP_X": f.Now().Add(time.Hour)}), 4)
	require.Empty(t, list(offline.Filter{"event_name": "ONCRMDEAL%"}), "without an operator it is equality, not a pattern")

	b, err := q.Reserve(t.Context(), 50, offline.Filter{"EVENT_NAME": "ONCRMDEALUPDATE", "<ID": rows[2].ID})
	require.NoError(t, err)
	require.Len(t, b.Records, 2)
	taken, err := q.Pop(t.Context(), 50, offline.Filter{"=MESSAGE_ID": rows[3].MessageID})
	require.NoError(t, err)
	require.Len(t, taken, 1)
}

func TestQueueRefusesFilters(t *testing.T) {
	t.Parallel()
	q := newQueue(t, unreachable(t))
	tests := []struct {
		name        string
		filter      offline.Filter
		reserve     bool // refused by Reserve, Pop and ReserveParked
		list        bool // refused by List
		secondMatch offline.Filter
	}{
		{name: "in on a reservation", filter: offline.Filter{"@ID": 1}, reserve: true},
		{name: "contains on a reservation", filter: offline.Filter{"%EVENT_NAME": "DEAL"}, reserve: true},
		{name: "list on a reservation", filter: offline.Filter{"=ID": []int{1, 2}}, reserve: true},
		{name: "process on a reservation", filter: offline.Filter{"=PROCESS_ID": "x"}, reserve: true},
		{name: "not", filter: offline.Filter{"!ID": 1}, reserve: true, list: true},
		{name: "between", filter: offline.Filter{"><ID": 1}, reserve: true, list: true},
		{name: "unequal", filter: offline.Filter{"!=ID": 1}, reserve: true, list: true},
		{name: "unknown field", filter: offline.Filter{"=EVENT_DATA": 1}, reserve: true, list: true},
		{name: "no field", filter: offline.Filter{">": 1}, reserve: true, list: true},
		{name: "nil", filter: offline.Filter{"=ID": nil}, reserve: true, list: true},
		{name: "map", filter: offline.Filter{"=ID": map[string]int{}}, reserve: true, list: true},
		{name: "float", filter: offline.Filter{"=ID": 1.5}, reserve: true, list: true},
		{name: "empty list", filter: offline.Filter{"@ID": []int{}}, reserve: true, list: true},
		{name: "list of odd things", filter: offline.Filter{"@ID": []any{1, nil}}, reserve: true, list: true},
		{name: "list with greater", filter: offline.Filter{">ID": []int{1}}, reserve: true, list: true},
		{name: "twice", filter: offline.Filter{"=id": 1, "ID": 2}, reserve: true, list: true},
		{name: "twice in two", filter: offline.Filter{">ID": 1}, secondMatch: offline.Filter{">id": 2}, reserve: true, list: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := q.Reserve(t.Context(), 1, tt.filter, tt.secondMatch)
			require.Equal(t, tt.reserve, errors.Is(err, offline.ErrFilter))
			_, err = q.Pop(t.Context(), 1, tt.filter, tt.secondMatch)
			require.Equal(t, tt.reserve, errors.Is(err, offline.ErrFilter))
			_, err = q.ReserveParked(t.Context(), 1, tt.filter, tt.secondMatch)
			require.Equal(t, tt.reserve, errors.Is(err, offline.ErrFilter))
			for _, err := range q.List(t.Context(), tt.filter, tt.secondMatch) {
				require.Equal(t, tt.list, errors.Is(err, offline.ErrFilter))
			}
		})
	}
}

func TestQueueRefusesDisasters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	q := f.queue()
	id := strings.Repeat("a", 32)
	tests := []struct {
		name string
		call func(ctx context.Context) error
		want error
	}{
		{"clear nothing", func(ctx context.Context) error { return q.Clear(ctx, "p") }, offline.ErrNothingNamed},
		{"clear an empty list", func(ctx context.Context) error { return q.Clear(ctx, "p", []string{}...) }, offline.ErrNothingNamed},
		{"clear without process", func(ctx context.Context) error { return q.Clear(ctx, "", id) }, offline.ErrProcessID},
		{"clear with blank process", func(ctx context.Context) error { return q.Clear(ctx, " \t", id) }, offline.ErrProcessID},
		{"clear a short id", func(ctx context.Context) error { return q.Clear(ctx, "p", id, "1") }, offline.ErrMessageID},
		{"clear a padded id", func(ctx context.Context) error { return q.Clear(ctx, "p", id[1:]+" ") }, offline.ErrMessageID},
		{"clear no numbers", func(ctx context.Context) error { return q.ClearIDs(ctx, "p") }, offline.ErrNothingNamed},
		{"clear numbers without process", func(ctx context.Context) error { return q.ClearIDs(ctx, "", 1) }, offline.ErrProcessID},
		{"clear number 0", func(ctx context.Context) error { return q.ClearIDs(ctx, "p", 1, 0) }, offline.ErrRecordID},
		{"park nothing", func(ctx context.Context) error { return q.Park(ctx, "p") }, offline.ErrNothingNamed},
		{"park without process", func(ctx context.Context) error { return q.Park(ctx, "", id) }, offline.ErrProcessID},
		{"park a long id", func(ctx context.Context) error { return q.Park(ctx, "p", id+"a") }, offline.ErrMessageID},
		{"resume without process", func(ctx context.Context) error { _, err := q.Resume(ctx, " ", 1); return err }, offline.ErrProcessID},
		{
			"resume failed without process",
			func(ctx context.Context) error { _, err := q.ResumeParked(ctx, "", 1); return err },
			offline.ErrProcessID,
		},
		{"resume none", func(ctx context.Context) error { _, err := q.Resume(ctx, "p", 0); return err }, offline.ErrLimit},
		{"reserve none", func(ctx context.Context) error { _, err := q.Reserve(ctx, 0); return err }, offline.ErrLimit},
		{"take none", func(ctx context.Context) error { _, err := q.Pop(ctx, -1); return err }, offline.ErrLimit},
		{"failed none", func(ctx context.Context) error { _, err := q.ReserveParked(ctx, 0); return err }, offline.ErrLimit},
	}
	for _, tt := range tests {
		require.ErrorIs(t, tt.call(t.Context()), tt.want, tt.name)
	}
	require.Empty(t, f.Calls(), "nothing was sent")
}

func TestQueueConnector(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.bind("erp", "ONCRMDEALADD")
	f.change("ADD", 1)
	q := f.queue(offline.WithConnector("erp"))
	b, err := q.Reserve(t.Context(), 50)
	require.NoError(t, err)
	require.Len(t, b.Records, 1)
	require.NoError(t, f.queue().Clear(t.Context(), b.ProcessID, b.Records[0].MessageID))
	require.Len(t, f.OfflineRows(), 2, "another connector's queue cannot be cleared")
	require.NoError(t, q.Clear(t.Context(), b.ProcessID, b.Records[0].MessageID))
	rows := f.OfflineRows()
	require.Len(t, rows, 1)
	require.Empty(t, rows[0].Connector)
}

func TestQueueExplainsRefusals(t *testing.T) {
	t.Parallel()
	erp := offline.WithConnector("erp")
	reserve := func(ctx context.Context, q *offline.Queue) error { _, err := q.Reserve(ctx, 1); return err }
	list := func(ctx context.Context, q *offline.Queue) error {
		for _, err := range q.List(ctx) {
			return err
		}
		return nil
	}
	tests := []struct {
		name   string
		portal []eventtest.Option
		opt    offline.QueueOption
		call   func(context.Context, *offline.Queue) error
		client func(*fixture) event.Caller
		want   error
	}{
		{
			name:   "no extended mode",
			portal: []eventtest.Option{eventtest.WithoutExtendedOffline()},
			call:   reserve,
			want:   offline.ErrExtendedModeRequired,
		},
		{
			name: "no extended mode, with connector", portal: []eventtest.Option{eventtest.WithoutExtendedOffline()},
			opt: erp, call: reserve, want: offline.ErrExtendedModeRequired,
		},
		{
			name:   "no connectors",
			portal: []eventtest.Option{eventtest.WithoutConnectors()},
			opt:    erp,
			call:   reserve,
			want:   offline.ErrConnectorRefused,
		},
		{
			name:   "no connectors in list",
			portal: []eventtest.Option{eventtest.WithoutConnectors()},
			opt:    erp,
			call:   list,
			want:   offline.ErrConnectorRefused,
		},
		{
			name: "no administrator", call: reserve, want: offline.ErrAccessDenied,
			client: func(f *fixture) event.Caller { return f.as(f.AddUser(eventtest.User{Name: "Bob"})) },
		},
		{
			name: "incoming webhook", call: reserve, want: offline.ErrWrongAuthType,
			client: func(f *fixture) event.Caller {
				url, err := f.AddIncomingWebhook(eventtest.AdminID, "crm")
				require.NoError(f.t, err)
				return newClient(f.t, f.net.Client(), credentials{endpoint: string(url), token: "none"}, f.MemberID())
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tt.portal...)
			var c event.Caller = f.api
			if tt.client != nil {
				c = tt.client(f)
			}
			err := tt.call(t.Context(), newQueue(t, c, tt.opt))
			require.ErrorIs(t, err, tt.want)
			var ce event.CallError
			require.ErrorAs(t, err, &ce, "the portal's own error stays in the chain")
			require.Equal(t, 1, strings.Count(err.Error(), ": event.offline."), "the method stands there once: %v", err)
		})
	}
}

func TestQueueKeepsAddressesOutOfErrors(t *testing.T) {
	t.Parallel()
	cause := errors.New("connection refused")
	c := tap{before: func(string, map[string]any) error { // as a client of somebody else does
		return fmt.Errorf("call: %w", &url.Error{Op: "Post", URL: "https://p.example/rest/1/s3cr3t/", Err: cause})
	}}
	_, err := newQueue(t, c).Reserve(t.Context(), 1)
	require.ErrorIs(t, err, cause)
	require.ErrorContains(t, err, "offline: event.offline.get: ", "the caller does not name the method")
	require.NotContains(t, err.Error(), "s3cr3t")
	require.NotContains(t, fmt.Sprintf("%+v %#v", err, err), "s3cr3t")
}

func TestQueueHidesItsCaller(t *testing.T) {
	t.Parallel()
	q := newQueue(t, tap{Caller: newClient(t, eventtest.NewNetwork().Client(), credentials{token: "s3cr3t"}, "m")})
	require.NotContains(t, fmt.Sprintf("%+v %#v %v", q, q, *q), "s3cr3t")
}

func TestQueueRefusesResponses(t *testing.T) {
	t.Parallel()
	reserve := func(q *offline.Queue) error { _, err := q.Reserve(t.Context(), 1); return err }
	clearOne := func(q *offline.Queue) error { return q.Clear(t.Context(), "p", strings.Repeat("a", 32)) }
	list := func(q *offline.Queue) error {
		n := 0
		for _, err := range q.List(t.Context()) {
			if n++; err != nil || n > 1000 {
				return err
			}
		}
		return nil
	}
	tests := []struct {
		name, method, answer string
		call                 func(*offline.Queue) error
	}{
		{"no reservation", "event.offline.get", `{"process_id":null,"events":[]}`, reserve},
		{"records are a text", "event.offline.get", `{"process_id":"p","events":"x"}`, reserve},
		{"clear says false", "event.offline.clear", `false`, clearOne},
		{"list is an object", "event.offline.list", `{"a":1}`, list},
		{"list does not move", "event.offline.list", "[" + strings.Repeat(`{"ID":"7"},`, 49) + `{"ID":"7"}]`, list},
		{"list without numbers", "event.offline.list", "[" + strings.Repeat(`{},`, 49) + `{}]`, list},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.ErrorIs(t, tt.call(answering(t, tt.method, tt.answer)), offline.ErrBadResponse)
		})
	}
}
