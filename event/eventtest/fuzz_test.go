package eventtest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

// FuzzREST sends a portal anything that a client may send. It keeps running and responds with JSON.
// It never returns a server error, except the platform's own for columns that are too long.
func FuzzREST(f *testing.F) {
	f.Add("event.bind", "application/x-www-form-urlencoded", "event=ONCRMDEALADD&handler=https://example.com/")
	f.Add("batch", "application/json",
		`{"halt":1,"cmd":{"a":"crm.deal.add?fields[TITLE]=x","b":"crm.deal.get?id=$result[a]","c":"batch?cmd[]=x","d":["x"]}}`)
	f.Add("batch.json/", "application/x-www-form-urlencoded",
		"cmd[0]=event.offline.get%3Fclear%3D0&cmd[2]=event.offline.list?filter[%ID]=1&auth_connector=")
	f.Add("event.offline.clear", "application/json", `{"process_id":"","message_id":[null]}`)
	f.Add("crm.item.list", "multipart/form-data; boundary=x",
		"--x\r\nContent-Disposition: form-data; name=\"entityTypeId\"\r\n\r\n31\r\n--x--\r\n")
	f.Add("calendar.event.add", "application/json", `{"type":"user","ownerId":1,"name":"x","from":"2026-01-01","to":"","section":[]}`)
	f.Add("tasks.task.update", "text/html", "<")
	n := eventtest.NewNetwork()
	p := eventtest.NewPortal(f, eventtest.WithNetwork(n))
	app, err := p.AddApp(eventtest.App{Scope: []string{"crm", "task", "user", "calendar", "im", "imbot"}})
	require.NoError(f, err)
	require.NoError(f, app.Install(f.Context()))
	grant, err := app.Grant(eventtest.AdminID)
	require.NoError(f, err)
	client := n.Client()
	f.Fuzz(func(t *testing.T, method, contentType, body string) {
		if strings.Trim(method, "./") == "" {
			return // leads out of REST
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, grant.ClientEndpoint+url.PathEscape(method), strings.NewReader(body))
		require.NoError(t, err)
		r.Header = http.Header{"Content-Type": {contentType}, "Authorization": {"Bearer " + string(grant.AccessToken)}}
		resp, err := client.Do(r)
		require.NoError(t, err)
		defer func() { require.NoError(t, resp.Body.Close()) }()
		answer, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.True(t, json.Valid(answer), "%d %s", resp.StatusCode, answer)
		if resp.StatusCode >= 500 {
			require.Contains(t, string(answer), "SQL query error!")
		}
		require.NotContains(t, string(answer), string(grant.AccessToken))
	})
}
