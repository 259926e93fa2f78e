package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

// nonsense returns values of every type that no command expects, as JSON.
func nonsense() []string {
	return []string{
		`null`, `true`, `-1`, `0`, `1`, `0.5`, `1e18`, `1e308`, `-1e308`, `9223372036854775807`, `-9223372036854775808`, `99999999999999999999`,
		`""`, `"."`, `".."`, `"../.."`, `"\u0000"`, `"\u202e\u001b[2J"`, `"\ud800"`, `"<script>alert(1)</script>"`, `"javascript:alert(1)"`,
		`"http://"`, `"http://127.0.0.1:99999/"`, `"http://[::1]:1/"`, `"` + strings.Repeat("x", 5000) + `"`, `"-99999h"`, `"9223372036h"`, `"*"`,
		`[]`, `[1e18,-1]`, `["x"]`, `{}`, `{"":""}`, `{"a":{"a":{"a":[1,{"b":null}]}}}`, strings.Repeat("[", 500) + strings.Repeat("]", 500),
	}
}

// sensible returns bodies that commands accept, so that one senseless field at a time reaches the
// code behind the first check.
func sensible(path string) map[string]string {
	bodies := map[string]map[string]string{
		"/api/deliveries/resend": {"failed": `true`},
		"/api/wait":              {"timeout": `"20ms"`},
		"/api/apps":              {"install": `false`},
		"/api/webhooks":          {"url": `"http://127.0.0.1:9/"`, "events": `"ONX"`},
		"/api/objects":           {"kind": `"deal"`, "action": `"add"`},
		"/api/raise":             {"event": `"ONX"`},
		"/api/bots/{id}/raise":   {"event": `"ONIMBOTV2CONTEXTGET"`},
		"/api/reactions":         {"message": `1`, "reaction": `"like"`},
		"/api/users":             {"name": `"x"`},
		"/api/faults":            {"method": `"*"`, "fault": `"error"`},
		"/api/clock":             {"by": `"1s"`},
	}
	body := map[string]string{}
	maps.Copy(body, bodies[path])
	return body
}

// TestNonsense posts senseless values to every command. Each gets an answer that is JSON, and no
// command fails by itself. The portal works afterwards.
func TestNonsense(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	allowed := map[int]bool{200: true, 400: true, 404: true, 409: true, 413: true, 429: true, 502: true, 504: true}
	asked := 0
	for _, r := range new(page).api() {
		if r.method != http.MethodPost {
			continue
		}
		ids := []string{"1"}
		if strings.Contains(r.path, "{id}") {
			ids = []string{"1", "app", "-1", "99999999999999999999", "%00", "%2e%2e", strings.Repeat("x", 3000)}
		}
		for n, id := range ids {
			path := strings.ReplaceAll(r.path, "{id}", id)
			for _, f := range fieldsOf(r.body) {
				if n > 0 {
					break // other IDs are not combined with fields
				}
				for _, value := range nonsense() {
					body := sensible(r.path)
					body[f.name] = value
					var parts []string
					for name, v := range body {
						parts = append(parts, strconv.Quote(name)+":"+v)
					}
					asked++
					status, _, text := p.request(http.MethodPost, path, "{"+strings.Join(parts, ",")+"}")
					require.True(t, allowed[status], "%s %s=%.100s: %d %s", path, f.name, value, status, text)
					require.True(t, json.Valid([]byte(text)), "%s %s=%.100s: %s", path, f.name, value, text)
				}
			}
			asked++
			status, _, text := p.request(http.MethodPost, path, "")
			require.True(t, allowed[status], "%s: %d %s", path, status, text)
			require.True(t, json.Valid([]byte(text)), "%s: %s", path, text)
		}
	}
	require.Greater(t, asked, 2000)
	s := p.state("") // follows the redirects of the renamed portal
	require.NotEmpty(t, s.Objects.Kinds)
	p.page = "http://" + s.Portal.Domain
	p.post("/api/faults/heal", "")
	p.post("/api/objects", `{"kind":"deal","action":"add","fields":{"TITLE":"Still here"}}`)
	require.Equal(t, "Still here", p.state("?kind=deal").Objects.Shown[0].Title)
}

// TestClockStops moves the clock forward until it goes no further, because times overflow.
func TestClockStops(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	for n := 0; ; n++ {
		status, _, text := p.request(http.MethodPost, "/api/clock", `{"by":"9600h"}`)
		if status == http.StatusBadRequest {
			require.Contains(t, text, "ten years")
			break
		}
		require.Less(t, n, 20)
	}
	skew := time.Duration(p.state("").Portal.ClockSkew) * time.Second
	require.Greater(t, skew, 9*365*24*time.Hour)
	require.LessOrEqual(t, skew, maxSkew+time.Minute)
}

// TestNamesAreBounded raises events of ever new names, and adds items of ever new processes.
func TestNamesAreBounded(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	for n := range maxOwnEvents {
		p.post("/api/raise", `{"event":"ONX`+strconv.Itoa(n)+`"}`)
	}
	require.Contains(t, p.refuse("/api/raise", `{"event":"ONY"}`, 400), "too many events")
	p.post("/api/raise", `{"event":"ONX7"}`)
	p.post("/api/raise", `{"event":"ONCRMDEALADD"}`)
	for n := range maxProcesses {
		p.post("/api/objects", `{"kind":"item","action":"add","entity_type_id":`+strconv.Itoa(200+n)+`}`)
	}
	require.Contains(t, p.refuse("/api/objects", `{"kind":"item","action":"add","entity_type_id":400}`, 400), "too many smart processes")
	p.post("/api/objects", `{"kind":"item","action":"add","entity_type_id":200}`)
	p.post("/api/objects", `{"kind":"item","action":"add","entity_type_id":31}`)
}

// TestWrittenObjectsAreBounded fills the portal with objects until no more are taken. Deleting some
// makes room, also if an application deletes them.
func TestWrittenObjectsAreBounded(t *testing.T) {
	t.Parallel()
	portal, err := eventtest.New()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, portal.Close()) })
	pg := newPage(portal, config{}, nil)
	pg.written.limit = 10 << 20
	large := fieldValues{fields: map[string]any{"TITLE": strings.Repeat("x", 200_000)}, bytes: 200_000}
	change := func(in changeRequest) error {
		in.Kind = "deal"
		_, err := pg.changeObjects(t.Context(), "", in)
		return err
	}
	var full error
	for full == nil {
		full = change(changeRequest{Action: "add", Fields: large, causeRequest: causeRequest{Times: 40}})
		require.LessOrEqual(t, pg.written.total, pg.written.limit)
	}
	require.ErrorContains(t, full, "256 MiB")
	require.Greater(t, portal.ObjectCounts()[eventtest.Deal], 40)
	require.ErrorContains(t, change(changeRequest{Action: "update", Fields: large}), "256 MiB")
	require.NoError(t, change(changeRequest{Action: "delete", causeRequest: causeRequest{Times: 3}}))
	for range 100 { // the same size again and again
		require.NoError(t, change(changeRequest{Action: "update", ID: 1, Fields: large}))
	}
	ids := portal.ObjectIDs(eventtest.Deal)
	require.NoError(t, change(changeRequest{Action: "add", Fields: large, causeRequest: causeRequest{Times: 2}}))
	for _, id := range ids[:40] {
		require.NoError(t, portal.Delete(eventtest.Deal, id, 1)) // as an application does
	}
	require.NoError(t, change(changeRequest{Action: "add", Fields: large, causeRequest: causeRequest{Times: 40}}))
}
