package phpform_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/phpform"
)

func TestAny(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, doc string
		want      any
	}{
		{"null", `null`, nil},
		{"bool", `true`, true},
		{"string", `"a"`, "a"},
		{"number", `1.50`, json.Number("1.50")},
		{"empty object", `{}`, []any{}},
		{"list", `[1,null]`, []any{json.Number("1"), nil}},
		{"object with the keys of a list", `{"1":"b","0":"a"}`, []any{"a", "b"}},
		{"map", `{"a":{"b":[false]}}`, map[string]any{"a": map[string]any{"b": []any{false}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v, err := phpform.DecodeJSON([]byte(c.doc), phpform.Limits{})
			require.NoError(t, err)
			require.Equal(t, c.want, v.Any())
		})
	}
}
