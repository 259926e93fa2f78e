package values_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/values"
)

// tree reads JSON as an offline record does.
func tree(t *testing.T, doc string) phpform.Value {
	t.Helper()
	v, err := phpform.DecodeJSON([]byte(doc), phpform.Limits{Bytes: len(doc) + 1, Keys: len(doc) + 1})
	require.NoError(t, err)
	return v
}

// both decodes a document as a tree and as the result of a call, into new values of the target's
// type. It requires equal results and returns them.
func both(t *testing.T, doc string, target any) (any, []values.Misfit) {
	t.Helper()
	rules := values.New(nil)
	typ := reflect.TypeOf(target)
	fromTree, fromJSON := reflect.New(typ), reflect.New(typ)
	one, err := rules.Decode(tree(t, doc), nil, fromTree.Interface())
	require.NoError(t, err)
	other, err := rules.Unmarshal([]byte(doc), nil, fromJSON.Interface())
	require.NoError(t, err)
	require.Equal(t, fromTree.Elem().Interface(), fromJSON.Elem().Interface(), "the sources agree")
	require.Equal(t, one.Misfits, other.Misfits, "the sources agree")
	return fromTree.Elem().Interface(), one.Misfits
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text   string
		target any
		want   any // nil: it does not fit
	}{
		{"7", int64(0), int64(7)},
		{"-7", int64(0), int64(-7)},
		{"+7", int64(0), int64(7)},
		{"07", int64(0), int64(7)},
		{" 7 ", int64(0), int64(7)},
		{"7\u00a0", int64(0), int64(7)},
		{"-0", int64(0), int64(0)},
		{"7.0", int64(0), int64(7)},
		{"7.", int64(0), int64(7)},
		{".0", int64(0), int64(0)},
		{"1e3", int64(0), int64(1000)},
		{"1.5e1", int64(0), int64(15)},
		{"150e-1", int64(0), int64(15)},
		{"15e-1", int64(0), nil},
		{"7.5", int64(0), nil},
		{"9007199254740993", int64(0), int64(9007199254740993)},
		{"9007199254740993.0", int64(0), int64(9007199254740993)},
		{"9007199254740993e0", int64(0), int64(9007199254740993)},
		{"1.00000000000000000001", int64(0), nil},
		{"9223372036854775807", int64(0), int64(math.MaxInt64)},
		{"9223372036854775808", int64(0), nil},
		{"-9223372036854775808", int64(0), int64(math.MinInt64)},
		{"-9223372036854775808.0", int64(0), int64(math.MinInt64)},
		{"-9223372036854775809", int64(0), nil},
		{"92233720368547758070e-1", int64(0), int64(math.MaxInt64)},
		{"0x1p4", int64(0), nil},
		{"0x10", int64(0), nil},
		{"1_000", int64(0), nil},
		{"1,000", int64(0), nil},
		{"1 000", int64(0), nil},
		{"Inf", int64(0), nil},
		{"e1", int64(0), nil},
		{"1e", int64(0), nil},
		{".", int64(0), nil},
		{"-", int64(0), nil},
		{"--1", int64(0), nil},
		{"1e999999999", int64(0), nil},
		{"0e999999999", int64(0), int64(0)},
		{"1e-999999999", int64(0), nil},
		{"1e99999999999999999999999999", int64(0), nil},
		{"0." + strings.Repeat("0", 1000) + "1e1001", int64(0), int64(1)},
		{strings.Repeat("0", 1000) + "7", int64(0), int64(7)},
		{"300", int8(0), nil},
		{"-128", int8(0), int8(-128)},
		{"255", uint8(0), uint8(255)},
		{"256", uint8(0), nil},
		{"-1", uint8(0), nil},
		{"-0", uint8(0), uint8(0)},
		{"18446744073709551615", uint64(0), uint64(math.MaxUint64)},
		{"18446744073709551615.00", uint64(0), uint64(math.MaxUint64)},
		{"18446744073709551616", uint64(0), nil},
		{"1.25", float64(0), 1.25},
		{".5", float64(0), 0.5},
		{"1e400", float64(0), nil},
		{"1e-400", float64(0), nil},
		{"0e-400", float64(0), float64(0)},
		{"1,25", float64(0), nil},
		{"0x1p4", float64(0), nil},
		{"1_000", float64(0), nil},
		{"Infinity", float64(0), nil},
		{"NaN", float64(0), nil},
		{"1e39", float32(0), nil},
		{"1e38", float32(0), float32(1e38)},
		{"0.1", float32(0), float32(0.1)},
		{"12.50", json.Number(""), json.Number("12.50")},
		{"twelve", json.Number(""), nil},
		{"1500000000", time.Duration(0), 1500 * time.Millisecond},
	} {
		t.Run(fmt.Sprintf("%T of %.30q", tc.target, tc.text), func(t *testing.T) {
			t.Parallel()
			doc, err := json.Marshal(tc.text)
			require.NoError(t, err)
			got, misfits := both(t, string(doc), tc.target)
			if tc.want == nil {
				require.Len(t, misfits, 1)
				require.Zero(t, got)
				return
			}
			require.Empty(t, misfits)
			require.Equal(t, tc.want, got)
		})
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	moment := time.Date(2025, 1, 15, 8, 30, 0, 0, time.UTC)
	for _, tc := range []struct {
		text string
		want time.Time
		fits bool
	}{
		{"2025-01-15T10:30:00+02:00", moment, true},
		{"2025-01-15T10:30:00+0200", moment, true},
		{"2025-01-15T08:30:00Z", moment, true},
		{"2025-01-15T08:30:00.5Z", moment.Add(time.Second / 2), true},
		{"2025-01-15T08:30:00", moment, true}, // without a zone it is UTC
		{"2025-01-15 08:30:00", moment, true},
		{"15.01.2025 08:30:00", moment, true},
		{"2025-01-15", moment.Truncate(24 * time.Hour), true},
		{"15.01.2025", moment.Truncate(24 * time.Hour), true},
		{"1736929800", moment, true},
		{"1736929800.0", moment, true},
		{"100000000", time.Unix(100000000, 0), true},
		{"", time.Time{}, true},
		{"0", time.Time{}, true},
		{"0000-00-00", time.Time{}, true},
		{"0000-00-00 00:00:00", time.Time{}, true},
		{"undefined", time.Time{}, true},
		{"2024", time.Time{}, false},
		{"20240131", time.Time{}, false},
		{"20240131120000", time.Time{}, false},
		{"1e9", time.Time{}, false},
		{"-1736929800", time.Time{}, false},
		{"1736929800.5", time.Time{}, false},
		{"1736929800000", time.Time{}, false},
		{"2025-01-15T10:30:00+24:00", time.Time{}, false},
		{"0000-01-01T00:00:00+23:00", time.Time{}, false},
		{"9999-12-31T23:59:59-23:00", time.Time{}, false},
		{"2025-02-30", time.Time{}, false},
		{"01/15/2025", time.Time{}, false},
		{"tomorrow", time.Time{}, false},
		{"12:30", time.Time{}, false},
	} {
		t.Run(tc.text, func(t *testing.T) {
			t.Parallel()
			got, misfits := both(t, strconv.Quote(tc.text), time.Time{})
			when, _ := got.(time.Time)
			require.Equal(t, tc.fits, len(misfits) == 0)
			require.True(t, tc.want.Equal(when), when)
			_, err := json.Marshal(when)
			require.NoError(t, err)
			_, err = json.Marshal(when.UTC())
			require.NoError(t, err)
		})
	}
}

