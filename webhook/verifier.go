package webhook

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/typednil"
)

// Verifier decides whether a delivery is authentic, and returns what proves it. Its errors mean:
//
//   - If it matches [event.ErrUnknownPortal], the verifier does not know the portal, and another
//     one may.
//   - If it matches [event.ErrForbidden], the delivery is forged.
//   - Any other error means that the verifier cannot decide, for example because a database is
//     down. Then the event is lost.
//
// Verify is called before anything else reads the delivery, with a context that ends after the
// verify timeout. It must not change the delivery, and must be safe for concurrent use.
//
// The proof names the portal that a handler gets from [event.Delivery.MemberID]. What the sender
// claims is [event.Delivery.ClaimedMemberID]. The package documentation lists what each kind of
// proof is worth.
//
// A Verifier may also have a method Validate() error; NewHandler calls it and returns its error.
type Verifier interface {
	Verify(ctx context.Context, d *event.Delivery) (event.Proof, error)
}

// validator is a Verifier that can be misconfigured.
type validator interface {
	Validate() error
}

// validate checks a verifier before it is used.
func validate(v Verifier) error {
	if typednil.Is(v) {
		return misconfigured("nil verifier")
	}
	if val, ok := v.(validator); ok {
		return val.Validate()
	}
	return nil
}

// digest is a hash of a token. Tokens are compared by their digests, which have equal lengths, so
// that the time of a comparison reveals nothing.
type digest [sha256.Size]byte

func digestOf(token string) digest { return sha256.Sum256([]byte(token)) }

// matches reports whether d is one of the known digests. It compares with all of them.
func (d digest) matches(known []digest) bool {
	found := 0
	for i := range known {
		found |= subtle.ConstantTimeCompare(d[:], known[i][:])
	}
	return found == 1
}

// minFixedToken is the shortest fixed token accepted. Portals make tokens of 32 characters.
const minFixedToken = 16

// TokenVerifier accepts deliveries of outgoing webhooks by their fixed tokens; see [Tokens] and
// [TokensOf]. It keeps only hashes of the tokens, and fmt does not print those.
type TokenVerifier struct {
	match  func(token string) bool
	member string                  // the portal of TokensOf; empty for Tokens
	first  *atomic.Pointer[string] // the portal that Tokens proved first
	err    error
}

// Tokens returns a verifier for one outgoing webhook, whose token the portal shows when the webhook
// is created. Several tokens allow a rotation. White space around a token is ignored. NewHandler
// fails if there is no token, or one has fewer than 16 characters, so
// Tokens(os.Getenv("B24_TOKEN")) is safe if the variable is missing.
//
// The token proves that the sender knows it. It proves no application: with any token, the verifier
// refuses the events of an application (ONAPPINSTALL and the like, ONOFFLINEEVENT). The portal is
// the one that the first accepted delivery names. A webhook has one portal, so a later delivery
// that names another portal is refused until the process restarts. For webhooks of several portals,
// and for a portal that has an application too, use [TokensOf].
//
// Source: https://apidocs.bitrix24.com/local-integrations/local-webhooks.html
func Tokens(tokens ...string) *TokenVerifier { return newTokenVerifier("", tokens) }

// TokensOf is like [Tokens], for the outgoing webhooks of the portal with that member ID. The
// tokens prove that portal and no other: a delivery that names another portal is refused. For
// several portals, join their verifiers with [Any].
func TokensOf(memberID string, tokens ...string) *TokenVerifier {
	if !plausibleMemberID(memberID) {
		return &TokenVerifier{err: misconfigured("the member ID of an outgoing webhook is missing or malformed")}
	}
	return newTokenVerifier(memberID, tokens)
}

func newTokenVerifier(memberID string, tokens []string) *TokenVerifier {
	if len(tokens) == 0 {
		return &TokenVerifier{err: misconfigured("no application token")}
	}
	known := make([]digest, len(tokens))
	for i, token := range tokens {
		token = strings.TrimSpace(token)
		switch {
		case token == "":
			return &TokenVerifier{err: misconfigured("application token %d of %d is empty", i+1, len(tokens))}
		case len(token) < minFixedToken:
			return &TokenVerifier{err: misconfigured("application token %d of %d has fewer than %d characters and can be guessed; "+
				"copy the whole token that the portal shows", i+1, len(tokens), minFixedToken)}
		}
		known[i] = digestOf(token)
	}
	return &TokenVerifier{
		match:  func(token string) bool { return digestOf(token).matches(known) },
		member: memberID,
		first:  new(atomic.Pointer[string]),
	}
}

// Verify returns a proof of the kind [event.ProofWebhook], or an error that matches
// [event.ErrForbidden].
func (v *TokenVerifier) Verify(_ context.Context, d *event.Delivery) (event.Proof, error) {
	member, err := v.check(d)
	if err == nil {
		err = v.bind(member)
	}
	if err != nil {
		return event.Proof{}, err
	}
	return event.Proof{By: event.ProofWebhook, MemberID: member}, nil
}

