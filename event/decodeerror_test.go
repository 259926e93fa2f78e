package event_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

// A DecodeError says which event of which object has which misfit, in the words of the payload, and
// shows no value but an ID.
func TestDecodeErrorNamesEventObjectAndField(t *testing.T) {
	t.Parallel()
	type fields struct {
		Fields struct {
			ID          string
			Opportunity int `json:"opportunity"`
		} `json:"fields"`
	}
	type message struct {
		Text int64 `b24:"PARAMS.MESSAGE_ID"`
	}
	known := func(name string) func(d *event.Delivery) error {
		return func(d *event.Delivery) error { _, err := event.Define[fields](name).Decode(d); return err }
	}
	token := strings.Repeat("0a", 16)
	for name, tc := range map[string]struct {
		body   string
		decode func(d *event.Delivery) error
		want   event.DecodeError
		text   string
	}{
		"object and field as they stand": {
			"event=ONCRMDEALUPDATE&data[FIELDS][ID]=42&data[FIELDS][OPPORTUNITY]=planted", known("ONCRMDEALUPDATE"),
			event.DecodeError{
				Event: "ONCRMDEALUPDATE", Entity: event.Entity{Kind: "crm.deal", ID: "42"},
				Path: "data.FIELDS.OPPORTUNITY", Want: "an integer of 64 bits",
			},
			"event: ONCRMDEALUPDATE of crm.deal 42: data.FIELDS.OPPORTUNITY is not an integer of 64 bits",
		},
		"in other letters": {
			"event=ONCRMDEALUPDATE&data[fIELDS][ID]=42&data[fIELDS][opPortunity]=planted", known("ONCRMDEALUPDATE"),
			event.DecodeError{
				Event: "ONCRMDEALUPDATE", Entity: event.Entity{Kind: "crm.deal", ID: "42"},
				Path: "data.fIELDS.opPortunity", Want: "an integer of 64 bits",
			},
			"",
		},
		"the ID itself": {
			"event=ONCRMDEALUPDATE&data[FIELDS][ID]=planted",
			func(d *event.Delivery) error { _, err := event.OnCrmDealUpdate.Decode(d); return err },
			event.DecodeError{Event: "ONCRMDEALUPDATE", Path: "data.FIELDS.ID", Want: "an integer of 64 bits"},
			"event: ONCRMDEALUPDATE: data.FIELDS.ID is not an integer of 64 bits",
		},
		"an ID that is a text": {
			"event=ONCRMDEALUPDATE&data[FIELDS][ID]=planted text&data[FIELDS][OPPORTUNITY]=x", known("ONCRMDEALUPDATE"),
			event.DecodeError{Event: "ONCRMDEALUPDATE", Path: "data.FIELDS.OPPORTUNITY", Want: "an integer of 64 bits"},
			"",
		},
		"a long ID": {
			"event=ONCRMDEALUPDATE&data[FIELDS][ID]=" + strings.Repeat("9", 65) + "&data[FIELDS][OPPORTUNITY]=x", known("ONCRMDEALUPDATE"),
			event.DecodeError{Event: "ONCRMDEALUPDATE", Path: "data.FIELDS.OPPORTUNITY", Want: "an integer of 64 bits"},
			"",
		},
		"an ID that is a token": {
			"event=ONCRMDEALUPDATE&auth[application_token]=" + token + "&data[FIELDS][ID]=" + token + "&data[FIELDS][OPPORTUNITY]=x",
			known("ONCRMDEALUPDATE"),
			event.DecodeError{Event: "ONCRMDEALUPDATE", Path: "data.FIELDS.OPPORTUNITY", Want: "an integer of 64 bits"},
			"",
		},
		"an event of the program's own": {
			"event=OnMyEvent&data[FIELDS][OPPORTUNITY]=planted", known("OnMyEvent"),
			event.DecodeError{Event: "ONMYEVENT", Path: "data.FIELDS.OPPORTUNITY", Want: "an integer of 64 bits"},
			"event: ONMYEVENT: data.FIELDS.OPPORTUNITY is not an integer of 64 bits",
		},
		"another event than the handler's": {
			"event=ONPLANTED&data[FIELDS][OPPORTUNITY]=planted", known("OnMyEvent"),
			event.DecodeError{Event: "unknown event", Path: "data.FIELDS.OPPORTUNITY", Want: "an integer of 64 bits"},
			"",
		},
		"data decoded by the handler": {
			"event=ONCRMDEALUPDATE&data[FIELDS][ID]=42&data[FIELDS][OPPORTUNITY]=planted",
			func(d *event.Delivery) error { return d.Data.Decode(new(fields)) },
			event.DecodeError{
				Event: "ONCRMDEALUPDATE", Entity: event.Entity{Kind: "crm.deal", ID: "42"},
				Path: "data.FIELDS.OPPORTUNITY", Want: "an integer of 64 bits",
			},
			"",
		},
		"below a key of the payload": {
			"event=ONIMBOTMESSAGEADD&data[params][message_id]=planted",
			func(d *event.Delivery) error {
				_, err := event.Define[message]("ONIMBOTMESSAGEADD").Decode(d)
				return err
			},
			event.DecodeError{Event: "ONIMBOTMESSAGEADD", Path: "data.params.message_id", Want: "an integer of 64 bits"},
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := parsed(t, tc.body)
			err := tc.decode(d)
			var got *event.DecodeError
			require.ErrorAs(t, err, &got)
			require.Equal(t, tc.want, *got)
			require.NotContains(t, err.Error(), "planted")
			require.NotContains(t, err.Error(), token)
			if tc.text != "" {
				require.EqualError(t, err, tc.text)
			}
		})
	}
}
