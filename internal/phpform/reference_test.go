package phpform_test

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/phpform"
)

// refArray is an array of the reference decoder: slow, plain, and with pointers.
type refArray struct {
	entries []refEntry
	at      map[string]int
	largest int64
	integer bool // some key is one
}

type refEntry struct {
	key   string
	text  string
	array *refArray // nil for a scalar
}

// refDecoder is the decoder that this package had before its tape. It works on strings, unescapes
// every name, and searches every array anew.
type refDecoder struct {
	keys, maxKeys, maxDepth int
}

// refDecode decodes a body by the rules in the package documentation.
func refDecode(body string, lim phpform.Limits) (*refArray, error) {
	d := refDecoder{maxKeys: lim.Keys, maxDepth: lim.Depth}
	if len(body) > lim.Bytes {
		return nil, phpform.ErrTooLarge
	}
	root := &refArray{}
	for pair := range strings.SplitSeq(body, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		if err := d.pair(root, refUnescape(name), refUnescape(value)); err != nil {
			return nil, err
		}
	}
	return root, nil
}

func (d *refDecoder) pair(root *refArray, name, value string) error {
	if i := strings.IndexByte(name, 0); i >= 0 {
		name = name[:i] // for PHP, names are C strings
	}
	name = strings.TrimLeft(name, " ")
	open := strings.IndexByte(name, '[')
	if name == "" || open == 0 {
		return nil
	}
	if open < 0 {
		return d.set(root, refMangle(name), value)
	}
	into, key := root, refMangle(name[:open])
	for level := 1; open < len(name) && name[open] == '['; level++ {
		if level > d.maxDepth {
			return phpform.ErrTooDeep
		}
		inner, size, ok := refBracket(name[open:])
		if !ok {
			if level == 1 {
				key = refMangle(name) // it is not an index
			}
			break
		}
		var err error
		if into, err = d.descend(into, key); err != nil {
			return err
		}
		if key = inner; key == "" {
			if into.integer && into.largest == math.MaxInt64 {
				return nil // nothing can be appended, so PHP drops the pair
			}
			key = "0"
			if into.integer {
				key = strconv.FormatInt(into.largest+1, 10)
			}
		}
		open += size
	}
	return d.set(into, key, value)
}

func (d *refDecoder) set(a *refArray, key, text string) error {
	if i, ok := a.at[key]; ok {
		a.entries[i].text, a.entries[i].array = text, nil
		return nil
	}
	return d.insert(a, refEntry{key: key, text: text})
}

func (d *refDecoder) descend(a *refArray, key string) (*refArray, error) {
	i, ok := a.at[key]
	if ok && a.entries[i].array != nil {
		return a.entries[i].array, nil
	}
	inner := &refArray{}
	if ok {
		a.entries[i].array = inner
		return inner, nil
	}
	return inner, d.insert(a, refEntry{key: key, array: inner})
}

func (d *refDecoder) insert(a *refArray, e refEntry) error {
	if d.keys++; d.keys > d.maxKeys {
		return phpform.ErrTooManyKeys
	}
	if a.at == nil {
		a.at = map[string]int{}
	}
	a.at[e.key] = len(a.entries)
	a.entries = append(a.entries, e)
	n, err := strconv.ParseInt(e.key, 10, 64)
	if err == nil && strconv.FormatInt(n, 10) == e.key && (!a.integer || n > a.largest) {
		a.largest, a.integer = n, true
	}
	return nil
}

// refBracket reads the index at the start of s, which begins with an opening bracket. It returns
// the index and its length with the brackets. It returns false if the bracket is not closed.
func refBracket(s string) (key string, size int, ok bool) {
	from := 1
	if len(s) > 1 && strings.IndexByte(" \t\n\v\f\r", s[1]) >= 0 {
		from = 2
	}
	end := strings.IndexByte(s[from:], ']')
	switch {
	case end < 0:
		return "", 0, false
	case end == 0:
		return "", from + 1, true
	default:
		return s[1 : from+end], from + end + 1, true
	}
}

