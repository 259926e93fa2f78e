package params_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/params"
	"github.com/b24events/b24events/internal/phpform"
)

type (
	text   string
	count  int
	flag   bool
	bytes  []byte
	moment time.Time
	stage  int
)

// MarshalJSON makes a stage a name.
func (s stage) MarshalJSON() ([]byte, error) { return json.Marshal(fmt.Sprintf("C1:%d", int(s))) }

type shout struct{ s string }

// MarshalText is a method of the pointer.
func (s *shout) MarshalText() ([]byte, error) { return []byte(strings.ToUpper(s.s)), nil }

type mute struct{}

func (mute) MarshalText() ([]byte, error) { return nil, errors.New("planted-value") }

type liar struct{ X int }

func (liar) MarshalJSON() ([]byte, error) { return []byte(`{"planted-value`), nil }

type hidden string

func (hidden) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[redacted]")) }

type querying struct{ X int }

func (querying) EncodeValues(string, *url.Values) error { return nil }

type order [][2]any

func (o order) All() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for _, pair := range o {
			if name, _ := pair[0].(string); !yield(name, pair[1]) {
				return
			}
		}
	}
}

type base struct {
	ID    int    `json:"ID,omitempty"`
	Title string `b24:"TITLE"`
}

type wide struct {
	base
	*extra

	Title string `url:"TITLE" json:"other"`
	Skip  string `url:"-"`
	Plain string
	own   int
}

type extra struct {
	Note string `json:"NOTE"`
}

type cycle struct{ Next *cycle }

type selfEmbedded struct {
	*selfEmbedded //nolint:unused // the test's point

	X int
}

