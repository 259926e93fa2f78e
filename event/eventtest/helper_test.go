package eventtest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// inbox is a handler that keeps the requests it gets.
type inbox struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	heads  []http.Header
	status int
}

func newInbox(t *testing.T) *inbox {
	t.Helper()
	in := &inbox{status: http.StatusOK}
	in.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil && t.Context().Err() == nil { // the end of a test cuts off deliveries that it did not wait for
			t.Error(err)
		}
		in.mu.Lock()
		defer in.mu.Unlock()
		in.bodies = append(in.bodies, string(body))
		in.heads = append(in.heads, r.Header)
		w.WriteHeader(in.status)
	}))
	t.Cleanup(in.Close)
	return in
}

// forms returns the bodies that have come so far.
func (in *inbox) forms(t *testing.T) []url.Values {
	t.Helper()
	in.mu.Lock()
	defer in.mu.Unlock()
	list := make([]url.Values, len(in.bodies))
	for i, body := range in.bodies {
		form, err := url.ParseQuery(body)
		require.NoError(t, err)
		list[i] = form
	}
	return list
}

// events returns the names of the events that have come so far.
func (in *inbox) events(t *testing.T) []string {
	t.Helper()
	names := []string{}
	for _, form := range in.forms(t) {
		names = append(names, form.Get("event"))
	}
	return names
}

// caller calls REST with one token.
type caller struct {
	t     *testing.T
	p     *eventtest.Portal
	app   *eventtest.Application
	token string
}

// answer is a decoded envelope.
type answer struct {
	Status int         `json:"-"`
	Raw    string      `json:"-"`
	Header http.Header `json:"-"`

	Result      json.RawMessage `json:"result"`
	Total       *int            `json:"total"`
	Next        *int            `json:"next"`
	Time        map[string]any  `json:"time"`
	Error       string          `json:"error"`
	Description string          `json:"error_description"`
	Argument    *string         `json:"argument"`
}

// object decodes the result as an object.
func (a answer) object(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal(a.Result, &m), a.Raw)
	return m
}

// list decodes the result as a list.
func (a answer) list(t *testing.T) []any {
	t.Helper()
	var l []any
	require.NoError(t, json.Unmarshal(a.Result, &l), a.Raw)
	return l
}

type obj = map[string]any

// newPortal returns a portal and a caller with the administrator's token. The application is
// installed and has no handler.
func newPortal(t *testing.T, opts ...eventtest.Option) (*eventtest.Portal, *caller) {
	t.Helper()
	p := eventtest.NewPortal(t, opts...)
	return p, install(t, p, eventtest.App{Scope: []string{"crm", "task", "user", "imbot", "calendar"}})
}

// install adds and installs an application. It returns a caller with the administrator's token.
func install(t *testing.T, p *eventtest.Portal, spec eventtest.App) *caller {
	t.Helper()
	app, err := p.AddApp(spec)
	require.NoError(t, err)
	require.NoError(t, app.Install(t.Context()))
	return as(t, p, app, eventtest.AdminID)
}

func as(t *testing.T, p *eventtest.Portal, app *eventtest.Application, user int64) *caller {
	t.Helper()
	g, err := app.Grant(user)
	require.NoError(t, err)
	return &caller{t: t, p: p, app: app, token: string(g.AccessToken)}
}

// call posts parameters as JSON.
func (c *caller) call(method string, params obj) answer {
	c.t.Helper()
	body := obj{"auth": c.token}
	maps.Copy(body, params)
	doc, err := json.Marshal(body)
	require.NoError(c.t, err)
	return send(c.t, http.MethodPost, c.p.ClientEndpoint()+method, "application/json", string(doc))
}

// ok calls and expects success.
func (c *caller) ok(method string, params obj) answer {
	c.t.Helper()
	a := c.call(method, params)
	require.Equal(c.t, http.StatusOK, a.Status, a.Raw)
	return a
}

func (c *caller) bind(params obj) {
	c.t.Helper()
	require.JSONEq(c.t, "true", string(c.ok("event.bind", params).Result))
}

var client = &http.Client{
	Timeout:       time.Minute,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func send(t *testing.T, verb, target, contentType, body string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), verb, target, strings.NewReader(body))
	require.NoError(t, err)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return roundTrip(t, r)
}

func roundTrip(t *testing.T, r *http.Request) answer {
	t.Helper()
	resp, err := client.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // read to the end below
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	a := answer{}
	if bytes.HasPrefix(raw, []byte("{")) {
		require.NoError(t, json.Unmarshal(raw, &a), string(raw))
	}
	a.Status, a.Raw, a.Header = resp.StatusCode, string(raw), resp.Header
	return a
}

// offlineGet calls event.offline.get.
func (c *caller) offlineGet(params obj) (process any, rows []obj) {
	c.t.Helper()
	var result struct {
		Process any   `json:"process_id"`
		Events  []obj `json:"events"`
	}
	a := c.ok("event.offline.get", params)
	require.NoError(c.t, json.Unmarshal(a.Result, &result), a.Raw)
	return result.Process, result.Events
}

// wait waits until all deliveries have been attempted.
func wait(t *testing.T, p *eventtest.Portal) {
	t.Helper()
	require.NoError(t, p.Wait(t.Context()))
}

// change updates a deal in the portal's interface, so that the application does not cause its own
// offline rows.
func change(t *testing.T, p *eventtest.Portal, id int64) {
	t.Helper()
	require.NoError(t, p.Update(eventtest.Deal, id, map[string]any{"TITLE": "changed"}, eventtest.AdminID))
}

func addDeal(t *testing.T, p *eventtest.Portal) int64 {
	t.Helper()
	id, err := p.Add(eventtest.Deal, map[string]any{"TITLE": "deal"}, eventtest.AdminID)
	require.NoError(t, err)
	return id
}

// parse decodes a delivery as the SDK does.
func parse(t *testing.T, body event.Secret) *event.Delivery {
	t.Helper()
	d, err := event.Parse("application/x-www-form-urlencoded", []byte(body))
	require.NoError(t, err)
	return d
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	require.NoError(t, err)
	return n
}

// with returns a copy of parameters in which one is added or replaced.
func with(params obj, name string, value any) obj {
	changed := maps.Clone(params)
	changed[name] = value
	return changed
}

// without returns a copy of parameters without one.
func without(params obj, name string) obj {
	changed := maps.Clone(params)
	delete(changed, name)
	return changed
}

// readSample reads the captured or documented sample of an event of the catalogue.
func readSample(t *testing.T, name string) obj {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "testdata", "events", name+".json")) //nolint:gosec // names of the catalogue
	require.NoError(t, err)
	var sample obj
	require.NoError(t, json.Unmarshal(doc, &sample))
	return sample
}
