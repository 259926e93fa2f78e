package event

import (
	"slices"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// DropTokens removes the tokens of d: those of its auth section with their expiry, and every
// access, refresh and application token in d.Data and in what [Delivery.Extra] returns, by their
// keys and at any depth. What else looks like a credential there, such as a token under another key
// or within a text, is replaced by "[redacted]", as it is when d is printed. It is for code that
// stores deliveries and must store no tokens. Call it before d is handed to a handler.
func (d *Delivery) DropTokens() {
	a := &d.Auth
	if !d.body.left && onlyInAuth(d.body.root()) { // as is usual
		a.AccessToken, a.RefreshToken, a.ApplicationToken, a.Expires = "", "", "", time.Time{}
		return
	}
	secrets := d.secrets()
	a.AccessToken, a.RefreshToken, a.ApplicationToken, a.Expires = "", "", "", time.Time{}
	for _, text := range []*string{&d.Name, (*string)(&a.Scope), &a.Status, &d.MessageID, &d.ProcessID} {
		*text = secrets.Redact(*text)
	}
	oldData, oldExtra := d.Data.v, d.Extra().v
	data, extra := secrets.Tree(withoutTokens(oldData)), secrets.Tree(withoutTokens(oldExtra))
	if data == oldData && extra == oldExtra {
		return
	}
	rest := d.keepExtra(extra.Pack())
	data = data.Pack()
	d.body.bytes = int32(rest) + int32(data.Size()) //nolint:gosec // about what it was before
	d.Data = d.data(data)
}

// shortText is the length of texts that hold no token. Those of the platform have 32 characters and
// more.
const shortText = 16

// onlyInAuth reports whether nothing in a body can be a token but the known fields of its auth
// section.
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

// maxPlainField is more than names of events, times and IDs of handlers have.
const maxPlainField = 64

// isShort reports whether no key and no text of v is long enough for a token.
func isShort(v phpform.Value) bool {
	if v.Kind() != phpform.Array {
		return len(v.Scalar()) < shortText
	}
	for key, item := range v.All() {
		if len(key) >= shortText || authKeyOf(key) == userToken || !isShort(item) {
			return false
		}
	}
	return true
}

// withoutTokens returns v without the entries whose keys name a token, v itself if there are none.
func withoutTokens(v phpform.Value) phpform.Value {
	var changed []phpform.Entry // made for the first change; v itself is immutable
	place, touched := 0, false
	for key, old := range v.All() {
		value := old
		if old.Kind() == phpform.Array {
			value = withoutTokens(old)
		}
		at := authKeyOf(key)
		keep := at != userToken && at != appToken
		if !touched && (!keep || value != old) {
			changed, touched = slices.Clone(v.Entries()[:place]), true
		}
		if touched && keep {
			changed = append(changed, phpform.Entry{Key: key, Value: value})
		}
		place++
	}
	if !touched {
		return v
	}
	return phpform.Map(changed...)
}