func TestEncode(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 11, 10, 0, 0, 999, time.FixedZone("", 3*3600))
	number := 7
	var none *int
	tests := map[string]struct {
		params any
		want   string
	}{
		"nil":                 {nil, ""},
		"nil pointer":         {(*wide)(nil), ""},
		"text":                {map[string]any{"a": "x & y", "b": ""}, "a=x & y&b="},
		"named types":         {map[text]any{"a": text("x"), "b": count(3), "c": flag(true), "d": bytes("hi")}, "a=x&b=3&c=1&d=aGk="},
		"bool":                {map[string]any{"a": true, "b": false}, "a=1&b=0"},
		"integers":            {map[string]any{"a": int8(-5), "b": uint64(math.MaxUint64)}, "a=-5&b=18446744073709551615"},
		"floats":              {map[string]any{"a": 0.1, "b": float32(0.1), "c": 1e21, "d": -0.0000001}, "a=0.1&b=0.1&c=1e+21&d=-1e-07"},
		"number":              {map[string]any{"a": json.Number("10.50"), "b": json.Number("")}, "a=10.50&b="},
		"time":                {map[string]any{"a": at, "b": &at, "c": time.Time{}, "d": moment(at)}, "a=2026-05-11T10:00:00+03:00&b=2026-05-11T10:00:00+03:00&c=&d=2026-05-11T10:00:00+03:00"},
		"bytes":               {map[string]any{"a": []byte("hello"), "b": []byte{}, "c": []byte(nil)}, "a=aGVsbG8=&b="},
		"pointers":            {map[string]any{"a": &number, "b": none, "c": (*string)(nil)}, "a=7"},
		"nil and empty":       {map[string]any{"a": nil, "b": []int{}, "c": map[string]int(nil), "d": []any{nil, 5}}, "d[1]=5"},
		"raw JSON":            {map[string]any{"a": json.RawMessage(`{"z":1,"a":[true,null,"x"]}`), "b": json.RawMessage(nil)}, "a[z]=1&a[a][0]=1&a[a][2]=x"},
		"raw JSON as a whole": {json.RawMessage(`{"TASKID":1,"ITEMID":2}`), "TASKID=1&ITEMID=2"},
		"tree":                {map[string]any{"a": phpform.List(phpform.Text("x"), phpform.Boolean(false))}, "a[0]=x&a[1]=0"},
		"text marshaler":      {map[string]any{"a": netip.MustParseAddr("10.0.0.1"), "b": &shout{"x"}, "c": shout{"y"}}, "a=10.0.0.1&b=X&c=Y"},
		"JSON marshaler":      {map[string]any{"a": stage(4)}, "a=C1:4"},
		"keys of numbers":     {map[int]string{10: "b", 9: "a", -1: "z"}, "-1=z&9=a&10=b"},
		"slice":               {[]any{8017, map[string]any{"ID": "asc"}}, "0=8017&1[ID]=asc"},
		"array":               {[2]int{5, 6}, "0=5&1=6"},
		"values":              {url.Values{"b": {"2", "3"}, "a[x]": {"1"}}, "a[x]=1&b=2&b=3"},
		"pointer to values":   {&url.Values{"b": {"2", "3"}}, "b=2&b=3"},
		"omitted": {
			struct {
				A any        `url:",omitempty"`
				B any        `url:",omitempty"`
				C *time.Time `url:",omitempty"`
				D any        `url:",omitempty"`
				E *string    `url:",omitempty"`
			}{A: (*time.Time)(nil), B: time.Time{}, D: []int{}, E: new(string)},
			"E=",
		},
		"ordered":               {order{{"z", 1}, {"a", order{{"y", 2}, {"b", 3}}}}, "z=1&a[y]=2&a[b]=3"},
		"ordered, hole within":  {map[string]any{"f": order{{"z", nil}, {"a", 1}}}, "f[a]=1"},
		"ordered, hole at end":  {order{{"a", 1}, {"z", []int{}}, {"y", nil}}, "a=1"},
		"struct":                {wide{base: base{ID: 3, Title: "inner"}, Title: "outer", own: 1}, "ID=3&TITLE=outer&Plain="},
		"embedded pointer":      {wide{extra: &extra{Note: "n"}}, "NOTE=n&TITLE=&Plain="},
		"embeds itself":         {selfEmbedded{X: 1}, "X=1"},
		"structs in lists":      {map[string]any{"rows": []base{{ID: 1, Title: "a"}, {Title: "b"}}}, "rows[0][ID]=1&rows[0][TITLE]=a&rows[1][TITLE]=b"},
		"map in a struct":       {struct{ M map[string]any }{map[string]any{"b": true, "a": struct{ X int }{1}}}, "M[a][X]=1&M[b]=1"},
		"nil fields":            {struct{ P, Q any }{nil, none}, ""},
		"no fields":             {struct{}{}, ""},
		"depth that is allowed": {nest(60), strings.Repeat("a[", 1) + strings.Repeat("a][", 59) + "a]=1"},
		"options": {
			struct {
				YN    bool      `url:"yn,yn"`
				Int   *bool     `url:"int,int"`
				Any   any       `url:",yn"`
				Many  []bool    `url:"many,int"`
				Empty string    `url:"e,omitempty"`
				Zero  time.Time `json:"z,omitzero"`
				Comma []int     `url:"c,comma"`
				None  []int     `url:"none,comma"`
				Unix  time.Time `url:"u,unix"`
				Day   time.Time `url:"day" layout:"2006-01-02"`
				IDs   []int     `url:"ids,brackets"`
			}{YN: true, Int: new(bool), Any: false, Many: []bool{true, false}, Comma: []int{1, 2}, Unix: at, Day: at, IDs: []int{7}},
			"yn=Y&int=0&Any=N&many[0]=1&many[1]=0&c=1,2&u=1778482800&day=2026-05-11&ids[0]=7",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			form, err := params.Encode(tt.params, nil)
			require.NoError(t, err)
			got, err := url.QueryUnescape(form.Text)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
			require.False(t, form.Suspect)
		})
	}
}

func nest(depth int) any {
	var v any = 1
	for range depth + 1 {
		v = map[string]any{"a": v}
	}
	return v
}

