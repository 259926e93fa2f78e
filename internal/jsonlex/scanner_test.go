package jsonlex_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/jsonlex"
)

func TestSkip(t *testing.T) {
	t.Parallel()
	s := jsonlex.Scanner[string]{Doc: " \t\r\n[ null, -1.5e3 ]"}
	require.True(t, s.Skip('['))
	s.SkipSpace()
	require.False(t, s.SkipWord("true"))
	require.False(t, s.SkipNumber())
	require.True(t, s.SkipWord("null"))
	require.False(t, s.Skip(']'), "a comma comes first")
	require.True(t, s.Skip(','))
	s.SkipSpace()
	require.True(t, s.SkipNumber())
	require.True(t, s.Skip(']'))
	require.Len(t, s.Doc, s.Pos)
	require.False(t, s.Skip(']'))
	require.False(t, s.SkipWord("null"))
	require.False(t, s.SkipNumber())
}

func TestSkipString(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{
		"empty":              `""`,
		"plain":              `"abc"`,
		"not ASCII":          `"Сделка"`,
		"every escape":       `"\"\\\/\b\f\n\r\t"`,
		"letters by number":  `"\u0421\u0434\u0435\u043b\u043a\u0430"`,
		"upper and lower":    `"\u00E9\u00e9"`,
		"surrogate pair":     `"\ud83d\ude00x"`,
		"lone high half":     `"\ud83dx"`,
		"lone low half":      `"\ude00"`,
		"half before escape": `"\ud83d\n"`,
		"half before letter": `"\ud83d\u0041"`,
		"two high halves":    `"\ud83d\ud83d\ude00"`,
		"half at the end":    `"x\ud83d"`,
		"DEL":                "\"\x7f\"",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want string
			require.NoError(t, json.Unmarshal([]byte(doc), &want))
			s := jsonlex.Scanner[[]byte]{Doc: []byte(doc + "rest")}
			q, wrong := s.SkipString()
			require.Empty(t, wrong)
			require.Equal(t, "rest", string(s.Doc[s.Pos:]))
			text := s.Doc[q.From:q.To]
			if !q.Escaped() {
				require.Equal(t, want, string(text))
				return
			}
			to := make([]byte, q.Unescaped)
			require.Equal(t, want, string(to[:jsonlex.Unescape(to, text)]))
		})
	}
}

func TestSkipStringStopsAtTheFirstByteThatDoesNotFit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		doc string
		at  int
	}{
		"no end":            {`"a`, 2},
		"no end of escape":  {`"\`, 2},
		"unknown escape":    {`"\x"`, 2},
		"too few digits":    {`"\u12"`, 2},
		"no digit":          {`"\u12g4"`, 2},
		"control character": {"\"a\nb\"", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := jsonlex.Scanner[string]{Doc: c.doc}
			_, wrong := s.SkipString()
			require.NotEmpty(t, wrong)
			require.Equal(t, c.at, s.Pos)
		})
	}
}
