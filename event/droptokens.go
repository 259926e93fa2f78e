package event

import (
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/b24events/b24events/internal/phpform"
)

// DropTokens removes the tokens of d: those of its auth section with their expiry, and every
// access, refresh and application token in d.Data and in [Delivery.Extra], by their keys and at any
// depth. Within texts, such as JSON or an address, it replaces the values of such keys and the
// tokens of d by "[redacted]". It does not change other texts. It is for code that stores
// deliveries but must not store tokens. Call it before you pass d to a handler.
func (d *Delivery) DropTokens() {
	a := &d.Auth
	if !d.body.extraOnly && onlyInAuth(d.body.root()) { // the usual case
		a.AccessToken, a.RefreshToken, a.ApplicationToken, a.Expires = "", "", "", time.Time{}
		return
	}
	oldData, oldExtra := d.Data.v, d.Extra().v
	var drop dropper
	for _, token := range []Secret{a.AccessToken, a.RefreshToken, a.ApplicationToken} {
		drop.remember(string(token))
	}
	drop.find(oldData)
	drop.find(oldExtra)
	a.AccessToken, a.RefreshToken, a.ApplicationToken, a.Expires = "", "", "", time.Time{}
	for _, text := range []*string{&d.Name, (*string)(&a.Scope), &a.Status, &d.MessageID, &d.ProcessID} {
		*text = drop.text(*text)
	}
	data, extra := drop.value(oldData), drop.value(oldExtra)
	if data == oldData && extra == oldExtra {
		return
	}
	rest := d.keepExtra(extra.Pack())
	data = data.Pack()
	d.body.memory = int32(rest) + int32(data.Size()) //nolint:gosec // about what it was before
	d.Data = d.data(data)
}

// dropper removes tokens.
type dropper struct{ tokens []string }

// maxTokens bounds how many tokens are searched for in texts. A genuine body has a few.
const maxTokens = 16

// remember adds a token.
func (p *dropper) remember(token string) {
	if len(token) >= shortText && len(p.tokens) < maxTokens && !slices.Contains(p.tokens, token) {
		p.tokens = append(p.tokens, token)
	}
}

// find adds the tokens of a tree.
func (p *dropper) find(v phpform.Value) {
	for key, item := range v.All() {
		switch {
		case item.Kind() == phpform.Array:
			p.find(item)
		case isTokenKey(key):
			p.remember(item.Scalar())
		}
	}
}

// value returns v without tokens. It returns v itself if there are none.
func (p *dropper) value(v phpform.Value) phpform.Value {
	if v.Kind() == phpform.String {
		if text := v.Scalar(); len(text) >= shortText {
			if kept := p.text(text); kept != text {
				return phpform.Text(kept)
			}
		}
		return v
	}
	var changed []phpform.Entry // made for the first change; v itself is immutable
	place, touched := 0, false
	for key, old := range v.All() {
		value, name := p.value(old), key
		if len(key) >= shortText {
			name = p.text(key)
		}
		keep := !isTokenKey(key) || strings.EqualFold(key, "auth") && old.Kind() == phpform.Array
		if !touched && (!keep || value != old || name != key) {
			changed, touched = slices.Clone(v.Entries()[:place]), true
		}
		if touched && keep {
			changed = append(changed, phpform.Entry{Key: name, Value: value})
		}
		place++
	}
	if !touched {
		return v
	}
	return phpform.Map(changed...)
}

// inText matches a token with its key in JSON, in a form or in an address. The quotes may be
// escaped.
var inText = regexp.MustCompile(`(?i)` +
	`((?:access|refresh|application)[_-]?token|client[_-]?secret|(?:auth|refresh)_id|\bauth)` + // the key
	`((?:\\*"|%22|&quot;)?\s*(?:=|:|%3d|%3a)\s*(?:\\*"|%22|&quot;)?)` + // what is between them
	`[\w.~-]{16,}`) // the token

