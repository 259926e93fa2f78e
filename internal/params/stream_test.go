package params_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/params"
)

// blob is a stream in the tests.
type blob struct {
	params.Stream
}

func blobs(v any) (params.Stream, bool) {
	b, ok := v.(blob)
	return b.Stream, ok
}

func TestStreams(t *testing.T) {
	t.Parallel()
	named := func(name string) blob { return blob{params.Stream{Name: name, Named: true, Content: name}} }
	alone := func(content string) blob { return blob{params.Stream{Content: content}} }
	tests := map[string]struct {
		params any
		text   string // with the contents at the gaps, in angle brackets
		fail   string
	}{
		"named": {
			params: map[string]any{"a": 1, "f": named("x &y"), "z": 2},
			text:   "a=1&f%5B0%5D=x+%26y&f%5B1%5D=<x &y>&z=2",
		},
		"alone":    {params: map[string]any{"f": alone("c"), "z": 2}, text: "f=<c>&z=2"},
		"the last": {params: order{{"a", 1}, {"f", alone("c")}}, text: "a=1&f=<c>"},
		"several": {
			params: map[string]any{"f": []blob{named("a"), named("b")}, "g": struct{ F *blob }{new(blob)}},
			fail:   "without content",
		},
		"in lists and structs": {
			params: struct {
				F []blob
				N *blob
				O blob `url:",omitempty"`
				G map[string]any
			}{F: []blob{named("a"), named("b")}, G: map[string]any{"k": []any{alone("c")}}},
			text: "F%5B0%5D%5B0%5D=a&F%5B0%5D%5B1%5D=<a>&F%5B1%5D%5B0%5D=b&F%5B1%5D%5B1%5D=<b>&G%5Bk%5D%5B0%5D=<c>",
		},
		"without a name":   {params: map[string]any{"f": named("")}, fail: "without a name"},
		"the whole":        {params: named("a"), fail: "not a single value"},
		"the whole, alone": {params: alone("a"), fail: "not a single value"},
		"in one text": {params: struct {
			F []blob `url:",comma"`
		}{[]blob{alone("a")}}, fail: "written as one text"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			form, err := params.EncodeStreams(test.params, nil, blobs)
			if test.fail != "" {
				require.ErrorContains(t, err, test.fail)
				return
			}
			require.NoError(t, err)
			var text strings.Builder
			at := 0
			for _, g := range form.Gaps {
				content, ok := g.Content.(string)
				require.True(t, ok)
				text.WriteString(form.Text[at:g.At] + "<" + content + ">")
				at = g.At
			}
			require.Equal(t, test.text, text.String()+form.Text[at:])
		})
	}

	t.Run("names that read like references", func(t *testing.T) {
		t.Parallel()
		form, err := params.EncodeStreams(map[string]any{"f": named("$result[a]")}, nil, blobs)
		require.NoError(t, err)
		require.True(t, form.Suspect)
	})
}