func refMangle(name string) string {
	return strings.NewReplacer(" ", "_", ".", "_", "[", "_").Replace(name)
}

func refUnescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			c = ' '
		} else if c == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil && s[i+1] != '_' {
				c = byte(n)
				i += 2
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}

func (a *refArray) tree() []treePair {
	pairs := make([]treePair, 0, len(a.entries))
	for _, e := range a.entries {
		p := treePair{Key: []byte(e.key)}
		if e.array != nil {
			p.Tree = e.array.tree()
		} else {
			p.Text = []byte(e.text)
		}
		pairs = append(pairs, p)
	}
	return pairs
}

// checkReference compares Decode with the reference, including its limits.
func checkReference(t *testing.T, body string, lim phpform.Limits) {
	t.Helper()
	want, wantErr := refDecode(body, lim)
	got, err := phpform.Decode([]byte(body), lim)
	if wantErr != nil {
		require.ErrorIs(t, err, wantErr)
		require.Zero(t, got.Len())
		return
	}
	require.NoError(t, err)
	require.Equal(t, describe(want.tree()), describe(treeOf(got)))
}

func TestDecodeIsTheReference(t *testing.T) {
	t.Parallel()
	for _, body := range realBodies(t) {
		checkReference(t, body, roomy)
	}
	for _, body := range oddBodies() {
		for keys := 1; keys < 6; keys++ {
			checkReference(t, body, phpform.Limits{Bytes: 100, Keys: keys, Depth: keys})
		}
	}
	for name, body := range hostileBodies(1 << 12) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkReference(t, body, roomy)
			checkReference(t, body, phpform.Limits{Bytes: 1 << 20, Keys: 100, Depth: 64})
		})
	}
}

// TestManySiblings: names with the same beginning take a faster path, which must find earlier
// elements, also in arrays with an index.
func TestManySiblings(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 63, 64, 65, 66, 300} {
		siblings := func(format string) string {
			var body strings.Builder
			for i := range n {
				_, _ = fmt.Fprintf(&body, format, i)
			}
			return body.String()
		}
		for name, body := range map[string]string{
			"once":           siblings("a[k%d]=1&"),
			"twice":          siblings("a[k%d]=1&") + siblings("a[k%d]=2&"),
			"escaped":        siblings("a[b%%5Bc]%%5Bk%d%%5D=1&") + siblings("a[b%%5Bc]%%5Bk%d%%5D=+&"),
			"interrupted":    siblings("a[k%d]=1&a[k0][x]=2&a[0]=3&"),
			"replaced":       siblings("a[k%d]=1&") + "a=1&" + siblings("a[k%d]=2&"),
			"then appended":  siblings("a[%d]=1&") + "a[]=2&" + siblings("a[%d]=3&"),
			"odd in between": siblings("a[k%d]=1&a[k%%20]=2&a[]=3&"),
		} {
			t.Run(name+" "+strconv.Itoa(n), func(t *testing.T) {
				t.Parallel()
				checkReference(t, body, roomy)
				checkReference(t, body, phpform.Limits{Bytes: 1 << 20, Keys: 70, Depth: 64})
			})
		}
	}
}

// FuzzDecodeReference: Decode returns the same as the decoder that it replaced.
func FuzzDecodeReference(f *testing.F) {
	for _, body := range realBodies(f) {
		f.Add(body, 1000, 64)
	}
	for _, body := range oddBodies() {
		f.Add(body, 10, 3)
	}
	for _, body := range hostileBodies(1 << 9) {
		f.Add(body, 100, 8)
	}
	f.Fuzz(func(t *testing.T, body string, keys, depth int) {
		checkReference(t, body, roomy)
		checkReference(t, body, phpform.Limits{Bytes: 1 << 12, Keys: 1 + keys&0xff, Depth: 1 + depth&0xf})
	})
}
