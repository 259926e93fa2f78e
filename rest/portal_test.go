package rest_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

const member = "a223c6b3710f85df22e9377d6c4f7553"

// secretToken has characters that a form escapes, so that a test also sees the escaped form of it.
const secretToken = "s3cr3t/ACCESS+token=1"

// request is what a portal received of one call.
type request struct {
	path, query, contentType, body string
	header                         http.Header
	form                           url.Values
}

// portal is a portal whose responses a test writes, for those that no portal in order sends. It
// keeps the calls that it received.
type portal struct {
	*eventtest.Portal
	response http.HandlerFunc

	mu   sync.Mutex
	seen []request
}

func newPortal(tb testing.TB, response http.HandlerFunc) *portal {
	tb.Helper()
	p := &portal{response: response}
	p.Portal = eventtest.NewPortal(tb, eventtest.WithFallback(p)) // what goes astray is seen too
	p.Always(eventtest.AnyMethod, eventtest.Answer(p))
	return p
}

// says makes a handler with one fixed response.
func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func (p *portal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	p.mu.Lock()
	p.seen = append(p.seen, request{
		path: r.URL.Path, query: r.URL.RawQuery, contentType: r.Header.Get("Content-Type"),
		body: string(body), header: r.Header, form: form,
	})
	p.mu.Unlock()
	r.Form = form
	p.response(w, r)
}

func (p *portal) requests() []request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]request(nil), p.seen...)
}

// tokens is a Credentials with one token, replaced by the next of renewals.
type tokens struct {
	endpoint string

	mu       sync.Mutex
	token    string
	renewals []string
	refused  []string
	err      error
}

func (t *tokens) Access(ctx context.Context, _ string) (endpoint, token string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return "", "", t.err
	}
	return t.endpoint, t.token, ctx.Err()
}

func (t *tokens) Renew(_ context.Context, _, refused string) (endpoint, token string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused = append(t.refused, refused)
	if len(t.renewals) == 0 {
		return "", "", errRenew
	}
	t.token, t.renewals = t.renewals[0], t.renewals[1:]
	return t.endpoint, t.token, nil
}

const errRenew = rest.ErrorCode("test: no more tokens")

// newClient returns a client that retries nothing unless opts say so.
func newClient(tb testing.TB, c rest.Credentials, opts ...rest.Option) *rest.Client {
	tb.Helper()
	api, err := rest.NewClients(c, append([]rest.Option{rest.WithInsecureHTTP(), rest.WithRetries(0)}, opts...)...)
	require.NoError(tb, err)
	return api.Portal(member)
}

// clientOf returns a client for a portal that always sends one response.
func clientOf(tb testing.TB, response http.HandlerFunc) (*rest.Client, *portal) {
	tb.Helper()
	p := newPortal(tb, response)
	return newClient(tb, &tokens{endpoint: p.ClientEndpoint(), token: secretToken}), p
}
