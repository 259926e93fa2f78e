package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var sampleArgs = []string{"-docs", filepath.Join("testdata", "docs"), "-catalog", filepath.Join("testdata", "catalog.json")}

// TestSample: one event of each kind of drift, and several that are as the catalogue has them.
func TestSample(t *testing.T) {
	t.Parallel()
	const events = "api-reference/boats/events/"
	want := []finding{
		{kindNew, "ONBOATRENAME", events + "index", "scope boats; no sample"},
		{kindNew, "ONBOATSINK", events + "on-boat-sink", "scope boats; data FIELDS, FIELDS.DEPTH, FIELDS.ID"},
		{kindChanged, "ONBOATDOCK", events + "on-boat-dock", "its page is now api-reference/harbour/on-boat-dock"},
		{kindChanged, "ONBOATUPDATE", events + "on-boat-update", "keys that are gone FIELDS.SAIL"},
		{kindChanged, "ONBOATUPDATE", events + "on-boat-update", "new keys FIELDS.FLAG, FIELDS.KNOTS"},
		{kindChanged, "ONBOATUPDATE", events + "on-boat-update", "scope harbour instead of boats"},
		{kindChanged, "ONFERRYLEAVE", "api-reference/boats/ferries", "new keys pier"},
		{kindGone, "ONBOATDELETE", events + "on-boat-delete", "the page does not exist"},
		{kindGone, "ONBOATPAINT", events + "index", "the page does not name it"},
	}
	var stdout, stderr strings.Builder
	require.Equal(t, 1, run(append(slices.Clone(sampleArgs), "-json"), &stdout, &stderr), "%s", &stderr)
	var got []finding
	dec := json.NewDecoder(strings.NewReader(stdout.String()))
	for dec.More() {
		var f finding
		require.NoError(t, dec.Decode(&f))
		got = append(got, f)
	}
	require.Equal(t, want, got)

	stdout.Reset()
	require.Equal(t, 1, run(sampleArgs, &stdout, &stderr))
	require.Contains(t, stdout.String(), "new      ONBOATSINK: scope boats; data FIELDS, FIELDS.DEPTH, FIELDS.ID ("+events+"on-boat-sink)\n")
	require.True(t, strings.HasSuffix(stdout.String(), "8 events of the catalogue, 7 pages: 2 new, 5 changes, 2 gone\n"), stdout.String())
	require.Empty(t, stderr.String())
}

// write writes pages into a folder of the test, and returns the arguments.
func write(t *testing.T, pages map[string]string, catalog string) []string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range pages {
		path := filepath.Join(dir, "docs", "api-reference", name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "catalog.json"), []byte(catalog), 0o600))
	return []string{"-docs", filepath.Join(dir, "docs"), "-catalog", filepath.Join(dir, "catalog.json")}
}

func TestNoDrift(t *testing.T) {
	t.Parallel()
	args := write(t, map[string]string{"a.md": "The event `onA1Add`, in any case."}, `{"events":[{"name":"ONA1ADD","doc":"api-reference/a"}]}`)
	var stdout strings.Builder
	require.Zero(t, run(args, &stdout, io.Discard))
	require.Equal(t, "1 events of the catalogue, 1 pages: 0 new, 0 changes, 0 gone\n", stdout.String())
}

func TestErrors(t *testing.T) {
	t.Parallel()
	one := map[string]string{"a.md": "x"}
	const catalog = `{"events":[{"name":"ONA1ADD","doc":"api-reference/a"}]}`
	for name, args := range map[string][]string{
		"no docs":              {"-catalog", filepath.Join("testdata", "catalog.json")},
		"an argument too many": append(slices.Clone(sampleArgs), "x"),
		"no such flag":         {"-x"},
		"no such catalogue":    {"-docs", "testdata", "-catalog", "none.json"},
		"no such folder":       {"-docs", "none", "-catalog", filepath.Join("testdata", "catalog.json")},
		"not a catalogue":      write(t, one, `[`),
		"an empty catalogue":   write(t, one, `{}`),
		"no pages":             write(t, map[string]string{"a.txt": "x"}, catalog),
		"a huge page":          write(t, map[string]string{"a.md": strings.Repeat("x", maxPage+1)}, catalog),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr strings.Builder
			require.Equal(t, 2, run(args, &stdout, &stderr))
			require.Empty(t, stdout.String())
			require.Contains(t, stderr.String(), "catalogdrift: ")
		})
	}
	require.Zero(t, run([]string{"-h"}, io.Discard, io.Discard))
}

