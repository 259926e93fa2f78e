package event_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

func TestParsePolled(t *testing.T) {
	t.Parallel()
	at := time.Date(2025, 1, 15, 9, 30, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, doc string
		id        int64
		event     string
		time      time.Time
		data      string
		extra     string // "null" for none
		err       error
	}{
		{
			name: "documented", doc: `{"eventId":1001,"type":"ONIMBOTV2MESSAGEADD","date":"2025-01-15T10:30:00+01:00","data":{"message":{"id":7}}}`,
			id: 1001, event: "ONIMBOTV2MESSAGEADD", time: at, data: `{"message":{"id":7}}`, extra: "null",
		},
		{name: "no date, empty data of PHP", doc: `{"eventId":"12","type":"onImV2JoinChat","data":[]}`, id: 12, event: "ONIMV2JOINCHAT", data: "[]", extra: "null"},
		{name: "only a type", doc: `{"type":"X"}`, event: "X", data: "null", extra: "null"},
		{
			name: "odd fields", doc: `{"eventId":[1],"type":"X","date":"yesterday","data":5,"more":true}`,
			event: "X", data: "5", extra: `{"eventId":[1],"date":"yesterday","more":true}`,
		},
		{name: "auth at the top is nothing", doc: `{"type":"X","auth":{"member_id":"m"}}`, event: "X", data: "null", extra: `{"auth":{"member_id":"m"}}`},
		{name: "no type", doc: `{"eventId":1}`, err: event.ErrMalformed},
		{name: "type is a number", doc: `{"eventId":1,"type":5}`, err: event.ErrMalformed},
		{name: "type with a space", doc: `{"eventId":1,"type":"A B"}`, err: event.ErrMalformed},
		{name: "long type", doc: `{"eventId":1,"type":"` + strings.Repeat("A", 256) + `"}`, err: event.ErrMalformed},
		{name: "a list", doc: `[1]`, err: event.ErrMalformed},
		{name: "not JSON", doc: `{`, err: event.ErrMalformed},
		{name: "deep", doc: `{"type":"X","data":` + strings.Repeat(`[`, 10_000) + strings.Repeat(`]`, 10_000) + `}`, err: event.ErrTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d, err := event.ParsePolled(json.RawMessage(tt.doc))
			if tt.err != nil {
				require.ErrorIs(t, err, tt.err)
				require.Nil(t, d)
				return
			}
			require.NoError(t, err)
			require.Equal(t, event.KindEvent, d.Kind)
			require.Equal(t, event.SourcePolled, d.Source)
			require.Equal(t, tt.id, d.ID)
			require.Equal(t, tt.event, d.Name)
			require.Equal(t, tt.time, d.Time)
			require.Equal(t, event.Auth{}, d.Auth)
			require.JSONEq(t, tt.data, string(d.Data.JSON()))
			require.JSONEq(t, tt.extra, string(d.Extra().JSON()))
			stored, err := event.ParseStored(d.AppendStored(nil))
			require.NoError(t, err)
			require.Equal(t, d.Key(), stored.Key())
			require.JSONEq(t, tt.extra, string(stored.Extra().JSON()))
		})
	}
}

// The portal of a polled event is that of the proof, even if its payload names another.
func TestPolledProof(t *testing.T) {
	t.Parallel()
	d, err := event.ParsePolled(json.RawMessage(`{"eventId":1,"type":"ONIMBOTV2DELETE","data":{"bot":{"id":7,"auth":{"access_token":"a","member_id":"other"}}}}`))
	require.NoError(t, err)
	proof := event.Proof{By: event.ProofCall, ClientID: "app", MemberID: "mine"}
	require.ErrorIs(t, d.Contradicts(proof), event.ErrForbidden)
	d.SetProof(proof)
	require.True(t, d.ProvenFor("app"))
	require.Equal(t, "mine", d.MemberID())
}

func FuzzParsePolled(f *testing.F) {
	f.Add([]byte(`{"eventId":1001,"type":"ONIMBOTV2MESSAGEADD","date":"2025-01-15T10:30:00+01:00","data":{"message":{"id":7}}}`))
	f.Add([]byte(`{"eventId":"1","type":"X","data":[]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		d, err := event.ParsePolled(doc)
		if err != nil {
			return
		}
		if d.Source != event.SourcePolled || d.Name == "" {
			t.Fatal("a polled event without source or name")
		}
		if d.Size() > 2*int64(len(doc))+1024 {
			t.Fatalf("%d bytes of memory for %d", d.Size(), len(doc))
		}
		d.Extra()
		stored, err := event.ParseStored(d.AppendStored(nil))
		if err != nil || stored.Key() != d.Key() {
			t.Fatal("it is not stored without loss")
		}
	})
}
