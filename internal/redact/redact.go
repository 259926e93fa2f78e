// Package redact removes secrets and control characters from printed texts: logs, errors, JSON and
// the output of package fmt.
//
// A [Set] holds the secrets of one delivery or one call, and removes them from texts and trees.
// [Clean] and [Plain] make an untrusted text fit for one line of a log or an error. [EscapeJSON]
// makes a JSON text safe for a terminal.
//
// Nothing here runs unless something is printed. All work is linear in the size of the printed
// text, whatever a sender puts into a body.
package redact

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/b24events/b24events/internal/phpform"
)

// Mark replaces a secret.
const Mark = "[redacted]"

const (
	// minGiven is the shortest secret of the caller that is searched for in texts.
	minGiven = 6
	// minFound is the same for values under secret keys of a body. Shorter values, and numbers of less
	// than minNumber digits, are replaced only under such a key: elsewhere they would match by chance.
	minFound  = 8
	minNumber = 12
	// minTail is the shortest beginning of a secret that [Set.RedactExcerpt] removes from the end of a
	// text.
	minTail = 6
	// maxSecrets bounds a Set. A Set with more secrets hides every text that could hold one.
	maxSecrets = 256
	// maxNested bounds how many layers of JSON inside a text are read.
	maxNested = 4
)

// Set is the secrets to remove from texts. The zero Set is empty and ready to use. Its methods are
// not safe for concurrent use.
type Set struct {
	secrets []string
	encodes bool // one of them changes if it is encoded
	tooMany bool // there were more than maxSecrets
	finder  *finder
}

// New returns a set of secrets that the caller knows, such as the access token of a call. It leaves
// out secrets of less than six bytes, because they would match by chance.
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
	case s.tooMany, slices.Contains(s.secrets, secret):
	case len(s.secrets) == maxSecrets:
		s.tooMany = true
	default:
		s.secrets, s.finder = append(s.secrets, secret), nil
		s.encodes = s.encodes || strings.ContainsFunc(secret, mayEncode)
	}
}

// AddTree adds every value under a secret key of a tree, also inside texts that are JSON.
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
		s.addFound(v.Scalar())
	}
	if inner, ok := document(v, nested); ok {
		s.collect(inner, "", secret, nested+1)
	}
}

// addFound adds a value of a body, unless it is too short.
func (s *Set) addFound(value string) {
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

// document decodes a text that is a JSON object or array.
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

// Tree returns v without secrets. It replaces the values under secret keys, and every secret of the
// set inside other values and keys. It treats a text that is JSON as a tree.
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
	if inner, ok := document(v, nested); ok && !s.tooMany {
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

// JSON returns a JSON document without secrets, as [Set.Tree] does. A text that is not JSON becomes
// [Mark], as a JSON text.
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

// Redact returns text without the secrets of the set, also if they are encoded for a URL, for JSON
// or for HTML, in up to three layers. It also removes credentials that are not in the set: the
// values of parameters such as access_token and auth, JSON members with such names, Bearer
// credentials and the secret in the address of an incoming webhook.
func (s *Set) Redact(text string) string { return s.text(text, false) }

// RedactExcerpt is [Set.Redact] for the first part of a longer text: it also removes the part of a
// secret at the end.
func (s *Set) RedactExcerpt(text string) string { return s.text(text, true) }

func (s *Set) text(text string, cut bool) string {
	if text == "" {
		return ""
	}
	if s.tooMany && len(text) >= minFound {
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

// absent reports whether a text certainly holds no secret. It is for short texts, for which a
// finder is too slow: most printed texts are names and numbers.
func (s *Set) absent(text string) bool {
	const short, few = 256, 16
	if s.encodes || len(text) > short || len(s.secrets) > few || strings.ContainsAny(text, `%\&`) {
		return false
	}
	for _, secret := range s.secrets {
		if strings.Contains(text, secret[:min(len(secret), maxDepth)]) {
			return false
		}
	}
	return true
}

// mayEncode reports whether a character of a secret may be written in another way.
func mayEncode(r rune) bool {
	return r <= ' ' || r >= utf8.RuneSelf || strings.ContainsRune(`%\&+`, r)
}

// Clean returns text without secrets and fit for one line, as [Line] does.
func (s *Set) Clean(text string, limit int) string { return Line(s, text, limit) }

// Plain is [Set.Clean] for a text that may hold HTML. It drops the tags.
func (s *Set) Plain(text string, limit int) string {
	return s.Clean(withoutTags(s.Redact(text)), limit)
}

// Redactor removes secrets from texts. [Set] and event.Delivery implement it.
type Redactor interface {
	Redact(text string) string
	RedactExcerpt(text string) string
}

// Line makes an untrusted text fit for one line of a log or an error: it removes the secrets that r
// knows and calls [Clean]. It reads no more of a long text than it needs.
func Line(r Redactor, text string, limit int) string {
	const slack = 8 // white space and escapes may be longer than their printed form
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
	done := 0 // text is written or replaced up to here
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
