package redact

import (
	"html"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// maxDepth is how many bytes of a secret are in the tree of nodes. The rest is compared byte by
	// byte.
	maxDepth = 32
	// layers is how many times a text is decoded: a token in a URL in a JSON text has two layers of
	// encoding.
	layers = 3
)

// finder finds many secrets in one pass over a text, by the algorithm of Aho and Corasick.
type finder struct {
	root  [256]int32 // the children of node 0
	edges map[uint64]int32
	nodes []node
}

// node stands for a beginning of one or more secrets.
type node struct {
	fail  int32    // the node of its longest proper suffix that begins a secret
	link  int32    // the nearest node on the chain of fail that ends a secret; 0 for none
	depth int32    // in bytes
	ends  bool     // a secret, or its first maxDepth bytes, ends here
	rests []string // the rest of longer secrets
}

func newFinder(secrets []string) *finder {
	f := &finder{edges: make(map[uint64]int32), nodes: make([]node, 1)}
	inserted := make(map[string]bool)
	for _, s := range secrets {
		for _, form := range forms(s) {
			if len(form) >= minGiven && !inserted[form] {
				inserted[form] = true
				f.insert(form)
			}
		}
	}
	f.linkNodes()
	return f
}

// forms returns how a secret may look in a decoded text.
func forms(secret string) []string {
	all := []string{secret}
	if valid := string([]rune(secret)); valid != secret {
		all = append(all, valid) // JSON replaces each byte that is not UTF-8
	}
	// A secret with a percent sign loses it if the text around it is decoded.
	if l := decodeLayer(layer{text: secret}); l.at != nil {
		all = append(all, l.text)
	}
	for i := range all {
		all[i] = strings.ReplaceAll(all[i], " ", "+")
	}
	return all
}

func (f *finder) insert(secret string) {
	at := int32(0)
	for i := range min(len(secret), maxDepth) {
		next := f.child(at, secret[i])
		if next == 0 {
			next = int32(len(f.nodes)) //nolint:gosec // a Set is bounded
			f.nodes = append(f.nodes, node{depth: f.nodes[at].depth + 1})
			if at == 0 {
				f.root[secret[i]] = next
			} else {
				f.edges[edge(at, secret[i])] = next
			}
		}
		at = next
	}
	f.nodes[at].ends = true
	if len(secret) > maxDepth {
		f.nodes[at].rests = append(f.nodes[at].rests, secret[maxDepth:])
	}
}

func edge(at int32, c byte) uint64 { return uint64(at)<<8 | uint64(c) } //nolint:gosec // nodes have no negative numbers

func (f *finder) child(at int32, c byte) int32 {
	if at == 0 {
		return f.root[c]
	}
	return f.edges[edge(at, c)]
}

// next returns the node for the longest end of what was read that begins a secret.
func (f *finder) next(at int32, c byte) int32 {
	for at != 0 {
		if to := f.edges[edge(at, c)]; to != 0 {
			return to
		}
		at = f.nodes[at].fail
	}
	return f.root[c]
}

// linkNodes sets fail and link of all nodes, level by level.
func (f *finder) linkNodes() {
	type arc struct {
		from, to int32
		c        byte
	}
	levels := make([][]arc, maxDepth+1)
	for key, to := range f.edges {
		depth := f.nodes[to].depth
		levels[depth] = append(levels[depth], arc{int32(key >> 8), to, byte(key)}) //nolint:gosec // as edge made it
	}
	for _, level := range levels {
		for _, a := range level {
			fail := f.next(f.nodes[a.from].fail, a.c)
			f.nodes[a.to].fail = fail
			if f.nodes[a.to].link = f.nodes[fail].link; f.nodes[fail].ends {
				f.nodes[a.to].link = fail
			}
		}
	}
}

// find adds the spans of text that hold a secret.
func (f *finder) find(text string, cut bool, spans []span) []span {
	l := layer{text: text}
	for range layers {
		spans = f.scan(l, cut, spans)
		decoded := decodeLayer(l)
		if decoded.at == nil {
			return spans
		}
		l = decoded
	}
	return f.scan(l, cut, spans)
}

func (f *finder) scan(l layer, cut bool, spans []span) []span {
	at := int32(0)
	for i := 0; i < len(l.text); i++ {
		if at = f.next(at, folded(l.text[i])); at == 0 {
			continue
		}
		end := i + 1
		for n := at; n != 0; n = f.nodes[n].link {
			if nd := &f.nodes[n]; nd.ends {
				to := i + 1
				for _, rest := range nd.rests {
					to = max(to, i+1+common(rest, l.text[i+1:]))
				}
				spans = append(spans, span{l.source(i + 1 - int(nd.depth)), l.source(to)})
				end = max(end, to)
			}
		}
		if end > i+1 { // skip what was compared
			i, at = end-1, 0
		}
	}
	if n := int(f.nodes[at].depth); cut && n >= minTail {
		spans = append(spans, span{l.source(len(l.text) - n), l.source(len(l.text))})
	}
	return spans
}