func TestEmpty(t *testing.T) {
	t.Parallel()
	type inner struct{ A int }
	for _, doc := range []string{`""`, `null`, `false`, `[]`, `{}`, `"undefined"`} {
		for _, target := range []any{
			int64(0), uint8(0), float64(0), false,
			time.Time{},
			json.Number(""), time.Duration(0),
			inner{},
			[2]int{},
			(*int64)(nil), (*inner)(nil), (*time.Time)(nil),
			big.Int{},
			(*big.Int)(nil),
			netip.Addr{},
			[]byte(nil), upper(""),
		} {
			t.Run(fmt.Sprintf("%T of %s", target, doc), func(t *testing.T) {
				t.Parallel()
				got, misfits := both(t, doc, target)
				require.Empty(t, misfits)
				require.Equal(t, target, got)
			})
		}
		for _, target := range []any{[]int64(nil), map[string]int(nil), []inner(nil), map[int64]inner(nil)} {
			t.Run(fmt.Sprintf("%T of %s", target, doc), func(t *testing.T) {
				t.Parallel()
				got, misfits := both(t, doc, target)
				require.Empty(t, misfits)
				require.Empty(t, got)
				require.Equal(t, doc != "[]" && doc != "{}", reflect.ValueOf(got).IsNil(), "an empty list is not nil")
			})
		}
	}
}

