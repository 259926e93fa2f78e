package event_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

func TestAPayloadWithoutItsObjectIsAnError(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, event string
		form, json  string // the data section, in one of the two
		path        string
	}{
		{name: "form, empty", event: "ONCRMDEALDELETE", form: "data[FIELDS][ID]=", path: "data.FIELDS.ID"},
		{name: "form, no data", event: "ONCRMDEALDELETE", form: "ts=1", path: "data.FIELDS.ID"},
		{name: "form, FIELDS undefined", event: "ONCRMDEALADD", form: "data[FIELDS]=undefined", path: "data.FIELDS.ID"},
		{name: "form, words", event: "ONCRMDEALADD", form: "data[FIELDS][ID]=words", path: "data.FIELDS.ID"},
		{name: "form, other alternative", event: "ONCRMDEALADD", form: "data[ID]=words", path: "data.ID"},
		{name: "form, a list", event: "ONCRMDEALADD", form: "data[FIELDS][ID][0]=7", path: "data.FIELDS.ID"},
		{name: "JSON null", event: "ONCRMDEALADD", json: `{"FIELDS":{"ID":null}}`, path: "data.FIELDS.ID"},
		{name: "JSON false for data", event: "ONCRMDEALADD", json: `false`, path: "data.FIELDS.ID"},
		{name: "JSON null for data", event: "ONCRMDEALADD", json: `null`, path: "data.FIELDS.ID"},
		{name: "JSON list for data", event: "ONCRMDEALADD", json: `[]`, path: "data.FIELDS.ID"},
		{name: "data itself", event: "ONIMCONNECTORLINEDELETE", form: "data=", path: "data"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d, err := event.Parse("application/x-www-form-urlencoded", []byte("event="+tc.event+"&"+tc.form))
			if tc.json != "" {
				d, err = event.ParseRecord([]byte(`{"ID":1,"EVENT_NAME":"` + tc.event + `","EVENT_DATA":` + tc.json + `}`))
			}
			require.NoError(t, err)
			info, ok := event.Lookup(d.Name)
			require.True(t, ok)
			payload, err := info.Payload(d)
			require.NotNil(t, payload, "what fits is there all the same")
			var failure *event.DecodeError
			require.ErrorAs(t, err, &failure)
			require.ErrorIs(t, err, event.ErrMalformed)
			require.Equal(t, tc.path, failure.Path)
			require.Equal(t, tc.event, failure.Event)
		})
	}
}
