package eventtest_test

import (
	"go/ast"
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocSnippets holds the Go code in doc comments to the tests of this package: each block occurs
// in a test, so it compiles and runs. Tables and wire data are blocks too, but have no Go in them.
func TestDocSnippets(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	fset := token.NewFileSet()
	var files []*ast.File
	var tested strings.Builder
	for _, name := range names {
		source, err := os.ReadFile(name) //nolint:gosec // a file of this package
		require.NoError(t, err)
		if strings.HasSuffix(name, "_test.go") {
			tested.WriteString(squeezed(string(source)))
			continue
		}
		file, err := parser.ParseFile(fset, name, source, parser.ParseComments)
		require.NoError(t, err)
		files = append(files, file)
	}
	pkg, err := doc.NewFromFiles(fset, files, "github.com/b24events/b24events/event/eventtest")
	require.NoError(t, err)
	texts := []string{pkg.Doc}
	for _, f := range pkg.Funcs {
		texts = append(texts, f.Doc)
	}
	for _, typ := range pkg.Types {
		texts = append(texts, typ.Doc)
		for _, f := range append(typ.Funcs, typ.Methods...) {
			texts = append(texts, f.Doc)
		}
	}
	found := 0
	for _, text := range texts {
		for _, block := range new(comment.Parser).Parse(text).Content {
			code, ok := block.(*comment.Code)
			if !ok || !strings.Contains(code.Text, ":=") {
				continue
			}
			found++
			require.True(t, strings.Contains(tested.String(), squeezed(code.Text)), "no test has this:\n%s", code.Text) //nolint:testifylint // Contains would print all tests
		}
	}
	require.GreaterOrEqual(t, found, 2, "the examples of the package's documentation")
}

// squeezed removes white space and comments, so that code is found at any depth.
func squeezed(code string) string {
	var b strings.Builder
	for line := range strings.Lines(code) {
		line, _, _ = strings.Cut(line, " //")
		b.WriteString(strings.Join(strings.Fields(line), ""))
	}
	return b.String()
}