func TestEmptyButAValue(t *testing.T) {
	t.Parallel()
	text, no := "", false
	got, _ := both(t, `""`, (*string)(nil))
	require.Equal(t, &text, got)
	got, _ = both(t, `false`, (*bool)(nil))
	require.Equal(t, &no, got)
	got, _ = both(t, `null`, (*string)(nil))
	require.Nil(t, got)
	got, _ = both(t, `"undefined"`, "")
	require.Equal(t, "undefined", got, "a text stays readable")
}

func TestEmptyLeavesTheTarget(t *testing.T) {
	t.Parallel()
	type target struct {
		N    int
		S    string
		T    time.Time
		In   struct{ A int }
		Free map[string]int
		List []int
		P    *int
	}
	one := 1
	for _, doc := range []string{`[]`, `null`, `{"N":null,"S":null,"T":"","In":[],"Free":[]}`, `{"absent":1}`} {
		got := target{N: 1, S: "s", T: time.Unix(1, 0), Free: map[string]int{"a": 1}, List: []int{1}, P: &one}
		want := got
		_, err := values.New(nil).Unmarshal([]byte(doc), nil, &got)
		require.NoError(t, err)
		require.Equal(t, want, got, doc)
	}
	got := target{List: []int{1}, P: &one, Free: map[string]int{"a": 1}}
	_, err := values.New(nil).Unmarshal([]byte(`{"List":null,"P":null,"Free":null}`), nil, &got)
	require.NoError(t, err)
	require.Equal(t, target{}, got)
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]bool{
		`"Y"`: true, `"y"`: true, `"1"`: true, `1`: true, `true`: true, `"true"`: true,
		`"N"`: false, `"n"`: false, `"0"`: false, `0`: false, `false`: false, `"false"`: false,
	} {
		got, misfits := both(t, doc, false)
		require.Empty(t, misfits, doc)
		require.Equal(t, want, got, doc)
	}
	for _, doc := range []string{`"yes"`, `2`, `"J"`, `[1]`, `"1.0"`} {
		got, misfits := both(t, doc, false)
		require.Equal(t, []values.Misfit{{Want: wantOf(doc)}}, misfits, doc)
		require.Equal(t, false, got)
	}
}

func wantOf(doc string) string {
	if doc[0] == '[' {
		return "a single value"
	}
	return "a flag (Y, N, 1, 0)"
}

func TestStringsTakeEveryScalar(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]string{
		`"a"`: "a", `"\u0421\ud83d\ude00\n"`: "С😀\n", `1.50`: "1.50", `true`: "1", `false`: "", `null`: "", `[]`: "",
		`"\ud800x"`: "\uFFFDx", `"\ud800\u0041"`: "\uFFFDA", `" a "`: " a ", `"\"\\\/\b\f\r\t"`: "\"\\/\b\f\r\t",
	} {
		got, misfits := both(t, doc, "")
		require.Empty(t, misfits, doc)
		require.Equal(t, want, got, doc)
	}
	_, misfits := both(t, `{"a":1}`, "")
	require.Equal(t, []values.Misfit{{Want: "a single value"}}, misfits)
}

