package rest_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

// movable is a Credentials that confirms one host.
type movable struct {
	*tokens
	vouches func(endpoint string) bool

	mu    sync.Mutex
	asked []string
}

const errForeign = rest.ErrorCode("test: not that portal's")

func (m *movable) Moved(_ context.Context, memberID, endpoint string) error {
	m.mu.Lock()
	m.asked = append(m.asked, endpoint)
	m.mu.Unlock()
	if memberID != member || !m.vouches(endpoint) {
		return errForeign
	}
	m.tokens.mu.Lock()
	defer m.tokens.mu.Unlock()
	m.endpoint = endpoint
	return nil
}

func TestRenamedPortal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deals(t, 1, func(int) string { return "x" })
	creds := &movable{tokens: w.creds, vouches: func(endpoint string) bool { return endpoint == w.ClientEndpoint() }}
	client := newClient(t, creds)
	require.NoError(t, w.Rename(t.Context()))

	for range 2 {
		got, err := rest.Call[deal](t.Context(), client, "crm.deal.get", map[string]any{"id": 1})
		require.NoError(t, err)
		require.Equal(t, "x", got.Title)
	}
	require.Equal(t, []string{w.ClientEndpoint()}, creds.asked, "the second call knows the way")
	require.Equal(t, 2, w.CallCount("crm.deal.get"))

	// A batch too, and a write: a redirect ran nothing.
	require.NoError(t, w.Rename(t.Context()))
	b := rest.NewBatch()
	added := rest.Add[int](b, "a", "crm.deal.add", map[string]any{"fields": map[string]any{"TITLE": "y"}})
	require.NoError(t, client.Batch(t.Context(), b))
	_, err := added.Result()
	require.NoError(t, err)
	require.Equal(t, 1, w.CallCount("crm.deal.add"))
}

func TestRenamedPortalNotConfirmed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.NoError(t, w.Rename(t.Context()))
	requests := w.Requests().REST
	creds := &movable{tokens: w.creds, vouches: func(string) bool { return false }}

	err := newClient(t, creds).Call(t.Context(), "profile", nil, nil)

	require.ErrorIs(t, err, rest.ErrMoved)
	require.ErrorIs(t, err, errForeign)
	require.Equal(t, requests, w.Requests().REST, "nothing went to the new address")

	err = newClient(t, w.creds).Call(t.Context(), "profile", nil, nil)
	require.ErrorIs(t, err, rest.ErrMoved, "credentials without the method")
	require.Equal(t, requests, w.Requests().REST)
}

// A foreign redirect gets no request at all, even if the credentials confirm everything.
func TestForeignRedirects(t *testing.T) {
	t.Parallel()
	hits := make(chan string, 100)
	trap := newPortal(t, func(w http.ResponseWriter, r *http.Request) {
		hits <- r.URL.Path
		says(200, `{"result":1}`)(w, r)
	})
	host := strings.TrimPrefix(trap.URL(), "http://")
	locations := map[string]string{
		"none":            "",
		"relative":        "/rest/profile",
		"other path":      "http://" + host + "/steal/profile",
		"other method":    "http://" + host + "/rest/user.admin",
		"deeper":          "http://" + host + "/x/rest/profile",
		"format":          "http://" + host + "/rest/profile.json",
		"query":           "http://" + host + "/rest/profile?to=x",
		"empty query":     "http://" + host + "/rest/profile?",
		"fragment":        "http://" + host + "/rest/profile#x",
		"userinfo":        "http://user:pw@" + host + "/rest/profile",
		"user":            "http://user@" + host + "/rest/profile",
		"scheme":          "ftp://" + host + "/rest/profile",
		"script":          "javascript:alert(1)",
		"no host":         "http:///rest/profile",
		"without scheme":  host + "/rest/profile",
		"escaped slash":   "http://" + host + "/rest%2Fprofile",
		"dots":            "http://" + host + "/rest/../rest/profile",
		"control":         "http://" + host + "/rest/pro\x7ffile",
		"scheme-relative": "//" + host + "/rest/profile",
	}
	for name, location := range locations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPortal(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Location"] = []string{location}
				w.WriteHeader(http.StatusFound)
			})
			creds := &movable{
				tokens:  &tokens{endpoint: p.ClientEndpoint(), token: secretToken},
				vouches: func(string) bool { return true },
			}
			err := newClient(t, creds).Call(t.Context(), "profile", nil, nil)
			require.Error(t, err)
			require.Empty(t, creds.asked)
			requireNoSecrets(t, err)
			require.NotContains(t, err.Error(), host)
		})
	}
	t.Cleanup(func() { require.Empty(t, hits) })
}

