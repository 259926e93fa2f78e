package b24events_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// TestNobodyPlaysBitrix24ByHand keeps the tests on package eventtest: a portal that a test makes up
// answers what its author believes, not what the platform does. What no portal that behaves says is
// a fault: eventtest.Answer, Raw, Fail and the others.
func TestNobodyPlaysBitrix24ByHand(t *testing.T) {
	t.Parallel()
	allowed := map[string]string{
		"event/fetch_test.go":      "keeps what is sent, in its order",
		"rest/bench_test.go":       "measures the client without a server's time",
		"offline/fleetsim_test.go": "100,000 portals, which must be small",
		// The network of eventtest holds a response in memory.
		"rest/client_test.go":            "an error page without an end",
		"rest/coalescer_failure_test.go": "a response without an end",
		// It passes on the answers of a portal of eventtest, late or not at all.
		"offline/modelprocess_test.go":       "a caller with faults",
		"offline/fleetturn_internal_test.go": "a turn's last moment, which needs the package's own functions",
	}
	seen := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (path == filepath.Join("event", "eventtest") || strings.HasPrefix(entry.Name(), ".") && path != "."):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if !playsPortal(n) {
				return true
			}
			name := filepath.ToSlash(path)
			if seen[name] = true; allowed[name] == "" {
				t.Errorf("%s answers in the portal's place; let a portal of package eventtest do it", files.Position(n.Pos()))
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range allowed {
		if !seen[name] {
			t.Errorf("%s has mended its ways; take it off the list", name)
		}
	}
}

// playsPortal finds answers that are put together by hand, and callers of REST methods that make up
// the result.
func playsPortal(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CompositeLit:
		made, ok := n.Type.(*ast.SelectorExpr)
		return ok && made.Sel.Name == "Response" && isIdent(made.X, "http")
	case *ast.FuncDecl:
		if n.Recv == nil || n.Name.Name != "Call" || n.Type.Params.NumFields() != 4 || n.Body == nil {
			return false
		}
		leads, makes := false, false
		ast.Inspect(n.Body, func(inner ast.Node) bool {
			if used, ok := inner.(*ast.SelectorExpr); ok {
				leads = leads || used.Sel.Name == "Call"
				makes = makes || isIdent(used.X, "json")
			}
			return true
		})
		return makes && !leads
	default:
		return false
	}
}

func isIdent(x ast.Expr, name string) bool {
	id, ok := x.(*ast.Ident)
	return ok && id.Name == name
}
