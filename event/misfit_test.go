package event_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

// handled runs a handler of On and returns what it received.
func handled[T any](t *testing.T, ctx context.Context, e event.Descriptor[T], d *event.Delivery) (payload T, got *event.Delivery, err error) { //nolint:revive // the testing.T first
	t.Helper()
	mux := event.NewMux()
	event.On(mux, e, func(_ context.Context, d *event.Delivery, p T) error {
		payload, got = p, d
		return nil
	})
	return payload, got, mux.HandleEvent(ctx, d)
}

func TestAnOddFieldDoesNotStopTheHandler(t *testing.T) {
	t.Parallel()
	type row struct {
		N int `json:"n"`
	}
	type payload struct {
		ID    int64          `b24:"FIELDS.ID"`
		Cost  float64        `b24:"FIELDS.COST"`
		Paid  bool           `b24:"FIELDS.PAID"`
		When  time.Time      `b24:"FIELDS.WHEN"`
		Name  string         `b24:"FIELDS.NAME"`
		Rows  []row          `b24:"ROWS"`
		ByID  map[string]row `b24:"BYID"`
		Maybe *row           `b24:"MAYBE"`
	}
	d := delivery(t, "event=ONCRMDEALUPDATE&data[FIELDS][ID]=7&data[FIELDS][COST]=1,25&data[FIELDS][PAID]=perhaps&"+
		"data[FIELDS][WHEN]=soon&data[FIELDS][NAME]=n&data[ROWS][0][n]=1&data[ROWS][1][n]=x&data[ROWS][2][n]=3&"+
		"data[BYID][a][n]=x&data[BYID][planted+value][n]=x&data[MAYBE]=text")
	var reported *event.Delivery
	ctx := event.WithMisfitReporter(t.Context(), func(_ context.Context, d *event.Delivery) { reported = d })
	p, got, err := handled(t, ctx, event.Define[payload]("ONCRMDEALUPDATE"), d)
	require.NoError(t, err)
	require.Equal(t, payload{
		ID: 7, Name: "n", Rows: []row{{1}, {}, {3}}, ByID: map[string]row{"a": {}, "planted value": {}},
	}, p)
	want := []event.Misfit{
		{"data.FIELDS.COST", "a number that fits a float64"},
		{"data.FIELDS.PAID", "a flag (Y, N, 1, 0)"},
		{"data.FIELDS.WHEN", "a time"},
		{"data.ROWS.1.n", "an integer of 64 bits"},
		{"data.BYID.a.n", "an integer of 64 bits"},
		{"data.BYID.*.n", "an integer of 64 bits"},
		{"data.MAYBE", "an object"},
	}
	require.Equal(t, want, got.Misfits())
	require.Same(t, got, reported)
	require.Empty(t, d.Misfits(), "the delivery itself does not change")
	require.NotSame(t, d, got)
	require.Equal(t, d.Data.JSON(), got.Data.JSON())
	require.Equal(t, d.Key(), got.Key())

	got.Misfits()[0].Path = "changed"
	require.Equal(t, want, got.Misfits(), "the caller's own")

	_, strict := event.Define[payload]("ONCRMDEALUPDATE").Decode(d)
	var failure *event.DecodeError
	require.ErrorAs(t, strict, &failure)
	require.Equal(t, event.DecodeError{Event: "ONCRMDEALUPDATE", Entity: event.Entity{Kind: "crm.deal", ID: "7"}, Path: want[0].Path, Want: want[0].Want}, *failure)

	lenient, misfits, err := event.Define[payload]("ONCRMDEALUPDATE").DecodeLenient(d)
	require.NoError(t, err)
	require.Equal(t, p, lenient)
	require.Equal(t, want, misfits)
}

func TestAPayloadThatFitsIsHandedOnAsItIs(t *testing.T) {
	t.Parallel()
	d := delivery(t, "event=ONCRMDEALUPDATE&data[FIELDS][ID]=7")
	ctx := event.WithMisfitReporter(t.Context(), func(context.Context, *event.Delivery) { t.Error("nothing to report") })
	p, got, err := handled(t, ctx, event.OnCrmDealUpdate, d)
	require.NoError(t, err)
	require.EqualValues(t, 7, p.ID)
	require.Same(t, d, got)
}

func TestTheObjectMustBeNamed(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"data[FIELDS][ID]=", "data[FIELDS][ID]=words", "data[FIELDS][ID]=7.5", "data[FIELDS]=x", "ts=1", "data[FIELDS][ID][]=7"} {
		_, got, err := handled(t, t.Context(), event.OnCrmDealDelete, delivery(t, "event=ONCRMDEALDELETE&"+data))
		require.ErrorIs(t, err, event.ErrMalformed, data)
		require.Nil(t, got, data)
		outcome, _ := event.OutcomeOf(err)
		require.Equal(t, event.OutcomeDropped, outcome, data)
	}
	type mine struct {
		Title string `b24:"FIELDS.TITLE"`
	}
	_, _, err := handled(t, t.Context(), event.Define[mine]("ONCRMDEALDELETE"), delivery(t, "event=ONCRMDEALDELETE&data[FIELDS][TITLE]=t"))
	require.ErrorIs(t, err, event.ErrMalformed, "whatever the payload reads")
	p, _, err := handled(t, t.Context(), event.Define[mine]("ONMYEVENT"), delivery(t, "event=ONMYEVENT&data[FIELDS][TITLE]=t"))
	require.NoError(t, err, "of an unknown event nobody knows the object")
	require.Equal(t, "t", p.Title)
}

