package values_test

import (
	"encoding/json"
	"reflect"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/values"
)

type Base struct {
	ID   int64 `json:"ID"`
	Base string
}

type lower struct{ Low string }

type tagged struct {
	Base
	*Base2
	lower

	Named  Base   `json:"named"`
	Dots   string `json:"a.b"`
	Bars   string `json:"c|d"`
	Dash   string `json:"-,"` //nolint:staticcheck // the name is "-"
	Skip   string `json:"-"`
	Skip2  string `b24:"-"`
	Quoted string `json:"quoted,string"`
	Count  int    `json:"count,omitempty,string"`
	Bad    string `json:"q\"x"` //nolint:staticcheck // so the field's own name counts
	Both   string `b24:"B24" json:"JSON"`
	Path   string `b24:"X.Y|Z"`
	hidden string
}

type Base2 struct{ Second string }

func TestTags(t *testing.T) {
	t.Parallel()
	const doc = `{"id":7,"BASE":"b","second":"s","Low":"l","named":{"ID":"8"},"a.b":"dots","c|d":"bars","-":"dash",` +
		`"Skip":"no","Skip2":"no","quoted":"\"q\"","count":"5","bad":"bad","B24":"b24","JSON":"json","x":{"y":"path"},` +
		`"hidden":"no"}`
	got, misfits := both(t, doc, tagged{})
	require.Empty(t, misfits)
	require.Equal(t, tagged{
		Base: Base{7, "b"}, Base2: &Base2{"s"}, lower: lower{"l"}, Named: Base{ID: 8}, Dots: "dots", Bars: "bars", Dash: "dash",
		Quoted: "q", Count: 5, Bad: "bad", Both: "b24", Path: "path",
	}, got)
	none, _ := got.(tagged)
	require.Empty(t, none.hidden)

	got, _ = both(t, `{"X":{"Y":""},"Z":"z"}`, tagged{})
	require.Equal(t, tagged{Path: "z"}, got, "the first that holds something wins")
	got, _ = both(t, `{"quoted":"bare"}`, tagged{})
	require.Equal(t, tagged{Quoted: "bare"}, got)
}

func TestNamesFold(t *testing.T) {
	t.Parallel()
	type target struct {
		ID    int `json:"ID"`
		Lower int `json:"low"`
		City  int `json:"Город"`
		Kelv  int `json:"K"`
	}
	for doc, want := range map[string]target{
		`{"id":1,"ID":2}`:           {ID: 2},
		`{"ID":2,"id":1}`:           {ID: 2},
		`{"Id":1,"iD":2}`:           {ID: 1},
		`{"LOW":3}`:                 {Lower: 3},
		`{"ГОРОД":4}`:               {City: 4},
		`{"\u212A":5}`:              {Kelv: 5},
		`{"IDENTIFIER_OF_ALL":1}`:   {},
		`{"":1,"I":1,"IDD":1}`:      {},
		`{"ID":1,"ID":2,"low":"3"}`: {ID: 2, Lower: 3},
	} {
		got, misfits := both(t, doc, target{})
		require.Empty(t, misfits, doc)
		require.Equal(t, want, got, doc)
	}
}

type outer struct {
	Inner
	ID   string `json:"ID"`
	Free string `json:"FREE"`
}

type Inner struct {
	ID   int `json:"ID"`
	Free int `json:"Free"`
}

func TestOuterFieldsHideThoseOfEmbeddedStructs(t *testing.T) {
	t.Parallel()
	got, misfits := both(t, `{"ID":"seven","FREE":"8"}`, outer{})
	require.Empty(t, misfits)
	require.Equal(t, outer{ID: "seven", Free: "8", Inner: Inner{Free: 8}}, got, "names that differ are different places")
}

type Loop struct {
	*LoopBase

	ID   int              `json:"ID"`
	Next *Loop            `json:"NEXT"`
	List []Loop           `json:"LIST"`
	Map  map[string]*Loop `json:"MAP"`
}

type LoopBase struct {
	*Loop

	Deep int
}

func TestTypesThatHoldThemselves(t *testing.T) {
	t.Parallel()
	rules := values.New(nil)
	require.NoError(t, rules.Check(reflect.TypeFor[Loop]()))
	got, misfits := both(t, `{"ID":1,"Deep":4,"NEXT":{"ID":2,"LIST":[{"ID":"x"}]},"MAP":{"a":{"ID":"3"}}}`, Loop{})
	require.Equal(t, Loop{
		LoopBase: &LoopBase{Deep: 4}, ID: 1, Next: &Loop{ID: 2, List: []Loop{{}}}, Map: map[string]*Loop{"a": {ID: 3}},
	}, got)
	require.Equal(t, []values.Misfit{{Path: "NEXT.LIST.0.ID", Want: "an integer of 64 bits"}}, misfits)
}

func TestRest(t *testing.T) {
	t.Parallel()
	type inMap struct {
		ID   int            `b24:"FIELDS.ID"`
		Rest map[string]any `b24:",rest"`
	}
	for doc, want := range map[string]inMap{
		`{"FIELDS":{"ID":1,"X":2}}`:             {ID: 1},
		`{"fields":{"ID":1},"a":"x","b":["y"]}`: {ID: 1, Rest: map[string]any{"a": "x", "b": []any{"y"}}},
		`["a"]`:                                 {Rest: map[string]any{"0": "a"}},
	} {
		got, misfits := both(t, doc, inMap{})
		require.Empty(t, misfits, doc)
		require.Equal(t, want, got, doc)
	}
	type inRaw struct {
		Rest json.RawMessage `b24:",rest"`
	}
	var raw inRaw
	_, err := values.New(nil).Unmarshal([]byte(`{"a\"\u0041": 1.50, "b":{}}`), nil, &raw)
	require.NoError(t, err)
	require.Equal(t, `{"a\"A":1.50,"b":{}}`, string(raw.Rest)) //nolint:testifylint // to the byte
}

