package plainhttp_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/plainhttp"
)

func TestHosts(t *testing.T) {
	t.Parallel()
	none := plainhttp.Hosts{}
	list, err := plainhttp.New("Dev.example", "box.example:8080", "[2001:db8::1]:81", "10.0.0.7")
	require.NoError(t, err)
	for name, test := range map[string]struct {
		host, port string
		want       bool
	}{
		"loopback":             {"127.0.0.1", "8024", true},
		"another loopback":     {"127.9.9.9", "", true},
		"IPv6 loopback":        {"[::1]", "1", true},
		"localhost":            {"LocalHost", "", true},
		"like localhost":       {"localhost.evil.example", "", false},
		"named":                {"dev.example", "99", true},
		"named, port":          {"box.example", "8080", true},
		"named, another port":  {"box.example", "", false},
		"named IPv6":           {"[2001:db8::1]", "81", true},
		"named address":        {"10.0.0.7", "", true},
		"private, not named":   {"10.0.0.8", "", false},
		"anything":             {"portal.example.com", "", false},
		"below a named":        {"a.dev.example", "", false},
		"loopback in disguise": {"127.0.0.1.evil.example", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, list.Allows(test.host, test.port))
			require.False(t, none.Allows(test.host, test.port))
		})
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "http://a", "a/b", "a:0", "a:99999", "a:x", "u@a", "[::1", "[a]", "a b", "::1"} {
		_, err := plainhttp.New(name)
		require.Error(t, err, name)
	}
}