func TestLists(t *testing.T) {
	t.Parallel()
	type row struct{ ID int }
	for _, tc := range []struct {
		doc     string
		want    any
		misfits []values.Misfit
	}{
		{`[1,"2"]`, []int{1, 2}, nil},
		{`{"0":1,"1":2}`, []int{1, 2}, nil},
		{`{"1":2,"0":1}`, []int{1, 2}, nil},
		{`{"1":1,"3":2}`, []int{1, 2}, nil},
		{`{"12":7}`, []int{7}, nil},
		{`5`, []int{5}, nil},
		{`[1,"x",3]`, []int{1, 0, 3}, []values.Misfit{{Path: "1", Want: "an integer of 64 bits"}}},
		{`[1,null,3]`, []int{1, 0, 3}, nil},
		{`{"items":[1]}`, []int(nil), []values.Misfit{{Want: "a list"}}},
		{`"x"`, []int(nil), []values.Misfit{{Want: "an integer of 64 bits"}}},
		{`[[1,2],3]`, [][]int{{1, 2}, {3}}, nil},
		{`[{"ID":1},{"ID":"2"}]`, []row{{1}, {2}}, nil},
		{`[{"ID":1},7]`, []row{{1}, {}}, []values.Misfit{{Path: "1", Want: "an object"}}},
		{`[1,2,3]`, [3]int{1, 2, 3}, nil},
		{`[1,2]`, [3]int{1, 2}, nil},
		{`7`, [3]int{7}, nil},
		{`[1,2,3,4,5]`, [3]int{1, 2, 3}, []values.Misfit{{Path: "3", Want: "in a list of 3"}}},
		{`"aGk="`, []byte("hi"), nil},
		{`"hi"`, []byte(nil), []values.Misfit{{Want: "text in base64"}}},
		{`[104,105]`, [2]byte{104, 105}, nil},
	} {
		t.Run(fmt.Sprintf("%T of %s", tc.want, tc.doc), func(t *testing.T) {
			t.Parallel()
			got, misfits := both(t, tc.doc, tc.want)
			require.Equal(t, tc.want, got)
			require.Equal(t, tc.misfits, misfits)
		})
	}
}

func TestMaps(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		doc     string
		want    any
		misfits []values.Misfit
	}{
		{`{"7":"1"}`, map[int64]int{7: 1}, nil},
		{`["a","b"]`, map[int]string{0: "a", 1: "b"}, nil},
		{`["a","b"]`, map[string]string{"0": "a", "1": "b"}, nil},
		{`{"x":1,"7":2}`, map[int64]int{7: 2}, []values.Misfit{{Path: "x", Want: "an integer of 64 bits"}}},
		{`{"":1,"7":2}`, map[int64]int{7: 2}, []values.Misfit{{Path: "*", Want: "a int64"}}},
		{`{"":1}`, map[string]int{"": 1}, nil},
		{`{"a":"x","b":2}`, map[string]int{"a": 0, "b": 2}, []values.Misfit{{Path: "a", Want: "an integer of 64 bits"}}},
		{`{"a b":"x"}`, map[string]int{"a b": 0}, []values.Misfit{{Path: "*", Want: "an integer of 64 bits"}}},
		{`5`, map[string]int(nil), []values.Misfit{{Want: "an object"}}},
		{`{"127.0.0.1":1}`, map[netip.Addr]int{netip.MustParseAddr("127.0.0.1"): 1}, nil},
		{`{"a":[1,2],"b":3}`, map[string][]int{"a": {1, 2}, "b": {3}}, nil},
	} {
		t.Run(fmt.Sprintf("%T of %s", tc.want, tc.doc), func(t *testing.T) {
			t.Parallel()
			got, misfits := both(t, tc.doc, tc.want)
			require.Equal(t, tc.want, got)
			require.Equal(t, tc.misfits, misfits)
		})
	}
}

// upper has a method for texts.
type upper string

func (u *upper) UnmarshalText(text []byte) error {
	if string(text) == "refuse" {
		return errors.New("refused: " + string(text))
	}
	*u = upper(strings.ToUpper(string(text)))
	return nil
}

// cents reads a JSON number only.
type cents struct{ n int64 }

func (c *cents) UnmarshalJSON(doc []byte) error {
	f, err := strconv.ParseFloat(string(doc), 64)
	c.n = int64(math.Round(f * 100))
	return err
}

func (c cents) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(c.n)/100, 'f', 2, 64), nil
}

