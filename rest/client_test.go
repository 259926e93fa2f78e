package rest_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

// The client is what package event calls with, and its error is what package event looks into.
var (
	_ event.Caller    = (*rest.Client)(nil)
	_ event.CallError = (*rest.Error)(nil)
)

func TestCallOnTheWire(t *testing.T) {
	t.Parallel()
	client, portal := clientOf(t, says(200, `{"result":{"ID":"42"}}`))

	var deal struct{ ID string }
	err := client.Call(t.Context(), "crm.deal.get", map[string]any{"id": 42, "z": "last"}, &deal)

	require.NoError(t, err)
	require.Equal(t, "42", deal.ID)
	seen := portal.requests()
	require.Len(t, seen, 1)
	require.Equal(t, "/rest/crm.deal.get", seen[0].path)
	require.Empty(t, seen[0].query)
	require.Equal(t, "application/x-www-form-urlencoded", seen[0].contentType)
	require.Equal(t, "id=42&z=last&auth=s3cr3t%2FACCESS%2Btoken%3D1", seen[0].body)
	require.Empty(t, seen[0].header.Get("Authorization"))
}

func TestGenericCall(t *testing.T) {
	t.Parallel()
	client, _ := clientOf(t, says(200, `{"result":["ONCRMDEALADD","ONCRMDEALUPDATE"]}`))

	names, err := rest.Call[[]string](t.Context(), client, "events", nil)

	require.NoError(t, err)
	require.Equal(t, []string{"ONCRMDEALADD", "ONCRMDEALUPDATE"}, names)
}

func TestDoReadsTheEnvelope(t *testing.T) {
	t.Parallel()
	pointer := func(n int) *int { return &n }
	tests := map[string]struct {
		body string
		want rest.Response
	}{
		"floats": {
			`{"result":[],"total":120,"next":50,"time":{"start":1723.5,"finish":1724.25,"duration":0.75,"processing":0.02,
				"operating":0.12,"operating_reset_at":1723000000}}`,
			rest.Response{Result: json.RawMessage(`[]`), Total: pointer(120), Next: pointer(50), Time: rest.Time{
				Start: 1723.5, Finish: 1724.25, Duration: 0.75, Processing: 0.02, Operating: 0.12,
				OperatingResetAt: time.Unix(1723000000, 0).UTC(),
			}},
		},
		"integers and no load limiter": {
			`{"result":true,"time":{"start":1723,"finish":1724,"duration":1,"processing":0}}`,
			rest.Response{Result: json.RawMessage(`true`), Time: rest.Time{Start: 1723, Finish: 1724, Duration: 1}},
		},
		"numbers in quotes": {
			`{"result":1,"total":"7","next":"50","time":{"operating":"0.5"}}`,
			rest.Response{Result: json.RawMessage(`1`), Total: pointer(7), Next: pointer(50), Time: rest.Time{Operating: 0.5}},
		},
		"an empty array for the time": {`{"result":1,"time":[]}`, rest.Response{Result: json.RawMessage(`1`)}},
		"null result":                 {`{"result":null}`, rest.Response{Result: json.RawMessage(`null`)}},
		"empty error beside a result": {`{"result":1,"error":""}`, rest.Response{Result: json.RawMessage(`1`)}},
		"null error beside a result":  {`{"result":1,"error":null}`, rest.Response{Result: json.RawMessage(`1`)}},
		"byte-order mark":             {"\xef\xbb\xbf" + `{"result":1}`, rest.Response{Result: json.RawMessage(`1`)}},
		"members that are not numbers": {
			`{"result":1,"total":{"a":1},"next":"x","time":{"start":"x"}}`, rest.Response{Result: json.RawMessage(`1`)},
		},
		"numbers beyond what can be":     {`{"result":1,"total":1e300,"next":-1e300}`, rest.Response{Result: json.RawMessage(`1`)}},
		"a reset in a poisonous year":    {`{"result":1,"time":{"operating_reset_at":1e18}}`, rest.Response{Result: json.RawMessage(`1`)}},
		"members that nobody heard of":   {`{"x":[1],"result":1,"y":{}}`, rest.Response{Result: json.RawMessage(`1`)}},
		"white space around an envelope": {" \n{\"result\":1}\n", rest.Response{Result: json.RawMessage(`1`)}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := clientOf(t, says(200, test.body))

			got, err := client.Do(t.Context(), "crm.deal.list", nil)

			require.NoError(t, err)
			require.Equal(t, &test.want, got)
		})
	}
}

