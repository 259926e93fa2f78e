package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/examples/internal/programtest"
)

const testdata = "../../event/testdata"

func TestMain(m *testing.M) { programtest.Main(m, main) }

// shell runs decode and returns what a shell would see.
func shell(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(context.Background(), program.Env{Args: args, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs})
	return code, out.String(), errs.String()
}

type entry struct {
	Name   string `json:"name"`
	Sample struct {
		Event string          `json:"event"`
		Data  json.RawMessage `json:"data"`
	} `json:"sample"`
	Fields []struct {
		Path string `json:"path"`
	} `json:"fields"`
}

// TestEveryDocumentedSample feeds decode the form of every sample: each leaf of data comes out
// again, and every documented field that the sample fills stands in the payload.
func TestEveryDocumentedSample(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(filepath.Join(testdata, "catalog.json"))
	require.NoError(t, err)
	var catalog struct {
		Events []entry `json:"events"`
	}
	require.NoError(t, json.Unmarshal(doc, &catalog))
	require.NotEmpty(t, catalog.Events)
	for _, e := range catalog.Events {
		t.Run(e.Name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(testdata, "events", strings.ToUpper(e.Sample.Event)+".form")
			code, stdout, stderr := shell(t, "", "-content-type", "application/x-www-form-urlencoded", "-secrets", file)
			require.Zero(t, code, stderr)
			require.Empty(t, stderr)
			require.Equal(t, 1, strings.Count(stdout, "\n"), "one object a line")
			got := tree(t, []byte(stdout))

			require.Equal(t, "event", got["kind"])
			require.Equal(t, true, got["known"])
			require.Equal(t, strings.ToUpper(e.Sample.Event), got["event"])
			want, present := wire(anyTree(t, e.Sample.Data))
			if !present {
				want = nil
			}
			require.Equal(t, want, got["data"], "what was sent is what is printed")

			payload, err := json.Marshal(got["payload"])
			require.NoError(t, err)
			for _, f := range e.Fields {
				for _, leaf := range leaves(want, strings.Split(strings.TrimPrefix(strings.TrimPrefix(f.Path, "data"), "."), ".")) {
					require.True(t, readable(got["payload"], leaf), "%s (%s) is not in %s", f.Path, leaf, payload)
				}
			}
			code, stdout, _ = shell(t, "", file)
			require.Zero(t, code)
			require.NotContains(t, stdout, "s6p6eclrvim6da22ft9ch94ekreb52lv", "tokens are redacted")
			require.NotContains(t, stdout, "831c76b092f9f135d9b6b36c3a720757", "tokens are redacted")
		})
	}
}

// wire is what is left of a value after PHP encoded it as a form and a receiver decoded it.
func wire(v any) (any, bool) {
	switch x := v.(type) {
	case nil:
		return nil, false
	case bool:
		if x {
			return "1", true
		}
		return "0", true
	case map[string]any:
		m := make(map[string]any)
		for key, e := range x {
			if w, ok := wire(e); ok {
				m[key] = w
			}
		}
		return m, len(m) > 0
	case []any:
		var list []any
		for _, e := range x {
			if w, ok := wire(e); ok {
				list = append(list, w)
			}
		}
		return list, len(list) > 0
	default:
		return fmt.Sprint(x), true
	}
}

// leaves returns the scalars at a documented path, in which {ID} stands for any key and [] for the
// elements of a list.
func leaves(v any, path []string) []string {
	if len(path) == 0 || path[0] == "" {
		if text, ok := v.(string); ok {
			return []string{text}
		}
		return nil
	}
	key, isList := strings.CutSuffix(path[0], "[]")
	m, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	var found []string
	for k, e := range m {
		if k != key && !strings.HasPrefix(key, "{") {
			continue
		}
		list, listed := e.([]any)
		if !isList || !listed {
			list = []any{e}
		}
		for _, item := range list {
			found = append(found, leaves(item, path[1:])...)
		}
	}
	return found
}

// readable looks for a scalar anywhere in a payload, in whichever of the shapes that a typed value
// prints in.
func readable(v any, leaf string) bool {
	switch x := v.(type) {
	case map[string]any:
		for key, e := range x {
			if key == leaf || readable(e, leaf) {
				return true
			}
		}
		return false
	case []any:
		for _, e := range x {
			if readable(e, leaf) {
				return true
			}
		}
		return false
	case bool:
		return x == (leaf == "Y" || leaf == "1")
	default:
		text := fmt.Sprint(x)
		return text == leaf || strings.TrimRight(strings.TrimRight(leaf, "0"), ".") == text || (len(leaf) >= len(time.DateOnly) && strings.HasPrefix(text, leaf)) // a date gains a time of day
	}
}

func tree(t *testing.T, doc []byte) map[string]any {
	t.Helper()
	m, ok := anyTree(t, doc).(map[string]any)
	require.True(t, ok)
	return m
}

func anyTree(t *testing.T, doc []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	require.NoError(t, d.Decode(&v))
	return v
}

