package event_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

// upper is a scalar type of the user's own.
type upper string

func (u *upper) UnmarshalText(text []byte) error {
	if string(text) == "refuse" {
		return errors.New("refused: " + string(text))
	}
	*u = upper(strings.ToUpper(string(text)))
	return nil
}

type base struct {
	Base string `b24:"BASE"`
}

type part struct {
	N int `json:"n"`
}

type everything struct {
	base

	ID     int64   `b24:"FIELDS.ID|ID"`
	Small  int8    `b24:"SMALL"`
	Count  uint16  `b24:"COUNT"`
	Price  float64 `b24:"PRICE"`
	Paid   bool    `b24:"PAID"`
	Name   string  `json:"name,omitempty"`
	Plain  string
	At     time.Time      `b24:"AT"`
	Token  event.Secret   `b24:"TOKEN"`
	Custom upper          `b24:"CUSTOM"`
	IDs    []int64        `b24:"IDS"`
	Parts  []part         `b24:"PARTS"`
	Maybe  *part          `b24:"MAYBE"`
	ByID   map[int64]part `b24:"BYID"`
	Free   map[string]any `b24:"FREE"`
	Any    any            `b24:"ANY"`
	Raw    event.Data     `b24:"RAW"`
	Skip   string         `b24:"-"`
	Hidden string         `json:"-"`
	Rest   map[string]any `b24:",rest"`
}

func TestDecodeTolerates(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		form, json string
		want       everything
	}{
		"integer as text and number": {"data[ID]=7", `{"ID":7}`, everything{ID: 7}},
		"whole float":                {"data[ID]=7.0", `{"ID":7.0}`, everything{ID: 7}},
		"nested first":               {"data[FIELDS][ID]=1&data[ID]=2", `{"FIELDS":{"ID":1},"ID":2}`, everything{ID: 1}},
		"empty falls through":        {"data[FIELDS][ID]=&data[ID]=2", `{"FIELDS":{"ID":null},"ID":2}`, everything{ID: 2}},
		"other case":                 {"data[fields][id]=3", `{"Fields":{"Id":3}}`, everything{ID: 3}},
		"exact case wins":            {"data[id]=3&data[ID]=4", `{"id":3,"ID":4}`, everything{ID: 4}},
		"empty for zero":             {"data[ID]=&data[PAID]=&data[AT]=&data[PRICE]=&data[IDS]=&data[MAYBE]=&data[FREE]=&data[PARTS]=", `{"ID":"","PAID":"","AT":"","PRICE":"","IDS":"","MAYBE":"","FREE":"","PARTS":""}`, everything{}},
		"undefined for nothing":      {"data[ID]=undefined&data[MAYBE]=undefined&data[PAID]=undefined", `{"ID":"undefined","MAYBE":"undefined","PAID":"undefined"}`, everything{}},
		"undefined in a string":      {"data[name]=undefined", `{"name":"undefined"}`, everything{Name: "undefined"}},
		"yes":                        {"data[PAID]=Y", `{"PAID":true}`, everything{Paid: true}},
		"one":                        {"data[PAID]=1", `{"PAID":1}`, everything{Paid: true}},
		"no":                         {"data[PAID]=N", `{"PAID":false}`, everything{}},
		"zero":                       {"data[PAID]=0", `{"PAID":0}`, everything{}},
		"spaces":                     {"data[ID]=+7+", `{"ID":" 7 "}`, everything{ID: 7}},
		"json name and Go name":      {"data[name]=a&data[plain]=b", `{"name":"a","Plain":"b"}`, everything{Name: "a", Plain: "b"}},
		"embedded":                   {"data[BASE]=b", `{"BASE":"b"}`, everything{base: base{Base: "b"}}},
		"date and time":              {"data[AT]=2024-04-05T10:00:00%2B03:00", `{"AT":"2024-04-05T10:00:00+03:00"}`, everything{At: time.Date(2024, 4, 5, 10, 0, 0, 0, time.FixedZone("", 3*3600))}},
		"date":                       {"data[AT]=2024-04-05", `{"AT":"2024-04-05"}`, everything{At: time.Date(2024, 4, 5, 0, 0, 0, 0, time.UTC)}},
		"unix":                       {"data[AT]=1727018926", `{"AT":1727018926}`, everything{At: time.Unix(1727018926, 0).UTC()}},
		"secret":                     {"data[TOKEN]=s", `{"TOKEN":"s"}`, everything{Token: "s"}},
		"own scalar":                 {"data[CUSTOM]=a", `{"CUSTOM":"a"}`, everything{Custom: "A"}},
		"own scalar, empty":          {"data[CUSTOM]=", `{"CUSTOM":null}`, everything{}},
		"list":                       {"data[IDS][]=1&data[IDS][]=2", `{"IDS":["1",2]}`, everything{IDs: []int64{1, 2}}},
		"scalar for a list":          {"data[IDS]=5", `{"IDS":5}`, everything{IDs: []int64{5}}},
		"list with a gap":            {"data[IDS][1]=1&data[IDS][3]=2", `{"IDS":{"1":1,"3":2}}`, everything{IDs: []int64{1, 2}}},
		"list out of order":          {"data[IDS][1]=2&data[IDS][0]=1", `{"IDS":{"1":2,"0":1}}`, everything{IDs: []int64{1, 2}}},
		"structs":                    {"data[PARTS][0][n]=1&data[MAYBE][n]=2", `{"PARTS":[{"n":1}],"MAYBE":{"n":2}}`, everything{Parts: []part{{1}}, Maybe: &part{2}}},
		"map by id":                  {"data[BYID][7][n]=1", `{"BYID":{"7":{"n":1}}}`, everything{ByID: map[int64]part{7: {1}}}},
		"list for a map":             {"data[BYID][0][n]=1", `{"BYID":[{"n":1}]}`, everything{ByID: map[int64]part{0: {1}}}},
		"free map":                   {"data[FREE][a]=b", `{"FREE":{"a":"b"}}`, everything{Free: map[string]any{"a": "b"}}},
		"anything":                   {"data[ANY][]=b", `{"ANY":["b"]}`, everything{Any: []any{"b"}}},
		"the rest":                   {"data[x]=1&data[ID]=2", `{"x":"1","ID":2}`, everything{ID: 2, Rest: map[string]any{"x": "1"}}},
		"no section":                 {"x=1", `null`, everything{}},
		"false section":              {"data=", `false`, everything{}},
		"empty list section":         {"data=", `[]`, everything{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got everything
			d := delivery(t, "event=ONX&"+tc.form)
			require.NoError(t, d.Data.Decode(&got))
			equal(t, tc.want, got)

			data, err := event.ParseData([]byte(tc.json))
			require.NoError(t, err)
			var fromJSON everything
			require.NoError(t, data.Decode(&fromJSON))
			equal(t, tc.want, fromJSON)
		})
	}
}

