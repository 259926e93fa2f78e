package program

import "strings"

// minToken is the shortest token that package webhook accepts. Portals make tokens of 32
// characters.
const minToken = 16

// TokensUsage describes the setting application-token.
const TokensUsage = "tokens of outgoing webhooks, comma-separated; token@member_id binds one to its portal, " +
	"which is needed if there are several, or if that portal has the application too"

// Token is a fixed token, as the portal shows it when an outgoing webhook is made.
type Token struct {
	Text     string
	MemberID string // the portal that the token is bound to, or empty
}

// Tokens returns the tokens in the setting application-token. A token that is not bound to a portal
// admits any portal that the sender names, so there can be only one such token. Errors show no
// token.
func (v Values) Tokens() ([]Token, error) {
	list := v.List("application-token")
	tokens := make([]Token, len(list))
	unbound := 0
	for i, text := range list {
		token, member, bound := strings.Cut(text, "@")
		switch {
		case len(token) < minToken:
			return nil, Usage("B24_APPLICATION_TOKEN: token %d of %d has less than %d characters and can be guessed; use the one that the "+
				"portal shows",
				i+1, len(list), minToken)
		case bound && !ValidMemberID(member):
			return nil, Usage("B24_APPLICATION_TOKEN: what follows the @ of token %d of %d is not a member_id; write token@member_id", i+1,
				len(list))
		case !bound:
			unbound++
		}
		tokens[i] = Token{Text: token, MemberID: member}
	}
	if unbound > 1 {
		return nil, Usage("B24_APPLICATION_TOKEN holds several tokens without a portal, each of which could speak for the portals of the " +
			"others; " +
			"write token@member_id for each, also for the old and the new token of one webhook")
	}
	return tokens, nil
}

// ValidMemberID reports whether a text can be a portal's member_id.
func ValidMemberID(id string) bool {
	const most = 128
	for _, c := range []byte(id) {
		if c <= ' ' || c > '~' || c == '@' || c == '/' || c == '\\' {
			return false
		}
	}
	return id != "" && len(id) <= most && id != "." && id != ".."
}