func TestProgram(t *testing.T) {
	t.Parallel()
	const form = "event=ONCRMDEALUPDATE&event_handler_id=509&ts=1739047797&data%5BFIELDS%5D%5BID%5D=21&auth%5Baccess_token%5D=top-secret-access" +
		"&auth%5Bmember_id%5D=m1&auth%5Bdomain%5D=p.bitrix24.com&auth%5Buser_id%5D=1&auth%5Bscope%5D=crm%2Ctask"
	for name, tc := range map[string]struct {
		args   []string
		stdin  string
		code   int
		stdout string
		stderr bool
	}{
		"event from stdin": {
			nil, form, 0,
			`{"kind":"event","event":"ONCRMDEALUPDATE","known":true,"type":"event.CRMEntity","handler_id":509,` +
				`"time":"2025-02-08T20:49:57Z","member_id":"m1","domain":"p.bitrix24.com","user_id":1,"auth":"user","scope":["crm","task"],` +
				`"entity":{"kind":"crm.deal","id":"21"},"data":{"FIELDS":{"ID":"21"}},"payload":{"ID":21}}`, false,
		},
		"dash, and a line break behind the body": {
			[]string{"-"},
			"event=ONX&data=7\r\n", 0,
			`{"kind":"event","event":"ONX","known":false,"handler_id":0,` +
				`"time":null,"member_id":"","domain":"","user_id":0,"auth":"none","scope":[],"entity":null,"data":"7"}`, false,
		},
		"application page": {
			nil, "AUTH_ID=top-secret&REFRESH_ID=top-secret&DOMAIN=p&member_id=m", 0,
			`{"kind":"frame","handler_id":0,"time":null,` +
				`"member_id":"m","domain":"p","user_id":0,"auth":"user+refresh","scope":[],"entity":null,` +
				`"data":{"AUTH_ID":"[redacted]","REFRESH_ID":"[redacted]","DOMAIN":"p","member_id":"m"}}`, false,
		},
		"automation rule": {
			nil, "workflow_id=1&code=c&document_id[]=crm&auth[member_id]=m", 0,
			`{"kind":"handler","handler_id":0,"time":null,` +
				`"member_id":"m","domain":"","user_id":0,"auth":"none","scope":[],"entity":null,` +
				`"data":{"workflow_id":"1","code":"c","document_id":["crm"],"auth":{"member_id":"m"}}}`, false,
		},
		"JSON": {
			[]string{"-content-type", "application/json"},
			`{"event":"ONX","data":{"a":1}}`, 0,
			`{"kind":"event","event":"ONX","known":false,` +
				`"handler_id":0,"time":null,"member_id":"","domain":"","user_id":0,"auth":"none","scope":[],"entity":null,"data":{"a":1}}`, false,
		},
		"payload that does not fit": {
			nil, "event=ONCRMDEALADD&data[FIELDS][ID]=x", 1,
			`{"kind":"event","event":"ONCRMDEALADD","known":true,"type":"event.CRMEntity",` +
				`"handler_id":0,"time":null,"member_id":"","domain":"","user_id":0,"auth":"none","scope":[],"entity":{"kind":"crm.deal","id":"x"},"data":{"FIELDS":{"ID":"x"}},` +
				`"payload":{"ID":0},"payload_error":"event: ONCRMDEALADD: data.FIELDS.ID is not an integer of 64 bits"}`, true,
		},
		"empty":                {nil, "", 1, "", true},
		"malformed JSON":       {[]string{"-content-type", "application/json"}, form, 1, "", true},
		"wrong content type":   {[]string{"-content-type", "text/html"}, form, 1, "", true},
		"no such file":         {[]string{"testdata/none"}, "", 1, "", true},
		"unknown flag":         {[]string{"-x"}, "", 2, "", true},
		"two files":            {[]string{"a", "b"}, "", 2, "", true},
		"help":                 {[]string{"-h"}, "", 0, "", true},
		"too large, bounded":   {nil, "event=ONX&data=" + strings.Repeat("x", 9<<20), 1, "", true},
		"too deep":             {nil, "event=ONX&data" + strings.Repeat("[a]", 100) + "=1", 1, "", true},
		"hostile percent":      {nil, "event=ONX&data=%zz%", 0, `{"kind":"event","event":"ONX","known":false,"handler_id":0,"time":null,"member_id":"","domain":"","user_id":0,"auth":"none","scope":[],"entity":null,"data":"%zz%"}`, false},
		"bracket never closed": {nil, "event=ONX&data[BOT=1", 0, `{"kind":"event","event":"ONX","known":false,"handler_id":0,"time":null,"member_id":"","domain":"","user_id":0,"auth":"none","scope":[],"entity":null,"data":null,"extra":{"data_BOT":"1"}}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := shell(t, tc.stdin, tc.args...)
			require.Equal(t, tc.code, code, stderr)
			require.Equal(t, tc.stdout, strings.TrimSuffix(stdout, "\n"))
			require.Equal(t, tc.stderr, stderr != "")
			require.NotContains(t, stdout+stderr, "top-secret")
			if tc.code == 1 {
				require.Equal(t, 1, strings.Count(stderr, "\n"), "one line")
			}
		})
	}
	code, stdout, _ := shell(t, form, "-secrets")
	require.Zero(t, code)
	require.NotContains(t, stdout, "top-secret", "the event's own tokens are not part of data")
	_, stdout, _ = shell(t, "AUTH_ID=top-secret&DOMAIN=p", "-secrets")
	require.Contains(t, stdout, `"AUTH_ID":"top-secret"`)
}

func TestOutputIsOnlyShown(t *testing.T) {
	t.Parallel()
	const body = "event=ONX&data[a]=x%C2%9B31m%7F%E2%80%AE%1B&auth[member_id]=m%C2%9B"
	for _, args := range [][]string{nil, {"-secrets"}} {
		code, stdout, _ := shell(t, body, args...)
		require.Zero(t, code)
		require.Contains(t, stdout, `"data":{"a":"x\u009b31m\u007f\u202e\u001b"}`)
		require.Contains(t, stdout, `"member_id":"m\u009b"`)
	}
}