func TestResults(t *testing.T) {
	t.Parallel()
	type object struct{ ID int }
	tests := map[string]struct {
		body   string
		result any
		want   any
		code   error
	}{
		"dropped":                       {body: `{"result":{"ID":1}}`},
		"object":                        {body: `{"result":{"ID":1}}`, result: &object{}, want: &object{ID: 1}},
		"empty array for a struct":      {body: `{"result":[]}`, result: &object{}, want: &object{}},
		"empty array leaves as it was":  {body: `{"result":[ ]}`, result: &object{ID: 5}, want: &object{ID: 5}},
		"empty array for a map":         {body: `{"result":[]}`, result: &map[string]int{}, want: &map[string]int{}},
		"empty array for a pointer":     {body: `{"result":[]}`, result: new(*object), want: new(*object)},
		"empty array for a slice":       {body: `{"result":[]}`, result: &[]int{1}, want: &[]int{}},
		"full array for a struct":       {body: `{"result":[1]}`, result: &object{}, code: rest.ErrBadResult},
		"text for a number":             {body: `{"result":{"ID":"planted-value"}}`, result: &object{}, code: rest.ErrBadResult},
		"not a pointer":                 {body: `{"result":1}`, result: object{}, code: rest.ErrBadCall},
		"nil pointer":                   {body: `{"result":1}`, result: (*object)(nil), code: rest.ErrBadCall},
		"own unmarshaler sees an array": {body: `{"result":[]}`, result: new(ownUnmarshaler), want: &ownUnmarshaler{saw: "[]"}},
		"raw":                           {body: `{"result":{"a":[]}}`, result: new(json.RawMessage), want: rawMessage(`{"a":[]}`)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := clientOf(t, says(200, test.body))

			err := client.Call(t.Context(), "crm.deal.get", nil, test.result)

			if test.code != nil {
				require.ErrorIs(t, err, test.code)
				require.NotContains(t, err.Error(), "planted-value")
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, test.result)
		})
	}
}

func rawMessage(s string) *json.RawMessage { r := json.RawMessage(s); return &r }

type ownUnmarshaler struct{ saw string }

func (o *ownUnmarshaler) UnmarshalJSON(b []byte) error { o.saw = string(b); return nil }

func TestExpiredTokenIsRenewedOnce(t *testing.T) {
	t.Parallel()
	expired := func(w http.ResponseWriter) {
		says(401, `{"error":"expired_token","error_description":"The access token provided has expired"}`)(w, nil)
	}
	tests := map[string]struct {
		accepts  string // the only token that the portal takes
		renewals []string
		want     error
		calls    int
	}{
		"renewed":               {accepts: "second", renewals: []string{"second"}, calls: 2},
		"refused twice":         {accepts: "third", renewals: []string{"second", "third"}, want: rest.ErrExpiredToken, calls: 2},
		"renewal fails":         {accepts: "second", want: errRenew, calls: 1},
		"nothing to be renewed": {accepts: "first", calls: 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPortal(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Form.Get("auth") != test.accepts {
					expired(w)
					return
				}
				says(200, `{"result":true}`)(w, r)
			})
			creds := &tokens{endpoint: p.ClientEndpoint(), token: "first", renewals: test.renewals}

			ok, err := rest.Call[bool](t.Context(), newClient(t, creds), "server.time", map[string]any{"a": 1})

			require.ErrorIs(t, err, test.want)
			require.Equal(t, test.want == nil, ok)
			seen := p.requests()
			require.Len(t, seen, test.calls)
			for _, r := range seen {
				require.Equal(t, "1", r.form.Get("a"))
			}
			if test.calls == 2 {
				require.Equal(t, []string{"first"}, creds.refused)
			}
		})
	}
}

