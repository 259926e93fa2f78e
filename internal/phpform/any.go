package phpform

import "encoding/json"

// Any returns the tree as Go values: nil, bool, string, [json.Number], []any for an array whose
// keys run 0..n-1, in the order of the keys, and map[string]any for every other array. An empty
// array is an empty []any. The caller owns the slices and maps.
func (v Value) Any() any {
	switch v.kind {
	case String:
		return v.text
	case Number:
		return json.Number(v.text)
	case Bool:
		return v.text != ""
	case Array:
		if items, ok := v.Items(); ok {
			list := make([]any, len(items))
			for i, item := range items {
				list[i] = item.Any()
			}
			return list
		}
		m := make(map[string]any, v.Len())
		for key, item := range v.All() {
			m[key] = item.Any()
		}
		return m
	case Null:
	}
	return nil
}