func TestMisfitsAreBounded(t *testing.T) {
	t.Parallel()
	var form strings.Builder
	form.WriteString("event=ONX")
	for range 150 {
		form.WriteString("&data[L][]=x")
	}
	type payload struct {
		L []int `b24:"L"`
	}
	p, got, err := handled(t, t.Context(), event.Define[payload]("ONX"), delivery(t, form.String()))
	require.NoError(t, err)
	require.Len(t, p.L, 150)
	misfits := got.Misfits()
	require.Len(t, misfits, 101)
	require.Equal(t, "data.L.99", misfits[99].Path)
	require.Equal(t, event.Misfit{Path: "data.*", Want: "and 50 more"}, misfits[100])
}

// reporting is a context that returns a reporter, as the context type of a server may.
type reporting struct {
	context.Context //nolint:containedctx // it is a context

	report event.MisfitReporter
}

func (c reporting) Value(key any) any {
	if key == (event.MisfitReporterKey{}) {
		return c.report
	}
	return c.Context.Value(key)
}

func TestAContextCanAnswerForTheReporter(t *testing.T) {
	t.Parallel()
	reported := 0
	ctx := reporting{t.Context(), func(context.Context, *event.Delivery) { reported++ }}
	d := delivery(t, "event=ONVOXIMPLANTCALLEND&data[CALL_ID]=x&data[COST]=1,25")
	_, _, err := handled(t, ctx, event.OnVoximplantCallEnd, d)
	require.NoError(t, err)
	require.Equal(t, 1, reported)
	_, _, err = handled(t, event.WithMisfitReporter(ctx, nil), event.OnVoximplantCallEnd, d)
	require.NoError(t, err)
	require.Equal(t, 1, reported, "nil reports to nobody")
}

func TestPayloadTypesThatCanNeverDecode(t *testing.T) {
	t.Parallel()
	type channel struct{ C chan int }
	type option struct {
		ID int64 `b24:"ID,omitempty"`
	}
	require.PanicsWithValue(t, "event: Define of ONX: event_test.channel.C: no value fits a chan int",
		func() { event.Define[channel]("onx") })
	require.PanicsWithValue(t, "event: Define of ONX: event_test.option.ID: the tag b24 knows no option but rest, which stands alone",
		func() { event.Define[option]("ONX") })
	require.Panics(t, func() { event.Define[func()]("ONX") })
	require.NotPanics(t, func() { event.Define[map[string]any]("ONX"); event.Define[*part]("ONX"); event.Define[any]("ONX") })

	d := delivery(t, "event=ONX&data[a]=1")
	err := d.Data.Decode(&channel{})
	require.Error(t, err)
	require.NotErrorIs(t, err, event.ErrMalformed)
}

func TestDataFromJSON(t *testing.T) {
	t.Parallel()
	const doc = `{"b":[1.50,{"x":"9007199254740993"}],"a":null,"access_token":"secret"}`
	var in struct {
		Data event.Data     `json:"data"`
		Ptr  *event.Data    `json:"ptr"`
		Rows [][]event.Data `json:"rows"`
	}
	require.NoError(t, json.Unmarshal([]byte(`{"data":`+doc+`,"ptr":5,"rows":[[true]]}`), &in))
	require.Equal(t, doc, string(in.Data.JSON())) //nolint:testifylint // to the byte
	require.Equal(t, "1.50", in.Data.Get("b", "0").Text())
	require.Equal(t, "5", in.Ptr.Text())
	require.Equal(t, "1", in.Rows[0][0].Text())
	require.NotContains(t, fmt.Sprint(in.Data), "secret")
	require.NoError(t, json.Unmarshal([]byte(`{"data":null}`), &in))
	require.True(t, in.Data.IsZero())

	require.ErrorIs(t, in.Data.UnmarshalJSON([]byte(`{`)), event.ErrMalformed)
	require.ErrorIs(t, in.Data.UnmarshalJSON([]byte(strings.Repeat("[", 100)+strings.Repeat("]", 100))), event.ErrTooLarge)
	large := "[" + strings.Repeat("1,", 50_000) + "1]"
	require.NoError(t, in.Data.UnmarshalJSON([]byte(large)))
	require.Equal(t, large, string(in.Data.JSON()))
}

func TestTypedDecodeAllocates(t *testing.T) { //nolint:paralleltest // it counts allocations
	d := delivery(t, "event=ONCRMDEALUPDATE&data[FIELDS][ID]=7")
	var sum int64
	decode := func() {
		p, err := event.OnCrmDealUpdate.Decode(d)
		if err != nil {
			t.Fatal(err)
		}
		sum += p.ID
	}
	decode() // learns the type
	require.LessOrEqual(t, testing.AllocsPerRun(100, decode), 1.0, "the payload alone")
}

func TestDescriptorOfNothing(t *testing.T) {
	t.Parallel()
	var zero event.Descriptor[part]
	p, err := zero.Decode(delivery(t, "event=ONX&data[n]=5"))
	require.NoError(t, err)
	require.Equal(t, part{5}, p)
}