func TestOtherRefusalsAreNotRenewed(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"invalid_token", "NO_AUTH_FOUND", "QUERY_LIMIT_EXCEEDED", "ERROR_CORE", "authorization_error"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			p := newPortal(t, says(401, `{"error":"`+code+`"}`))
			creds := &tokens{endpoint: p.ClientEndpoint(), token: "first", renewals: []string{"second"}}

			err := newClient(t, creds).Call(t.Context(), "profile", nil, nil)

			require.ErrorIs(t, err, rest.ErrorCode(code))
			require.Len(t, p.requests(), 1)
			require.Empty(t, creds.refused)
		})
	}
}

// lasting is an error of credentials that do not recover.
type lasting struct{ error }

func (lasting) Permanent() bool { return true }

// asked is credentials that count how often they are asked.
type asked struct {
	rest.Credentials

	times atomic.Int64
}

func (a *asked) Access(ctx context.Context, memberID string) (endpoint, token string, err error) {
	a.times.Add(1)
	return a.Credentials.Access(ctx, memberID)
}

// TestCredentialsFail: nothing is sent, so the call did not run. It may succeed later unless the
// credentials say otherwise. They are not asked again, because package oauth retries by itself if
// that helps.
func TestCredentialsFail(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err       error
		retryable bool
	}{
		"for now":   {errRenew, true},
		"permanent": {lasting{errRenew}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPortal(t, says(200, `{"result":1}`))
			creds := &asked{Credentials: &tokens{endpoint: p.URL(), err: test.err}}

			err := newClient(t, creds, rest.WithRetries(1)).Call(t.Context(), "crm.deal.add", nil, nil)

			require.ErrorIs(t, err, test.err)
			require.EqualValues(t, 1, creds.times.Load())
			require.Empty(t, p.requests())
			require.True(t, notRun(err))
			_, ok := rest.Retryable(err)
			require.Equal(t, test.retryable, ok)
		})
	}
}

func TestRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	p := newPortal(t, says(200, `{"result":1}`))
	host := strings.TrimPrefix(p.URL(), "http://")
	methods := []string{
		"", ".", "..", "a..b", ".a", "a.", "crm/deal", "crm.deal?x=1", "crm.deal#x", "a b", "a\n", "a%2e", "план", strings.Repeat("a", 129),
	}
	for _, method := range methods {
		t.Run("method "+method, func(t *testing.T) {
			t.Parallel()
			err := newClient(t, &tokens{endpoint: p.ClientEndpoint(), token: "t"}).Call(t.Context(), method, nil, nil)
			require.ErrorIs(t, err, rest.ErrBadCall)
		})
	}
	endpoints := map[string]string{
		"empty": "", "no scheme": host + "/rest/", "other scheme": "ftp://" + host + "/rest/", "userinfo": "http://user:pw@" + host + "/rest/",
		"query": p.URL() + "/rest/?a=b", "bare question mark": p.URL() + "/rest/?", "fragment": p.URL() + "/rest/#x", "no host": "http:///rest/",
		"junk": "http://[::1",
	}
	for name, endpoint := range endpoints {
		t.Run("endpoint "+name, func(t *testing.T) {
			t.Parallel()
			err := newClient(t, &tokens{endpoint: endpoint, token: "t"}).Call(t.Context(), "profile", nil, nil)
			require.ErrorIs(t, err, rest.ErrBadEndpoint)
		})
	}
	t.Run("http without leave", func(t *testing.T) {
		t.Parallel()
		api, err := rest.NewClients(&tokens{endpoint: p.ClientEndpoint(), token: "t"})
		require.NoError(t, err)
		require.ErrorIs(t, api.Portal(member).Call(t.Context(), "profile", nil, nil), rest.ErrBadEndpoint)
	})
	t.Run("no token", func(t *testing.T) {
		t.Parallel()
		err := newClient(t, &tokens{endpoint: p.ClientEndpoint()}).Call(t.Context(), "profile", nil, nil)
		require.ErrorIs(t, err, rest.ErrBadCall)
	})
	t.Cleanup(func() { require.Empty(t, p.requests()) })
}

