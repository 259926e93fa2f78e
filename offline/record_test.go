package offline_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/offline"
)

// read returns the records of a response of event.offline.get.
func read(t *testing.T, events string) []offline.Record {
	t.Helper()
	q := answering(t, "event.offline.get", `{"process_id":"p1","events":`+events+`}`)
	b, err := q.Reserve(t.Context(), 50)
	require.NoError(t, err)
	require.Equal(t, "p1", b.ProcessID)
	return b.Records
}

func TestRecordShapes(t *testing.T) {
	t.Parallel()
	const id = "182c725fd7969ecbfb0695b95a7f1acd"
	tests := []struct {
		name, row string
		id        int64
		messageID string
		user      int64
		data      string // FIELDS.ID
		parked    bool
	}{
		{
			name: "real", id: 5, messageID: id, user: 1, data: "7405",
			row: `{"ID":"5","TIMESTAMP_X":"2026-05-11T10:00:00+03:00","EVENT_NAME":"ONCRMDEALUPDATE",
				"EVENT_DATA":{"FIELDS":{"ID":7405}},"EVENT_ADDITIONAL":{"user_id":"1"},"MESSAGE_ID":"` + id + `"}`,
		},
		{
			name: "as documented", id: 1, messageID: "1",
			row: `{"ID":"1","TIMESTAMP_X":"2026-05-11T10:00:00+03:00","EVENT_NAME":"ONCRMLEADADD",
				"EVENT_DATA":false,"EVENT_ADDITIONAL":false,"MESSAGE_ID":"1"}`,
		},
		{
			name: "numbers and nulls", id: 12, messageID: "12", user: 3,
			row: `{"ID":12,"TIMESTAMP_X":null,"EVENT_NAME":"oncrmleadadd",
				"EVENT_DATA":null,"EVENT_ADDITIONAL":{"user_id":3},"MESSAGE_ID":12,"ERROR":0}`,
		},
		{
			name: "no user", id: 6, messageID: id, data: "9",
			row: `{"ID":6,"EVENT_NAME":"ONCRMDEALADD","EVENT_DATA":{"FIELDS":{"ID":"9"}},"EVENT_ADDITIONAL":{"user_id":0},"MESSAGE_ID":"` + id + `"}`,
		},
		{
			name: "empty arrays", id: 7, messageID: id,
			row: `{"ID":7,"EVENT_NAME":"ONCRMDEALADD","EVENT_DATA":[],"EVENT_ADDITIONAL":[],"MESSAGE_ID":"` + id + `"}`,
		},
		{name: "little", id: 0, row: `{"EVENT_NAME":"ONX"}`},
		{name: "odd number", row: `{"ID":"five","MESSAGE_ID":"m","EVENT_NAME":"ONX"}`, messageID: "m"},
		{name: "parked text", id: 8, row: `{"ID":8,"EVENT_NAME":"ONX","ERROR":"1"}`, parked: true},
		{name: "parked number", id: 8, row: `{"ID":8,"EVENT_NAME":"ONX","ERROR":1}`, parked: true},
		{name: "parked flag", id: 8, row: `{"ID":8,"EVENT_NAME":"ONX","ERROR":true}`, parked: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			records := read(t, "["+tt.row+"]")
			require.Len(t, records, 1)
			r := records[0]
			require.NoError(t, r.Err)
			require.Equal(t, tt.id, r.ID)
			require.Equal(t, tt.messageID, r.MessageID)
			require.Equal(t, tt.parked, r.Parked)
			require.Equal(t, "p1", r.ProcessID)
			require.Equal(t, "p1", r.Delivery.ProcessID)
			require.Equal(t, tt.user, r.Delivery.Auth.UserID)
			require.Equal(t, tt.data, r.Delivery.Data.Get("FIELDS", "ID").Text())
			require.JSONEq(t, tt.row, string(r.Raw()))
		})
	}
	require.Equal(t, time.Date(2026, 5, 11, 7, 0, 0, 0, time.UTC), read(t, "["+tests[0].row+"]")[0].Delivery.Time)
}

func TestRecordThatCannotBeRead(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, row, messageID string
		id                   int64
		want                 error
	}{
		{name: "no name", row: `{"ID":5,"MESSAGE_ID":"m"}`, id: 5, messageID: "m", want: event.ErrMalformed},
		{name: "nested columns", row: `{"ID":[1],"MESSAGE_ID":{"a":1},"EVENT_NAME":["ONX"]}`, want: event.ErrMalformed},
		{name: "a text", row: `"x"`, want: offline.ErrBadResponse},
		{name: "a list", row: `[1]`, want: offline.ErrBadResponse},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			records := read(t, `[{"ID":9,"EVENT_NAME":"ONGOOD"},`+tt.row+`]`)
			require.Len(t, records, 2, "it does not hide the others")
			bad := records[0]
			if bad.Err == nil {
				bad = records[1]
			}
			require.ErrorIs(t, bad.Err, tt.want)
			require.Nil(t, bad.Delivery)
			require.Equal(t, tt.id, bad.ID)
			require.Equal(t, tt.messageID, bad.MessageID)
			require.Equal(t, "p1", bad.ProcessID)
			require.JSONEq(t, tt.row, string(bad.Raw()))
		})
	}
}

func TestRecordsOfAnEmptyAnswer(t *testing.T) {
	t.Parallel()
	for _, events := range []string{`[]`, `null`, `false`, `""`, `{}`, ` [ ] `} {
		require.Empty(t, read(t, events), events)
	}
	require.Nil(t, offline.Record{}.Raw())
}

func TestRecordPrintsNoPayload(t *testing.T) {
	t.Parallel()
	r := read(t, `[{"ID":1,"EVENT_NAME":"ONIMBOTMESSAGEADD","EVENT_DATA":{"BOT":[{"access_token":"s3cr3t"}]}}]`)[0]
	require.NoError(t, r.Err)
	doc, err := json.Marshal(r) //nolint:musttag // not made for it, and must leak nothing all the same
	require.NoError(t, err)
	for _, text := range []string{fmt.Sprintf("%v %+v %#v", r, r, r), fmt.Sprintf("%+v", []offline.Record{r}), string(doc)} {
		require.NotContains(t, text, "s3cr3t")
	}
	require.Contains(t, string(r.Raw()), "s3cr3t")
}
