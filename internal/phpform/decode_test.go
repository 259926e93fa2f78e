package phpform_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/phpform"
)

// The recorded vectors of PHP test all rules. These cases are the ones to read.
func TestDecode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, body, want string }{
		{
			"event",
			"event=ONCRMDEALUPDATE&data%5BFIELDS%5D%5BID%5D=42&ts=1",
			`{"event":"ONCRMDEALUPDATE","data":{"FIELDS":{"ID":"42"}},"ts":"1"}`,
		},
		{"bare brackets", "data[FIELDS][ID]=42", `{"data":{"FIELDS":{"ID":"42"}}}`},
		{"list", "a[]=x&a[]=y", `{"a":["x","y"]}`},
		{"list with indices", "a[0]=x&a[1]=y", `{"a":["x","y"]}`},
		{"list with a gap", "a[1]=x&a[]=y", `{"a":{"1":"x","2":"y"}}`},
		{"append after a negative index", "a[-5]=x&a[]=y", `{"a":{"-5":"x","-4":"y"}}`},
		{"no append after the last integer", "a[9223372036854775807]=x&a[]=y&a[][z]=1", `{"a":{"9223372036854775807":"x"}}`},
		{"array replaces scalar", "a=1&b=2&a[c]=3", `{"a":{"c":"3"},"b":"2"}`},
		{"scalar replaces array", "a[b]=2&c=3&a=1", `{"a":"1","c":"3"}`},
		{"name not closed", "data[BOT=1", `{"data_BOT":"1"}`},
		{"name not closed, mangled to the end", "a.b[c d.e[f=1", `{"a_b_c_d_e_f":"1"}`},
		{"inner name not closed", "a[b][c.d=1", `{"a":{"b":"1"}}`},
		{"spaces and dots", " a b.c[d e.f]=1", `{"a_b_c":{"d e.f":"1"}}`},
		{"text after the bracket", "a[b]c[d]=1", `{"a":{"b":"1"}}`},
		{"raw NUL in a value, as in $_POST", "a=x\x00y&b\x00c=2&d=3", `{"a":"x\u0000y","b":"2","d":"3"}`},
		{"raw NUL in an index", "a[b\x00c]=1", `{"a_b":"1"}`},
		{"broken escapes", "a=%zz%4%", `{"a":"%zz%4%"}`},
		{"no names", "=1&[a]=2&&%00=3& =4", `[]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v, err := phpform.Decode(c.body, phpform.Limits{})
			require.NoError(t, err)
			require.Equal(t, c.want, string(v.AppendJSON(nil)))
		})
	}
}

func TestDecodeKeepsBytes(t *testing.T) {
	t.Parallel()
	v, err := phpform.Decode("\xfe[%FE%80]=\xff%C3%28+", phpform.Limits{})
	require.NoError(t, err)
	requireSame(t, phpform.Map(phpform.Entry{Key: "\xfe", Value: phpform.Map(
		phpform.Entry{Key: "\xfe\x80", Value: phpform.Text("\xff\xc3( ")},
	)}), v)
}

func TestDecodeOfNothingIsAnEmptyArray(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "&", "=1"} {
		v, err := phpform.Decode(body, phpform.Limits{})
		require.NoError(t, err)
		require.Equal(t, phpform.Map(), v)
		require.Equal(t, phpform.Array, v.Kind())
	}
}

func TestDecodeLargeArrays(t *testing.T) {
	t.Parallel()
	const n = 1000 // well above the size at which an index takes over
	var body strings.Builder
	for i := range n {
		body.WriteString(strings.ReplaceAll("k[x#]=#&l[]=#&m[#]=#&", "#", strconv.Itoa(i)))
	}
	body.WriteString("k[x500]=new&k[x501][]=new&m[500]=new&l[2000]=a&l[]=b&k[]=c")
	v, err := phpform.Decode(body.String(), phpform.Limits{})
	require.NoError(t, err)
	k, _ := v.Get("k")
	l, _ := v.Get("l")
	m, _ := v.Get("m")
	require.Equal(t, n+1, k.Len())
	require.Equal(t, n+2, l.Len())
	require.Equal(t, n, m.Len())
	require.Equal(t, phpform.Entry{Key: "x500", Value: phpform.Text("new")}, k.Entries()[500])
	requireSame(t, phpform.List(phpform.Text("new")), k.Entries()[501].Value)
	require.Equal(t, phpform.Entry{Key: "0", Value: phpform.Text("c")}, k.Entries()[n])
	require.Equal(t, phpform.Entry{Key: "2001", Value: phpform.Text("b")}, l.Entries()[n+1])
	require.Equal(t, phpform.Entry{Key: "500", Value: phpform.Text("new")}, m.Entries()[500])
	for i, e := range l.Entries()[:n] {
		require.Equal(t, phpform.Entry{Key: strconv.Itoa(i), Value: phpform.Text(strconv.Itoa(i))}, e)
	}
	for i := range n {
		got, ok := k.Get("x" + strconv.Itoa(i))
		require.True(t, ok)
		require.Equal(t, k.Entries()[i].Value, got)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return "a" + strings.Repeat("[b]", n) + "=1" }
	for _, c := range []struct {
		name, body string
		lim        phpform.Limits
		want       error // nil: the body passes
		limit      int
	}{
		{name: "bytes", body: "a=12345", lim: phpform.Limits{Bytes: 7}},
		{name: "bytes exceeded", body: "a=123456", lim: phpform.Limits{Bytes: 7}, want: phpform.ErrTooLarge, limit: 7},
		{name: "bytes come first", body: deep(100), lim: phpform.Limits{Bytes: 7}, want: phpform.ErrTooLarge, limit: 7},
		{name: "bytes by default", body: strings.Repeat("&", phpform.DefaultMaxBytes)},
		{
			name: "bytes exceeded by default",
			body: strings.Repeat("&", phpform.DefaultMaxBytes+1), want: phpform.ErrTooLarge, limit: phpform.DefaultMaxBytes,
		},
		{name: "keys", body: "a[b][c]=1&d=2&d=3&a[b][c]=4", lim: phpform.Limits{Keys: 4}},
		{name: "keys exceeded", body: "a[b][c]=1&d=2&e=3", lim: phpform.Limits{Keys: 4}, want: phpform.ErrTooManyKeys, limit: 4},
		{
			name: "keys exceeded by an array on the way",
			body: "a[b][c]=1", lim: phpform.Limits{Keys: 1}, want: phpform.ErrTooManyKeys, limit: 1,
		},
		{
			name: "replaced keys count",
			body: "a[b]=1&a=1&a[b]=1&a=1&a[b]=1", lim: phpform.Limits{Keys: 3}, want: phpform.ErrTooManyKeys, limit: 3,
		},
		{
			name: "keys exceeded by default",
			body: strings.Repeat("a[]&", 20_000), want: phpform.ErrTooManyKeys, limit: phpform.DefaultMaxKeys,
		},
		{name: "depth", body: deep(3), lim: phpform.Limits{Depth: 3}},
		{name: "depth exceeded", body: deep(4), lim: phpform.Limits{Depth: 3}, want: phpform.ErrTooDeep, limit: 3},
		{
			name: "depth exceeded by a bracket not closed",
			body: deep(3)[:10] + "[c=1", lim: phpform.Limits{Depth: 3}, want: phpform.ErrTooDeep, limit: 3,
		},
		{name: "depth by default", body: deep(64)},
		{name: "depth exceeded by default", body: deep(65), want: phpform.ErrTooDeep, limit: phpform.DefaultMaxDepth},
		{name: "negative means default", body: deep(64), lim: phpform.Limits{Bytes: -1, Keys: -1, Depth: -1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v, err := phpform.Decode(c.body, c.lim)
			require.Equal(t, phpform.Array, v.Kind())
			if c.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, c.want)
			var limit *phpform.LimitError
			require.ErrorAs(t, err, &limit)
			require.Equal(t, c.limit, limit.Limit)
			require.Zero(t, v.Len())
			checkLimitError(t, err)
		})
	}
}

func TestLimitsOfDecodeJSON(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, doc string
		lim       phpform.Limits
		want      error
	}{
		{name: "bytes", doc: "[1]", lim: phpform.Limits{Bytes: 3}},
		{name: "bytes exceeded", doc: "[1] ", lim: phpform.Limits{Bytes: 3}, want: phpform.ErrTooLarge},
		{name: "keys", doc: `[1,{"a":2,"a":3}]`, lim: phpform.Limits{Keys: 3}},
		{name: "keys of a list exceeded", doc: `[1,2,3]`, lim: phpform.Limits{Keys: 2}, want: phpform.ErrTooManyKeys},
		{name: "keys of an object exceeded", doc: `[1,{"a":2,"b":3}]`, lim: phpform.Limits{Keys: 3}, want: phpform.ErrTooManyKeys},
		{name: "depth", doc: `[{"a":[]}]`, lim: phpform.Limits{Depth: 2}},
		{name: "depth exceeded", doc: `[{"a":[[]]}]`, lim: phpform.Limits{Depth: 2}, want: phpform.ErrTooDeep},
		{name: "depth exceeded by default", doc: strings.Repeat(`{"a":`, 1e5), want: phpform.ErrTooDeep},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := phpform.DecodeJSON([]byte(c.doc), c.lim)
			require.ErrorIs(t, err, c.want)
			checkLimitError(t, err)
		})
	}
}

func TestLimitErrorOfAnotherKindMatchesNothing(t *testing.T) {
	t.Parallel()
	err := &phpform.LimitError{What: "other"}
	for _, sentinel := range []error{phpform.ErrTooLarge, phpform.ErrTooManyKeys, phpform.ErrTooDeep, phpform.ErrSyntax} {
		require.NotErrorIs(t, err, sentinel)
	}
}

// TestHostileBodies removes the limits. Quadratic code takes minutes here, and linear code a
// fraction of a second.
func TestHostileBodies(t *testing.T) {
	t.Parallel()
	for name, body := range hostileBodies(phpform.DefaultMaxBytes) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			v, err := phpform.Decode(body, phpform.Limits{Bytes: 1 << 22, Keys: 1 << 30})
			if err != nil {
				require.ErrorIs(t, err, phpform.ErrTooDeep)
			}
			_, _ = phpform.Decode(body, phpform.Limits{})
			_ = v.AppendJSON(nil)
			_ = phpform.Encode(v)
			_ = v.Any()
			require.Less(t, time.Since(start), 20*time.Second)
		})
	}
}

// requireSame compares trees, whether they are packed or not.
func requireSame(t *testing.T, want, got phpform.Value) {
	t.Helper()
	require.Equal(t, want.Pack(), got.Pack())
}