func TestRefused(t *testing.T) {
	t.Parallel()
	const planted = "planted-value"
	loop := map[string]any{}
	loop["a"], loop["b"] = loop, loop
	linked := &cycle{}
	linked.Next = linked
	var self any
	self = &self
	tests := map[string]any{
		"text":                  planted,
		"number":                5,
		"time":                  time.Now(),
		"text marshaler":        &shout{planted},
		"JSON text":             json.RawMessage(`"planted-value"`),
		"broken JSON":           map[string]any{"a": json.RawMessage(`{"planted-value`)},
		"channel":               map[string]any{"a": make(chan int)},
		"function":              map[string]any{"a": func() {}},
		"complex":               map[string]any{"a": 1i},
		"NaN":                   map[string]any{"a": math.NaN()},
		"infinity":              map[string]any{"a": math.Inf(1)},
		"no number":             map[string]any{"a": json.Number(planted)},
		"hexadecimal":           map[string]any{"a": json.Number("0x10")},
		"spaced number":         map[string]any{"a": json.Number("1 ")},
		"bytes of an array":     map[string]any{"a": [3]byte{1}},
		"secret":                map[string]any{"a": hidden(planted)},
		"secret in a struct":    struct{ S hidden }{planted},
		"secret as a key":       map[hidden]int{planted: 1},
		"keys of structs":       map[base]int{{}: 1},
		"keys of any":           map[any]int{planted: 1},
		"keys that are text":    map[netip.Addr]int{{}: 1},
		"no exported field":     map[string]any{"a": shapeless{planted}},
		"marshaler that fails":  map[string]any{"a": mute{}},
		"marshaler that lies":   map[string]any{"a": liar{}},
		"encoder of another":    map[string]any{"a": querying{}},
		"bool in a struct":      struct{ B bool }{true},
		"bool behind a pointer": struct{ B *bool }{new(bool)},
		"bool behind any":       struct{ B any }{true},
		"bools in a struct":     struct{ B []bool }{[]bool{true}},
		"unknown option": struct {
			B int `url:"b,numbered"`
		}{},
		"delimiter": struct {
			B []int `del:"|"`
		}{},
		"path in a tag": struct {
			B int `b24:"FIELDS.ID|ID"`
		}{},
		"rest in a tag": struct {
			B map[string]any `b24:",rest"`
		}{},
		"two fields with one name": struct {
			A int `url:"x"`
			B int `json:"x"`
		}{},
		"structs in one text": struct {
			B []base `url:",comma"`
		}{[]base{{Title: planted}}},
		"nil in one text": struct {
			B []any `url:",comma"`
		}{[]any{nil}},
		"year 10000":               map[string]any{"a": time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"year 0":                   map[string]any{"a": time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)},
		"no name":                  map[string]any{"": planted},
		"no name in order":         order{{"", planted}},
		"name twice":               order{{planted, 1}, {planted, 2}},
		"hole in order":            order{{"a", 1}, {"b", nil}, {"c", planted}},
		"empty list in order":      order{{"a", []int{}}, {"c", planted}},
		"empty struct in order":    order{{"a", struct{}{}}, {"c", planted}},
		"hole in a slice":          []any{nil, planted},
		"map that holds itself":    loop,
		"struct that holds itself": linked,
		"pointer to itself":        map[string]any{"a": self},
		"too deep":                 nest(70),
		"JSON too deep":            map[string]any{"a": json.RawMessage(strings.Repeat("[", 100) + strings.Repeat("]", 100))},
	}
	for name, p := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			form, err := params.Encode(p, nil)
			require.Error(t, err)
			require.NotContains(t, err.Error(), planted)
			require.Zero(t, form)
		})
	}
}

type shapeless struct{ s string }

// TestErrorsNameFields: an error says which field is wrong.
func TestErrorsNameFields(t *testing.T) {
	t.Parallel()
	type row struct{ Done bool }
	type whole struct{ Rows []map[string]row }
	_, err := params.Encode(whole{[]map[string]row{{"planted-value": {true}}}}, nil)
	require.ErrorContains(t, err, "params_test.whole.Rows: params_test.row.Done: a bool must say")
	require.NotContains(t, err.Error(), "planted-value")
}