// pair reads an object.
type pair struct{ doc string }

func (p *pair) UnmarshalJSON(doc []byte) error { p.doc = string(doc); return nil }

func TestMethods(t *testing.T) {
	t.Parallel()
	misfit := func(want string) []values.Misfit { return []values.Misfit{{Want: want}} }
	for _, tc := range []struct {
		doc     string
		want    any
		misfits []values.Misfit
	}{
		{`"a"`, upper("A"), nil},
		{`"refuse"`, upper(""), misfit("a values_test.upper")},
		{`["a"]`, upper(""), misfit("a values_test.upper")},
		{`12.5`, cents{1250}, nil},
		{`{"a":1}`, cents{}, misfit("a values_test.cents")},
		{`"x"`, cents{}, misfit("a values_test.cents")},
		{`{"a":[1,true,null]}`, pair{`{"a":[1,true,null]}`}, nil},
		{`123456789012345678901234567890`, *bigInt("123456789012345678901234567890"), nil},
	} {
		t.Run(fmt.Sprintf("%T of %s", tc.want, tc.doc), func(t *testing.T) {
			t.Parallel()
			got, misfits := both(t, tc.doc, tc.want)
			require.Equal(t, tc.want, got)
			require.Equal(t, tc.misfits, misfits)
		})
	}
	var c cents
	report, err := values.New(nil).Decode(phpform.Text("12.5"), nil, &c)
	require.NoError(t, err)
	require.Empty(t, report.Misfits)
	require.Equal(t, cents{1250}, c, "a form carries numbers as text")
	var p *pair
	_, err = values.New(nil).Unmarshal([]byte(`false`), nil, &p)
	require.NoError(t, err)
	require.Equal(t, &pair{"false"}, p, "what arrived goes to the method, empty or not")
}

func bigInt(text string) *big.Int {
	n, _ := new(big.Int).SetString(text, 10)
	return n
}

func TestRawAndAny(t *testing.T) {
	t.Parallel()
	rules := values.New(nil)
	const doc = `{"b": [1.50, {}],  "a":"\u0041"}`
	var raw json.RawMessage
	_, err := rules.Unmarshal([]byte(doc), nil, &raw)
	require.NoError(t, err)
	require.Equal(t, doc, string(raw), "a result stays as it came") //nolint:testifylint // to the byte
	var within struct {
		B json.RawMessage `json:"b"`
		A any             `json:"a"`
	}
	_, err = rules.Unmarshal([]byte(doc), nil, &within)
	require.NoError(t, err)
	require.Equal(t, `[1.50, {}]`, string(within.B))
	require.Equal(t, "A", within.A)
	_, err = rules.Decode(tree(t, doc), nil, &raw)
	require.NoError(t, err)
	require.JSONEq(t, `{"b":[1.50,[]],"a":"A"}`, string(raw))

	var any1, any2 any
	_, err = rules.Unmarshal([]byte(doc), nil, &any1)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal([]byte(doc), &any2))
	require.Equal(t, any2, any1)
	_, err = rules.Decode(tree(t, `1.50`), nil, &any1)
	require.NoError(t, err)
	require.Equal(t, json.Number("1.50"), any1, "events keep every digit")
	any1 = nil
	report, err := rules.Unmarshal([]byte(`[1e999]`), nil, &any1)
	require.NoError(t, err)
	require.Len(t, report.Misfits, 1)
}

func TestManyMisfits(t *testing.T) {
	t.Parallel()
	var list []int
	report, err := values.New(nil).Unmarshal([]byte(`["x"`+strings.Repeat(`,"x"`, 999)+`]`), nil, &list)
	require.NoError(t, err)
	require.Len(t, list, 1000)
	require.Len(t, report.Misfits, values.MaxMisfits)
	require.Equal(t, "99", report.Misfits[99].Path)
	require.Equal(t, 900, report.More)
}

