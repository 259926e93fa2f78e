package doctor_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/doctor"
)

// TestCodes checks that the list of codes in report.go is complete: each code has a comment, a
// value of its own, a place that reports it, and a test. No other file makes codes.
func TestCodes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	listed := make(map[string]string)                            // values, by name
	reported, tested := make(map[string]bool), map[string]bool{} // by name
	values := make(map[string]bool)
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		require.NoError(t, err)
		test := strings.HasSuffix(file, "_test.go")
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				if kind, ok := n.Type.(*ast.Ident); test || !ok || kind.Name != "Code" {
					return true
				}
				require.Equal(t, "report.go", file)
				require.Len(t, n.Values, 1)
				literal, ok := n.Values[0].(*ast.BasicLit)
				require.True(t, ok, n.Names[0].Name)
				value, err := strconv.Unquote(literal.Value)
				require.NoError(t, err)
				require.Regexp(t, `^[a-z]+(_[a-z]+)*$`, value)
				require.False(t, values[value], value)
				require.NotEmpty(t, n.Comment.Text(), n.Names[0].Name)
				values[value], listed[n.Names[0].Name] = true, value
				return false
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && test && x.Name == "doctor" {
					tested[n.Sel.Name] = true
				}
			case *ast.Ident:
				reported[n.Name] = reported[n.Name] || !test
			case *ast.CallExpr:
				if name, ok := n.Fun.(*ast.Ident); ok && name.Name == "Code" {
					require.Fail(t, "a code that is not in the list", file)
				}
			}
			return true
		})
	}
	require.Greater(t, len(listed), 50)
	for name, value := range listed {
		require.True(t, reported[name], "nothing reports %s (%s)", name, value)
		require.True(t, tested[name], "no test has %s (%s)", name, value)
	}
}

// TestJSON holds the form that programs and scripts read.
func TestJSON(t *testing.T) {
	t.Parallel()
	r := doctor.Report{Checks: []doctor.Check{
		{Name: "token", Status: doctor.OK, Cause: "the portal accepts it"},
		{Name: "bindings", Status: doctor.Failed, Code: doctor.BindingMissing, Cause: "it is not bound", Cure: "bind it"},
		{Name: "probe", Status: doctor.Warning, Code: doctor.HandlerSlow, Cause: "slow", Cure: "hurry"},
		{Name: "queue", Status: doctor.Skipped, Cause: "not wanted"},
	}}
	const form = `{"checks":[` +
		`{"check":"token","status":"ok","cause":"the portal accepts it"},` +
		`{"check":"bindings","status":"failed","code":"binding_missing","cause":"it is not bound","cure":"bind it"},` +
		`{"check":"probe","status":"warning","code":"handler_slow","cause":"slow","cure":"hurry"},` +
		`{"check":"queue","status":"skipped","cause":"not wanted"}]}`
	text, err := json.Marshal(r)
	require.NoError(t, err)
	require.Equal(t, form, string(text)) //nolint:testifylint // the order of the members counts, too
	var back doctor.Report
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, r, back)
}
