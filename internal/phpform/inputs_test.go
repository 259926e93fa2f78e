package phpform_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// realBodies returns the bodies of testdata/bodies. They have the documented shapes of Bitrix24
// events, with invented values.
func realBodies(tb testing.TB) map[string]string {
	tb.Helper()
	files, err := filepath.Glob("testdata/bodies/*.form")
	require.NoError(tb, err)
	require.NotEmpty(tb, files)
	bodies := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // a file of this package
		require.NoError(tb, err)
		bodies[strings.TrimSuffix(filepath.Base(file), ".form")] = strings.TrimSpace(string(text))
	}
	return bodies
}

// oddBodies returns one body for each surprising rule of PHP.
func oddBodies() []string {
	return []string{
		"", "&", "&&&", "=", "=1", "a", "a=", "a&b", "a=b=c", "a==", "=a=1", "a=1&", "&a=1", "a=1;b=2",
		// escapes
		"a=%41%zz%4%", "a=+%20%2B", "%61=1", "a%5Bb%5D=1", "a%5bb%5d=1", "a%3D=1", "a%26b=1", "a=%26%3D", "a=%D0%AF", "a=Я",
		"Я[Ю]=1",
		"a=%FF%C3", "%FF[%FE]=1", "a=%00b", "a%00b=1", "%00a=1", "a[b%00c]=1", "a[b%00c=1", "a[%00]=1", "a[b]%00[c]=1",
		// names
		" a=1", "+a=1", "%20%20a=1", " =1", "+[a]=1", "a b=1", "a.b=1", "a.b c[d.e f]=1", "a]b=1", "]=1", "_=1", ".=1",
		"[a]=1", "[]=1", "[=1",
		"this=1", "GLOBALS[a]=1", "0=1", "a-b=1", "a\tb=1", "\ta=1",
		// brackets
		"a[]=1", "a[]=1&a[]=2", "a[ ]=1", "a[+]=1&a[%09]=2&a[%0A]=3&a[%0B]=4&a[%0C]=5&a[%0D]=6",
		"a[%A0]=1&a[%85]=2&a[%08]=3", "a[  ]=1", "a[ b]=1",
		"a[b ]=1", "a[b]c=1", "a[b]c[d]=1", "a[b].c=1", "a[b]]=1", "a[]]=1", "a[b[c]=1", "a[[b]=1", "a[b][[c]]=1", "a[[]]=1",
		"a[b]+[c]=1",
		"a[=1", "a[ =1", "data[BOT=1", "a[b c.d[e=1", "a.b[c d=1", "a[b][c=1", "a[][c=1", "a[b][c.d[e=1", "a[b][=1",
		"a[][=1", "a[b][c][=1",
		"a[b][]=1&a[b][]=2", "a[][]=1&a[][]=2", "a[][b]=1&a[][c]=2", "a[b][c][d][e][f]=1",
		// replacing
		"a=1&a=2", "a=1&b=2&a=3", "a=1&a[b]=2", "a[b]=1&a=2", "a[b]=1&a=2&a[c]=3", "a[b]=1&a[b][c]=2", "a[b][c]=1&a[b]=2",
		"a[b]=1&c=2&a[d]=3",
		"a=1&b=2&a[x]=3", "a[]=1&a=2&a[]=3", "a[b=1&a_b=2", "a b=1&a.b=2&a_b=3",
		// integer keys
		"a[8]=1&a[]=2", "a[08]=1&a[]=2", "a[+8]=1&a[]=2", "a[-0]=1&a[]=2", "a[0]=1&a[]=2", "a[00]=1&a[]=2", "a[8.0]=1&a[]=2",
		"a[0x8]=1&a[]=2",
		"a[-5]=1&a[]=2", "a[-5]=1&a[-9]=2&a[]=3", "a[-1]=1&a[]=2&a[]=3", "a[-]=1&a[]=2", "a[--1]=1&a[]=2", "a[-01]=1&a[]=2",
		"a[1e3]=1&a[]=2",
		"a[9223372036854775806]=1&a[]=2&a[]=3&a[][b]=4&a[x]=5", "a[9223372036854775807]=1&a[]=2", "a[9223372036854775808]=1&a[]=2",
		"a[-9223372036854775807]=1&a[]=2", "a[-9223372036854775808]=1&a[]=2", "a[-9223372036854775809]=1&a[]=2",
		"a[99999999999999999999]=1&a[]=2",
		"a[3]=1&a[1]=2&a[]=3", "a[1]=1&a[0]=2", "a[x]=1&a[]=2", "a[5][]=1&a[][]=2", "8=1&08=2", "a[1]=a&a[1]=b&a[]=c",
		"a[" + strings.Repeat("9", 40) + "]=1&a[]=2", "a[٣]=1&a[]=2", "a[1 ]=1&a[]=2", "a[ 1]=1&a[]=2",
	}
}

