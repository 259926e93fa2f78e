package program_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/program"
)

func TestHTTPURL(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"name": "https://example.com/b?x=1", "loopback": "http://127.0.0.1:8080/", "localhost": "http://localhost:1/",
		"IPv6": "http://[::1]:65535/b", "credentials": "http://user:" + "password@127.0.0.1/",
	} {
		u, err := program.HTTPURL(raw)
		require.NoError(t, err, name)
		require.Equal(t, raw, u.String(), name)
	}
	for name, raw := range map[string]string{
		"empty": "", "no scheme": "127.0.0.1:8080", "another scheme": "ftp://secret/", "no host": "http:///secret", "port alone": "http://:80/secret",
		"fragment": "http://secret/#x", "empty fragment": "http://secret/#", "control byte": "http://secret/#\x00", "line feed": "http://secret/\n",
		"space": "http://secret/a b", "C1": "http://secret/\u009b", "broken UTF-8": "http://secret/\xff", "port 0": "http://secret:0/",
		"port too great": "http://secret:65536/", "colon": "http://secret:/", "unreadable": "http://secret%zz/",
	} {
		_, err := program.HTTPURL(raw)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "secret", name)
	}
}
