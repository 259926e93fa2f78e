package event

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/values"
)

// contradiction is an [ErrForbidden] that says what contradicts the proof.
type contradiction string

// Error returns what contradicts the proof.
func (c contradiction) Error() string { return string(ErrForbidden) + ": " + string(c) }

// Is reports that c is an [ErrForbidden].
func (c contradiction) Is(target error) bool { return target == ErrForbidden }

const errOtherPortal = contradiction("an auth block in its data names another portal than the proven one")

// Contradicts returns an error that matches [ErrForbidden] if an auth block inside d.Data names
// another portal than p. Events of bots have such blocks: data.bot.auth in the second version of
// the API, data.BOT[n] and data.COMMAND[n] in the first. The proof of a delivery covers them only
// if they agree with it. Code that has verified a delivery calls Contradicts before
// [Delivery.SetProof]. Nothing contradicts a [ProofInsecure].
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/index.html
func (d *Delivery) Contradicts(p Proof) error {
	if p.By == ProofInsecure {
		return nil
	}
	blocks := d.innerAuth()
	return blocks.check(d.Data.v, blocks.all, p.MemberID)
}

// authBlocks says how to find the auth blocks inside data.
type authBlocks struct {
	bots bool // everything under the keys bot and command belongs to auth blocks
	all  bool // data itself is an auth block
}

func (d *Delivery) innerAuth() authBlocks {
	return authBlocks{bots: strings.HasPrefix(d.Name, "ONIM"), all: d.Name == "ONAPPUSERREADY"}
}

// authKey is the kind of an entry of an auth block. It ignores the case of keys, as the decoding of
// payloads does.
type authKey int

const (
	keyOther     authKey = iota
	keyUserToken         // access_token, refresh_token
	keyAppToken          // application_token
	keyMember
	keyClient
	keyServer
	keyDomain
)

// maxAuthKey leaves room for letters such as the Kelvin sign, which is longer than the k that it
// equals.
const maxAuthKey = 2 * len("application_token")

func authKeyOf(key string) authKey {
	if len(key) < len("domain") || len(key) > maxAuthKey {
		return keyOther
	}
	var (
		name  string
		found authKey
	)
	switch c := key[0]; c | 0x20 { // a key is compared with one or two names
	case 'a':
		if strings.EqualFold(key, "application_token") {
			return keyAppToken
		}
		name, found = "access_token", keyUserToken
	case 'r':
		name, found = "refresh_token", keyUserToken
	case 'm':
		name, found = "member_id", keyMember
	case 'c':
		name, found = "client_endpoint", keyClient
	case 'd':
		name, found = "domain", keyDomain
	default:
		if c|0x20 != 's' && c < utf8.RuneSelf { // there is another letter that equals an s
			return keyOther
		}
		name, found = "server_endpoint", keyServer
	}
	if strings.EqualFold(key, name) {
		return found
	}
	return keyOther
}

// within reports whether the value under key belongs to an auth block because of the key's name.
func (b authBlocks) within(key string) bool {
	return strings.EqualFold(key, "auth") || b.bots && (strings.EqualFold(key, "bot") || strings.EqualFold(key, "command"))
}

// isBlock reports whether an array is an auth block because it holds a token and the portal of the
// token.
func isBlock(v phpform.Value) bool {
	token, place := false, false
	for key := range v.All() {
		switch authKeyOf(key) {
		case keyUserToken, keyAppToken:
			token = true
		case keyMember, keyClient, keyServer:
			place = true
		case keyOther, keyDomain:
		}
	}
	return token && place
}

// replaced reports whether the proven value replaces that of an entry.
func (k authKey) replaced() bool {
	return k == keyClient || k == keyServer || k == keyDomain || k == keyAppToken
}

// maybeBlock is an array that may be an auth block. For most arrays it does not matter, so isOne
// finds out only when it is needed.
type maybeBlock struct {
	v         phpform.Value
	known, is bool
}

func (m *maybeBlock) isOne() bool {
	if !m.known {
		m.known, m.is = true, isBlock(m.v)
	}
	return m.is
}

// check compares the auth blocks in v with the proven portal. inside says that v belongs to one.
func (b authBlocks) check(v phpform.Value, inside bool, member string) error {
	block := maybeBlock{v: v, known: inside, is: inside}
	for key, item := range v.All() {
		if item.Kind() == phpform.Array {
			if err := b.check(item, inside || b.within(key), member); err != nil {
				return err
			}
		}
		if authKeyOf(key) == keyMember && !values.IsEmpty(item) && item.Scalar() != member && block.isOne() {
			return errOtherPortal
		}
	}
	return nil
}

// replaceInnerAuth makes the auth blocks inside the data of d agree with its Auth, which is proven.
// If that changes the data, d gets a new text for it, and keeps only those parts of the old body
// that can still be read.
func (d *Delivery) replaceInnerAuth() {
	blocks, old := d.innerAuth(), d.Data.v
	v := blocks.replace(old, blocks.all, &d.Auth)
	if v == old {
		return
	}
	v = v.Pack()
	rest := d.dropBody()
	if d.body.length > 0 && int64(rest)+v.Size() > int64(d.body.length)*3/2 {
		// Only a hostile body holds so many blocks that the proven addresses make it
		// much larger.
		v = blocks.replace(old, blocks.all, &Auth{}).Pack()
	}
	d.body.memory = int32(rest) + int32(v.Size()) //nolint:gosec // less than twice the body
	d.Data = d.data(v)
}

// dropBody reduces the body to what Extra returns, and copies the texts of d that are parts of the
// body. It returns the length of both.
func (d *Delivery) dropBody() (bytes int) { return d.keepExtra(d.Extra().v.Pack()) }

// keepExtra is dropBody with the value that Extra returns from now on. It is packed.
func (d *Delivery) keepExtra(extra phpform.Value) (bytes int) {
	d.body.packed, d.body.extraOnly = extra.Packed(), true
	a := &d.Auth
	texts := []*string{
		&d.Name, (*string)(&a.AccessToken), (*string)(&a.RefreshToken), (*string)(&a.ApplicationToken), (*string)(&a.Scope),
		&a.Status, &d.MessageID, &d.ProcessID,
	}
	var all strings.Builder
	for _, text := range texts {
		all.WriteString(*text)
	}
	copied := strings.Clone(all.String())
	bytes = int(extra.Size()) + len(copied)
	for _, text := range texts {
		*text, copied = copied[:len(*text)], copied[len(*text):]
	}
	return bytes
}

// replace returns v with the proven addresses and the proven application token in its auth blocks.
// It removes those that are not proven.
func (b authBlocks) replace(v phpform.Value, inside bool, proven *Auth) phpform.Value {
	block := maybeBlock{v: v, known: inside, is: inside}
	var changed []phpform.Entry // made for the first change; v itself is immutable
	place, touched := 0, false
	for key, old := range v.All() {
		value, keep := old, true
		if value.Kind() == phpform.Array {
			value = b.replace(value, inside || b.within(key), proven)
		}
		if at := authKeyOf(key); at.replaced() && block.isOne() {
			switch at {
			case keyClient:
				value, keep = phpform.Text(proven.ClientEndpoint), proven.ClientEndpoint != ""
			case keyServer:
				value, keep = phpform.Text(proven.ServerEndpoint), proven.ServerEndpoint != ""
			case keyDomain:
				value, keep = phpform.Text(proven.Domain), proven.Domain != ""
			case keyAppToken:
				value, keep = phpform.Text(string(proven.ApplicationToken)), proven.ApplicationToken != ""
			case keyOther, keyUserToken, keyMember:
			}
		}
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
