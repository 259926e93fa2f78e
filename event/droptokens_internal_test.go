package event

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// Simple versions of code that is written for speed.

func plainIsTokenKey(key string) bool {
	if len(key) > maxAuthKey {
		return false
	}
	letters := strings.Map(func(r rune) rune {
		if r == '_' || r == '-' {
			return -1
		}
		return unicode.ToLower(r)
	}, key)
	names := []string{"accesstoken", "refreshtoken", "applicationtoken", "authid", "refreshid", "clientsecret", "auth"}
	at := plainAuthKeyOf(key)
	return slices.Contains(names, letters) || at == keyUserToken || at == keyAppToken
}

func plainAuthKeyOf(key string) authKey {
	for name, k := range map[string]authKey{
		"access_token": keyUserToken, "refresh_token": keyUserToken, "application_token": keyAppToken, "member_id": keyMember,
		"client_endpoint": keyClient, "server_endpoint": keyServer, "domain": keyDomain,
	} {
		if strings.EqualFold(key, name) {
			return k
		}
	}
	return keyOther
}

func TestNamesOfTokens(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test
	words := []string{
		"access", "refresh", "application", "token", "auth", "id", "client", "secret", "endpoint", "server", "member", "domain", "_", "-", "", "x", "é", "\xff", "=",
	}
	for range 200_000 {
		var b strings.Builder
		for range 1 + random.IntN(4) {
			b.WriteString(words[random.IntN(len(words))])
		}
		key := strings.Map(func(r rune) rune {
			switch n := random.IntN(40); {
			case n == 0:
				return -1
			case n < 8:
				return unicode.ToUpper(r)
			case n == 8 && r == 's':
				return []rune(longS)[0]
			case n == 8 && r == 'k':
				return []rune(kelvin)[0]
			default:
				return r
			}
		}, b.String())
		require.Equal(t, plainIsTokenKey(key), isTokenKey(key), "%q", key)
		require.Equal(t, plainAuthKeyOf(key), authKeyOf(key), "%q", key)
	}
}

// TestNamesToken: it does not miss what the expression matches.
func TestNamesToken(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	random := rand.New(rand.NewPCG(1, 3)) //nolint:gosec // a test
	parts := []string{
		"access", "refresh", "application", "token", "auth", "_id", "client", "secret", "_", "-", "\"", `\\"`, "%22", "&quot;", " ", "\t", "\v", "=", ":", "%3d", "%3A",
		"0123456789abcdef", "0123456789abcdef", "x", "é", kelvin, longS,
	}
	found, named := 0, 0
	for range 500_000 {
		var b strings.Builder
		for range 2 + random.IntN(6) {
			part := parts[random.IntN(len(parts))]
			if random.IntN(4) == 0 {
				part = strings.ToUpper(part)
			}
			b.WriteString(part)
		}
		text := b.String()
		may := namesToken(text)
		if may {
			named++
		}
		if inText.MatchString(text) {
			found++
			require.True(t, may, "%q", text)
		}
	}
	require.Greater(t, found, 500)
	require.Less(t, named, 250_000)
}