// pieces is what random bodies are made of.
var pieces = []string{
	"a", "b", "c", "data", "FIELDS", "ID", "auth", "x1", "Я", "%D0%AF", "\xff", "%ff", "%00", "%0b", "\t", " ", "+", "%20", ".", "_", "-",
	"0", "1", "2", "7", "08", "-0", "-1", "-5", "10", "9223372036854775806", "9223372036854775807", "9223372036854775808",
	"-9223372036854775808", "-9223372036854775809", "-9223372036854775807", "%", "%z", "%4", "%2", "'", ";", "%26", "%3d", "~", "*", "!",
}

var brackets = []string{"[", "]", "%5B", "%5D", "%5b", "%5d", "[]", "[ ]", "%5B%5D", "][", "[a]", "[b]", "[0]", "[1]", "[-3]", "[a][", "[]["}

func randomName(rnd *rand.Rand) string {
	var b strings.Builder
	if rnd.IntN(3) > 0 { // a few names, which often collide
		b.WriteString([]string{"a", "b", "a.b", " a"}[rnd.IntN(4)])
	}
	for range rnd.IntN(6) {
		if rnd.IntN(2) == 0 {
			b.WriteString(pieces[rnd.IntN(len(pieces))])
			continue
		}
		if rnd.IntN(2) == 0 {
			b.WriteString("[" + pieces[rnd.IntN(len(pieces))] + "]")
			continue
		}
		b.WriteString(brackets[rnd.IntN(len(brackets))])
	}
	return b.String()
}

func randomBody(rnd *rand.Rand) string {
	var pairs []string
	size := 8
	if rnd.IntN(10) == 0 {
		size = 60 // enough for arrays that get an index
	}
	for range 1 + rnd.IntN(size) {
		pair := randomName(rnd)
		for range rnd.IntN(3) {
			pair = strings.Join([]string{pair, pieces[rnd.IntN(len(pieces))]}, "=")
		}
		pairs = append(pairs, pair)
	}
	if rnd.IntN(20) == 0 { // any bytes except NUL, at which parse_str stops
		raw := make([]byte, rnd.IntN(40))
		for i := range raw {
			raw[i] = byte(1 + rnd.IntN(255)) //nolint:gosec // it fits
		}
		pairs = append(pairs, string(raw))
	}
	return strings.Join(pairs, "&")
}

// randomJSON returns a JSON array or object, with the keys of an object in some order and some of
// them twice.
func randomJSON(rnd *rand.Rand, depth int) []byte {
	object := rnd.IntN(2) == 0
	b := []byte("[")
	if object {
		b = []byte("{ ")
	}
	for i := range rnd.IntN(6) {
		if i > 0 {
			b = append(b, ", "...)
		}
		if object {
			b = append(appendQuoted(b, rnd), ':', '\n')
		}
		switch n := rnd.IntN(8); {
		case n < 3 && depth < 5:
			b = append(b, randomJSON(rnd, depth+1)...)
		case n < 6:
			b = appendQuoted(b, rnd)
		case n == 6:
			b = strconv.AppendInt(b, rnd.Int64()>>rnd.IntN(64), 10)
		default:
			b = append(b, []string{"true", "false", "null"}[rnd.IntN(3)]...)
		}
	}
	if object {
		return append(b, " }"...)
	}
	return append(b, ']')
}

func appendQuoted(b []byte, rnd *rand.Rand) []byte {
	texts := []string{
		"", "a", "b", "A", "0", "1", "7", "08", "-5", "key", "Я", "😀", "\"", "\\", "/", "a b", "a.b", "a[b]", "&=+%",
		"\n\t\r\b\f", "\x7f",
		"<>'", "~-_.!*", "\u2028", "9223372036854775807",
	}
	text := texts[rnd.IntN(len(texts))]
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	if rnd.IntN(2) == 0 {
		return append(b, quoted...)
	}
	for _, r := range string(quoted) { // escaped as PHP does by default
		if r < utf8.RuneSelf {
			b = utf8.AppendRune(b, r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			b = fmt.Appendf(b, "\\u%04x", unit)
		}
	}
	return b
}
