// Package redact keeps secrets and control characters out of what is printed: logs, errors, JSON
// and fmt.
//
// A [Set] holds the secrets of one delivery or one call and takes them out of texts and trees.
// [Clean] and [Plain] make a text that somebody else wrote fit for one line of a log or an error.
// [EscapeJSON] makes a JSON text safe for a terminal.
//
// Nothing here runs unless something is printed, and all work is linear in the size of what is
// printed, whatever a sender puts into a body.
package redact

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/b24events/b24events/internal/phpform"
)

// Mark stands in the place of a secret.
const Mark = "[redacted]"

const (
	// minGiven is the length from which a secret that the caller knows is looked for in texts.
	minGiven = 6
	// minFound is the same for values that stand under secret keys in a body. Shorter ones, and
	// numbers below minNumber digits, are replaced only where they stand under such a key:
	// elsewhere they would hit by chance.
	minFound  = 8
	minNumber = 12
	// minTail is how much of the beginning of a secret [Set.RedactExcerpt] takes out at the end of
	// a text.
	minTail = 6
	// maxSecrets bounds a Set. A Set with more of them hides every text that could hold one.
	maxSecrets = 256
	// maxNested bounds how many layers of JSON inside a text are read.
	maxNested = 4
)

// Set is the secrets that are to be taken out of texts. The zero Set is empty and ready. Its
// methods are not safe for concurrent use.
type Set struct {
	secrets []string
	odd     bool // one of them changes when it is encoded
	over    bool // there were more than maxSecrets
	finder  *finder
}

// New returns a set of secrets that the caller knows, such as the access token of a call. Those
// shorter than six bytes are left out, because they would hit by chance.
func New(secrets ...string) *Set {
	s := &Set{}
	for _, secret := range secrets {
		if secret = strings.TrimSpace(secret); len(secret) >= minGiven {
			s.add(secret)
		}
	}
	return s
}

func (s *Set) add(secret string) {
	switch {
	case s.over, slices.Contains(s.secrets, secret):
	case len(s.secrets) == maxSecrets:
		s.over = true
	default:
		s.secrets, s.finder = append(s.secrets, secret), nil
		s.odd = s.odd || strings.ContainsFunc(secret, isOdd)
	}
}

// AddTree adds every value that stands under a secret key of a tree, also inside texts that are
// JSON.
func (s *Set) AddTree(v phpform.Value) { s.collect(v, "", false, 0) }

func (s *Set) collect(v phpform.Value, key string, secret bool, nested int) {
	secret = secret || isSecretField(key, v)
	if v.Kind() == phpform.Array {
		for _, e := range v.Entries() {
			s.collect(e.Value, e.Key, secret || isAuthSecret(key, e.Key), nested)
		}
		return
	}
	if secret {
		s.found(v.Scalar())
	}
	if inner, ok := document(v, nested); ok {
		s.collect(inner, "", secret, nested+1)
	}
}

// found adds a value from a body.
func (s *Set) found(value string) {
	value = strings.TrimSpace(value)
	if scheme, credentials, ok := strings.Cut(value, " "); ok && (strings.EqualFold(scheme, "bearer") || strings.EqualFold(scheme, "basic")) {
		value = strings.TrimSpace(credentials)
	}
	if len(value) < minFound || isNothing(value) {
		return
	}
	if len(value) < minNumber && strings.Trim(value, "0123456789") == "" {
		return
	}
	s.add(value)
}

// document reads a text that is a JSON object or array.
func document(v phpform.Value, nested int) (phpform.Value, bool) {
	if v.Kind() != phpform.String || nested >= maxNested {
		return phpform.Value{}, false
	}
	text := strings.TrimLeft(v.Scalar(), " \t\r\n")
	if text == "" || (text[0] != '{' && text[0] != '[') {
		return phpform.Value{}, false
	}
	return decode([]byte(text))
}

func decode(doc []byte) (phpform.Value, bool) {
	v, err := phpform.DecodeJSON(doc, phpform.Limits{Bytes: len(doc) + 1, Keys: len(doc) + 1, Depth: 2 * phpform.DefaultMaxDepth})
	return v, err == nil
}

// Tree returns v without secrets: the values under secret keys are replaced, and so is every secret
// of the set inside another value or a key. A text that is JSON is treated as a tree of its own.
func (s *Set) Tree(v phpform.Value) phpform.Value {
	out, _ := s.replace(v, "", false, 0)
	return out
}

