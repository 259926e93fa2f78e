package b24events_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// documents are the texts that name files, commands and identifiers of this repository.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := make(map[string]string)
	require.NoError(t, filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "bin" || entry.Name() == "testdata"):
			return filepath.SkipDir
		case !strings.HasSuffix(name, ".md") && entry.Name() != "llms.txt":
			return nil
		}
		text, err := os.ReadFile(name) //nolint:gosec // of this repository
		texts[filepath.ToSlash(name)] = string(text)
		return err
	}))
	require.Contains(t, texts, "README.md")
	require.Contains(t, texts, "docs/DESIGN.md")
	require.Contains(t, texts, "llms.txt")
	return texts
}

func exists(name string) bool {
	_, err := os.Stat(filepath.FromSlash(name))
	return err == nil
}

// TestDocsLinks: what a document links to is there.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)
	fenced := regexp.MustCompile("(?s)```.*?```")
	for name, text := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			if !strings.Contains(m[1], "://") {
				require.True(t, exists(path.Join(path.Dir(name), m[1])), "%s links to %s", name, m[1])
			}
		}
	}
}

// TestDocsPaths: files and directories that a document names are there. The changelog may speak of
// what is gone.
func TestDocsPaths(t *testing.T) {
	t.Parallel()
	quoted := regexp.MustCompile("`((?:\\.ci|docs|event|examples|internal|oauth|offline|polling|rest|webhook)/[A-Za-z0-9_./{},-]*)`")
	for name, text := range documents(t) {
		if name == "CHANGELOG.md" {
			continue
		}
		for _, m := range quoted.FindAllStringSubmatch(text, -1) {
			if !strings.ContainsAny(m[1], "{*…") {
				require.True(t, exists(m[1]), "%s names %s", name, m[1])
			}
		}
	}
}

// TestDocsNames: an exported identifier that a document names with its package exists.
func TestDocsNames(t *testing.T) {
	t.Parallel()
	packages := map[string]string{
		"event": "event", "eventtest": "event/eventtest", "doctor": "event/doctor", "webhook": "webhook", "webhooktest": "webhook/webhooktest", "oauth": "oauth",
		"oauthtest": "oauth/oauthtest", "rest": "rest", "offline": "offline", "offlinetest": "offline/offlinetest", "polling": "polling",
		"pgstore": "webhook/pgstore", "natsstore": "webhook/natsstore", "sqlitestore": "webhook/sqlitestore", "sqlstore": "oauth/sqlstore",
		"dispatch": "internal/dispatch", "lease": "internal/lease",
	}
	names := make(map[string]map[string]bool)
	for short, dir := range packages {
		names[short] = exported(t, dir)
	}
	identifier := regexp.MustCompile("`[^`\n]*`|\\b[a-z]+\\.[A-Z][A-Za-z0-9]*\\(")
	named := regexp.MustCompile(`\b([a-z]+)\.([A-Z][A-Za-z0-9]*)(?:\.([A-Z][A-Za-z0-9]*))?`)
	for name, text := range documents(t) {
		if name == "CHANGELOG.md" {
			continue
		}
		for _, quoted := range identifier.FindAllString(text, -1) {
			for _, m := range named.FindAllStringSubmatch(quoted, -1) {
				if known, ok := names[m[1]]; ok {
					require.True(t, known[m[2]], "%s names %s.%s", name, m[1], m[2])
					require.True(t, m[3] == "" || known[m[2]+"."+m[3]], "%s names %s", name, m[0])
				}
			}
		}
	}
}

// exported returns the exported names of a package, with methods and fields as Type.Name.
func exported(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.FromSlash(dir), "*.go"))
	require.NoError(t, err)
	require.NotEmpty(t, files, dir)
	names := make(map[string]bool)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, decl := range parsed.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				names[receiver(d)+d.Name.Name] = true
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					addSpec(names, spec)
				}
			}
		}
	}
	return names
}

func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	expr := d.Recv.List[0].Type
	if star, ok := expr.(*ast.StarExpr); ok {
		expr = star.X
	}
	if index, ok := expr.(*ast.IndexExpr); ok {
		expr = index.X
	}
	if name, ok := expr.(*ast.Ident); ok {
		return name.Name + "."
	}
	return "?."
}

func addSpec(names map[string]bool, spec ast.Spec) {
	switch s := spec.(type) {
	case *ast.ValueSpec:
		for _, n := range s.Names {
			names[n.Name] = true
		}
	case *ast.TypeSpec:
		names[s.Name.Name] = true
		var fields *ast.FieldList
		switch kind := s.Type.(type) {
		case *ast.StructType:
			fields = kind.Fields
		case *ast.InterfaceType:
			fields = kind.Methods
		default:
			return
		}
		for _, f := range fields.List {
			for _, n := range f.Names {
				names[s.Name.Name+"."+n.Name] = true
			}
		}
	}
}

// TestDocsCommands: the targets of make and the scripts that documents and workflows name exist,
// and actions are pinned by their commits.
func TestDocsCommands(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("Makefile")
	require.NoError(t, err)
	target := regexp.MustCompile(`(?m)(?:^|` + "`" + `)make ([a-z]+)`)
	script := regexp.MustCompile(`\.ci/[a-z]+`)
	texts := documents(t)
	workflows, err := filepath.Glob(filepath.Join(".github", "*", "*.yml"))
	require.NoError(t, err)
	require.NotEmpty(t, workflows)
	pinned := regexp.MustCompile(`uses: \S+@[0-9a-f]{40} # v`)
	for _, name := range workflows {
		text, err := os.ReadFile(name) //nolint:gosec // of this repository
		require.NoError(t, err)
		texts[name] = string(text)
		require.Len(t, pinned.FindAllString(string(text), -1), strings.Count(string(text), "uses: "), name)
	}
	for name, text := range texts {
		for _, m := range target.FindAllStringSubmatch(text, -1) {
			require.Contains(t, string(makefile), "\n"+m[1]+":", "%s names make %s", name, m[1])
		}
		for _, file := range script.FindAllString(text, -1) {
			require.True(t, file == ".ci/bin" || exists(file), "%s names %s", name, file)
		}
	}
}

// TestDocsFileMap: docs/DESIGN.md says of every file of the public packages what it holds.
func TestDocsFileMap(t *testing.T) {
	t.Parallel()
	design, err := os.ReadFile(filepath.Join("docs", "DESIGN.md"))
	require.NoError(t, err)
	for _, dir := range []string{"event", "webhook", "oauth", "rest", "offline", "polling"} {
		_, section, ok := strings.Cut(string(design), "\n`"+dir+"`\n")
		require.True(t, ok, dir)
		section, _, _ = strings.Cut(section, "|\n\n")
		var patterns []string
		for _, m := range regexp.MustCompile("`([a-z0-9_*]+\\.go)`").FindAllStringSubmatch(section, -1) {
			patterns = append(patterns, m[1])
			found, err := filepath.Glob(filepath.Join(dir, m[1]))
			require.NoError(t, err)
			require.NotEmpty(t, found, "docs/DESIGN.md names %s/%s", dir, m[1])
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, file := range files {
			name := filepath.Base(file)
			if strings.HasSuffix(name, "_test.go") || name == "doc.go" {
				continue
			}
			known := slices.ContainsFunc(patterns, func(pattern string) bool {
				ok, _ := path.Match(pattern, name)
				return ok
			})
			require.True(t, known, "docs/DESIGN.md does not say what %s holds", filepath.ToSlash(file))
		}
	}
}