// text returns a text without tokens.
func (p *dropper) text(text string) string {
	for _, token := range p.tokens {
		text = strings.ReplaceAll(text, token, redactedText)
	}
	if namesToken(text) {
		return inText.ReplaceAllString(text, "${1}${2}"+redactedText)
	}
	return text // the usual case: the expression takes much longer
}

// namesToken reports whether inText may match something in a text.
func namesToken(text string) bool {
	for i := range len(text) {
		var word string
		switch c := text[i]; {
		case c >= utf8.RuneSelf:
			if strings.HasPrefix(text[i:], kelvin) || strings.HasPrefix(text[i:], longS) {
				return true // it may be within a word; that is very rare
			}
			continue
		case c|0x20 == 't':
			word = "token"
		case c|0x20 == 's':
			word = "secret"
		case c|0x20 == 'a':
			word = "auth"
		case c|0x20 == 'r':
			word = "refresh_id"
		default:
			continue
		}
		if !hasPrefixFold(text[i:], word) {
			continue
		}
		rest := text[i+len(word):]
		if word == "auth" && hasPrefixFold(rest, "_id") {
			rest = rest[len("_id"):]
		}
		if rest != "" && strings.IndexByte("\\\"%&=: \t\n\f\r", rest[0]) >= 0 {
			return true
		}
	}
	return false
}

// hasPrefixFold reports whether a text begins with a word of ASCII, in any case.
func hasPrefixFold(text, word string) bool {
	return len(text) >= len(word) && strings.EqualFold(text[:len(word)], word)
}

// The letters outside ASCII that equal an ASCII letter if case is ignored.
const (
	kelvin = "\u212a" // k
	longS  = "\u017f" // s
)

const redactedText = "[redacted]"

// isTokenKey reports whether a key names a token or a secret of the application. It ignores case,
// underscores and hyphens.
func isTokenKey(key string) bool {
	if len(key) > maxAuthKey {
		return false
	}
	var letters [len("applicationtoken")]byte
	n := 0
	for _, r := range key {
		switch {
		case r == '_' || r == '-':
			continue
		case r >= utf8.RuneSelf:
			r = unicode.ToLower(r)
		case r >= 'A' && r <= 'Z':
			r += 'a' - 'A'
		}
		if n == len(letters) || r >= utf8.RuneSelf {
			return isAuthToken(key)
		}
		letters[n] = byte(r) //nolint:gosec // of ASCII
		n++
	}
	switch string(letters[:n]) {
	case "accesstoken", "refreshtoken", "applicationtoken", "authid", "refreshid", "clientsecret", "auth":
		return true
	default:
		return isAuthToken(key)
	}
}

// isAuthToken reports whether a key names a token in the spelling of an auth section.
func isAuthToken(key string) bool {
	at := authKeyOf(key)
	return at == keyUserToken || at == keyAppToken
}

// shortText is the length below which a text holds no token. Tokens have 32 characters or more.
const shortText = 16

// onlyInAuth reports whether only the known fields of its auth section can be tokens in a body.
func onlyInAuth(root phpform.Value) bool {
	seen := 0
	for key, item := range root.All() {
		field, _ := fieldOf(key, topNames[:])
		if field < 0 || seen&(1<<field) != 0 {
			return false
		}
		seen |= 1 << field
		switch field {
		case topData:
			if !isShort(item) {
				return false
			}
		case topAuth:
			known := 0
			for key, item := range item.All() {
				field, _ := fieldOf(key, authNames[:])
				if field < 0 || known&(1<<field) != 0 || item.Kind() == phpform.Array {
					return false
				}
				known |= 1 << field
			}
		default:
			if item.Kind() == phpform.Array || len(item.Scalar()) > maxPlainField {
				return false
			}
		}
	}
	return true
}

// maxPlainField is longer than names of events, times and IDs of handlers are.
const maxPlainField = 64

// isShort reports whether no key and no text of v is long enough for a token.
func isShort(v phpform.Value) bool {
	if v.Kind() != phpform.Array {
		return len(v.Scalar()) < shortText
	}
	for key, item := range v.All() {
		if len(key) >= shortText || authKeyOf(key) == keyUserToken || !isShort(item) {
			return false
		}
	}
	return true
}