// replace returns v without secrets, and whether that changed it.
func (s *Set) replace(v phpform.Value, key string, secret bool, nested int) (phpform.Value, bool) {
	secret = secret || isSecretField(key, v)
	switch v.Kind() {
	case phpform.Null, phpform.Bool:
		return v, false
	case phpform.String, phpform.Number:
		return s.replaceScalar(v, secret, nested)
	case phpform.Array:
	}
	entries := make([]phpform.Entry, v.Len())
	changed := false
	for i, e := range v.Entries() {
		value, other := s.replace(e.Value, e.Key, secret || isAuthSecret(key, e.Key), nested)
		name := s.Redact(e.Key)
		changed = changed || other || name != e.Key
		entries[i] = phpform.Entry{Key: name, Value: value}
	}
	if !changed {
		return v, false
	}
	return phpform.Map(entries...), true
}

func (s *Set) replaceScalar(v phpform.Value, secret bool, nested int) (phpform.Value, bool) {
	text := v.Scalar()
	if secret {
		if isNothing(text) {
			return v, false
		}
		return phpform.Text(Mark), true
	}
	if inner, ok := document(v, nested); ok && !s.over {
		out, changed := s.replace(inner, "", false, nested+1)
		if !changed {
			return v, false
		}
		return phpform.Text(string(out.AppendJSON(nil))), true
	}
	shown := s.Redact(text)
	if shown == text {
		return v, false
	}
	return phpform.Text(shown), true
}

// JSON returns a JSON document without secrets, as [Set.Tree] does. What is no JSON becomes [Mark],
// as a JSON text.
func (s *Set) JSON(doc []byte) []byte {
	v, ok := decode(doc)
	if !ok {
		return []byte(`"` + Mark + `"`)
	}
	out, changed := s.replace(v, "", false, 0)
	if !changed {
		return doc
	}
	return out.AppendJSON(nil)
}

// Redact returns text without the secrets of the set, as they are or encoded for a URL, for JSON or
// for HTML, up to three layers of that. It also removes credentials that are not in the set: the
// values of parameters such as access_token and auth, JSON members with such names, Bearer
// credentials and the secret in the address of an incoming webhook.
func (s *Set) Redact(text string) string { return s.text(text, false) }

// RedactExcerpt is [Set.Redact] for the first part of a text that was cut: the part of a secret
// that the cut left at the end goes too.
func (s *Set) RedactExcerpt(text string) string { return s.text(text, true) }

func (s *Set) text(text string, cut bool) string {
	if text == "" {
		return ""
	}
	if s.over && len(text) >= minFound {
		return Mark
	}
	spans := credentials(text, nil)
	if len(s.secrets) > 0 && (cut || !s.absent(text)) {
		if s.finder == nil {
			s.finder = newFinder(s.secrets)
		}
		spans = s.finder.find(text, cut, spans)
	}
	return without(text, spans)
}

// absent reports whether a text surely holds no secret. It is for short texts, for which a finder
// does not pay: most of what is printed is names and numbers.
func (s *Set) absent(text string) bool {
	const short, few = 256, 16
	if s.odd || len(text) > short || len(s.secrets) > few || strings.ContainsAny(text, `%\&`) {
		return false
	}
	for _, secret := range s.secrets {
		if strings.Contains(text, secret[:min(len(secret), maxDepth)]) {
			return false
		}
	}
	return true
}

// isOdd reports whether a character of a secret may be written in another way.
func isOdd(r rune) bool {
	return r <= ' ' || r >= utf8.RuneSelf || strings.ContainsRune(`%\&+`, r)
}

// Clean returns text without secrets and fit for one line, as [Line] makes it.
func (s *Set) Clean(text string, limit int) string { return Line(s, text, limit) }

// Plain is [Set.Clean] for a text that may hold HTML, whose tags it drops.
func (s *Set) Plain(text string, limit int) string {
	return s.Clean(withoutTags(s.Redact(text)), limit)
}

// Redactor takes secrets out of texts. A [Set] does, and so does an event.Delivery.
type Redactor interface {
	Redact(text string) string
	RedactExcerpt(text string) string
}

// Line makes a text that somebody else wrote fit for one line of a log or an error: without the
// secrets that r knows, and as [Clean] makes it. It reads no more of a long text than it needs.
func Line(r Redactor, text string, limit int) string {
	const slack = 8 // white space and escapes may be longer than what is shown of them
	if most := slack * limit; len(text) > most {
		return Clean(r.RedactExcerpt(text[:most]), limit)
	}
	return Clean(r.Redact(text), limit)
}

// span is a part of a text, in bytes.
type span struct{ from, to int }

// without returns the text with the spans replaced.
func without(text string, spans []span) string {
	if len(spans) == 0 {
		return text
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	var b strings.Builder
	done := 0 // up to here text is written or replaced
	for _, sp := range spans {
		if sp.to <= done {
			continue
		}
		if sp.from >= done {
			b.WriteString(text[done:sp.from])
			b.WriteString(Mark)
		} // else it overlaps the one before
		done = sp.to
	}
	b.WriteString(text[done:])
	return b.String()
}
