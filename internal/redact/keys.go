package redact

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/b24events/b24events/internal/phpform"
)

// IsSecretKey reports whether a key is one under which Bitrix24 or other software sends
// credentials. When in doubt, a key is secret. Keys that only describe a credential, such as
// token_type and password_policy, are not.
func IsSecretKey(key string) bool {
	switch strings.ToLower(key) {
	case "auth_id", "refresh_id": // of an application page
		return true
	}
	names, last := false, ""
	previous := ""
	for word := range words(key) {
		names = names || isSecretWord(word) || (word == "key" && isKeyKind(previous))
		previous, last = word, word
	}
	return names && !describes(last)
}

// isSecretField reports whether the value under a key is a secret. The parameter auth of a REST
// call is an access token. The section auth of an event is an object with tokens and ordinary
// members.
func isSecretField(key string, v phpform.Value) bool {
	if strings.EqualFold(key, "auth") {
		return v.Kind() == phpform.String && len(v.Scalar()) >= minFound
	}
	return IsSecretKey(key)
}

// isAuthSecret reports whether the value under a key of a section auth is a secret. Documented
// sections have these members besides their tokens. Any other member may be a secret.
func isAuthSecret(section, key string) bool {
	if !strings.EqualFold(section, "auth") {
		return false
	}
	switch strings.ToLower(key) {
	case "expires", "expires_in", "scope", "domain", "member_id", "server_endpoint", "client_endpoint", "status", "user_id", "client_id":
		return false
	default:
		return true
	}
}

func isSecretWord(word string) bool {
	switch word {
	case "sessid", "phpsessid", "checkword", "authorization", "cookie", "cookies", "credential", "credentials", "passwd", "pwd", "passphrase",
		"apikey", "bearer", "jwt":
		return true
	}
	for _, part := range []string{"token", "secret", "password"} {
		if _, rest, found := strings.Cut(word, part); found {
			// secretary, secretariat, tokenizer, tokenise
			return !strings.HasPrefix(rest, "ar") && !strings.HasPrefix(rest, "iz") && !strings.HasPrefix(rest, "is")
		}
	}
	return false
}

// isKeyKind reports whether a key of this kind is a credential: api_key, private_key or access_key.
func isKeyKind(word string) bool {
	switch word {
	case "api", "private", "access", "encryption", "signing":
		return true
	default:
		return false
	}
}

// describes reports whether a key that ends in word describes a credential.
func describes(word string) bool {
	switch word {
	case "type", "expires", "expire", "expired", "expiry", "expiration", "in", "at", "ttl", "lifetime", "count", "limit", "length",
		"policy", "status", "url", "uri", "endpoint", "hint", "question", "required", "enabled", "changed", "confirmed", "date", "time":
		return true
	default:
		return false
	}
}

// words splits a key at every character that is neither a letter nor a digit, and between a
// lower-case and an upper-case letter. The words are in lower case.
func words(key string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		start, lower := 0, false
		for i, r := range key {
			switch {
			case !unicode.IsLetter(r) && !unicode.IsDigit(r):
				if start < i && !yield(strings.ToLower(key[start:i])) {
					return
				}
				_, size := utf8.DecodeRuneInString(key[i:]) // 1 for a byte that is not UTF-8
				start, lower = i+size, false
			case unicode.IsUpper(r) && lower:
				if !yield(strings.ToLower(key[start:i])) {
					return
				}
				start, lower = i, false
			default:
				lower = unicode.IsLower(r)
			}
		}
		if start < len(key) {
			yield(strings.ToLower(key[start:]))
		}
	}
}

// isNothing reports whether a value means that there is no secret, or is a flag.
func isNothing(value string) bool {
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "", "y", "n", "0", "1", "yes", "no", "true", "false", "null", "none", "undefined", Mark:
		return true
	default:
		return false
	}
}
