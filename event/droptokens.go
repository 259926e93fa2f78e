package event

import (
	"slices"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// DropTokens removes the tokens of d: those of its auth section with their expiry, and every
// access, refresh and application token in d.Data and in what [Delivery.Extra] returns, by their
// keys and at any depth. It is for code that stores deliveries and must store no tokens. Call it
// before d is handed to a handler.
func (d *Delivery) DropTokens() {
	a := &d.Auth
	a.AccessToken, a.RefreshToken, a.ApplicationToken, a.Expires = "", "", "", time.Time{}
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