// folded maps a space to a plus sign, because query strings write one for the other.
func folded(c byte) byte {
	if c == ' ' {
		return '+'
	}
	return c
}

// common returns the length of the common beginning of secret and text.
func common(secret, text string) int {
	n := min(len(secret), len(text))
	for i := range n {
		if secret[i] != folded(text[i]) {
			return i
		}
	}
	return n
}

// layer is a text after some layers of decoding.
type layer struct {
	text string
	at   []int32 // the position of each byte, and of the end, in the original text; nil if it is the same
}

func (l layer) source(i int) int {
	if l.at == nil {
		return i
	}
	return int(l.at[i])
}

// decodeLayer undoes one layer of percent signs, backslashes and HTML entities. The layer that it
// returns has no positions if there was nothing to undo.
func decodeLayer(l layer) layer {
	if !strings.ContainsAny(l.text, `%\&`) {
		return layer{}
	}
	out := make([]byte, 0, len(l.text))
	at := make([]int32, 0, len(l.text)+1)
	changed := false
	for i := 0; i < len(l.text); {
		from := l.source(i)
		decoded, size := unescape(l.text[i:])
		if size == 0 {
			out, at = append(out, l.text[i]), append(at, int32(from)) //nolint:gosec // texts are far below 2 GiB
			i++
			continue
		}
		changed = true
		i += size
		for n := range len(decoded) {
			out = append(out, decoded[n])
			if n > 0 { // do not cut inside an escape
				from = l.source(i)
			}
			at = append(at, int32(from)) //nolint:gosec // texts are far below 2 GiB
		}
	}
	if !changed {
		return layer{}
	}
	return layer{text: string(out), at: append(at, int32(l.source(len(l.text))))} //nolint:gosec // texts are far below 2 GiB
}

// unescape decodes the escape at the start of s. size is 0 if there is none.
func unescape(s string) (decoded string, size int) {
	switch s[0] {
	case '%':
		if c, ok := hexByte(s, 1); ok {
			return string([]byte{c}), 3
		}
	case '\\':
		return unescapeBackslash(s)
	case '&':
		const longest = 10
		if end := strings.IndexByte(s[:min(len(s), longest)], ';'); end > 1 {
			if text := html.UnescapeString(s[:end+1]); text != s[:end+1] {
				return text, end + 1
			}
		}
	}
	return "", 0
}

func unescapeBackslash(s string) (decoded string, size int) {
	if len(s) < 2 {
		return "", 0
	}
	switch s[1] {
	case '"', '\'', '\\', '/':
		return s[1:2], 2
	case 'a', 'b', 'f', 'n', 'r', 't', 'v':
		return control(s[1]), 2
	case 'x':
		if c, ok := hexByte(s, 2); ok {
			return string([]byte{c}), 4
		}
	case 'u':
		high, ok := hex(s, 2, 4)
		if !ok {
			return "", 0
		}
		if utf16.IsSurrogate(high) {
			if low, ok := hex(s, 8, 4); ok && s[6] == '\\' && s[7] == 'u' {
				if r := utf16.DecodeRune(high, low); r != utf8.RuneError {
					return string(r), 12
				}
			}
		}
		return string(high), 6
	}
	return "", 0
}

// control returns the control character that a backslash and a letter stand for in JSON or in Go.
func control(letter byte) string {
	switch letter {
	case 'a':
		return "\a"
	case 'b':
		return "\b"
	case 'f':
		return "\f"
	case 'n':
		return "\n"
	case 'r':
		return "\r"
	case 't':
		return "\t"
	default:
		return "\v"
	}
}

// hexByte reads two hexadecimal digits of s from the byte at.
func hexByte(s string, at int) (byte, bool) {
	c, ok := hex(s, at, 2)
	return byte(c), ok //nolint:gosec // two digits
}

// hex reads n hexadecimal digits of s from the byte at.
func hex(s string, at, n int) (rune, bool) {
	if len(s) < at+n {
		return 0, false
	}
	digits := s[at : at+n]
	if digits[0] == '+' || digits[0] == '-' {
		return 0, false
	}
	v, err := strconv.ParseUint(digits, 16, 32)
	return rune(v), err == nil //nolint:gosec // four digits at most
}