// TestHostilePages: pages that nobody wrote for people neither crash the program nor fill its
// memory.
func TestHostilePages(t *testing.T) {
	t.Parallel()
	deep := `{"event":"ONDEEPADD","auth":{},"data":` + strings.Repeat(`{"a":`, 5000) + `1` + strings.Repeat(`}`, 5000) + `}`
	tooDeep := `{"event":"ONDEEPADD","auth":{},"data":` + strings.Repeat(`[`, 20_000) + strings.Repeat(`]`, 20_000) + `}`
	wide := `{"event":"ONWIDEADD","auth":{},"data":{"` + strings.Repeat("k", 100_000) + `":1,"ID":2}}`
	began := time.Now()
	for name, tc := range map[string]struct {
		text string
		want []sample
	}{
		"nothing":                 {"", nil},
		"a block without an end":  {"```json\n{\"event\":", nil},
		"only fences":             {strings.Repeat("```\n", 100_000), nil},
		"deep":                    {"```\n" + deep + "\n```\n", []sample{{"ONDEEPADD", paths(nestedMap(20))}}},
		"too deep for JSON":       {"```\n" + tooDeep + "\n```\n", nil},
		"long keys":               {"```\n" + wide + "\n```\n", []sample{{"ONWIDEADD", []string{"ID"}}}},
		"event of another type":   {"```\n{\"event\":{},\"data\":{}}\n```", nil},
		"event with a line break": {"```\n{\"event\":\"ONA\\nADD\",\"data\":{}}\n```", nil},
		"bytes":                   {"\xff\xfe# \xff\n|| **\xff**\n> Scope: `\xff`", nil},
		"rows":                    {strings.Repeat("|| **", 100_000), nil},
		"indented in a list":      {"- x\n\n    ```json\n    {\"event\":\"OnBoatAdd\",\"data\":{\"7\":{\"{ID}\":[1]}}}\n    ```\n", []sample{{"ONBOATADD", []string{"*", "*.*", "*.*.*"}}}},
	} {
		require.Equal(t, tc.want, parsePage(tc.text).samples, name)
	}
	require.Less(t, time.Since(began), time.Minute)
}

func nestedMap(depth int) any {
	if depth == 0 {
		return nil
	}
	return map[string]any{"a": nestedMap(depth - 1)}
}

// TestPrintsOnePlainLine: what a page holds is only shown.
func TestPrintsOnePlainLine(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	require.NoError(t, printAll(&b, []finding{{kindNew, "ONX", "a\x1b[31m", "b\u202e\n"}}, 1, 1))
	require.NotContains(t, b.String(), "\x1b")
	require.NotContains(t, b.String(), "\u202e")
	require.Equal(t, 2, strings.Count(b.String(), "\n"))
}

// TestCatalogue: the program reads the real catalogue, and finds each of its events gone from
// pages that do not name it.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(filepath.Join("..", "..", "event", "testdata", "catalog.json"))
	require.NoError(t, err)
	entries, err := readCatalog(doc)
	require.NoError(t, err)
	require.Greater(t, len(entries), 200)
	all := compare(entries, map[string]page{"api-reference/x": parsePage("x")})
	require.Len(t, all, len(entries))
	for _, e := range entries {
		require.NotEmpty(t, e.Doc, e.Name)
		known, required := e.known()
		for key := range required {
			require.True(t, known[key], "%s %s", e.Name, key)
		}
	}
}

func FuzzParsePage(f *testing.F) {
	require.NoError(f, filepath.WalkDir(filepath.Join("testdata", "docs"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path) //nolint:gosec // a page of the sample
		f.Add(string(text))
		return err
	}))
	doc, err := os.ReadFile(filepath.Join("testdata", "catalog.json"))
	require.NoError(f, err)
	catalog, err := readCatalog(doc)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, text string) {
		p := parsePage(text)
		for _, s := range p.samples {
			require.Regexp(t, wireName, s.event)
			require.True(t, slices.IsSorted(s.keys))
		}
		pages := map[string]page{"api-reference/boats/ferries": p, "api-reference/boats/events/on-boat-update": p}
		all := compare(catalog, pages)
		require.NoError(t, printAll(io.Discard, all, len(catalog), len(pages)))
		for _, c := range all {
			require.Contains(t, []string{kindNew, kindChanged, kindGone}, c.Kind)
			require.NotEmpty(t, c.Event)
			require.NotEmpty(t, c.What)
		}
	})
}
