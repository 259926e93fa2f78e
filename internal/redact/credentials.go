package redact

import (
	"net/url"
	"strings"
)

// maxKeyBytes is how far before a value its key may begin.
const maxKeyBytes = 128

// credentials adds the spans of text at the places of credentials, whatever the text is.
func credentials(text string, spans []span) []span {
	spans = parameters(text, spans)
	spans = jsonMembers(text, spans)
	spans = bearerTokens(text, spans)
	return webhookSecrets(text, spans)
}

// parameters finds the values in access_token=… and similar parameters.
func parameters(text string, spans []span) []span {
	for i := 0; ; {
		n := strings.IndexByte(text[i:], '=')
		if n < 0 {
			return spans
		}
		equals := i + n
		i = equals + 1
		start := equals
		for start > 0 && equals-start < maxKeyBytes && isKeyByte(text[start-1]) {
			start--
		}
		if start == equals {
			continue
		}
		end := i
		for end < len(text) && !endsValue(text[end]) {
			end++
		}
		key := parameterName(text[start:equals])
		secret := IsSecretKey(key) || (strings.EqualFold(key, "auth") && end-i >= minFound)
		if secret && !isNothing(text[i:end]) && !strings.HasPrefix(text[i:], Mark) {
			spans = append(spans, span{i, end})
		}
		i = end
	}
}

// parameterName returns the last part of a name such as data[BOT][7][access_token].
func parameterName(name string) string {
	if strings.IndexByte(name, '%') >= 0 {
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
	}
	name = strings.TrimRight(name, "]")
	return name[strings.LastIndexByte(name, '[')+1:]
}

func isKeyByte(c byte) bool {
	return c == '_' || c == '-' || c == '.' || c == '%' || c == '[' || c == ']' ||
		('0' <= c && c <= '9') || ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z')
}

func endsValue(c byte) bool { return c <= ' ' || strings.IndexByte(`&"'<>;,(){}\=`, c) >= 0 }

// jsonMembers finds the values in "access_token":"…", also with backslashes before the quotes.
func jsonMembers(text string, spans []span) []span {
	for i := 0; ; {
		n := strings.IndexByte(text[i:], ':')
		if n < 0 {
			return spans
		}
		colon := i + n
		i = colon + 1
		key, ok := quotedBefore(text[:colon])
		if !ok || !IsSecretKey(key) {
			continue
		}
		start := i
		for start < len(text) && (text[start] == ' ' || text[start] == '\t' || text[start] == '\n' || text[start] == '\r') {
			start++
		}
		open := start
		for start < len(text) && text[start] == '\\' {
			start++
		}
		if start == len(text) || text[start] != '"' {
			continue
		}
		quote := text[open : start+1] // with its backslashes
		start++
		end := closing(text, start, quote)
		if !isNothing(text[start:end]) {
			spans = append(spans, span{start, end})
		}
		i = end
	}
}

// quotedBefore returns the text in quotes at the end of s.
func quotedBefore(s string) (string, bool) {
	s = strings.TrimRight(s, " \t\r\n")
	s, ok := strings.CutSuffix(s, `"`)
	if !ok {
		return "", false
	}
	s = strings.TrimRight(s, `\`)
	start := len(s)
	for start > 0 && len(s)-start < maxKeyBytes && s[start-1] != '"' {
		start--
	}
	return s[start:], start > 0 && s[start-1] == '"'
}

// closing returns the position of the quote that closes a text, or the end of the text.
func closing(text string, at int, quote string) int {
	backslashes := 0
	for i := at; i < len(text); i++ {
		switch text[i] {
		case '\\':
			backslashes++
			continue
		case '"':
			if backslashes < len(quote) { // it closes this text, or one around it
				return i - backslashes
			}
		}
		backslashes = 0
	}
	return len(text)
}

// bearerTokens finds the credentials after the word Bearer.
func bearerTokens(text string, spans []span) []span {
	const word = "earer "
	for i := 0; ; {
		n := strings.Index(text[i:], word)
		if n < 0 {
			return spans
		}
		start := i + n + len(word)
		end := start
		for end < len(text) && !endsValue(text[end]) {
			end++
		}
		if before := i + n - 1; before >= 0 && (text[before] == 'B' || text[before] == 'b') && end-start >= minFound {
			spans = append(spans, span{start, end})
		}
		i = end
	}
}

// webhookSecrets finds the secret in the address of an incoming webhook: /rest/1/secret/,
// /rest/api/1/secret/.
func webhookSecrets(text string, spans []span) []span {
	const root = "/rest/"
	for i := 0; ; {
		n := strings.Index(text[i:], root)
		if n < 0 {
			return spans
		}
		i += n + len(root)
		rest := strings.TrimPrefix(text[i:], "api/")
		user := strings.TrimLeft(rest, "0123456789")
		if len(user) == len(rest) || !strings.HasPrefix(user, "/") {
			continue
		}
		start := len(text) - len(user) + 1
		end := start
		for end < len(text) && isWordByte(text[end]) {
			end++
		}
		if end-start >= minFound && (end == len(text) || text[end] == '/') {
			spans = append(spans, span{start, end})
		}
	}
}

func isWordByte(c byte) bool {
	return ('0' <= c && c <= '9') || ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z')
}
