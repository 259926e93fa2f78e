package phpform_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/phpform"
)

// hostileBodies returns bodies of about size bytes that are made to be slow.
func hostileBodies(size int) map[string]string {
	fill := func(pair func(i int) string) string {
		var b strings.Builder
		for i := 0; b.Len() < size; i++ {
			b.WriteString(pair(i))
		}
		return b.String()[:size]
	}
	same := func(pair string) string { return fill(func(int) string { return pair }) }
	return map[string]string{
		"distinct keys":    fill(func(i int) string { return strconv.Itoa(i) + "=&" }),
		"distinct nested":  fill(func(i int) string { return "a[b][k" + strconv.Itoa(i) + "]=&" }),
		"appends":          same("a[]=&"),
		"nested appends":   same("a[][][]=&"),
		"indices":          fill(func(i int) string { return "a[" + strconv.Itoa(i) + "]=&" }),
		"indices down":     fill(func(i int) string { return "a[" + strconv.Itoa(size-i) + "]=&" }),
		"arrays":           fill(func(i int) string { return strconv.Itoa(i) + "[]&" }),
		"sixteen long":     fill(func(i int) string { return strings.Repeat("k", 500) + strconv.Itoa(i%16) + "=&" }),
		"deep":             same("a" + strings.Repeat("[b]", 64) + "=&"),
		"deep and new":     fill(func(i int) string { return strconv.Itoa(i) + strings.Repeat("[]", 64) + "=&" }),
		"too deep":         same("a" + strings.Repeat("[]", size)),
		"too deep nested":  same("[a"),
		"unclosed":         "a" + same("["),
		"unclosed pairs":   same("a[b[&"),
		"unclosed nested":  same("a[b][c&"),
		"replaced":         same("a=&a[b]=&"),
		"percent signs":    same("%"),
		"escapes":          same("%5B"),
		"escaped pairs":    fill(func(i int) string { return "%61%5B" + strconv.Itoa(i) + "%5D=%20&" }),
		"pluses":           same("a+"),
		"dots":             same("."),
		"separators":       same("&"),
		"equals":           same("="),
		"one long value":   "a=" + same("x"),
		"spaces":           same("+"),
		"NULs":             same("\x00"),
		"closing":          "a[b" + same("]"),
		"huge integer":     "a[" + same("9") + "]=1",
		"huge integers":    same("a[9223372036854775807]=&a[]=&"),
		"negative":         fill(func(i int) string { return "a[-" + strconv.Itoa(i) + "]=&a[]=&" }),
		"mangled":          fill(func(i int) string { return "a.b.c." + strconv.Itoa(i) + "[d&" }),
		"alternating deep": fill(func(i int) string { return "a" + strings.Repeat("["+strconv.Itoa(i)+"]", 1+i%64) + "&" }),
	}
}

// BenchmarkDecode reads events. Its one allocation is the packed tree. A profile of the bot message
// shows a quarter of the time in unescaping: Cyrillic text is all escapes. Packing, the search for
// separators and the search for keys take a tenth each. Nothing else stands out.
func BenchmarkDecode(b *testing.B) {
	bodies := realBodies(b)
	for _, name := range []string{"call_end", "deal_update", "bot_message"} {
		body := bodies[name]
		b.Run(fmt.Sprintf("%s_%dB", name, len(body)), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := phpform.Decode(body, phpform.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDecodeHostile removes the limit on keys, so that Decode reads the whole body.
func BenchmarkDecodeHostile(b *testing.B) {
	for name, body := range hostileBodies(phpform.DefaultMaxBytes) {
		b.Run(strings.ReplaceAll(name, " ", "_"), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				_, _ = phpform.Decode(body, phpform.Limits{Bytes: 1 << 22, Keys: 1 << 30})
			}
		})
	}
}

func BenchmarkDecodeJSON(b *testing.B) {
	v, err := phpform.Decode(realBodies(b)["bot_message"], phpform.Limits{})
	require.NoError(b, err)
	doc := v.AppendJSON(nil)
	b.ReportAllocs()
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if _, err := phpform.DecodeJSON(doc, phpform.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	v, err := phpform.Decode(realBodies(b)["bot_message"], phpform.Limits{})
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		_ = phpform.Encode(v)
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	v, err := phpform.Decode(realBodies(b)["bot_message"], phpform.Limits{})
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		_ = v.AppendJSON(nil)
	}
}

func BenchmarkGet(b *testing.B) {
	entries := make([]phpform.Entry, 20_000)
	for i := range entries {
		entries[i] = phpform.Entry{Key: "key" + strconv.Itoa(i), Value: phpform.Text("x")}
	}
	v := phpform.Map(entries...)
	for b.Loop() {
		if _, ok := v.Get("key19999"); !ok {
			b.Fatal("not found")
		}
	}
}
