package main

import (
	"net/http"
	"reflect"
	"strings"

	"github.com/b24events/b24events/event"
)

// serveEvents lists the events that the catalogue knows, for the form that raises one.
func (d *desk) serveEvents(w http.ResponseWriter, _ *http.Request) {
	type info struct {
		Name   string         `json:"name"`
		Title  string         `json:"title"`
		Scope  string         `json:"scope"`
		Sample map[string]any `json:"sample"`
	}
	infos := []info{}
	for i := range event.Catalog() {
		if name, template := strings.CutSuffix(i.Name, "_{TYPEID}"); template {
			i.Name = name + "_147"
		}
		infos = append(infos, info{i.Name, i.Title, i.Scope, sample(i.PayloadType(), 3)})
	}
	writeJSON(w, http.StatusOK, infos)
}

// sample is data that fits a payload type, to be edited: 1 for each number, an empty text for each
// text.
func sample(payload reflect.Type, depth int) map[string]any {
	tree := map[string]any{}
	for _, field := range reflect.VisibleFields(payload) {
		if path := pathOf(field); field.IsExported() && !field.Anonymous && path != nil {
			if v := value(field.Type, depth); v != nil {
				put(tree, path, v)
			}
		}
	}
	return tree
}

// pathOf is where a field stands in the data; nil where that is no place of its own.
func pathOf(field reflect.StructField) []string {
	path := field.Tag.Get("b24")
	if path == "" {
		path, _, _ = strings.Cut(field.Tag.Get("json"), ",")
	}
	if path == "" {
		path = field.Name
	}
	path, _, _ = strings.Cut(path, "|")
	if path == "." || path == "-" || strings.Contains(path, ",") {
		return nil
	}
	return strings.Split(path, ".")
}

func value(t reflect.Type, depth int) any {
	switch t.Kind() { //nolint:exhaustive // lists and maps are left to the user
	case reflect.Int, reflect.Int64, reflect.Float64:
		return 1
	case reflect.String:
		return ""
	case reflect.Bool:
		return "N"
	case reflect.Pointer:
		return value(t.Elem(), depth)
	case reflect.Struct:
		if tree := sample(t, depth-1); depth > 0 && len(tree) > 0 {
			return tree
		}
	}
	return nil
}

// put sets a value in a tree, unless something stands on its way.
func put(tree map[string]any, path []string, v any) {
	for _, key := range path[:len(path)-1] {
		below, ok := tree[key].(map[string]any)
		if !ok {
			if tree[key] != nil {
				return
			}
			below = map[string]any{}
			tree[key] = below
		}
		tree = below
	}
	if last := path[len(path)-1]; tree[last] == nil {
		tree[last] = v
	}
}