func TestTheSectionItself(t *testing.T) {
	t.Parallel()
	type line struct {
		ID string `b24:".|LINE_ID"`
	}
	for doc, want := range map[string]line{`107`: {"107"}, `{"LINE_ID":107}`: {"107"}, `""`: {}} {
		got, misfits := both(t, doc, line{})
		require.Empty(t, misfits, doc)
		require.Equal(t, want, got, doc)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	type withChan struct{ C chan int }
	for name, tc := range map[string]struct {
		typ  reflect.Type
		want string
	}{
		"channel":       {reflect.TypeFor[withChan](), ".C: no value fits a chan int"},
		"deep":          {reflect.TypeFor[[]map[string]*struct{ In withChan }](), ".In.C: no value fits a chan int"},
		"function":      {reflect.TypeFor[struct{ F func() }](), ".F: no value fits a func()"},
		"interface":     {reflect.TypeFor[struct{ E error }](), ".E: no value fits a error"},
		"complex":       {reflect.TypeFor[complex128](), ": no value fits a complex128"},
		"key":           {reflect.TypeFor[struct{ M map[struct{}]int }](), ".M: no key fits a struct {}"},
		"any for a key": {reflect.TypeFor[map[any]int](), ": no key fits a interface {}"},
		"option": {reflect.TypeFor[struct {
			A int `b24:"A,omitempty"`
		}](), ".A: the tag b24 knows no option but rest, which stands alone"},
		"name and rest": {reflect.TypeFor[struct {
			A any `b24:"A,rest"`
		}](), ".A: the tag b24 knows no option but rest, which stands alone"},
		"comma": {reflect.TypeFor[struct {
			A int `b24:"A,"`
		}](), ".A: the tag b24 knows no option but rest, which stands alone"},
		"empty": {reflect.TypeFor[struct {
			A int `b24:""`
		}](), ".A: the tag b24 has an empty key"},
		"empty key": {reflect.TypeFor[struct {
			A int `b24:"A..B"`
		}](), ".A: the tag b24 has an empty key"},
		"no alternative": {reflect.TypeFor[struct {
			A int `b24:"A|"`
		}](), ".A: the tag b24 has an empty key"},
		"rest in a text": {reflect.TypeFor[struct {
			A string `b24:",rest"`
		}](), ".A: the rest of an object does not fit a string"},
		"two rests": {reflect.TypeFor[struct {
			A, B any `b24:",rest"`
		}](), ".B: another field takes the rest"},
	} {
		err := values.New(nil).Check(tc.typ)
		require.EqualError(t, err, tc.typ.String()+tc.want, name)
	}
	type fine struct {
		C chan int       `json:"-"`
		M map[string]any `b24:",rest"`
		f func()
	}
	require.NoError(t, values.New(nil).Check(reflect.TypeFor[fine]()))
	require.Nil(t, fine{}.f)
}

func TestBlank(t *testing.T) {
	t.Parallel()
	type deal struct{ ID int }
	for name, tc := range map[string]struct {
		doc    string
		dst    any
		member string
		blank  bool
	}{
		"a member around it": {`{"item":{"ID":1}}`, new(deal), "item", true},
		"no identifier":      {`{"a b":1}`, new(deal), "", true},
		"pointer":            {`{"item":{"ID":1}}`, new(*deal), "item", true},
		"rows":               {`[{"x":1},{"y":2}]`, new([]deal), "x", true},
		"one row":            {`[{"x":1},{"ID":2}]`, new([]deal), "x", false},
		"partly":             {`{"ID":1,"x":2}`, new(deal), "", false},
		"empty member":       {`{"ID":null}`, new(deal), "", false},
		"inside":             {`{"D":{"x":1}}`, new(struct{ D deal }), "", false},
		"nothing":            {`[]`, new(deal), "", false},
		"no fields":          {`{"x":1}`, new(struct{}), "", false},
		"rest": {`{"x":1}`, new(struct {
			A any `b24:",rest"`
		}), "", false},
		"map": {`{"x":1}`, new(map[string]any), "", false},
	} {
		report, err := values.New(nil).Unmarshal([]byte(tc.doc), nil, tc.dst)
		require.NoError(t, err, name)
		require.Empty(t, report.Misfits, name)
		member, blank := report.Blank()
		require.Equal(t, tc.blank, blank, name)
		require.Equal(t, tc.member, member, name)
	}
	_, misfits := both(t, `[{"ID":1}]`, deal{})
	require.Equal(t, []values.Misfit{{Want: "an object"}}, misfits, "a list is no object without fields either")
}

func TestRulesAreSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	rules := values.New(nil)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 50 {
				var dst Loop
				if _, err := rules.Decode(phpform.Map(phpform.Entry{Key: "ID", Value: phpform.Int(7)}), nil, &dst); err != nil || dst.ID != 7 {
					t.Error(dst.ID, err)
				}
			}
		})
	}
	wait.Wait()
}
