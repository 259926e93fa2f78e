package main

import (
	"net/http"
	"reflect"
	"strings"

	"github.com/b24events/b24events/event"
)

// eventInfo is an event of the catalogue.
type eventInfo struct {
	Name   string         `json:"name"`
	Title  string         `json:"title"`
	Scope  string         `json:"scope"`  // the permission that it needs
	Sample map[string]any `json:"sample"` // data for editing
}

// serveEvents lists the events of the catalogue, for the form that raises an event.
func (pg *page) serveEvents(w http.ResponseWriter, _ *http.Request) {
	infos := []eventInfo{}
	for i := range event.Catalog() {
		if name, template := strings.CutSuffix(i.Name, "_{TYPEID}"); template {
			i.Name = name + "_147"
		}
		infos = append(infos, eventInfo{i.Name, i.Title, i.Scope, sample(i.PayloadType(), 3)})
	}
	writeJSON(w, http.StatusOK, infos)
}

// sample returns data of a payload type for editing: each number is 1, each text is empty.
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

// pathOf returns the path of a field in the data, or nil if the field has none of its own.
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

// put sets a value in a tree, unless another value blocks its path.
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