func TestEndpointNeedsNoSlash(t *testing.T) {
	t.Parallel()
	p := newPortal(t, says(200, `{"result":1}`))

	err := newClient(t, &tokens{endpoint: p.URL() + "/rest", token: "t"}).Call(t.Context(), "Event.Bind", nil, nil)

	require.NoError(t, err)
	require.Equal(t, "/rest/Event.Bind", p.requests()[0].path)
}

// TestHTTPSPortal has a server of its own to end TLS in front of the portal, which speaks plain
// HTTP.
func TestHTTPSPortal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	behind, err := url.Parse(w.URL())
	require.NoError(t, err)
	front := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(behind))
	t.Cleanup(front.Close)
	w.creds.endpoint = front.URL + "/rest/"

	api, err := rest.NewClients(w.creds, rest.WithHTTPClient(front.Client()))
	require.NoError(t, err)
	require.NoError(t, api.Portal(member).Call(t.Context(), "profile", nil, nil))

	// Without the server's certificate among the trusted ones.
	api, err = rest.NewClients(&tokens{endpoint: front.URL + "/rest/", token: secretToken})
	require.NoError(t, err)
	err = api.Portal(member).Call(t.Context(), "profile", nil, nil)
	var refused *tls.CertificateVerificationError
	require.ErrorAs(t, err, &refused)
	requireNoSecrets(t, err)
	require.Equal(t, 1, w.CallCount("profile"))
}

func TestContextEndsACall(t *testing.T) {
	t.Parallel()
	// hang returns a client whose portal does not respond, and a channel that receives when a call
	// has arrived.
	hang := func(t *testing.T) (client *rest.Client, arrived chan struct{}) {
		t.Helper()
		arrived = make(chan struct{}, 1)
		leave := make(chan struct{})
		client, _ = clientOf(t, func(http.ResponseWriter, *http.Request) {
			arrived <- struct{}{}
			<-leave
		})
		t.Cleanup(func() { close(leave) })
		return client, arrived
	}
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		client, arrived := hang(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			<-arrived
			cancel(errRenew)
		}()
		err := client.Call(ctx, "profile", nil, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, errRenew)
		requireNoSecrets(t, err)
	})
	t.Run("deadline", func(t *testing.T) {
		t.Parallel()
		client, _ := hang(t)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		err := client.Call(ctx, "profile", nil, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		requireNoSecrets(t, err)
	})
}

func TestTimeLimitOfTheHTTPClient(t *testing.T) {
	t.Parallel()
	leave := make(chan struct{})
	p := newPortal(t, func(http.ResponseWriter, *http.Request) { <-leave })
	t.Cleanup(func() { close(leave) })
	creds := &tokens{endpoint: p.ClientEndpoint(), token: secretToken}

	err := newClient(t, creds, rest.WithHTTPClient(&http.Client{Timeout: 20 * time.Millisecond})).Call(t.Context(), "profile", nil, nil)

	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, t.Context().Err())
	requireNoSecrets(t, err)
}

// TestResponseThatDrips: the time limit covers the body of a response, too.
func TestResponseThatDrips(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t)
		w.Always(eventtest.AnyMethod, eventtest.Answer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(rw, " ")
				_ = http.NewResponseController(rw).Flush()
				pauseFor(20 * time.Millisecond)
			}
		})))
		api, err := rest.NewClients(w.creds, rest.WithHTTPClient(&http.Client{Transport: w.tap, Timeout: time.Second}), rest.WithRetries(0))
		require.NoError(t, err)
		start := time.Now()

		err = api.Portal(w.MemberID()).Call(t.Context(), "crm.deal.get", nil, nil)

		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestConnectionErrors(t *testing.T) {
	t.Parallel()
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		p := newPortal(t, says(200, ""))
		require.NoError(t, p.Close())
		err := newClient(t, &tokens{endpoint: p.ClientEndpoint(), token: secretToken}).Call(t.Context(), "profile", nil, nil)
		var op *net.OpError
		require.ErrorAs(t, err, &op)
		require.Equal(t, "dial", op.Op)
		require.NotErrorIs(t, err, rest.ErrOAuthUnreachable, "that is the portal's, of the OAuth server")
		requireNoSecrets(t, err)
		require.NotContains(t, err.Error(), "/rest/")
	})
	raw := map[string]string{
		"closed at once":  "",
		"not HTTP at all": "planted-secret-line\r\n\r\n",
		"odd header":      "HTTP/1.1 200 OK\r\nplanted-secret-line\r\n\r\n",
		"body cut off":    "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"result\":1",
	}
	for name, response := range raw {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err == nil {
					_, _ = io.WriteString(conn, response)
					_ = conn.Close()
				}
			})
			err := client.Call(t.Context(), "profile", nil, nil)
			require.Error(t, err)
			requireNoSecrets(t, err)
			require.NotContains(t, fmt.Sprintf("%v %+v", err, errors.Unwrap(err)), "planted-secret-line")
		})
	}
}

