package polling_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/polling"
)

func TestReadPage(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		doc  string
		ids  []int64
		next int64
		more bool
		err  error
	}{
		"documented":      {`{"events":[{"eventId":7,"type":"X"}],"nextOffset":8,"hasMore":true}`, []int64{7}, 8, true, nil},
		"empty":           {`{}`, nil, 0, false, nil},
		"odd fields":      {`{"events":null,"nextOffset":[],"hasMore":{}}`, nil, 0, false, nil},
		"negative":        {`{"events":[{"eventId":-7,"type":"X"}],"nextOffset":-8}`, []int64{0}, 0, false, nil},
		"fractions":       {`{"events":[{"eventId":1.5,"type":"X"}],"nextOffset":1e3}`, []int64{0}, 0, false, nil},
		"sorted and cut":  {`{"events":[{"eventId":9},{"eventId":3},{"eventId":5},{"eventId":1}],"nextOffset":10}`, []int64{1, 3, 5}, 10, true, nil},
		"cut after an ID": {`{"events":[{"eventId":9},{"eventId":3,"type":"A"},{"eventId":3,"type":"B"},{"eventId":1},{"eventId":3,"type":"C"}]}`, []int64{1, 3, 3, 3}, 0, true, nil},
		"not cut":         {`{"events":[{"eventId":9},{"eventId":3},{"eventId":5},{"eventId":"x"}],"nextOffset":10}`, []int64{0, 3, 5, 9}, 10, false, nil},
		"a list":          {`[]`, nil, 0, false, polling.ErrBadResponse},
		"nothing":         {``, nil, 0, false, polling.ErrBadResponse},
		"null":            {`null`, nil, 0, false, nil},
		"events a map":    {`{"events":{"a":1}}`, nil, 0, false, polling.ErrBadResponse},
		"events a text":   {`{"events":"x"}`, nil, 0, false, polling.ErrBadResponse},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			events, next, more, err := polling.ReadPageForTest([]byte(tt.doc), 3)
			require.ErrorIs(t, err, tt.err)
			var ids []int64
			for _, e := range events {
				ids = append(ids, e.ID)
				require.Equal(t, e.Delivery == nil, e.Err != nil)
			}
			require.Equal(t, tt.ids, ids)
			require.Equal(t, tt.next, next)
			require.Equal(t, tt.more, more)
		})
	}
}

func TestEventPrintsNoPayload(t *testing.T) {
	t.Parallel()
	events, _, _, err := polling.ReadPageForTest([]byte(`{"events":[{"eventId":1,"type":5,"data":"private"}]}`), 3)
	require.NoError(t, err)
	require.Contains(t, string(events[0].Raw()), "private")
	for _, text := range []string{fmt.Sprint(events[0]), fmt.Sprintf("%+v %#v", events[0], events[0]), events[0].Err.Error()} {
		require.NotContains(t, text, "private")
	}
}

func FuzzReadPage(f *testing.F) {
	f.Add([]byte(`{"events":[{"eventId":1001,"type":"ONIMBOTV2MESSAGEADD","date":"2025-01-15T10:30:00+01:00","data":{"bot":{"id":1}}}],"nextOffset":1002,"hasMore":false}`))
	f.Add([]byte(`{"events":{},"nextOffset":"7","hasMore":"Y"}`))
	f.Add([]byte(`{"events":[7,{"eventId":"x"},{"eventId":2},{"eventId":1,"type":"A"}]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		events, next, more, err := polling.ReadPageForTest(doc, 5)
		if err != nil {
			if events != nil || strings.Contains(err.Error(), "://") {
				t.Fatal(err)
			}
			return
		}
		if (len(events) > 5 && events[0].ID > 0 && events[len(events)-1].ID != events[4].ID) || next < 0 || (len(events) >= 5 && !json.Valid(doc)) {
			t.Fatalf("%d events, next %d, more %v", len(events), next, more)
		}
		if !slices.IsSortedFunc(events, func(a, b polling.Event) int { return int(min(1, max(-1, a.ID-b.ID))) }) {
			t.Fatal("not in order")
		}
		for _, e := range events {
			if (e.Delivery == nil) == (e.Err == nil) || e.ID < 0 || !json.Valid(e.Raw()) {
				t.Fatalf("%+v", e)
			}
			if e.Delivery != nil && (e.Delivery.Name == "" || e.Delivery.MemberID() != "m") {
				t.Fatal("a delivery without name or proof")
			}
		}
	})
}
