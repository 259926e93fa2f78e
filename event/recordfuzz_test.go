package event_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/b24events/b24events/event"
)

// FuzzParseRecord reads records of the offline queue in any shape.
func FuzzParseRecord(f *testing.F) {
	f.Add(`{"ID":"1","TIMESTAMP_X":"2026-05-11T10:00:00+03:00","EVENT_NAME":"ONCRMDEALUPDATE","EVENT_DATA":{"FIELDS":{"ID":7}},` +
		`"EVENT_ADDITIONAL":{"user_id":1},"MESSAGE_ID":"182c725fd7969ecbfb0695b95a7f1acd"}`)
	f.Add(`{"EVENT_NAME":"OnTaskAdd","EVENT_DATA":false,"EVENT_ADDITIONAL":false,"MESSAGE_ID":"1"}`)
	f.Add(`{"EVENT_NAME":"ONOFFLINEEVENT","EVENT_DATA":null,"EVENT_ADDITIONAL":{"user_id":"0"},"ID":1e30,"PROCESS_ID":[],"TIMESTAMP_X":""}`)
	f.Add(`{"EVENT_NAME":"ONCRMDYNAMICITEMUPDATE_147","EVENT_DATA":[[[{"ID":{"x":1}}]]],"EVENT_ADDITIONAL":[]}`)
	f.Add(`{"EVENT_NAME":["x"]}`)
	f.Fuzz(func(t *testing.T, record string) {
		d, err := event.ParseRecord(json.RawMessage(record))
		if err != nil {
			if !errors.Is(err, event.ErrMalformed) && !errors.Is(err, event.ErrTooLarge) {
				t.Fatalf("unclassed error %v", err)
			}
			return
		}
		if d.Source != event.SourceOffline || d.Name == "" {
			t.Fatalf("a record without a name or a source: %v", d)
		}
		_, _, _ = d.FetchCall()
		_ = d.Key()
		_ = d.Entity()
		if info, ok := event.Lookup(d.Name); ok {
			if _, err := info.Payload(d); err != nil && !errors.Is(err, event.ErrMalformed) {
				t.Fatalf("unclassed payload error %v", err)
			}
		}
		if text, err := d.MarshalJSON(); err != nil || !json.Valid(text) {
			t.Fatalf("no JSON: %v", err)
		}
	})
}
