package rest_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
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
	tap   *tap // what newBubble's clients call through
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

// client returns a client with the defaults of the package, except for what opts set.
func (w *world) client(tb testing.TB, opts ...rest.Option) *rest.Client {
	tb.Helper()
	return w.portals(tb, opts...).Portal(w.MemberID())
}

func (w *world) portals(tb testing.TB, opts ...rest.Option) *rest.Clients {
	tb.Helper()
	through := rest.WithInsecureHTTP()
	if w.tap != nil {
		through = on(w.tap)
	}
	api, err := rest.NewClients(w.creds, append([]rest.Option{through}, opts...)...)
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

// newBubble is newWorld on a network in memory, for tests in a synctest bubble. Its address is
// https.
func newBubble(tb testing.TB, opts ...eventtest.Option) *world {
	tb.Helper()
	n := eventtest.NewNetwork()
	w := newWorld(tb, append([]eventtest.Option{eventtest.WithNetwork(n)}, opts...)...)
	w.tap = &tap{next: n}
	return w
}

// sent is a request as it is sent.
type sent struct {
	host, method string
	form         url.Values
}

// commands counts the commands of a batch.
func (s sent) commands() int {
	n := 0
	for key := range s.form {
		if strings.HasPrefix(key, "cmd[") {
			n++
		}
	}
	return n
}

// tap is a transport that keeps what goes through it.
type tap struct {
	next http.RoundTripper

	mu   sync.Mutex
	seen []sent
}

func (tp *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	s := sent{host: r.URL.Host, method: path.Base(r.URL.Path)}
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if s.form, err = url.ParseQuery(string(body)); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	tp.mu.Lock()
	tp.seen = append(tp.seen, s)
	tp.mu.Unlock()
	return tp.next.RoundTrip(r)
}

func (tp *tap) requests() []sent {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return append([]sent(nil), tp.seen...)
}

func (tp *tap) count() int { return len(tp.requests()) }

// transport leads to a portal of eventtest, on a network in memory, for every host. A test says how
// it responds: every response is a fault.
type transport struct {
	tap

	response func(sent) (status int, body string, err error) // err breaks the connection, and is what the client sees
	header   func(sent, http.Header)                         // adds to the headers of an answer; may be nil
	portal   *eventtest.Portal
	network  *eventtest.Network
	last     atomic.Int64 // number of a request
	failures sync.Map     // of connections, by the number of the request
}

const headerNumber = "X-Test-Number"

func newScript(tb testing.TB, response func(sent) (status int, body string, err error)) *transport {
	tb.Helper()
	tr := &transport{response: response, network: eventtest.NewNetwork()}
	tr.portal = eventtest.NewPortal(tb, eventtest.WithNetwork(tr.network))
	tr.portal.Always(eventtest.AnyMethod, eventtest.Answer(tr))
	tr.next = roundTrip(tr.deliver)
	return tr
}

func (tr *transport) deliver(r *http.Request) (*http.Response, error) {
	number := strconv.FormatInt(tr.last.Add(1), 10)
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = "https", tr.portal.Domain(), ""
	r.Header.Set(headerNumber, number)
	response, err := tr.network.RoundTrip(r)
	if failure, ok := tr.failures.LoadAndDelete(number); ok {
		err, _ = failure.(error)
	}
	return response, err
}

// ServeHTTP responds in the portal's place.
func (tr *transport) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		panic(err)
	}
	request := sent{method: path.Base(r.URL.Path), form: form}
	status, text, err := tr.response(request)
	if err != nil {
		tr.failures.Store(r.Header.Get(headerNumber), err)
		panic(http.ErrAbortHandler)
	}
	if tr.header != nil {
		tr.header(request, w.Header())
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// newTransport responds to each request with the next of responses, and then always with the last.
func newTransport(tb testing.TB, responses ...string) *transport {
	tb.Helper()
	var n atomic.Int64
	return newScript(tb, func(sent) (int, string, error) {
		body := responses[min(int(n.Add(1)), len(responses))-1]
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
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

const (
	fine    = `{"result":true}`
	limited = `{"error":"QUERY_LIMIT_EXCEEDED","error_description":"Too many requests"}`
	blocked = `{"error":"OPERATION_TIME_LIMIT","error_description":"Method is blocked due to operation time limit."}`
)

// on returns the option that calls through tr.
func on(tr http.RoundTripper) rest.Option {
	return rest.WithHTTPClient(&http.Client{Transport: tr})
}

// hosts is a Credentials whose portals have hosts with the names of their members.
type hosts struct{}

func (hosts) Access(_ context.Context, memberID string) (endpoint, token string, err error) {
	return "https://" + memberID + ".example/rest/", secretToken, nil
}

func (hosts) Renew(context.Context, string, string) (endpoint, token string, err error) {
	return "", "", errRenew
}

func newHosts(tb testing.TB, opts ...rest.Option) *rest.Clients {
	tb.Helper()
	api, err := rest.NewClients(hosts{}, opts...)
	require.NoError(tb, err)
	return api
}
