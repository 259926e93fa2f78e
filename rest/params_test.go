package rest_test

import (
	"iter"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/rest"
)

type filter struct {
	Stage string `url:"STAGE_ID,omitempty"`
}

type list struct {
	Filter filter   `url:"filter"`
	Select []string `url:"select,brackets"`
	Start  int      `url:"start"`
}

type embeds struct {
	list

	Flag bool `url:"flag,int"`
}

type cycle struct {
	Next *cycle
}

// pairs are ordered parameters of another package.
type pairs [][2]string

func (p pairs) All() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for _, pair := range p {
			if !yield(pair[0], pair[1]) {
				return
			}
		}
	}
}

func TestParams(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 5, 11, 10, 0, 0, 0, time.FixedZone("", 3*3600))
	tests := map[string]struct {
		params any
		want   string // without the token
	}{
		"nil":         {nil, ""},
		"nil pointer": {(*list)(nil), ""},
		"nil map":     {map[string]any(nil), ""},
		"map":         {map[string]any{"id": 42, "b": true, "n": false}, "b=1&id=42&n=0"},
		"nested": {
			map[string]any{"filter": map[string]any{">ID": 5, "@STAGE": []string{"A", "B"}}},
			"filter[>ID]=5&filter[@STAGE][0]=A&filter[@STAGE][1]=B",
		},
		"nothing to say":   {map[string]any{"a": nil, "b": []string{}, "c": ""}, "c="},
		"typed map":        {map[string]string{"a": "1"}, "a=1"},
		"list by position": {[]any{"x", 5}, "0=x&1=5"},
		"ordered":          {rest.Ordered{rest.Arg("TASKID", 8017), rest.Arg("ITEMID", 3157)}, "TASKID=8017&ITEMID=3157"},
		"ordered behind a pointer": {
			&rest.Ordered{rest.Arg("z", map[string]any{"b": 2, "a": 1}), rest.Arg("a", []int{7})}, "z[a]=1&z[b]=2&a[0]=7",
		},
		"ordered within": {
			map[string]any{
				"order": rest.Ordered{rest.Arg("STAGE_ID", "ASC"), rest.Arg("ID", "DESC")},
				"a":     []any{rest.Ordered{rest.Arg("y", 1), rest.Arg("x", nil)}},
			},
			"a[0][y]=1&order[STAGE_ID]=ASC&order[ID]=DESC",
		},
		"order of another type": {pairs{{"TASKID", "1"}, {"ITEMID", "2"}}, "TASKID=1&ITEMID=2"},
		"optional arguments left out": {
			rest.Ordered{rest.Arg("TASKID", 1), rest.Arg("ORDER", map[string]any{}), rest.Arg("FILTER", nil)}, "TASKID=1",
		},
		"struct in a map": {map[string]any{"fields": filter{"NEW"}}, "fields[STAGE_ID]=NEW"},
		"map in a struct": {struct{ Fields map[string]any }{map[string]any{"b": 1, "a": true}}, "Fields[a]=1&Fields[b]=1"},
		"file": {
			map[string]any{"fileData": []any{"a.txt", []byte("hello")}}, "fileData[0]=a.txt&fileData[1]=aGVsbG8=",
		},
		"time in a map":  {map[string]any{"DEADLINE": day}, "DEADLINE=2026-05-11T10:00:00+03:00"},
		"secret as text": {map[string]any{"s": string(event.Secret("plain"))}, "s=plain"},
		"values":         {url.Values{"b": {"2"}, "a": {"1"}}, "a=1&b=2"},
		"struct": {
			list{Filter: filter{"NEW"}, Select: []string{"ID", "TITLE"}, Start: -1}, "filter[STAGE_ID]=NEW&select[0]=ID&select[1]=TITLE&start=-1",
		},
		"pointer":  {&list{}, "start=0"},
		"embedded": {embeds{list: list{Start: 3}, Flag: true}, "start=3&flag=1"},
		"time":     {struct{ At time.Time }{day}, "At=2026-05-11T10:00:00+03:00"},
		"comma": {struct {
			S []int `url:",comma"`
		}{[]int{1, 2}}, "S=1,2"},
		"any":               {struct{ V any }{5}, "V=5"},
		"nil pointer field": {struct{ P *int }{}, ""},
		"nil left out": {struct {
			V any            `url:",omitempty"`
			M map[string]int `url:",omitempty"`
			P *int           `url:",omitempty"`
		}{}, ""},
		"skipped": {struct {
			M map[string]int `url:"-"`
		}{map[string]int{"a": 1}}, ""},
		"auth_connector":    {map[string]any{"auth_connector": "b24events"}, "auth_connector=b24events"},
		"auth further down": {map[string]any{"fields": map[string]any{"auth": 1}}, "fields[auth]=1"},
		"authors":           {url.Values{"author": {"1"}, "xauth": {"2"}}, "author=1&xauth=2"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, portal := clientOf(t, says(200, `{"result":1}`))

			require.NoError(t, client.Call(t.Context(), "crm.deal.list", test.params, nil))

			body := portal.requests()[0].body
			rest, ok := strings.CutSuffix(body, "auth="+url.QueryEscape(secretToken))
			require.True(t, ok, "the token comes last")
			got, err := url.QueryUnescape(strings.TrimSuffix(rest, "&"))
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestParamsRefused(t *testing.T) {
	t.Parallel()
	loop := &cycle{}
	loop.Next = loop
	deep := map[string]any{}
	for range 200 {
		deep = map[string]any{"a": deep}
	}
	tests := map[string]any{
		"auth":                  map[string]any{"auth": "planted-value"},
		"access_token":          map[string]any{"access_token": "planted-value"},
		"AUTH":                  map[string]any{"AUTH": "planted-value"},
		"auth as an array":      map[string]any{"auth": map[string]any{"x": "planted-value"}},
		"auth in values":        url.Values{"auth": {"planted-value"}},
		"auth after a space":    url.Values{" auth": {"planted-value"}},
		"auth before a NUL":     url.Values{"auth\x00x": {"planted-value"}},
		"auth before a bracket": url.Values{"auth[": {"planted-value"}},
		"access.token":          url.Values{"access.token": {"planted-value"}},
		"auth in a struct": struct {
			Auth string `url:"auth"`
		}{"planted-value"},
		"bool as text":              struct{ B bool }{true},
		"secret that prints itself": struct{ S event.Secret }{"planted-value"},
		"channel":                   struct{ C chan int }{make(chan int)},
		"cycle":                     loop,
		"scalar":                    "planted-value",
		"number":                    5,
		"too deep":                  deep,
		"secret in a map":           map[string]any{"s": event.Secret("planted-value")},
		"auth in order":             rest.Ordered{rest.Arg("auth", "planted-value")},
		"empty argument before another": rest.Ordered{
			rest.Arg("TASKID", 1), rest.Arg("ORDER", map[string]any{}), rest.Arg("FILTER", "planted-value"),
		},
		"nil before another argument": []any{nil, "planted-value"},
		"argument twice":              rest.Ordered{rest.Arg("planted-value", 1), rest.Arg("planted-value", 2)},
		"reference of no batch":       map[string]any{"id": rest.Ref{}},
	}
	for name, params := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, portal := clientOf(t, says(200, `{"result":1}`))

			err := client.Call(t.Context(), "crm.deal.list", params, nil)

			require.ErrorIs(t, err, rest.ErrBadCall)
			require.NotContains(t, err.Error(), "planted-value")
			require.Empty(t, portal.requests())
		})
	}
}
