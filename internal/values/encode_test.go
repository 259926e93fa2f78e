package values_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/values"
)

type section struct {
	Before *Base `json:"BEFORE"`
	After  *Base `json:"AFTER"`
	ID     int64 `b24:"AFTER.ID|BEFORE.ID" json:"ID"`
}

func TestEncodeIsTheInverse(t *testing.T) {
	t.Parallel()
	text, number, no := "", 7, false
	moment := time.Date(2025, 1, 15, 10, 30, 0, 123456789, time.FixedZone("", 2*3600))
	for _, want := range []any{
		int64(math.MinInt64), int64(math.MaxInt64), int8(-128), uint64(math.MaxUint64), uint8(255),
		1.5, 1e300, 5e-324, float32(0.1), float32(1e38), true, false, "text", "undefined", "",
		time.Second, moment, moment.UTC(), time.Unix(0, 0).UTC(),
		time.Time{},
		time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		json.Number("1.50"), json.RawMessage(`{"a":[1,"x",null]}`),
		[]int{1, 2},
		[]int{},
		[]int(nil),
		[][]int{{1}, nil, {}},
		[3]int{1, 0, 3},
		[]byte("text"),
		[2]byte{1, 2},
		[]string{"", "a"},
		map[string]int{"a": 1},
		map[string]int{},
		map[int64]string{-7: "a"},
		map[bool]int{true: 1},
		map[netip.Addr]int{netip.MustParseAddr("::1"): 1},
		&number, &text, &no,
		[]*int{&number, nil},
		upper("A"),
		cents{1250},
		*bigInt("-123456789012345678901234567890"),
		netip.MustParseAddr("127.0.0.1"),
		map[string]any{"a": []any{"b", true, json.Number("1")}},
		Base{7, "b"},
		&Base{ID: 7},
		[]Base{{}, {ID: 1}},
		outer{Inner: Inner{Free: 8}, ID: "7", Free: "8"},
		tagged{Base2: &Base2{"s"}, lower: lower{"l"}, Dots: "d", Bars: "b", Dash: "-", Quoted: `"q`, Count: 5, Path: "p", Bad: "b"},
		section{ID: 7, After: &Base{ID: 7, Base: "b"}},
		section{ID: 7, Before: &Base{ID: 7}},
		Loop{ID: 1, Next: &Loop{ID: 2}, List: []Loop{{ID: 3}}},
		struct {
			ID   int            `b24:"FIELDS.ID"`
			Rest map[string]any `b24:",rest"`
		}{7, map[string]any{"a": "x"}},
	} {
		t.Run(fmt.Sprintf("%T", want), func(t *testing.T) {
			t.Parallel()
			rules := values.New(nil)
			v, err := rules.Encode(want)
			require.NoError(t, err)
			for how, read := range map[string]func(dst any) (values.Report, error){
				"tree": func(dst any) (values.Report, error) { return rules.Decode(v, nil, dst) },
				"JSON": func(dst any) (values.Report, error) { return rules.Unmarshal(v.AppendJSON(nil), nil, dst) },
			} {
				got := reflect.New(reflect.TypeOf(want))
				report, err := read(got.Interface())
				require.NoError(t, err, how)
				require.Empty(t, report.Misfits, how)
				if how == "JSON" && strings.Contains(got.Elem().Type().String(), "interface {}") {
					continue // numbers in an any are float64
				}
				if when, ok := want.(time.Time); ok {
					require.True(t, when.Equal(got.Elem().Interface().(time.Time)), how) //nolint:forcetypeassert // the same type
					continue
				}
				require.Equal(t, want, got.Elem().Interface(), how)
			}
		})
	}
}

type failing struct{}

func (failing) MarshalText() ([]byte, error) { return nil, errors.New("planted-value") }

type noJSON struct{}

func (noJSON) MarshalJSON() ([]byte, error) { return []byte("{planted-value"), nil }

type readOnly struct{ A int }

func (*readOnly) UnmarshalText([]byte) error { return nil }

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	cycle := map[string]any{}
	cycle["self"] = cycle
	for name, in := range map[string]any{
		"channel": make(chan int), "function": func() {}, "complex": 1i, "NaN": math.NaN(), "infinity": []float64{math.Inf(1)},
		"cycle": cycle, "JSON": json.RawMessage("{"), "number": json.Number("planted-value"), "text": failing{}, "own JSON": noJSON{},
		"read only": readOnly{1}, "years": time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), "keys": map[any]int{"1": 1, 1: 2},
		"object key": map[[1]int]int{{1}: 1}, "tag": struct {
			A int `b24:"A,omitempty"`
		}{1},
	} {
		_, err := values.New(nil).Encode(in)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "planted-value", name)
	}
}

func TestEncodeForms(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   any
		want string
	}{
		"nil":              {nil, `null`},
		"nil pointer":      {(*int)(nil), `null`},
		"nil method":       {(*big.Int)(nil), `null`},
		"zero time":        {time.Time{}, `""`},
		"zone of seconds":  {time.Date(1900, 1, 1, 0, 0, 0, 0, time.FixedZone("", 9017)), `"1899-12-31T21:29:43Z"`},
		"zero fields":      {Base{}, `null`},
		"float":            {1e21, `1e+21`},
		"short float":      {float32(0.1), `0.1`},
		"no number":        {json.Number(""), `""`},
		"keys in order":    {map[string]int{"b": 1, "a": 2}, `{"a":2,"b":1}`},
		"nil key and text": {map[any]int{"a": 1, 1: 2}, `{"1":2,"a":1}`},
		"value":            {struct{ V *cents }{&cents{1250}}, `{"V":12.50}`},
	} {
		v, err := values.New(nil).Encode(tc.in)
		require.NoError(t, err, name)
		require.Equal(t, tc.want, string(v.AppendJSON(nil)), name)
	}
	v, err := values.New(map[reflect.Type]values.Special{
		reflect.TypeFor[upper](): {Encode: func(any) phpform.Value { return phpform.Text("special") }},
	}).Encode([]upper{"A"})
	require.NoError(t, err)
	require.JSONEq(t, `["special"]`, string(v.AppendJSON(nil)))
}
