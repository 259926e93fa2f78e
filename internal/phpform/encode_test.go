package phpform_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/phpform"
)

func TestEncode(t *testing.T) {
	t.Parallel()
	entry := func(key string, v phpform.Value) phpform.Entry { return phpform.Entry{Key: key, Value: v} }
	text := phpform.Text
	for _, c := range []struct {
		name string
		v    phpform.Value
		want string
	}{
		{"scalar", text("a"), ""},
		{"null", phpform.Value{}, ""},
		{"empty", phpform.Map(), ""},
		{"order kept", phpform.Map(entry("b", text("1")), entry("a", text("2"))), "b=1&a=2"},
		{"list", phpform.Map(entry("a", phpform.List(text("x"), text("y")))), "a%5B0%5D=x&a%5B1%5D=y"},
		{"list alone", phpform.List(text("x"), text("y")), "0=x&1=y"},
		{
			"nested",
			phpform.Map(entry("data", phpform.Map(entry("FIELDS", phpform.Map(entry("ID", phpform.Int(42))))))),
			"data%5BFIELDS%5D%5BID%5D=42",
		},
		{
			"operators in keys",
			phpform.Map(entry("filter", phpform.Map(entry(">=ID", phpform.Int(5)), entry("!%T", text("a b"))))),
			"filter%5B%3E%3DID%5D=5&filter%5B%21%25T%5D=a+b",
		},
		{"booleans", phpform.List(phpform.Boolean(true), phpform.Boolean(false)), "0=1&1=0"},
		{
			"null and empty arrays leave no trace",
			phpform.Map(entry("a", phpform.Value{}), entry("b", phpform.Map()), entry("c", phpform.List(phpform.Map())), entry("d", text(""))),
			"d=",
		},
		{"numbers keep their text", phpform.List(phpform.NumberText("1.50"), phpform.NumberText("1E+2")), "0=1.50&1=1E%2B2"},
		{
			"escapes",
			phpform.List(text("azAZ09-_. ~*'()!/Ж\xff\x00+&=%")),
			"0=azAZ09-_.+%7E%2A%27%28%29%21%2F%D0%96%FF%00%2B%26%3D%25",
		},
		{"empty key", phpform.Map(entry("", phpform.Map(entry("", text("x"))))), "%5B%5D=x"},
		{
			"siblings after deep names",
			phpform.Map(entry("a", phpform.Map(entry("b", phpform.List(text("1"), text("2"))), entry("c", text("3"))))),
			"a%5Bb%5D%5B0%5D=1&a%5Bb%5D%5B1%5D=2&a%5Bc%5D=3",
		},
		{
			"names longer than the first buffer",
			phpform.Map(entry(strings.Repeat("k", 80), phpform.Map(entry("b", phpform.List(text("1"), text("2"))), entry("c", text("3"))))),
			strings.ReplaceAll("K%5Bb%5D%5B0%5D=1&K%5Bb%5D%5B1%5D=2&K%5Bc%5D=3", "K", strings.Repeat("k", 80)),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, phpform.Encode(c.v))
		})
	}
}

func TestEncodeReadsBack(t *testing.T) {
	t.Parallel()
	for name, body := range realBodies(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := phpform.Decode(body, phpform.Limits{})
			require.NoError(t, err)
			if name != "bare_brackets" {
				require.Equal(t, body, phpform.Encode(v))
			}
			again, err := phpform.Decode(phpform.Encode(v), phpform.Limits{})
			require.NoError(t, err)
			require.Equal(t, v, again)
		})
	}
}
