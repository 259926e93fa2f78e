package rest_test

import (
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

type encoder struct{}

func (encoder) EncodeValues(key string, v *url.Values) error {
	v.Set(key, "own")
	return nil
}

func TestParams(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 5, 11, 10, 0, 0, 0, time.FixedZone("", 3*3600))
	tests := map[string]struct {
		params any
		want   string // without the token
	}{
		"nil":              {nil, ""},
		"nil pointer":      {(*list)(nil), ""},
		"nil map":          {map[string]any(nil), ""},
		"map":              {map[string]any{"id": 42, "b": true, "n": false}, "b=1&id=42&n=0"},
		"nested":           {map[string]any{"filter": map[string]any{">ID": 5, "@STAGE": []string{"A", "B"}}}, "filter[>ID]=5&filter[@STAGE][0]=A&filter[@STAGE][1]=B"},
		"nothing to say":   {map[string]any{"a": nil, "b": []string{}, "c": ""}, "c="},
		"typed map":        {map[string]string{"a": "1"}, "a=1"},
		"list by position": {[]any{"x", 5}, "0=x&1=5"},
		"secret in a map":  {map[string]any{"s": event.Secret("plain")}, "s=plain"},
		"values":           {url.Values{"b": {"2"}, "a": {"1"}}, "a=1&b=2"},
		"struct":           {list{Filter: filter{"NEW"}, Select: []string{"ID", "TITLE"}, Start: -1}, "filter[STAGE_ID]=NEW&select[]=ID&select[]=TITLE&start=-1"},
		"pointer":          {&list{}, "start=0"},
		"embedded":         {embeds{list: list{Start: 3}, Flag: true}, "flag=1&start=3"},
		"time":             {struct{ At time.Time }{day}, "At=2026-05-11T10:00:00+03:00"},
		"own encoder":      {struct{ E encoder }{}, "E=own"},
		"comma": {struct {
			S []int `url:",comma"`
		}{[]int{1, 2}}, "S=1,2"},
		"any":               {struct{ V any }{5}, "V=5"},
		"nil pointer field": {struct{ P *int }{}, "P="},
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
		"map in a struct":        struct{ Fields map[string]any }{map[string]any{"a": "planted-value"}},
		"map behind any":         struct{ Fields any }{map[string]any{"a": "planted-value"}},
		"nil behind any":         struct{ Fields any }{},
		"map in a nested struct": struct{ A struct{ B map[string]int } }{},
		"map behind a pointer":   struct{ M *map[string]string }{&map[string]string{"a": "planted-value"}},
		"slice without brackets": struct{ S []string }{[]string{"planted-value", "b"}},
		"bytes":                  struct{ S []byte }{[]byte("planted-value")},
		"slice of structs": struct {
			S []filter `url:",brackets"`
		}{[]filter{{"planted-value"}}},
		"slice of slices": struct {
			S [][]string `url:",brackets"`
		}{[][]string{{"planted-value"}}},
		"bool as text":              struct{ B bool }{true},
		"secret that prints itself": struct{ S event.Secret }{"planted-value"},
		"channel":                   struct{ C chan int }{make(chan int)},
		"cycle":                     loop,
		"scalar":                    "planted-value",
		"number":                    5,
		"struct in a map":           map[string]any{"f": filter{"planted-value"}},
		"too deep":                  deep,
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
