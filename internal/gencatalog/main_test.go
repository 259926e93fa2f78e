package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	catalogFile = filepath.Join("..", "..", "event", "testdata", "catalog.json")
	eventFolder = filepath.Join("..", "..", "event")
)

func TestCommittedFilesAreWhatTheGeneratorWrites(t *testing.T) {
	t.Parallel()
	require.NoError(t, run([]string{"-in", catalogFile, "-dir", eventFolder, "-check"}, t.Output()))
}

func TestCheckFindsWhatDiffers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.Error(t, run([]string{"-in", catalogFile, "-dir", dir, "-check"}, t.Output()), "nothing is there")

	require.NoError(t, run([]string{"-in", catalogFile, "-dir", dir}, t.Output()))
	require.NoError(t, run([]string{"-in", catalogFile, "-dir", dir, "-check"}, t.Output()))

	crm := filepath.Join(dir, "catalog_crm.go")
	edited, err := os.OpenFile(crm, os.O_APPEND|os.O_WRONLY, 0) //nolint:gosec // a file of this test
	require.NoError(t, err)
	_, err = edited.WriteString("// more\n")
	require.NoError(t, err)
	require.NoError(t, edited.Close())
	require.ErrorContains(t, run([]string{"-in", catalogFile, "-dir", dir, "-check"}, t.Output()), "catalog_crm.go")
	require.NoError(t, run([]string{"-in", catalogFile, "-dir", dir}, t.Output()))

	gone := filepath.Join(dir, "catalog_gone.go")
	require.NoError(t, os.WriteFile(gone, []byte(header+"\npackage event\n"), 0o600))
	byHand := filepath.Join(dir, "catalog_mine.go")
	require.NoError(t, os.WriteFile(byHand, []byte("package event\n"), 0o600))
	require.ErrorContains(t, run([]string{"-in", catalogFile, "-dir", dir, "-check"}, t.Output()), "catalog_gone.go")
	require.NoError(t, run([]string{"-in", catalogFile, "-dir", dir}, t.Output()))
	require.NoFileExists(t, gone, "files of scopes that are gone go too")
	require.FileExists(t, byHand)
}

func TestCatalogueMistakes(t *testing.T) {
	t.Parallel()
	good := map[string]any{
		"name": "ONCRMDEALADD", "title": "Deal created", "scope": "crm", "doc": "api-reference/crm/x", "shape": "A1 FIELDS.ID only",
		"get_method": "crm.deal.get", "get_params": map[string]string{"id": "data.FIELDS.ID"}, "docs_spelling": "onCrmDealAdd",
	}
	for _, tc := range []struct {
		name string
		edit func(e map[string]any)
		ok   bool
	}{
		{"as it should be", func(map[string]any) {}, true},
		{"no method", func(e map[string]any) { e["get_method"], e["get_params"] = nil, nil }, true},
		{"no name", func(e map[string]any) { e["name"] = "" }, false},
		{"no scope", func(e map[string]any) { delete(e, "scope") }, false},
		{"unknown shape", func(e map[string]any) { e["shape"] = "Z9 none" }, false},
		{"page elsewhere", func(e map[string]any) { e["doc"] = "settings/x" }, false},
		{"bound by the platform", func(e map[string]any) { e["bound_by_platform"] = "always" }, true},
		{"bound by somebody else", func(e map[string]any) { e["bound_by_platform"] = "never" }, false},
		{"parameters that are no object", func(e map[string]any) { e["get_params"] = []string{"id"} }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			e := maps.Clone(good)
			tc.edit(e)
			_, err := generate(marshal(t, []any{e}))
			require.Equal(t, tc.ok, err == nil, err)
		})
	}
	for name, doc := range map[string][]byte{
		"not JSON": []byte("{"), "no entries": []byte("[]"), "twice": marshal(t, []any{good, good}),
	} {
		_, err := generate(doc)
		require.Error(t, err, name)
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	doc, err := json.Marshal(v)
	require.NoError(t, err)
	return doc
}

func TestBase(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"ONCRMDEALADD":                    "ONCRMDEAL",
		"ONCRMDEALMOVETOCATEGORY":         "ONCRMDEAL",
		"ONCRMDEALUSERFIELDSETENUMVALUES": "ONCRMDEALUSERFIELD",
		"ONCRMDYNAMICITEMADD_{TYPEID}":    "ONCRMDYNAMICITEM",
		"ONORDERDELETED":                  "ONORDER",
		"ONORDERENTITYSAVED":              "ONORDER",
		"ONSALEORDERSAVED":                "ONSALEORDER",
		"CATALOG.PRICE.ON.UPDATE":         "CATALOG.PRICE.ON.",
	} {
		require.Equal(t, want, base(name))
	}
}

func TestParametersKeepTheirOrder(t *testing.T) {
	t.Parallel()
	var p pairs
	require.NoError(t, json.Unmarshal([]byte(`{"z":"data.A","a":"literal:b","m":"data.C[].d"}`), &p))
	require.Equal(t, pairs{{"z", "data.A"}, {"a", "literal:b"}, {"m", "data.C[].d"}}, p)
	require.Equal(t, []param{{name: "z", path: "A"}, {name: "a", literal: "b"}, {name: "m", path: "C.0.d"}}, fetch(entry{Params: p, Shape: "H1 x"}))
	require.True(t, strings.HasPrefix(p[0].value, "data."))
}