// TestConnectionsThatAreNeverMade: the call did not run. It may be retried if the reason is
// temporary, although its method writes.
func TestConnectionsThatAreNeverMade(t *testing.T) {
	t.Parallel()
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // connections wait there for ever
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	demanding := httptest.NewServer(says(http.StatusProxyAuthRequired, ""))
	t.Cleanup(demanding.Close)
	proxy, err := url.Parse(demanding.URL)
	require.NoError(t, err)
	tests := map[string]struct {
		transport *http.Transport
		text      string
		retryable bool
	}{
		"TLS handshake": {&http.Transport{TLSHandshakeTimeout: 20 * time.Millisecond}, "no connection was made within the time limit", true},
		"proxy":         {&http.Transport{Proxy: http.ProxyURL(proxy)}, "the proxy demands credentials (status 407)", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			creds := &tokens{endpoint: "https://" + silent.Addr().String() + "/rest/", token: secretToken}
			client := newClient(t, creds, rest.WithHTTPClient(&http.Client{Transport: test.transport}))

			err := client.Call(t.Context(), "crm.deal.add", nil, nil)

			require.ErrorContains(t, err, test.text)
			requireNoSecrets(t, err)
			_, ok := rest.Retryable(err)
			require.Equal(t, test.retryable, ok)
			require.Zero(t, client.Stats().Requests)
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	target := newPortal(t, says(200, `{"result":"stolen"}`))
	for _, status := range []int{301, 302, 307, 308} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			client, _ := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, target.URL()+"/rest/profile", status)
			})
			err := client.Call(t.Context(), "profile", nil, nil)
			require.ErrorIs(t, err, rest.ErrMoved)
			var e *rest.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, status, e.Status)
		})
	}
	t.Cleanup(func() { require.Empty(t, target.requests()) })
}

func TestResponseLimit(t *testing.T) {
	t.Parallel()
	client, _ := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"result":"`)
		chunk := strings.Repeat("x", 1<<20)
		for range rest.MaxResponseBytes/len(chunk) + 1 {
			if _, err := io.WriteString(w, chunk); err != nil {
				return
			}
		}
		_, _ = io.WriteString(w, `"}`)
	})

	err := client.Call(t.Context(), "profile", nil, nil)

	require.ErrorIs(t, err, rest.ErrTooLarge)
}

// endless is a body without an end that counts how much of it was read.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return len(p), nil
}

// TestErrorPagesAreReadInPart: no more than a megabyte of an error page is read. The status is
// enough.
func TestErrorPagesAreReadInPart(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 401, 429, 502, 503} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			var body endless
			client := newHosts(t, on(roundTrip(func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: status, Body: io.NopCloser(&body), Request: r}, nil
			})), rest.WithRetries(0)).Portal("a")

			err := client.Call(t.Context(), "crm.deal.get", nil, nil)

			require.ErrorIs(t, err, rest.ErrBadResponse)
			require.LessOrEqual(t, body.read, 2<<20)
		})
	}
}