// check compares the token, and returns the portal that it would prove, empty if none is named.
func (v *TokenVerifier) check(d *event.Delivery) (member string, err error) {
	if v == nil || v.match == nil {
		return "", errNoVerifier
	}
	claimed := d.ClaimedMemberID()
	switch {
	case !v.match(string(d.Auth.ApplicationToken)):
		return "", event.ErrForbidden
	case claimed != "" && (!plausibleMemberID(claimed) || v.member != "" && claimed != v.member):
		return "", errTokenElsewhere
	case ofApplication(d.Name):
		return "", errTokenOfWebhook
	case v.member != "":
		return v.member, nil
	default:
		return claimed, nil
	}
}

// bind ties the tokens of [Tokens] to the first portal that they prove.
func (v *TokenVerifier) bind(member string) error {
	if v.member != "" || member == "" || v.first.CompareAndSwap(nil, &member) || *v.first.Load() == member {
		return nil
	}
	return errTokenOfTwo
}

// ofApplication reports whether only an application gets events of that name.
func ofApplication(name string) bool {
	name = strings.ToUpper(name)
	return strings.HasPrefix(name, "ONAPP") || name == "ONOFFLINEEVENT"
}

// Validate returns the error for invalid arguments of [Tokens] or [TokensOf].
func (v *TokenVerifier) Validate() error {
	if v == nil || (v.err == nil && v.match == nil) {
		return errNoVerifier
	}
	return v.err
}

// TokenLookup finds the application tokens of a portal. Implement it if your application keeps
// installations in storage of its own. Package oauth has a verifier for its own storage.
type TokenLookup interface {
	// ApplicationTokens returns the application's tokens on the portal with that member ID: usually
	// one, several during a rotation, none if the portal is unknown. It must not return tokens of
	// another application. memberID is not verified: it may be any text of up to 128 printable
	// characters. If the lookup fails, return an error; the event is lost then.
	ApplicationTokens(ctx context.Context, memberID string) ([]event.Secret, error)
}

// maxMemberID bounds the member IDs that reach a lookup. Real ones have 32 characters.
const maxMemberID = 128

// Installations returns a verifier for one application. It accepts a delivery if the application
// token belongs to the portal of the delivery, so one portal's token is worthless for another.
// Unknown portals and wrong tokens get the same response. clientID is the application's ID, which
// the proof names.
//
// It knows only tokens that are stored. So it refuses the ONAPPINSTALL of a new portal, and that of
// a reinstallation with a new token. The OAuth server has to confirm those, and package oauth asks
// it.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/safe-event-handlers.html
func Installations(clientID string, lookup TokenLookup) Verifier {
	switch {
	case clientID == "":
		return &funcVerifier{err: misconfigured("no client ID; the application's settings show it")}
	case typednil.Is(lookup):
		return &funcVerifier{err: misconfigured("nil token lookup")}
	}
	return &funcVerifier{verify: func(ctx context.Context, d *event.Delivery) (event.Proof, error) {
		token, member := string(d.Auth.ApplicationToken), d.ClaimedMemberID()
		switch {
		case !plausibleMemberID(member):
			return event.Proof{}, event.ErrUnknownPortal
		case token == "":
			return event.Proof{}, event.ErrForbidden // not ErrUnknownPortal: the portal may be known, so no weaker proof may count
		}
		stored, err := lookup.ApplicationTokens(ctx, member)
		if err != nil {
			return event.Proof{}, fmt.Errorf("webhook: look up application tokens: %w", err)
		}
		known := make([]digest, 0, len(stored))
		for _, s := range stored {
			if s != "" {
				known = append(known, digestOf(string(s)))
			}
		}
		switch {
		case digestOf(token).matches(known):
			return event.Proof{By: event.ProofInstallation, ClientID: clientID, MemberID: member}, nil
		case len(stored) == 0:
			return event.Proof{}, event.ErrUnknownPortal
		default:
			return event.Proof{}, event.ErrForbidden
		}
	}}
}

// plausibleMemberID reports whether a text looks like a member_id. Other texts do not reach
// lookups.
func plausibleMemberID(memberID string) bool {
	for _, c := range []byte(memberID) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return memberID != "" && memberID != "." && memberID != ".." && len(memberID) <= maxMemberID
}