func TestRedirectsAreFollowedOnce(t *testing.T) {
	t.Parallel()
	var one, two *portal
	bounce := func(to **portal) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, (*to).URL()+r.URL.Path, http.StatusTemporaryRedirect) //nolint:gosec // what a test is about
		}
	}
	one, two = newPortal(t, bounce(&two)), newPortal(t, bounce(&one))
	creds := &movable{tokens: &tokens{endpoint: one.ClientEndpoint(), token: secretToken}, vouches: func(string) bool { return true }}

	err := newClient(t, creds, rest.WithRetries(4)).Call(t.Context(), "profile", nil, nil)

	require.ErrorIs(t, err, rest.ErrMoved)
	require.Len(t, one.requests(), 1)
	require.Len(t, two.requests(), 1)
}

// A redirect from https to http would send the token in the clear, whatever the options allow.
func TestRedirectsKeepTLS(t *testing.T) {
	t.Parallel()
	w := newBubble(t)
	w.Always(eventtest.AnyMethod, eventtest.Answer(http.RedirectHandler("http://new.example/rest/profile", http.StatusFound)))
	creds := &movable{tokens: w.creds, vouches: func(string) bool { return true }}

	require.ErrorIs(t, newClient(t, creds, on(w.tap)).Call(t.Context(), "profile", nil, nil), rest.ErrMoved)
	require.Equal(t, 1, w.tap.count())
	require.Equal(t, w.Domain(), w.tap.requests()[0].host)
	require.Empty(t, creds.asked)
}

// The token is expired at the new address: both ways out of a refusal are taken, each once.
func TestRenamedAndExpired(t *testing.T) {
	t.Parallel()
	fresh := newPortal(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Form.Get("auth") != "second" {
			says(401, `{"error":"expired_token"}`)(w, r)
			return
		}
		says(200, `{"result":1}`)(w, r)
	})
	old := newPortal(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, fresh.URL()+r.URL.Path, http.StatusFound) //nolint:gosec // what a test is about
	})
	creds := &movable{
		tokens:  &tokens{endpoint: old.ClientEndpoint(), token: "first", renewals: []string{"second"}},
		vouches: func(endpoint string) bool { return endpoint == fresh.ClientEndpoint() },
	}
	require.NoError(t, newClient(t, creds).Call(t.Context(), "profile", nil, nil))
	require.Len(t, old.requests(), 1)
	require.Len(t, fresh.requests(), 2)
}

func TestMovedEndsWithTheContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.NoError(t, w.Rename(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	creds := &movable{tokens: w.creds, vouches: func(string) bool { cancel(); return false }}
	err := newClient(t, creds).Call(ctx, "profile", nil, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, errForeign)
}

// secretiveError is an error that shows under %#v what its text does not.
type secretiveError struct{ Token string }

func (secretiveError) Error() string { return "test: refused" }

type secretive struct{ *tokens }

func (secretive) Moved(context.Context, string, string) error { return secretiveError{secretToken} }

func (s secretive) Access(ctx context.Context, memberID string) (endpoint, token string, err error) {
	if memberID != member {
		return "", "", secretiveError{secretToken}
	}
	return s.tokens.Access(ctx, memberID)
}

func TestErrorsOfCredentialsStayHidden(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.NoError(t, w.Rename(t.Context()))
	api, err := rest.NewClients(secretive{&tokens{endpoint: w.creds.endpoint, token: secretToken}}, rest.WithInsecureHTTP())
	require.NoError(t, err)
	for _, err := range []error{
		api.Portal(member).Call(t.Context(), "profile", nil, nil),
		api.Portal("other").Call(t.Context(), "profile", nil, nil),
		api.Coalescer("other").Call(t.Context(), "profile", nil, nil),
	} {
		var found secretiveError
		require.ErrorAs(t, err, &found)
		requireNoSecrets(t, err)
	}
}

func TestNothingPrintsASecret(t *testing.T) {
	t.Parallel()
	limiter, err := rest.NewLimiter(0.001, 1)
	require.NoError(t, err)
	api := newHosts(t, on(newTransport(t, `{"result":{"result":{"a":{"ID":"1"}}}}`)), rest.WithLimiter(limiter))
	b := rest.NewBatch()
	command := rest.Add[deal](b, "a", "crm.deal.get", map[string]any{"x": secretToken})
	require.NoError(t, api.Portal("a").Batch(t.Context(), b))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	outOfTime := api.Portal("a").Call(ctx, "profile", map[string]any{"x": secretToken}, nil)
	require.ErrorIs(t, outOfTime, rest.ErrQueryLimit)
	_, failed := command.Result()
	response, err := command.Response()
	for _, v := range []any{
		api, api.Portal("a"), api.Coalescer("a"), b, command, limiter, outOfTime, failed, err, response, rest.Time{}, *responseOf(t),
	} {
		requireNoSecrets(t, v)
	}
}

func responseOf(t *testing.T) *rest.Response {
	t.Helper()
	response, err := newHosts(t, on(newTransport(t, fine))).Portal("a").Do(t.Context(), "profile", map[string]any{"x": secretToken})
	require.NoError(t, err)
	return response
}