func TestDeepDocuments(t *testing.T) {
	t.Parallel()
	const depth = 9000
	var dst Loop
	doc := strings.Repeat(`{"NEXT":`, depth) + `{"ID":"x","LIST":["x"` + strings.Repeat(`,"x"`, 200) + `]}` + strings.Repeat("}", depth)
	report, err := values.New(nil).Unmarshal([]byte(doc), nil, &dst)
	require.NoError(t, err)
	require.Len(t, report.Misfits, values.MaxMisfits)
	for _, m := range report.Misfits {
		require.True(t, strings.HasPrefix(m.Path, "NEXT.NEXT."))
		require.True(t, strings.HasSuffix(m.Path, ".*"))
		require.LessOrEqual(t, strings.Count(m.Path, "."), 64)
	}
}

func TestMistakesOfTheProgram(t *testing.T) {
	t.Parallel()
	var nothing *int
	for name, dst := range map[string]any{"nil": nil, "value": 1, "nil pointer": nothing} {
		_, err := values.New(nil).Decode(phpform.Text("1"), nil, dst)
		require.Error(t, err, name)
	}
}

func TestDocumentsThatAreNone(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{
		``, ` `, `{`, `[`, `"`, `"\`, `"\u12"`, `"\x"`, "\"\n\"", `{"a"}`, `{"a":}`, `{"a":1,}`, `[1,]`, `[1 2]`, `{a:1}`,
		`tru`, `nul`, `01`, `1.`, `.5`, `-`, `1e`, `+1`, `1 2`, `NaN`, `{"a":1 "b":2}`, `{1:2}`, strings.Repeat("[", 20_000),
		strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001),
	} {
		var dst any
		_, err := values.New(nil).Unmarshal([]byte(doc), nil, &dst)
		require.ErrorIs(t, err, values.ErrSyntax, "%.20s", doc)
		require.False(t, json.Valid([]byte(doc)), "%.20s", doc)
	}
}

//nolint:paralleltest // it counts allocations, which tests that run beside it would add to
func TestAllocations(t *testing.T) {
	type fields struct {
		ID    int64     `b24:"FIELDS.ID|ID"`
		Name  string    `b24:"FIELDS.NAME"`
		Cost  float64   `b24:"FIELDS.COST"`
		Paid  bool      `b24:"FIELDS.PAID"`
		When  time.Time `b24:"FIELDS.WHEN"`
		Inner struct {
			A int `json:"a"`
		} `json:"INNER"`
	}
	v, err := phpform.Decode("FIELDS[ID]=42&FIELDS[NAME]=n&FIELDS[COST]=1.5&FIELDS[PAID]=Y&"+
		"FIELDS[WHEN]=2025-01-15T10:30:00%2B03:00&INNER[a]=5", phpform.Limits{})
	require.NoError(t, err)
	rules := values.New(nil)
	var dst fields
	decode := func() {
		if report, err := rules.Decode(v, nil, &dst); err != nil || len(report.Misfits) > 0 {
			t.Fatal(report, err)
		}
	}
	decode() // learns the type
	require.Zero(t, testing.AllocsPerRun(100, decode))
	require.EqualValues(t, 42, dst.ID)
	require.Equal(t, 5, dst.Inner.A)
}

type (
	listOfLists     []listOfLists
	pointerToItself *pointerToItself
	holdsItself     struct {
		Inner []holdsItself `b24:"."`
	}
)

// TestAValueForAListOfItself must end: a single value fills a list, whose element is a list again.
func TestAValueForAListOfItself(t *testing.T) {
	t.Parallel()
	rules := values.New(nil)
	for name, target := range map[string]func() any{
		"list":    func() any { return new(listOfLists) },
		"pointer": func() any { return new(pointerToItself) },
		"struct":  func() any { return new(holdsItself) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, rules.Check(reflect.TypeOf(target()).Elem()))
			report, err := rules.Decode(phpform.Text("x"), nil, target())
			require.NoError(t, err)
			require.Len(t, report.Misfits, 1)
			require.Equal(t, "nested less deeply", report.Misfits[0].Want)

			report, err = rules.Unmarshal([]byte(`"x"`), nil, target())
			require.NoError(t, err)
			require.Len(t, report.Misfits, 1)

			report, err = rules.Unmarshal([]byte(`[]`), nil, target())
			require.NoError(t, err)
			require.Empty(t, report.Misfits)
		})
	}
}