func TestSpecial(t *testing.T) {
	t.Parallel()
	special := func(v any) (string, bool, error) {
		n, ok := v.(count)
		if n < 0 {
			return "", true, errors.New("negative")
		}
		return fmt.Sprintf("$result[c%d]", n), ok, nil
	}
	five := count(5)
	form, err := params.Encode(map[string]any{"a": []any{&five, struct{ X count }{6}}}, special)
	require.NoError(t, err)
	require.Equal(t, params.Form{Text: "a%5B0%5D=%24result%5Bc5%5D&a%5B1%5D%5BX%5D=%24result%5Bc6%5D"}, form, "it is not suspect")
	_, err = params.Encode(map[string]any{"a": count(-1)}, special)
	require.EqualError(t, err, "negative")
	_, err = params.Encode(five, special)
	require.Error(t, err, "it is no whole")
}

func TestSuspect(t *testing.T) {
	t.Parallel()
	const ref = "$result[c0][EMAIL]"
	for name, tt := range map[string]struct {
		params  any
		suspect bool
	}{
		"whole":              {map[string]any{"a": ref}, true},
		"within":             {map[string]any{"a": "I write " + ref + " here"}, true},
		"any case":           {map[string]any{"a": "$RESULT[c0]"}, true},
		"error":              {map[string]any{"a": "$error[c0]"}, true},
		"total":              {map[string]any{"a": "$total[c0]"}, true},
		"next":               {map[string]any{"a": "$next[c0]"}, true},
		"time":               {map[string]any{"a": "$time[c0]"}, true},
		"letters in between": {map[string]any{"a": "$results.of[c0]"}, true},
		"twice":              {map[string]any{"a": "$$result[c0]"}, true},
		"not closed":         {map[string]any{"a": "$result[c0"}, true},
		"nested":             {map[string]any{"a": []any{map[string]any{"b": ref}}}, true},
		"key":                {map[string]any{"a": map[string]any{ref: 1}}, true},
		"first key":          {map[string]any{ref: 1}, true},
		"struct":             {struct{ A string }{ref}, true},
		"one text": {struct {
			A []string `url:",comma"`
		}{[]string{"$result", "[c0]"}}, true},
		"named":            {map[string]any{"a": text(ref)}, true},
		"marshaler":        {map[string]any{"a": &shout{ref}}, true},
		"JSON":             {map[string]any{"a": json.RawMessage(`{"$result[c0]":1}`)}, true},
		"tree":             {map[string]any{"a": phpform.Text(ref)}, true},
		"values":           {url.Values{"a": {"x", ref}}, true},
		"key of values":    {url.Values{"a[" + ref + "]": {"x"}}, true},
		"ordered":          {order{{"a", ref}}, true},
		"price":            {map[string]any{"a": "$5 [net], $result, $ result[c0]"}, false},
		"space in between": {map[string]any{"a": "$result [c0]"}, false},
		"other word":       {map[string]any{"a": "$res[c0]"}, false},
		"no dollar":        {map[string]any{"a": "result[c0]"}, false},
		"bytes":            {map[string]any{"a": []byte(ref)}, false},
	} {
		form, err := params.Encode(tt.params, nil)
		require.NoError(t, err, name)
		require.Equal(t, tt.suspect, form.Suspect, name)
	}
}

// FuzzEncode: for all texts, PHP reads what was written, and no reference is missed.
func FuzzEncode(f *testing.F) {
	f.Add("a", "b", "$result[x]")
	f.Add("a.b", " x[", "\x00&=+%")
	f.Add("filter", ">ID", "é\xff")
	f.Fuzz(func(t *testing.T, outer, inner, value string) {
		form, err := params.Encode(order{{"p" + outer, map[string]any{inner: value}}, {"last", value}}, nil)
		require.NoError(t, err)
		decoded, err := url.ParseQuery(form.Text)
		require.NoError(t, err)
		want := url.Values{"p" + outer + "[" + inner + "]": {value}}
		want.Add("last", value)
		require.Equal(t, want, decoded)
		require.True(t, strings.HasSuffix(form.Text, "&last="+url.QueryEscape(value)) || strings.Contains(value, "~"), "order and escapes")
		require.Equal(t, params.Refers(outer) || params.Refers(inner) || params.Refers(value), form.Suspect || params.Refers("p"+outer) != params.Refers(outer))
	})
}
