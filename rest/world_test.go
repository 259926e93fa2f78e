package rest_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

// world is a portal that behaves, and an application on it.
type world struct {
	*eventtest.Portal
	app   *eventtest.Application
	creds *tokens
}

func newWorld(tb testing.TB, opts ...eventtest.Option) *world {
	tb.Helper()
	p := eventtest.NewPortal(tb, opts...)
	app, err := p.AddApp(eventtest.App{Scope: []string{"crm", "task", "user"}})
	require.NoError(tb, err)
	require.NoError(tb, app.Install(tb.Context()))
	grant, err := app.Grant(eventtest.AdminID)
	require.NoError(tb, err)
	p.ResetRecords()
	return &world{Portal: p, app: app, creds: &tokens{endpoint: p.ClientEndpoint(), token: string(grant.AccessToken)}}
}

// client returns a client with the defaults of the package, but for what opts say.
func (w *world) client(tb testing.TB, opts ...rest.Option) *rest.Client {
	tb.Helper()
	return w.portals(tb, opts...).Portal(w.MemberID())
}

func (w *world) portals(tb testing.TB, opts ...rest.Option) *rest.Portals {
	tb.Helper()
	api, err := rest.NewPortals(w.creds, append([]rest.Option{rest.WithInsecureHTTP()}, opts...)...)
	require.NoError(tb, err)
	return api
}

// renewable lets the next renewal succeed.
func (w *world) renewable(tb testing.TB) {
	tb.Helper()
	grant, err := w.app.Grant(eventtest.AdminID)
	require.NoError(tb, err)
	w.creds.mu.Lock()
	defer w.creds.mu.Unlock()
	w.creds.renewals = append(w.creds.renewals, string(grant.AccessToken))
}

// deals adds n deals, with the titles given by title.
func (w *world) deals(tb testing.TB, n int, title func(int) string) {
	tb.Helper()
	for i := range n {
		_, err := w.Add(eventtest.Deal, map[string]any{"TITLE": title(i + 1)}, eventtest.AdminID)
		require.NoError(tb, err)
	}
	w.ResetRecords()
}

// sent is a request as a fake transport sees it.
type sent struct {
	host, method string
	form         url.Values
}

// transport answers without a network, so that tests can run on fake time.
type transport struct {
	answer func(sent) (status int, body string, err error)

	mu   sync.Mutex
	seen []sent
}

func (tr *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	s := sent{host: r.URL.Host, method: path.Base(r.URL.Path), form: form}
	tr.mu.Lock()
	tr.seen = append(tr.seen, s)
	tr.mu.Unlock()
	status, text, err := tr.answer(s)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
}

func (tr *transport) count() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return len(tr.seen)
}

// newTransport answers each request with the next of answers, and then always with the last.
func newTransport(answers ...string) *transport {
	tr := &transport{}
	n := 0
	tr.answer = func(sent) (int, string, error) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		body := answers[min(n, len(answers)-1)]
		n++
		status := http.StatusOK
		for code, of := range map[string]int{
			"QUERY_LIMIT": 503, "OPERATION_TIME": 429, "<html>503": 503, "<html>429": 429, "<html>502": 502, "CONNECTION_ERROR": 401,
			"INTERNAL": 500,
		} {
			if strings.Contains(body, code) {
				status = of
			}
		}
		return status, body, nil
	}
	return tr
}

const (
	fine    = `{"result":true}`
	limited = `{"error":"QUERY_LIMIT_EXCEEDED","error_description":"Too many requests"}`
	blocked = `{"error":"OPERATION_TIME_LIMIT","error_description":"Method is blocked due to operation time limit."}`
)

// on returns the option that calls through tr.
func on(tr http.RoundTripper) rest.Option {
	return rest.WithHTTPClient(&http.Client{Transport: tr})
}

// hosts is a Credentials whose portals have hosts that are called as their members.
type hosts struct{}

func (hosts) Access(_ context.Context, memberID string) (endpoint, token string, err error) {
	return "https://" + memberID + ".example/rest/", secretToken, nil
}

func (hosts) Renew(context.Context, string, string) (endpoint, token string, err error) {
	return "", "", errRenew
}

func newHosts(tb testing.TB, opts ...rest.Option) *rest.Portals {
	tb.Helper()
	api, err := rest.NewPortals(hosts{}, opts...)
	require.NoError(tb, err)
	return api
}

// counting counts the requests that go to a portal.
type counting struct{ n atomic.Int64 }

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return http.DefaultTransport.RoundTrip(r)
}
