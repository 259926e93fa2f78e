package values_test

import (
	"encoding/json"
	"math/big"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/values"
)

// zoo has a field of each kind, with keys of one letter, which a fuzzer finds.
type zoo struct {
	Base

	I  int64             `b24:"i|a.i"`
	I8 int8              `b24:"i"`
	U  uint64            `b24:"i"`
	F  float64           `b24:"i"`
	F4 float32           `b24:"i"`
	B  bool              `b24:"i"`
	S  string            `b24:"s"`
	T  time.Time         `b24:"s|i"`
	N  json.Number       `b24:"i"`
	R  json.RawMessage   `b24:"a"`
	Y  []byte            `b24:"s"`
	X  upper             `b24:"s"`
	C  *cents            `b24:"i"`
	G  big.Int           `b24:"i"`
	L  []int             `b24:"a"`
	LL [][]string        `b24:"a"`
	A3 [3]int            `b24:"a"`
	M  map[string]int    `b24:"a"`
	MI map[int8]*zoo     `b24:"a"`
	P  *zoo              `b24:"p"`
	PS *string           `b24:"s"`
	PB *bool             `b24:"i"`
	E  any               `b24:"e"`
	Z  []zoo             `b24:"z"`
	O  map[string]any    `b24:",rest"`
	D  map[string][]Base `b24:"d"`
}

// apart has fields of many kinds with different keys, so that it can be encoded.
type apart struct {
	I  int64             `b24:"i"`
	U  uint16            `b24:"u"`
	F  float64           `b24:"f"`
	F4 float32           `b24:"g"`
	B  bool              `b24:"b"`
	S  string            `b24:"s"`
	T  time.Time         `b24:"t"`
	N  json.Number       `b24:"n"`
	R  json.RawMessage   `b24:"r"`
	Y  []byte            `b24:"y"`
	X  upper             `b24:"x"`
	C  *cents            `b24:"c"`
	L  []int             `b24:"l"`
	LL [][]string        `b24:"o"`
	A3 [3]int            `b24:"3"`
	M  map[string][]Base `b24:"m"`
	MI map[int8]*apart   `b24:"k"`
	P  *apart            `b24:"p.q"`
	PS *string           `b24:"v"`
	PB *bool             `b24:"w"`
	E  any               `b24:"e"`
	Z  []apart           `b24:"z"`
	O  map[string]any    `b24:",rest"`
}

var targets = []reflect.Type{
	reflect.TypeFor[zoo](), reflect.TypeFor[[]zoo](), reflect.TypeFor[map[string]zoo](), // their fields share keys
	reflect.TypeFor[apart](), reflect.TypeFor[[]apart](), reflect.TypeFor[*section](),
	reflect.TypeFor[any](), reflect.TypeFor[tagged](), reflect.TypeFor[int64](), reflect.TypeFor[time.Time](), reflect.TypeFor[[2]string](),
}

// checkReport checks what is true for every report of a document.
func checkReport(t *testing.T, r values.Report, err error) {
	t.Helper()
	if err != nil {
		t.Fatal("no document is a mistake of the program:", err)
	}
	if len(r.Misfits) > values.MaxMisfits || r.More > 0 && len(r.Misfits) < values.MaxMisfits {
		t.Fatal("misfits are listed up to the bound", len(r.Misfits), r.More)
	}
	for _, m := range r.Misfits {
		if m.Want == "" {
			t.Fatal("a misfit says what is wanted")
		}
		for _, c := range []byte(m.Path) {
			if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '_' && c != '.' && c != '*' {
				t.Fatalf("a path holds text of the sender: %q", m.Path)
			}
		}
	}
}

// FuzzValues decodes documents into all kinds of targets, as a tree and as JSON, and encodes the
// results.
func FuzzValues(f *testing.F) {
	for _, doc := range []string{
		`{"i":"7","s":"2025-01-15","a":[1,"2",{"x":null}],"p":{"i":true},"e":{"k":[1.5]},"z":[{"a":{"0":1,"2":3}}],"y":"rest"}`,
		`{"i":1e3,"a":{"i":"9007199254740993.0","1":"x"},"s":"undefined","d":{"k":[{"ID":"1"}]}}`,
		`{"u":7,"g":"0.1","t":"1736929800","n":1.50,"r":[{}],"y":"aGk=","x":"a","c":"12.5","o":[["a"],"b"],"3":[1,2,3,4],"k":{"7":{"b":"Y"}}}`,
		`[{"i":"0x1p4"},false,"",[],"2024",{"i":-0.0}]`, `"Y"`, `1736929800`, `{"I":1,"i":2,"\u212a":3}`, `{"s":"\ud83d\ude00\ud800"}`,
	} {
		f.Add(doc)
	}
	rules := values.New(nil)
	f.Fuzz(func(t *testing.T, doc string) {
		v, err := phpform.DecodeJSON([]byte(doc), phpform.Limits{Depth: 64})
		if err != nil {
			return
		}
		for _, typ := range targets {
			fromTree, fromJSON := reflect.New(typ), reflect.New(typ)
			report, err := rules.Decode(v, nil, fromTree.Interface())
			checkReport(t, report, err)
			report, err = rules.Unmarshal([]byte(doc), nil, fromJSON.Interface())
			checkReport(t, report, err)
			if !slices.Contains(targets[:3], typ) {
				stable(t, rules, fromTree.Elem())
				stable(t, rules, fromJSON.Elem())
			}
		}
	})
}

// stable encodes a value, decodes and encodes it again. The first round may drop what is empty.
func stable(t *testing.T, rules *values.Rules, rv reflect.Value) {
	t.Helper()
	var rounds []string
	for range 3 {
		v, err := rules.Encode(rv.Interface())
		if err != nil {
			return // it nests too deep
		}
		rounds = append(rounds, string(v.AppendJSON(nil)))
		next := reflect.New(rv.Type())
		report, err := rules.Decode(v, nil, next.Interface())
		if err != nil || len(report.Misfits) > 0 {
			t.Fatalf("%v: %v %v: %s", rv.Type(), report.Misfits, err, rounds[len(rounds)-1])
		}
		rv = next.Elem()
	}
	if rounds[1] != rounds[2] {
		t.Fatalf("%v: %s became %s", rv.Type(), rounds[1], rounds[2])
	}
}

// FuzzUnmarshal compares with encoding/json which documents are valid, and what an any receives.
func FuzzUnmarshal(f *testing.F) {
	for _, doc := range []string{
		`{"a":[1,-2.5e3,true,false,null,"\u0421\ud83d\ude00\ud800\n"],"":{}}`, `[1e999]`, `{"a":1,"a":{}}`, "\"\xff\xfe\"", ` [ ] `, `01`, `"\x"`,
	} {
		f.Add(doc)
	}
	rules := values.New(nil)
	f.Fuzz(func(t *testing.T, doc string) {
		var got, want any
		report, err := rules.Unmarshal([]byte(doc), nil, &got)
		wantErr := json.Unmarshal([]byte(doc), &want)
		if (err == nil) != json.Valid([]byte(doc)) {
			t.Fatalf("%v, and encoding/json says %v", err, wantErr)
		}
		if err == nil && (len(report.Misfits) == 0) != (wantErr == nil) {
			t.Fatalf("%v, and encoding/json says %v", report.Misfits, wantErr)
		}
		if err == nil && wantErr == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("%v, and encoding/json has %v", got, want)
		}
	})
}