func TestNewClientsRefusesNonsense(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		creds rest.Credentials
		opt   rest.Option
	}{
		"no credentials":  {nil, nil},
		"nil pointer":     {(*tokens)(nil), nil},
		"nil HTTP client": {&tokens{}, rest.WithHTTPClient(nil)},
		"nil logger":      {&tokens{}, rest.WithLogger(nil)},
		"nil observer":    {&tokens{}, rest.WithObserver(nil)},
		"nil context":     {&tokens{}, rest.WithContext(nil)},
		"no idle":         {&tokens{}, rest.WithIdleConnections(0, 1)},
		"few idle":        {&tokens{}, rest.WithIdleConnections(2, 1)},
		"idle of theirs":  {credsWithClient{hosts{}, &http.Client{}}, rest.WithIdleConnections(1, 1)},
		"insecure host":   {&tokens{}, rest.WithInsecureHTTP("http://a/")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := rest.NewClients(test.creds, test.opt)
			require.ErrorIs(t, err, rest.ErrConfig)
		})
	}
	_, err := rest.NewClients(&tokens{}, rest.WithIdleConnections(1, 1), rest.WithHTTPClient(&http.Client{}))
	require.ErrorIs(t, err, rest.ErrConfig)
	_, err = rest.NewClients(&tokens{}, nil)
	require.NoError(t, err, "a nil option is skipped")
}

func TestHTTPClientIsCopied(t *testing.T) {
	t.Parallel()
	mine := &http.Client{}
	_, err := rest.NewClients(&tokens{}, rest.WithHTTPClient(mine))
	require.NoError(t, err)
	require.Zero(t, *mine)
}

// other is credentials of another user of the same portals.
type other struct{ hosts }

func (other) Access(_ context.Context, memberID string) (endpoint, token string, err error) {
	return "https://" + memberID + ".example/rest/", "another-token", nil
}

// TestAs: a client for other credentials has the same limits and pauses, and its calls do not join
// those of others.
func TestAs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newScript(t, func(s sent) (int, string, error) {
			if s.method == "crm.item.update" {
				return 429, blocked, nil
			}
			return 200, responsesTo(s), nil
		})
		api := newHosts(t, on(tr), rest.WithRateLimit(1, 1))
		start := time.Now()
		require.NoError(t, api.Portal("a").Call(t.Context(), "profile", nil, nil))
		require.NoError(t, api.Portal("a").As(other{}).Call(t.Context(), "profile", nil, nil))
		require.Equal(t, time.Second, time.Since(start))
		seen := tr.requests()
		require.Equal(t, secretToken, seen[0].form.Get("auth"))
		require.Equal(t, "another-token", seen[1].form.Get("auth"))

		require.Error(t, api.Portal("a").With(rest.Retries(0)).Call(t.Context(), "crm.item.update", nil, nil))
		start = time.Now()
		err := api.As(other{}).Portal("a").With(rest.Timeout(30*time.Second)).Call(t.Context(), "crm.item.update", nil, nil)
		require.ErrorIs(t, err, rest.ErrOperationTimeLimit)
		require.Zero(t, time.Since(start))

		var both sync.WaitGroup
		for _, c := range []*rest.Coalescer{api.Coalescer("a"), api.As(other{}).Coalescer("a")} {
			both.Go(func() {
				if err := c.Call(t.Context(), "crm.deal.add", nil, nil); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		for _, s := range tr.requests() {
			require.NotEqual(t, "batch", s.method)
		}

		err = api.Portal("a").As(nil).Call(t.Context(), "profile", nil, nil)
		require.ErrorContains(t, err, "the credentials given to As are nil")
		_, ok := rest.Retryable(err)
		require.False(t, ok)
	})
}

// credsWithClient is credentials with an HTTP client, such as one with a proxy.
type credsWithClient struct {
	hosts

	client *http.Client
}

func (c credsWithClient) HTTPClient() *http.Client { return c.client }

// TestIdleConnectionsKeepTheProxy: the credentials' client has a proxy. The number of idle
// connections must not make calls bypass it silently.
func TestIdleConnectionsKeepTheProxy(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, fine)
	api, err := rest.NewClients(credsWithClient{client: &http.Client{Transport: tr}}, rest.WithIdleConnections(2, 20), rest.WithRetries(0))
	if err != nil {
		return // said so
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_ = api.Portal("a.invalid").Call(ctx, "profile", nil, nil)
	require.Equal(t, 1, tr.count(), "the call went around the client of the credentials")
}