// Any returns a verifier for a handler that several applications and outgoing webhooks share. It
// accepts a delivery if one of vs does, with the proof of that one:
//
//  1. It calls the verifiers of applications, in order. The result is the first proof that proves
//     an application (installation, tokens, call). Two applications on one portal have different
//     application tokens, so each gets its own deliveries.
//  2. Then it tries the fixed tokens of [Tokens] and [TokensOf], at any place in vs. Those of
//     [Tokens] do not count for a portal that a [TokensOf] names.
//  3. Then it takes a weaker proof from step 1, for example that of [InsecureNoVerify].
//
// If a verifier knows the portal and finds the delivery forged, no weaker proof overrules it: steps
// 2 and 3 then only accept a token that [TokensOf] ties to that same portal. The same holds if a
// verifier cannot decide. If a verifier of your own returns the proof of a fixed token, that counts
// as weaker too. It has to return [event.ErrUnknownPortal] for portals that it does not know.
//
// If nothing accepts the delivery, Any returns the errors of the verifiers that could not decide.
// If there are none, it returns an error that matches [event.ErrForbidden].
func Any(vs ...Verifier) Verifier {
	if len(vs) == 0 {
		return &funcVerifier{err: misconfigured("Any of no verifiers")}
	}
	a := &anyVerifier{}
	for _, v := range vs {
		if err := validate(v); err != nil {
			return &funcVerifier{err: err}
		}
		switch v := v.(type) {
		case *TokenVerifier:
			a.fixed = append(a.fixed, v)
		case *anyVerifier:
			a.apps, a.fixed = append(a.apps, v.apps...), append(a.fixed, v.fixed...)
		default:
			a.apps = append(a.apps, v)
		}
	}
	return a
}

// anyVerifier is what [Any] returns.
type anyVerifier struct {
	apps  []Verifier
	fixed []*TokenVerifier
}

// Format prints no verifier under any verb.
func (a *anyVerifier) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("webhook.Any")) }

func (a *anyVerifier) Verify(ctx context.Context, d *event.Delivery) (event.Proof, error) {
	var weaker *event.Proof
	var unsure []error
	var forged, refusal error
	for _, v := range a.apps {
		proof, err := v.Verify(ctx, d)
		switch {
		case err == nil && provesApplication(proof):
			return proof, nil
		case err == nil && proof.By == "":
			unsure = append(unsure, errNoProof)
		case err == nil && weaker == nil:
			weaker = &proof
		case err == nil, errors.Is(err, event.ErrUnknownPortal):
		case errors.Is(err, event.ErrForbidden):
			forged = cmp.Or(forged, err)
		default:
			unsure = append(unsure, err)
		}
	}
	unclaimed := forged == nil && len(unsure) == 0 // surely no application has this portal
	for _, v := range a.fixed {
		member, err := v.check(d)
		switch {
		case err == nil && v.member == "" && (!unclaimed || a.names(member)):
			err = errUnboundToken
		case err == nil:
			err = v.bind(member)
		}
		if err == nil {
			return event.Proof{By: event.ProofWebhook, MemberID: member}, nil
		}
		if err != event.ErrForbidden { //nolint:errorlint // the bare sentinel means a wrong token
			refusal = cmp.Or(refusal, err)
		}
	}
	switch {
	case len(unsure) > 0:
		return event.Proof{}, errors.Join(unsure...)
	case weaker != nil && unclaimed:
		return *weaker, nil
	case refusal != nil:
		return event.Proof{}, refusal
	case forged != nil:
		return event.Proof{}, forged
	default:
		return event.Proof{}, event.ErrUnknownPortal
	}
}

// names reports whether one of the fixed tokens is tied to a portal.
func (a *anyVerifier) names(member string) bool {
	return member != "" && slices.ContainsFunc(a.fixed, func(v *TokenVerifier) bool { return v.member == member })
}

// provesApplication reports whether a proof is of a kind that proves an application.
func provesApplication(p event.Proof) bool {
	return p.By == event.ProofInstallation || p.By == event.ProofTokens || p.By == event.ProofCall
}

// InsecureNoVerify returns a verifier that accepts everything. Anybody on the internet can then
// make your handlers run, for any portal. It is for tests, and for programs behind something else
// that authenticates. Its proof is [event.ProofInsecure], with which no package here acts on a
// stored installation.
func InsecureNoVerify() Verifier { return noVerify{} }

type noVerify struct{}

func (noVerify) Verify(_ context.Context, d *event.Delivery) (event.Proof, error) {
	return event.Proof{By: event.ProofInsecure, MemberID: d.ClaimedMemberID()}, nil
}

// funcVerifier is a verifier made of a function. fmt does not print what the function refers to.
type funcVerifier struct {
	verify func(ctx context.Context, d *event.Delivery) (event.Proof, error)
	err    error
}

func (c *funcVerifier) Verify(ctx context.Context, d *event.Delivery) (event.Proof, error) {
	if c.err != nil {
		return event.Proof{}, c.err
	}
	return c.verify(ctx, d)
}

func (c *funcVerifier) Validate() error { return c.err }
