package b24events_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// goBlocks finds the Go code of a Markdown file.
var goBlocks = regexp.MustCompile("(?s)```go\n(.*?)```")

// TestReadmeCodeIsTested makes sure that every Go block of the README stands, letter by letter, in a file that the tests compile.
func TestReadmeCodeIsTested(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	code, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	blocks := goBlocks.FindAllStringSubmatch(string(readme), -1)
	require.GreaterOrEqual(t, len(blocks), 6)
	for _, b := range blocks {
		require.Contains(t, string(code), strings.TrimSpace(b[1]), "copy the README's block from example_test.go")
	}
}
