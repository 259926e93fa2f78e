// Package examples_test checks the index of the examples.
package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// link is a link of the README: its text and its target.
var link = regexp.MustCompile(`\[([^\]]+)\]\(([^)]+)\)`)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path) //nolint:gosec // a file of the repository
	require.NoError(t, err)
	return string(text)
}

// TestLinks checks that each link leads somewhere, and that each Example function exists in the
// file that its link names.
func TestLinks(t *testing.T) {
	t.Parallel()
	links := link.FindAllStringSubmatch(read(t, "README.md"), -1)
	require.NotEmpty(t, links)
	for _, l := range links {
		name, target := strings.Trim(l[1], "`"), l[2]
		path, anchor, _ := strings.Cut(target, "#")
		_, err := os.Stat(filepath.FromSlash(path))
		require.NoError(t, err, "the link %s", target)
		if anchor != "" {
			require.Contains(t, anchors(read(t, path)), anchor, "the link %s", target)
		}
		if strings.HasPrefix(name, "Example") {
			require.Contains(t, read(t, path), "\nfunc "+name+"() {", "the link %s", target)
		}
	}
}

// anchors returns the anchors of the headings of a Markdown text, as GitHub makes them.
func anchors(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if heading := strings.TrimLeft(line, "#"); heading != line {
			heading = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			all = append(all, strings.ReplaceAll(heading, " ", "-"))
		}
	}
	return all
}

// TestPrograms checks that each program and each of its variables is in the README.
func TestPrograms(t *testing.T) {
	t.Parallel()
	readme := read(t, "README.md")
	mains, err := filepath.Glob("*/main.go")
	require.NoError(t, err)
	require.NotEmpty(t, mains)
	for _, main := range mains {
		program := filepath.Dir(main)
		require.Contains(t, readme, "| [`"+program+"`]("+program+") | ")
		require.Contains(t, readme, "go run ./examples/"+program)
	}
	variable := regexp.MustCompile(`\bEnv: "([A-Z0-9_]+)"`)
	for folder, row := range map[string]string{
		"receiver": "receiver", "listen": "listen", "offlinesync": "offlinesync", "devportal": "devportal", "doctor": "doctor", "botpoll": "botpoll",
		"internal/program": "receiver`, `listen`, `offlinesync`, `doctor", "internal/oneportal": "listen`, `offlinesync",
	} {
		_, rest, found := strings.Cut(readme, "\n| `"+row+"` | ")
		require.True(t, found, "a row of variables for %s", row)
		variables, _, _ := strings.Cut(rest, "\n")
		files, err := filepath.Glob(filepath.FromSlash(folder + "/*.go"))
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, v := range variable.FindAllStringSubmatch(read(t, file), -1) {
				if v[1] != "LOG_FORMAT" { // of all of them
					require.Contains(t, variables, "`"+v[1]+"`", "the variables of %s", folder)
				}
			}
		}
	}
}
