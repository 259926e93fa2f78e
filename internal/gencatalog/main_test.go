package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	catalogFile = filepath.Join("..", "..", "event", "testdata", "catalog.json")
	module      = filepath.Join("..", "..")
)

func TestCommittedFilesAreWhatTheGeneratorWrites(t *testing.T) {
	t.Parallel()
	require.NoError(t, run([]string{"-in", catalogFile, "-dir", module, "-check"}, t.Output()))
}

func TestCheckFindsWhatDiffers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, folder := range []string{"event", filepath.Join("internal", "notfound")} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, folder), 0o700))
	}
	require.Error(t, run([]string{"-in", catalogFile, "-dir", dir, "-check"}, t.Output()), "nothing is there")

	require.NoError(t, run([]string{"-in", catalogFile, "-dir", dir}, t.Output()))
	require.NoError(t, run([]string{"-in", catalogFile, "-dir", dir, "-check"}, t.Output()))

	crm := filepath.Join(dir, "event", "catalog_crm_gen.go")
	edited, err := os.OpenFile(crm, os.O_APPEND|os.O_WRONLY, 0) //nolint:gosec // a file of this test
	require.NoError(t, err)
	_, err = edited.WriteString("// more\n")
	require.NoError(t, err)
	require.NoError(t, edited.Close())
	require.ErrorContains(t, run([]string{"-in", catalogFile, "-dir", dir, "-check"}, t.Output()), "catalog_crm_gen.go")
	require.NoError(t, run([]string{"-in", catalogFile, "-dir", dir}, t.Output()))

	gone := filepath.Join(dir, "event", "catalog_gone_gen.go")
	require.NoError(t, os.WriteFile(gone, []byte(header+"\npackage event\n"), 0o600))
	byHand := filepath.Join(dir, "event", "catalog_mine_gen.go")
	require.NoError(t, os.WriteFile(byHand, []byte("package event\n"), 0o600))
	require.ErrorContains(t, run([]string{"-in", catalogFile, "-dir", dir, "-check"}, t.Output()), "catalog_gone_gen.go")
	require.NoError(t, run([]string{"-in", catalogFile, "-dir", dir}, t.Output()))
	require.NoFileExists(t, gone, "files of scopes that are gone go too")
	require.FileExists(t, byHand)

	require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.FromSlash(refusalsFile)), nil, 0o600))
	require.ErrorContains(t, run([]string{"-in", catalogFile, "-dir", dir, "-check"}, t.Output()), refusalsFile)
}

func TestCatalogueMistakes(t *testing.T) {
	t.Parallel()
	type obj = map[string]any
	for _, tc := range []struct {
		name string
		edit func(event, method obj)
		ok   bool
	}{
		{"as it should be", func(obj, obj) {}, true},
		{"no name", func(e, _ obj) { e["name"] = "" }, false},
		{"no scope", func(e, _ obj) { delete(e, "scope") }, false},
		{"unknown key", func(e, _ obj) { e["get_method"] = "crm.deal.get" }, false},
		{"unknown shape", func(e, _ obj) { e["shape"] = "Z9 none" }, false},
		{"page elsewhere", func(e, _ obj) { e["doc"] = "settings/x" }, false},
		{"bound by the platform", func(e, _ obj) { e["bound_by_platform"] = "always" }, true},
		{"bound by somebody else", func(e, _ obj) { e["bound_by_platform"] = "never" }, false},
		{"no method", func(e, _ obj) { e["fetch"] = []any{} }, false}, // then the method is of no use
		{"unknown method", func(e, _ obj) { e["fetch"] = []any{obj{"method": "crm.deal.list"}} }, false},
		{"parameters that are no object", func(e, _ obj) { e["fetch"] = []any{obj{"method": "crm.deal.get", "params": []any{"id"}}} }, false},
		{"method of a deletion", func(e, _ obj) { e["name"] = "ONCRMDEALDELETE" }, false},
		{"path with a space", func(e, _ obj) { e["entity"] = []any{obj{"kind": "crm.deal", "id": []any{"FIELDS .ID"}}} }, false},
		{"entity without a kind", func(e, _ obj) { e["entity"] = []any{obj{"id": []any{"FIELDS.ID"}}} }, false},
		{"lists in an ID of two parts", func(e, _ obj) { e["entity"] = []any{obj{"kind": "x", "id": []any{"A.[].B", "C"}}} }, false},
		{"lane of an event that is not distinct", func(e, _ obj) { e["lane"] = obj{"kind": "crm", "id": []any{}} }, false},
		{"lane", func(e, _ obj) { e["lane"], e["distinct"] = obj{"kind": "crm", "id": []any{}}, true }, true},
		{"method's page elsewhere", func(_, m obj) { m["doc"] = "x" }, false},
		{"method without scopes", func(_, m obj) { delete(m, "scopes") }, false},
		{"member that is a path", func(_, m obj) { m["result"] = "result.item" }, false},
		{"halted without a reason", func(_, m obj) { m["halted"] = true }, false},
		{"halted with a remark", func(_, m obj) { m["halted"], m["remark"] = true, "New deals are other objects." }, true},
		{"successor that is not known", func(_, m obj) { m["halted"], m["successor"] = true, "crm.item.get" }, false},
		{"words of no method", func(_, m obj) { m["gone"] = []any{obj{"code": "0"}} }, false},
		{"words", func(_, m obj) { m["gone"] = []any{obj{"code": "0", "text": "Not found"}} }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			e := obj{
				"name": "ONCRMDEALADD", "title": "Deal created", "scope": "crm", "doc": "api-reference/crm/x", "shape": "A1 FIELDS.ID only",
				"fetch":  []any{obj{"method": "crm.deal.get", "params": obj{"id": "FIELDS.ID|ID"}}},
				"entity": []any{obj{"kind": "crm.deal", "id": []any{"FIELDS.ID"}}}, "docs_spelling": "onCrmDealAdd",
			}
			m := obj{"doc": "api-reference/crm/deals/crm-deal-get", "scopes": []any{"crm"}, "gone": []any{obj{"code": "", "text": "Not found"}}}
			tc.edit(e, m)
			_, err := generate(marshal(t, obj{"methods": obj{"crm.deal.get": m}, "events": []any{e}}))
			require.Equal(t, tc.ok, err == nil, err)
		})
	}
	e := obj{"name": "ONX", "title": "X", "scope": "crm", "doc": "api-reference/crm/x", "shape": "A1", "docs_spelling": "onX"}
	for name, doc := range map[string][]byte{
		"not JSON": []byte("{"), "no events": []byte(`{"events":[]}`), "twice": marshal(t, obj{"events": []any{e, e}}),
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

func TestParametersKeepTheirOrder(t *testing.T) {
	t.Parallel()
	var p pairs
	require.NoError(t, json.Unmarshal([]byte(`{"z":"A","a":"literal:b","m":"C.[].d"}`), &p))
	require.Equal(t, pairs{{"z", "A"}, {"a", "literal:b"}, {"m", "C.[].d"}}, p)
	require.Equal(t, []string{
		`FetchParam{Name: "z", Path: "A"}`, `FetchParam{Name: "a", Literal: "b"}`, `FetchParam{Name: "m", Path: "C.[].d"}`,
	}, fetch{Params: p}.params())
}
