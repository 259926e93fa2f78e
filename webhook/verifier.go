package webhook

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/b24events/b24events/event"
)

// Verifier decides whether a delivery is authentic. Verify returns nil when it is, an error that matches [event.ErrForbidden]
// when it is not, and any other error when it could not tell. It is called before anything else looks at the delivery, with a context
// that ends after the verify timeout, and must be safe for concurrent use.
//
// A Verifier may also have a method Validate() error; NewHandler calls it and returns its error.
type Verifier interface {
	Verify(ctx context.Context, d *event.Delivery) error
}

// validator is what a Verifier has that can be misconfigured.
type validator interface {
	Validate() error
}

// validate checks a verifier before it is used.
func validate(v Verifier) error {
	if isNil(v) {
		return misconfigured("nil verifier")
	}
	if val, ok := v.(validator); ok {
		return val.Validate()
	}
	return nil
}

// isNil also finds nil pointers and functions inside an interface.
func isNil(v any) bool {
	rv := reflect.ValueOf(v)
	switch rv.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Func:
		return rv.IsNil()
	default:
		return false
	}
}

// digest is what tokens are compared by: equal lengths, and nothing to learn from how far a comparison got.
type digest [sha256.Size]byte

func digestOf(token string) digest { return sha256.Sum256([]byte(token)) }

// matches compares with every known token, whichever matches.
func (d digest) matches(known []digest) bool {
	found := 0
	for i := range known {
		found |= subtle.ConstantTimeCompare(d[:], known[i][:])
	}
	return found == 1
}

// TokenVerifier accepts deliveries that carry one of a fixed set of application tokens; see [Tokens]. It keeps only hashes of them, and those
// out of sight of fmt.
type TokenVerifier struct {
	match func(token string) bool
	err   error
}

// Tokens returns a verifier for outgoing webhooks, whose tokens the portal shows when a webhook is made. Several tokens
// serve several webhooks, or a rotation. White space around a token is ignored. NewHandler fails on an empty token and on none at all, so
// Tokens(os.Getenv("B24_TOKEN")) is safe where the variable is missing.
//
// The token is the whole proof: it also admits an ONAPPINSTALL.
//
// Source: https://apidocs.bitrix24.com/local-integrations/local-webhooks.html
func Tokens(tokens ...string) *TokenVerifier {
	if len(tokens) == 0 {
		return &TokenVerifier{err: misconfigured("no application token")}
	}
	known := make([]digest, len(tokens))
	for i, token := range tokens {
		token = strings.TrimSpace(token)
		if token == "" {
			return &TokenVerifier{err: misconfigured("application token %d of %d is empty", i+1, len(tokens))}
		}
		known[i] = digestOf(token)
	}
	return &TokenVerifier{match: func(token string) bool { return digestOf(token).matches(known) }}
}

// Verify returns nil or [event.ErrForbidden].
func (v *TokenVerifier) Verify(_ context.Context, d *event.Delivery) error {
	if v == nil || v.match == nil {
		return errNoVerifier
	}
	if !v.match(string(d.Auth.ApplicationToken)) {
		return event.ErrForbidden
	}
	return nil
}

// Validate returns what was wrong with the arguments of [Tokens].
func (v *TokenVerifier) Validate() error {
	if v.err == nil && v.match == nil {
		return errNoVerifier
	}
	return v.err
}

// TokenLookup finds the application tokens that a portal may use. Applications that keep installations in storage of their own implement it;
// package oauth has a verifier ready.
type TokenLookup interface {
	// ApplicationTokens returns the tokens of the portal with that member_id: none for an unknown portal, usually one, several
	// where more than one application shares the handler. memberID is not verified: it may be anything of up to 128 printable
	// characters. An error means that the lookup failed, and loses the event.
	ApplicationTokens(ctx context.Context, memberID string) ([]event.Secret, error)
}

// maxMemberID bounds what reaches a lookup; real ones have 32 characters.
const maxMemberID = 128

// Installations returns a verifier that accepts a delivery whose application token belongs to its portal, so that one portal's token is
// worthless for another. Unknown portals and wrong tokens get the same answer.
//
// It can only recognise tokens that are stored. The ONAPPINSTALL of a new portal, and that of a reinstallation with a new token, are refused:
// these need the OAuth server's word, which package oauth asks for.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/safe-event-handlers.html
func Installations(lookup TokenLookup) Verifier {
	if isNil(lookup) {
		return &check{err: misconfigured("nil token lookup")}
	}
	return &check{verify: func(ctx context.Context, d *event.Delivery) error {
		token, member := string(d.Auth.ApplicationToken), d.MemberID()
		if token == "" || !plausible(member) {
			return event.ErrForbidden
		}
		stored, err := lookup.ApplicationTokens(ctx, member)
		if err != nil {
			return fmt.Errorf("webhook: look up application tokens: %w", err)
		}
		known := make([]digest, 0, len(stored))
		for _, s := range stored {
			if s != "" {
				known = append(known, digestOf(string(s)))
			}
		}
		if !digestOf(token).matches(known) {
			return event.ErrForbidden
		}
		return nil
	}}
}

// plausible keeps out of lookups what no member_id looks like.
func plausible(memberID string) bool {
	for _, c := range []byte(memberID) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return memberID != "" && len(memberID) <= maxMemberID
}

// Any returns a verifier that asks vs in order and accepts a delivery when one of them does. When all of them say that it is forged,
// so does Any; when some could not tell, their errors come back.
func Any(vs ...Verifier) Verifier {
	if len(vs) == 0 {
		return &check{err: misconfigured("Any of no verifiers")}
	}
	vs = append([]Verifier(nil), vs...)
	for _, v := range vs {
		if err := validate(v); err != nil {
			return &check{err: err}
		}
	}
	return &check{verify: func(ctx context.Context, d *event.Delivery) error {
		var unsure []error
		for _, v := range vs {
			err := v.Verify(ctx, d)
			if err == nil {
				return nil
			}
			if !errors.Is(err, event.ErrForbidden) {
				unsure = append(unsure, err)
			}
		}
		if len(unsure) > 0 {
			return errors.Join(unsure...)
		}
		return event.ErrForbidden
	}}
}

// InsecureNoVerify returns a verifier that accepts everything. Anybody on the internet can then make your handlers run, for any portal: it is
// for tests, and for programs behind something else that authenticates.
func InsecureNoVerify() Verifier { return noVerify{} }

type noVerify struct{}

func (noVerify) Verify(context.Context, *event.Delivery) error { return nil }

// check is a verifier made of a function, which hides what the function refers to from fmt.
type check struct {
	verify func(ctx context.Context, d *event.Delivery) error
	err    error
}

func (c *check) Verify(ctx context.Context, d *event.Delivery) error {
	if c.err != nil {
		return c.err
	}
	return c.verify(ctx, d)
}

func (c *check) Validate() error { return c.err }