// equal compares times as moments.
func equal(t *testing.T, want, got everything) {
	t.Helper()
	require.True(t, want.At.Equal(got.At))
	want.At, got.At = time.Time{}, time.Time{}
	require.Equal(t, want, got)
}

func TestDecodeNamesThePathNeverTheValue(t *testing.T) {
	t.Parallel()
	const value = "planted-value"
	for name, tc := range map[string]struct{ form, path string }{
		"integer":              {"data[FIELDS][ID]=" + value, "data.FIELDS.ID"},
		"second alternative":   {"data[ID]=" + value, "data.ID"},
		"fraction":             {"data[ID]=7.5", "data.ID"},
		"too large":            {"data[SMALL]=300", "data.SMALL"},
		"beyond 64 bits":       {"data[ID]=99999999999999999999", "data.ID"},
		"negative":             {"data[COUNT]=-1", "data.COUNT"},
		"number":               {"data[PRICE]=" + value, "data.PRICE"},
		"not a number":         {"data[PRICE]=NaN", "data.PRICE"},
		"flag":                 {"data[PAID]=" + value, "data.PAID"},
		"time":                 {"data[AT]=" + value, "data.AT"},
		"time beyond years":    {"data[AT]=999999999999999", "data.AT"},
		"own scalar":           {"data[CUSTOM]=refuse", "data.CUSTOM"},
		"own scalar, array":    {"data[CUSTOM][a]=" + value, "data.CUSTOM"},
		"array for a scalar":   {"data[name][a]=" + value, "data.name"},
		"scalar for an object": {"data[MAYBE]=" + value, "data.MAYBE"},
		"scalar for a map":     {"data[BYID]=" + value, "data.BYID"},
		"inside a list":        {"data[PARTS][0][n]=" + value, "data.PARTS.0.n"},
		"inside a map":         {"data[BYID][7][n]=" + value, "data.BYID.7.n"},
		"hostile map key":      {"data[BYID][" + value + "+x][n]=1", "data.BYID.*"},
		"scalar section":       {"data=" + value, "data"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got everything
			err := delivery(t, "event=ONX&"+tc.form).Data.Decode(&got)
			var de *event.DecodeError
			require.ErrorAs(t, err, &de)
			require.ErrorIs(t, err, event.ErrMalformed)
			require.Equal(t, tc.path, de.Path)
			require.NotContains(t, err.Error(), value)
		})
	}
}

