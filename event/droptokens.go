package event

import (
	"slices"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// DropTokens removes the tokens of d: those of its auth section with their expiry, and every
// access, refresh and application token in d.Data and in what [Delivery.Extra] returns, by their
// keys and at any depth. It is for code that stores deliveries and must store no tokens. Call it
// before d is handed to a handler.
func (d *Delivery) DropTokens() {
	a := &d.Auth
	known := 0 // in the auth section
	for _, token := range []Secret{a.AccessToken, a.RefreshToken, a.ApplicationToken} {
		if token != "" {
			known++
		}
	}
	a.AccessToken, a.RefreshToken, a.ApplicationToken, a.Expires = "", "", "", time.Time{}
	if !d.body.left && onlyInAuth(d.body.root(), known) {
		return // as is usual
	}
	oldExtra := d.Extra().v
	data, extra := withoutTokens(d.Data.v), withoutTokens(oldExtra)
	if data == d.Data.v && extra == oldExtra {
		return
	}
	rest := d.keepExtra(extra.Pack())
	data = data.Pack()
	d.body.bytes = int32(rest) + int32(data.Size()) //nolint:gosec // less than before
	d.Data = d.data(data)
}

// onlyInAuth reports whether the auth section of a body has n tokens and the rest has none.
func onlyInAuth(root phpform.Value, n int) bool {
	for key, item := range root.All() {
		switch {
		case item.Kind() != phpform.Array:
			if at := authKeyOf(key); at == userToken || at == appToken {
				return false
			}
		case strings.EqualFold(key, "auth"):
			n -= countTokens(item)
		case countTokens(item) > 0:
			return false
		}
	}
	return n == 0
}

// countTokens returns how many entries of v, at any depth, have keys that name a token.
func countTokens(v phpform.Value) (n int) {
	for key, item := range v.All() {
		if at := authKeyOf(key); at == userToken || at == appToken {
			n++
		}
		if item.Kind() == phpform.Array {
			n += countTokens(item)
		}
	}
	return n
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
