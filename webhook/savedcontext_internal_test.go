package webhook

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzParseSaved: any content is parsed or refused, and what is parsed reads the same again.
func FuzzParseSaved(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{200})
	f.Add(savedTexts{"trace": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "n": ""}.append(nil))
	f.Add(append(savedTexts{"a": "b"}.append(nil), "b24d"...))
	f.Fuzz(func(t *testing.T, doc []byte) {
		saved, rest, ok := parseSaved(doc)
		if !ok {
			return
		}
		require.LessOrEqual(t, len(saved), maxSavedTexts)
		again, left, ok := parseSaved(append(saved.append(nil), rest...))
		require.True(t, ok)
		require.Equal(t, saved, again)
		require.Equal(t, string(rest), string(left))
	})
}