func TestDecodeMistakesOfTheProgram(t *testing.T) {
	t.Parallel()
	d := delivery(t, "event=ONX&data[a]=1").Data
	var nilPointer *everything
	for name, dst := range map[string]any{
		"no pointer":  everything{},
		"nil pointer": nilPointer,
		"nil":         nil,
		"channel":     &struct{ A chan int }{},
		"interface":   &struct{ A error }{},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := d.Decode(dst)
			require.Error(t, err)
			require.NotErrorIs(t, err, event.ErrMalformed, "it is no fault of the body")
		})
	}
}

func TestNewDataIsTheInverse(t *testing.T) {
	t.Parallel()
	want := everything{
		base: base{Base: "b"}, ID: 7, Small: -1, Count: 3, Price: 1.5, Paid: true, Name: "n", Plain: "p",
		At: time.Date(2024, 4, 5, 10, 0, 0, 0, time.UTC), Token: "secret", Custom: "A", IDs: []int64{1, 2},
		Parts: []part{{1}}, Maybe: &part{2}, ByID: map[int64]part{7: {1}}, Free: map[string]any{"a": []any{"b"}}, Any: "x",
		Rest: map[string]any{"z": "1"},
	}
	data, err := event.NewData(want)
	require.NoError(t, err)
	require.Equal(t, "7", data.Get("FIELDS", "ID").Text())
	var got everything
	require.NoError(t, data.Decode(&got))
	equal(t, want, got)
}

func TestNewDataForms(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   any
		want any
	}{
		"nil":              {nil, nil},
		"scalar":           {107, json.Number("107")},
		"unsigned":         {uint8(7), json.Number("7")},
		"float":            {1.5, json.Number("1.5")},
		"float as JSON":    {1e21, json.Number("1e+21")},
		"number":           {json.Number("1.50"), json.Number("1.50")},
		"bool":             {true, true},
		"map":              {map[string]any{"b": 1, "a": "x"}, map[string]any{"a": "x", "b": json.Number("1")}},
		"list":             {[]string{"a"}, []any{"a"}},
		"JSON":             {json.RawMessage(`{"b":[1,"x"]}`), map[string]any{"b": []any{json.Number("1"), "x"}}},
		"no JSON":          {json.RawMessage(nil), nil},
		"zero time":        {time.Time{}, ""},
		"pointer":          {&part{N: 1}, map[string]any{"n": json.Number("1")}},
		"payload":          {event.CRMEntity{ID: 7}, map[string]any{"FIELDS": map[string]any{"ID": json.Number("7")}}},
		"flat and section": {event.Task{ID: 5}, map[string]any{"FIELDS_AFTER": map[string]any{"ID": json.Number("5")}}},
		"deleted":          {event.Task{ID: 5, Before: &event.TaskFields{ID: 5}}, map[string]any{"FIELDS_BEFORE": map[string]any{"ID": json.Number("5")}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := event.NewData(tc.in)
			require.NoError(t, err)
			require.Equal(t, tc.want, data.Value())
		})
	}
	cycle := map[string]any{}
	cycle["self"] = cycle
	for name, in := range map[string]any{"channel": make(chan int), "cycle": cycle, "function": func() {}, "JSON": json.RawMessage("{")} {
		_, err := event.NewData(in)
		require.Error(t, err, name)
	}
}

func TestParseDataRefuses(t *testing.T) {
	t.Parallel()
	_, err := event.ParseData([]byte(`{"a":`))
	require.ErrorIs(t, err, event.ErrMalformed)
	_, err = event.ParseData([]byte(strings.Repeat("[", 5000)))
	require.ErrorIs(t, err, event.ErrTooLarge)
}
