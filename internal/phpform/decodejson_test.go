package phpform_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/phpform"
)

type jsonCase struct {
	name, doc string
	want      phpform.Value
	offset    int // of the error, if there is one
	bad       bool
}

func jsonCases() []jsonCase {
	text, entry := phpform.Text, func(key string, v phpform.Value) phpform.Entry { return phpform.Entry{Key: key, Value: v} }
	return []jsonCase{
		{name: "null", doc: "null", want: phpform.Value{}},
		{name: "true", doc: " true\n", want: phpform.Boolean(true)},
		{name: "false", doc: "\tfalse\r", want: phpform.Boolean(false)},
		{name: "string", doc: `"a"`, want: text("a")},
		{name: "empty string", doc: `""`, want: text("")},
		{name: "number", doc: "42", want: phpform.Int(42)},
		{
			name: "number with every digit",
			doc:  "-12345678901234567890.1234567890e+123", want: phpform.NumberText("-12345678901234567890.1234567890e+123"),
		},
		{name: "number 0E1", doc: "0E1", want: phpform.NumberText("0E1")},
		{name: "negative zero", doc: "-0", want: phpform.NumberText("-0")},
		{name: "empty array", doc: "[ ]", want: phpform.Map()},
		{name: "empty object", doc: "{ }", want: phpform.Map()},
		{name: "list", doc: `[1, "b",[ ]]`, want: phpform.List(phpform.Int(1), text("b"), phpform.Map())},
		{
			name: "object in order", doc: `{"b":1,"a":{"x":null}, "" : ""}`,
			want: phpform.Map(entry("b", phpform.Int(1)), entry("a", phpform.Map(entry("x", phpform.Value{}))), entry("", text(""))),
		},
		{
			name: "later duplicate wins in the first place", doc: `{"a":1,"b":2,"a":[]}`,
			want: phpform.Map(entry("a", phpform.Map()), entry("b", phpform.Int(2))),
		},
		{name: "duplicate by escape", doc: `{"a":1,"\u0061":2}`, want: phpform.Map(entry("a", phpform.Int(2)))},
		{name: "escapes", doc: `"\"\\\/\b\f\n\r\t\u00e9\u0416\ud83d\ude00x"`, want: text("\"\\/\b\f\n\r\té" + "Ж😀x")},
		{name: "upper-case hexadecimal", doc: `"\u00E9"`, want: text("é")},
		{name: "escaped NUL", doc: `"a\u0000"`, want: text("a\x00")},
		{name: "text around escapes", doc: `["один\nдва","три"]`, want: phpform.List(text("один\nдва"), text("три"))},
		{name: "lone high surrogate", doc: `"\ud83dx"`, want: text("\uFFFDx")},
		{name: "lone low surrogate", doc: `"\ude00"`, want: text("\uFFFD")},
		{name: "two high surrogates", doc: `"\ud83d\ud83d\ude00"`, want: text("\uFFFD😀")},
		{name: "surrogate and other escape", doc: `"\ud83d\u0041\ud83d\n"`, want: text("\uFFFDA\uFFFD\n")},
		{name: "not UTF-8", doc: "\"a\xffb\"", want: text("a\xffb")},
		{name: "DEL is no control character here", doc: "\"\x7f\"", want: text("\x7f")},

		{name: "nothing", doc: "", bad: true},
		{name: "white space only", doc: "  ", bad: true, offset: 2},
		{name: "trailing data", doc: "{} 1", bad: true, offset: 3},
		{name: "trailing comma in object", doc: `{"a":1,}`, bad: true, offset: 7},
		{name: "trailing comma in array", doc: `[1,]`, bad: true, offset: 3},
		{name: "missing comma", doc: `[1 2]`, bad: true, offset: 3},
		{name: "missing colon", doc: `{"a" 1}`, bad: true, offset: 5},
		{name: "key without quotes", doc: `{a:1}`, bad: true, offset: 1},
		{name: "number as key", doc: `{1:1}`, bad: true, offset: 1},
		{name: "open array", doc: `[1`, bad: true, offset: 2},
		{name: "open object", doc: `{"a":`, bad: true, offset: 5},
		{name: "open string", doc: `"a`, bad: true, offset: 2},
		{name: "open string after an escape", doc: `"\na`, bad: true, offset: 4},
		{name: "backslash at the end", doc: `"\`, bad: true, offset: 2},
		{name: "unknown escape", doc: `"\x"`, bad: true, offset: 2},
		{name: "short escape", doc: `"\u12"`, bad: true, offset: 2},
		{name: "escape that is no number", doc: `"\u12g4"`, bad: true, offset: 2},
		{name: "short low surrogate", doc: `"\ud83d\u12"`, bad: true, offset: 8},
		{name: "raw newline", doc: "\"a\nb\"", bad: true, offset: 2},
		{name: "raw newline after an escape", doc: "\"\\n\n\"", bad: true, offset: 3},
		{name: "leading zero", doc: "01", bad: true, offset: 1},
		{name: "plus", doc: "+1", bad: true},
		{name: "minus alone", doc: "-", bad: true},
		{name: "point alone", doc: "1.", bad: true},
		{name: "no digits before the point", doc: ".5", bad: true},
		{name: "no exponent", doc: "1e", bad: true},
		{name: "NaN", doc: "NaN", bad: true},
		{name: "half a word", doc: "tru", bad: true},
		{name: "upper-case word", doc: "TRUE", bad: true},
		{name: "byte order mark", doc: "\uFEFF{}", bad: true},
		{name: "single quotes", doc: "'a'", bad: true},
		{name: "vertical tab", doc: "\v1", bad: true},
		{name: "comment", doc: "1 // one", bad: true, offset: 2},
	}
}

func TestDecodeJSON(t *testing.T) {
	t.Parallel()
	for _, c := range jsonCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := phpform.DecodeJSON([]byte(c.doc), phpform.Limits{})
			require.Equal(t, c.bad, !json.Valid([]byte(c.doc)), "the case itself")
			if !c.bad {
				require.NoError(t, err)
				requireSame(t, c.want, got)
				return
			}
			require.ErrorIs(t, err, phpform.ErrSyntax)
			var syntax *phpform.SyntaxError
			require.ErrorAs(t, err, &syntax)
			require.Equal(t, c.offset, syntax.Offset)
			require.Equal(t, phpform.Value{}, got)
		})
	}
}

func TestDecodeJSONLeavesTheDocumentToTheCaller(t *testing.T) {
	t.Parallel()
	doc := []byte(`{"a":"text","b":12}`)
	v, err := phpform.DecodeJSON(doc, phpform.Limits{})
	require.NoError(t, err)
	clear(doc)
	require.JSONEq(t, `{"a":"text","b":12}`, string(v.AppendJSON(nil)))
}

func TestSyntaxErrorsTellNothing(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{`{"auth":"secret" "secret"}`, `"secret`, `[secret]`, `"secret\secret"`, `"a" secret`, `{secret}`} {
		_, err := phpform.DecodeJSON([]byte(doc), phpform.Limits{})
		require.ErrorIs(t, err, phpform.ErrSyntax)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestAppendJSON(t *testing.T) {
	t.Parallel()
	entry := func(key string, v phpform.Value) phpform.Entry { return phpform.Entry{Key: key, Value: v} }
	one, two := phpform.Int(1), phpform.Int(2)
	for _, c := range []struct {
		name string
		v    phpform.Value
		want string
	}{
		{"null", phpform.Value{}, `null`},
		{"true", phpform.Boolean(true), `true`},
		{"false", phpform.Boolean(false), `false`},
		{"number", phpform.NumberText("1.50"), `1.50`},
		{"number that is none", phpform.NumberText("1e"), `"1e"`},
		{"number without text", phpform.NumberText(""), `""`},
		{"number with a quote", phpform.NumberText(`1"`), `"1\""`},
		{"text", phpform.Text("a\"b\\c/\n\r\t\x00\x1f\x7f<&>Ж\u2028"), `"a\"b\\c/\n\r\t\u0000\u001f` + "\x7f<&>Ж\u2028\""},
		{"text that is not UTF-8", phpform.Text("\xffa\xc3(\xd0"), `"` + "\uFFFDa\uFFFD(\uFFFD" + `"`},
		{"key that is not UTF-8", phpform.Map(entry("\xff\"", one)), `{"` + "\uFFFD" + `\"":1}`},
		{"replacement character itself", phpform.Text("\uFFFD"), "\"\uFFFD\""},
		{"empty array", phpform.Map(), `[]`},
		{"list", phpform.List(one, two), `[1,2]`},
		{"list out of order", phpform.Map(entry("1", two), entry("0", one)), `[1,2]`},
		{"list from one", phpform.Map(entry("1", one), entry("2", two)), `{"1":1,"2":2}`},
		{"list with a gap", phpform.Map(entry("0", one), entry("2", two)), `{"0":1,"2":2}`},
		{"key not canonical", phpform.Map(entry("00", one)), `{"00":1}`},
		{"map in order", phpform.Map(entry("b", one), entry("a", phpform.List(phpform.Map()))), `{"b":1,"a":[[]]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, "x"+c.want, string(c.v.AppendJSON([]byte("x"))))
			require.True(t, json.Valid([]byte(c.want)), "the case itself")
		})
	}
}

func TestListsOutOfOrder(t *testing.T) {
	t.Parallel()
	const n = 40 // enough for an index
	var body strings.Builder
	var want []any
	for i := range n {
		at := strconv.Itoa(i * 7 % n)
		body.WriteString("a[" + at + "]=" + at + "&")
		want = append(want, strconv.Itoa(i))
	}
	v, err := phpform.Decode(body.String(), phpform.Limits{})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"a": want}, v.Any())
	var got map[string]any
	require.NoError(t, json.Unmarshal(v.AppendJSON(nil), &got))
	require.Equal(t, map[string]any{"a": want}, got)
}

func TestJSONOfAFormHasTheSameDepth(t *testing.T) {
	t.Parallel()
	lim := phpform.Limits{Depth: 5}
	v, err := phpform.Decode("a"+strings.Repeat("[b]", 5)+"=1", lim)
	require.NoError(t, err)
	again, err := phpform.DecodeJSON(v.AppendJSON(nil), lim)
	require.NoError(t, err)
	requireSame(t, v, again)
	_, err = phpform.DecodeJSON([]byte(strings.Repeat("[", 7)), lim)
	require.ErrorIs(t, err, phpform.ErrTooDeep)
	require.NotErrorIs(t, err, phpform.ErrSyntax)
}

func TestIsBlank(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{"null", "false", `""`, "[]", "{}", " [ \n] ", "{\t}"} {
		require.True(t, phpform.IsBlank([]byte(doc)), doc)
	}
	for _, doc := range []string{"", "0", "true", `" "`, `"0"`, "[[]]", "[null]", `{"a":null}`, "[", "]"} {
		require.False(t, phpform.IsBlank([]byte(doc)), doc)
	}
}
