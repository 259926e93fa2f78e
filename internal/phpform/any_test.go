package phpform_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/phpform"
)

type (
	namedString string
	namedInt    int8
	namedSlice  []namedString
	namedMap    map[namedString]namedInt
	namedBytes  []byte
	selfPointer *selfPointer
)

// String and MarshalText must not be called.
func (namedString) String() string               { return "String called" }
func (namedString) MarshalText() ([]byte, error) { return []byte("MarshalText called"), nil }

func TestFromAny(t *testing.T) {
	t.Parallel()
	number, entry := phpform.NumberText, func(key string, v phpform.Value) phpform.Entry { return phpform.Entry{Key: key, Value: v} }
	three := 3
	for _, c := range []struct {
		name string
		v    any
		want phpform.Value
	}{
		{"nil", nil, phpform.Value{}},
		{"bool", true, phpform.Boolean(true)},
		{"string", "a", phpform.Text("a")},
		{"json.Number", json.Number("1.50"), number("1.50")},
		{"int", -1, number("-1")},
		{"int8", int8(math.MinInt8), number("-128")},
		{"int64", int64(math.MinInt64), number("-9223372036854775808")},
		{"uint64", uint64(math.MaxUint64), number("18446744073709551615")},
		{"uintptr", uintptr(7), number("7")},
		{"float64", 1.5, number("1.5")},
		{"whole float64", 1e20, number("100000000000000000000")},
		{"large float64", 1e21, number("1e+21")},
		{"small float64", 1e-7, number("1e-07")},
		{"zero float64", 0.0, number("0")},
		{"float32", float32(0.1), number("0.1")},
		{"named string", namedString("a"), phpform.Text("a")},
		{"named int", namedInt(4), number("4")},
		{"value", phpform.Text("a"), phpform.Text("a")},
		{"slice", []any{1, "a", nil, []any{}}, phpform.List(number("1"), phpform.Text("a"), phpform.Value{}, phpform.Map())},
		{"nil slice", []any(nil), phpform.Map()},
		{"array", [2]bool{true}, phpform.List(phpform.Boolean(true), phpform.Boolean(false))},
		{"named slice", namedSlice{"a"}, phpform.List(phpform.Text("a"))},
		{"slice of values", []phpform.Value{phpform.Int(1)}, phpform.List(number("1"))},
		{"map in the order of keys", map[string]any{"b": 1, "a": map[string]string{"x": "y"}}, phpform.Map(
			entry("a", phpform.Map(entry("x", phpform.Text("y")))), entry("b", number("1")),
		)},
		{"nil map", map[string]any(nil), phpform.Map()},
		{"named map", namedMap{"b": 2, "a": 1}, phpform.Map(entry("a", number("1")), entry("b", number("2")))},
		{"map of integers", map[int]string{10: "c", 9: "b", -1: "a"}, phpform.Map(
			entry("-1", phpform.Text("a")), entry("9", phpform.Text("b")), entry("10", phpform.Text("c")),
		)},
		{"map of unsigned integers", map[uint8]int{200: 2, 9: 1}, phpform.Map(entry("9", number("1")), entry("200", number("2")))},
		{"pointer", &three, number("3")},
		{"nil pointer", (*int)(nil), phpform.Value{}},
		{"pointer to a map", &map[string]*int{"a": &three, "b": nil}, phpform.Map(entry("a", number("3")), entry("b", phpform.Value{}))},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := phpform.FromAny(c.v)
			require.NoError(t, err)
			requireSame(t, c.want, got)
		})
	}
}

func TestFromAnyErrors(t *testing.T) {
	t.Parallel()
	inMap := map[string]any{}
	inMap["a"] = []any{inMap, inMap}
	inSlice := []any{nil}
	inSlice[0] = inSlice
	var pointer selfPointer
	pointer = &pointer
	deep := any("s3cr3t")
	for range 100 {
		deep = []any{deep}
	}
	for _, c := range []struct {
		name string
		v    any
		want error
	}{
		{"struct", struct{ A string }{"s3cr3t"}, phpform.ErrType},
		{"time", time.Now(), phpform.ErrType},
		{"channel", make(chan int), phpform.ErrType},
		{"function", func() {}, phpform.ErrType},
		{"complex", 1i, phpform.ErrType},
		{"bytes", []byte("s3cr3t"), phpform.ErrType},
		{"named bytes", namedBytes("s3cr3t"), phpform.ErrType},
		{"raw JSON", json.RawMessage(`"s3cr3t"`), phpform.ErrType},
		{"map with other keys", map[float64]string{1: "s3cr3t"}, phpform.ErrType},
		{"map with keys of any type", map[any]any{"s3cr3t": 1}, phpform.ErrType},
		{"inside", map[string]any{"s3cr3t": []any{"s3cr3t", struct{}{}}}, phpform.ErrType},
		{"NaN", math.NaN(), phpform.ErrNumber},
		{"infinity", []float32{float32(math.Inf(-1))}, phpform.ErrNumber},
		{"json.Number that is none", json.Number("s3cr3t"), phpform.ErrNumber},
		{"empty json.Number", json.Number(""), phpform.ErrNumber},
		{"map in itself", inMap, phpform.ErrTooDeep},
		{"slice in itself", inSlice, phpform.ErrTooDeep},
		{"pointer to itself", pointer, phpform.ErrTooDeep},
		{"deep", deep, phpform.ErrTooDeep},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := phpform.FromAny(c.v)
			require.ErrorIs(t, err, c.want)
			require.NotContains(t, err.Error(), "s3cr3t")
			require.Equal(t, phpform.Value{}, got)
		})
	}
}

func TestFromAnyTakesWhatDecodeGives(t *testing.T) {
	t.Parallel()
	doc := []byte(`{"a":[1,"2",true,null,[],{"x":1.50}],"b":{"1":"y"}}`)
	v, err := phpform.DecodeJSON(doc, phpform.Limits{})
	require.NoError(t, err)
	again, err := phpform.FromAny(v.Any())
	require.NoError(t, err)
	requireSame(t, v, again)
}

func TestAny(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, doc string
		want      any
	}{
		{"null", `null`, nil},
		{"bool", `true`, true},
		{"string", `"a"`, "a"},
		{"number", `1.50`, json.Number("1.50")},
		{"empty object", `{}`, []any{}},
		{"list", `[1,null]`, []any{json.Number("1"), nil}},
		{"object with the keys of a list", `{"1":"b","0":"a"}`, []any{"a", "b"}},
		{"map", `{"a":{"b":[false]}}`, map[string]any{"a": map[string]any{"b": []any{false}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v, err := phpform.DecodeJSON([]byte(c.doc), phpform.Limits{})
			require.NoError(t, err)
			require.Equal(t, c.want, v.Any())
		})
	}
}
