package oauth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
)

// world is a portal with an installed application, and a store that knows it.
type world struct {
	*eventtest.Portal
	app   *eventtest.Application
	store *oauth.MemoryStore
	key   oauth.Key
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	p := eventtest.NewPortal(tb)
	app, err := p.AddApp(eventtest.App{ClientID: clientID, ClientSecret: "the-secret-of-the-application", Scope: []string{"crm", "task"}})
	require.NoError(tb, err)
	require.NoError(tb, app.Install(tb.Context()))
	return &world{Portal: p, app: app, store: oauth.NewMemoryStore(), key: oauth.Key{ClientID: clientID, MemberID: p.MemberID()}}
}

// portals makes a Portals like a process of the application.
func (w *world) portals(tb testing.TB, store oauth.Store, opts ...oauth.Option) *oauth.Portals {
	tb.Helper()
	p, err := oauth.NewPortals(oauth.Config{ClientID: w.app.ClientID(), ClientSecret: w.app.ClientSecret()}, store,
		append([]oauth.Option{silent(), oauth.WithHosts(w.OAuthHost()), oauth.WithInsecureHTTP()}, opts...)...)
	require.NoError(tb, err)
	return p
}

// installed stores an installation as if it had been verified long ago, and returns it.
func (w *world) installed(tb testing.TB) oauth.Installation {
	tb.Helper()
	in := installationOf(w.grant(tb))
	_, err := w.store.Swap(tb.Context(), w.key, "", in)
	require.NoError(tb, err)
	w.ResetRecords()
	return in
}

func (w *world) grant(tb testing.TB) eventtest.Grant {
	tb.Helper()
	g, err := w.app.Grant(eventtest.AdminID)
	require.NoError(tb, err)
	return g
}

// renewals returns how often the OAuth server was asked for tokens.
func (w *world) renewals() int { return len(w.OAuthCalls()) }

func installationOf(g eventtest.Grant) oauth.Installation {
	return oauth.Installation{
		MemberID: g.MemberID, ClientEndpoint: g.ClientEndpoint, ServerEndpoint: g.ServerEndpoint,
		AccessToken: g.AccessToken, RefreshToken: g.RefreshToken, Expires: g.Expires, UserID: g.UserID, Scope: g.Scope, Status: g.Status,
		ApplicationToken: g.ApplicationToken,
	}
}

func authOf(g eventtest.Grant) event.Auth {
	return event.Auth{
		AccessToken: g.AccessToken, RefreshToken: g.RefreshToken, ApplicationToken: g.ApplicationToken, Expires: g.Expires,
		Scope:  event.ScopeOf(g.Scope...),
		Domain: g.Domain, MemberID: g.MemberID, ServerEndpoint: g.ServerEndpoint, ClientEndpoint: g.ClientEndpoint, Status: g.Status,
		UserID: g.UserID,
	}
}

func load(tb testing.TB, s oauth.Store, memberID string) oauth.Installation {
	tb.Helper()
	in, _, err := s.Load(tb.Context(), oauth.Key{ClientID: clientID, MemberID: memberID})
	require.NoError(tb, err)
	return in
}

func requireEmpty(tb testing.TB, s oauth.Store, memberID string) {
	tb.Helper()
	_, _, err := s.Load(tb.Context(), oauth.Key{ClientID: clientID, MemberID: memberID})
	require.ErrorIs(tb, err, oauth.ErrNotFound)
}

// These are the values of the scripted OAuth server and its tests.
const (
	member   = "a223c6b3710f85df22e9377d6c4f7553"
	clientID = "local.5c8bb1b0891cf2.87252039"
	official = "https://oauth.bitrix.info/rest/"
)

// sent is one request that reached the scripted server.
type sent struct {
	method, url, contentType, authorization string
	form                                    url.Values
}

// script is an OAuth server whose responses a test sets. Every response is a fault of an eventtest
// portal, on a network in memory. So it also runs in a synctest bubble and at the official
// addresses.
type script struct {
	respond    func(r sent) (status int, body string) // status 0 breaks the connection
	identifies bool                                   // respond also gets app.info, which the server otherwise does not have, and does not record
	// portal responds to the portal's own methods, which are not recorded. nil is a portal on which
	// every user is the administrator 1.
	portal func(method string, r sent) (status int, body string)

	mu      sync.Mutex
	network *eventtest.Network
	seen    []sent
}

var errScript = errors.New("script: planted-in-a-transport-error")

// ServeHTTP responds instead of the OAuth server.
func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		panic(err)
	}
	got := sent{r.Method, r.Header.Get(headerURL), r.Header.Get("Content-Type"), r.Header.Get("Authorization"), form}
	respond := s.respond
	switch u, _ := url.Parse(got.url); {
	case strings.HasSuffix(u.Hostname(), ".bitrix24.com"):
		respond = func(r sent) (int, string) { return s.ofPortal(path.Base(u.Path), r) }
	case path.Base(u.Path) == "app.info" && !s.identifies:
		respond = says(404, noMethod)
	default:
		s.mu.Lock()
		s.seen = append(s.seen, got)
		s.mu.Unlock()
	}
	status, text := respond(got)
	if status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if status >= 300 && status < 400 {
		w.Header().Set("Location", text)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// withoutApp is a portal from which the application was removed.
func withoutApp(string, sent) (int, string) {
	return 401, `{"error":"APPLICATION_NOT_FOUND","error_description":"Application not found"}`
}

// ofPortal responds to a method of the portal.
func (s *script) ofPortal(method string, r sent) (status int, body string) {
	if s.portal != nil {
		return s.portal(method, r)
	}
	switch method {
	case "user.admin":
		return 200, `{"result":true}`
	case "profile":
		return 200, `{"result":{"ID":"1","ADMIN":true}}`
	case "app.info":
		return 200, `{"result":{"ID":1,"CODE":"local.1","STATUS":"L","INSTALLED":true}}`
	default:
		return 404, noMethod
	}
}

const noMethod = `{"error":"ERROR_METHOD_NOT_FOUND","error_description":"Method not found!"}`

// headerURL has the whole address of the request, for the script.
const headerURL = "X-Test-URL"

// RoundTrip sends a request to the scripted server, whatever its address. A broken connection fails
// with an error that contains secrets.
func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	network := s.network
	s.mu.Unlock()
	there := r.Clone(r.Context())
	there.Header.Set(headerURL, r.URL.String())
	there.URL.Scheme, there.URL.Host = "https", "oauth.bitrix.info"
	if i := strings.Index(there.URL.Path, "/oauth/token/"); i > 0 { // a server below a path
		there.URL.Path = there.URL.Path[i:]
	}
	if strings.HasSuffix(r.URL.Hostname(), ".bitrix24.com") { // the portal's own methods go there too
		there.URL.Path = "/rest/app.info"
	}
	response, err := network.RoundTrip(there)
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return nil, errScript
	}
	return response, err
}

// client returns an HTTP client that reaches the scripted server.
func (s *script) client(tb testing.TB) *http.Client {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.network == nil {
		s.network = eventtest.NewNetwork()
		p := eventtest.NewPortal(tb, eventtest.WithNetwork(s.network), eventtest.WithMemberID(member))
		p.Always("oauth/token", eventtest.Answer(s))
		p.Always("oauth/app.info", eventtest.Answer(s))
	}
	return &http.Client{Transport: s}
}

func (s *script) requests() []sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]sent(nil), s.seen...)
}

func says(status int, body string) func(sent) (int, string) {
	return func(sent) (int, string) { return status, body }
}

// pair is a response of the token endpoint. changes overrides its members; a nil drops one.
func pair(access, refresh string, changes map[string]any) string {
	response := map[string]any{
		"access_token": access, "refresh_token": refresh, "expires_in": 3600, "scope": "app", "domain": "oauth.bitrix.info",
		"server_endpoint": official, "status": "L", "client_endpoint": "https://example.bitrix24.com/rest/", "member_id": member, "user_id": 1,
	}
	for k, v := range changes {
		if v == nil {
			delete(response, k)
		} else {
			response[k] = v
		}
	}
	doc, err := json.Marshal(response)
	if err != nil {
		panic(err)
	}
	return string(doc)
}

// scripted makes a Portals that talks to a script.
func scripted(tb testing.TB, store oauth.Store, s *script, opts ...oauth.Option) *oauth.Portals {
	tb.Helper()
	p, err := oauth.NewPortals(oauth.Config{ClientID: clientID, ClientSecret: "c1ient-secret"}, store,
		append([]oauth.Option{silent(), oauth.WithHTTPClient(s.client(tb))}, opts...)...)
	require.NoError(tb, err)
	return p
}

// stored returns a store with one installation: access token a1, refresh token r1, application
// token t1.
func stored(tb testing.TB, changes ...func(*oauth.Installation)) *oauth.MemoryStore {
	tb.Helper()
	in := oauth.Installation{
		MemberID: member, ClientEndpoint: "https://example.bitrix24.com/rest/", ServerEndpoint: official, AccessToken: "a1", RefreshToken: "r1",
		Expires: time.Now().Add(time.Hour), UserID: 1, Scope: []string{"crm"}, Status: "L", ApplicationToken: "t1",
	}
	for _, change := range changes {
		change(&in)
	}
	s := oauth.NewMemoryStore()
	_, err := s.Swap(tb.Context(), oauth.Key{ClientID: clientID, MemberID: member}, "", in)
	require.NoError(tb, err)
	return s
}

// claim returns an install event's auth block that matches the response of pair.
func claim() event.Auth {
	return event.Auth{
		AccessToken: "a0", RefreshToken: "r0", ApplicationToken: "t1", Scope: "crm,task", Domain: "example.bitrix24.com", MemberID: member,
		ServerEndpoint: official, ClientEndpoint: "https://example.bitrix24.com/rest/", Status: "L", UserID: 1,
	}
}

// faultyStore is a store whose operations a test can make fail.
type faultyStore struct {
	oauth.Store

	mu    sync.Mutex
	load  func(context.Context) error
	swap  func(context.Context, oauth.Version, oauth.Installation) error // a nil result goes on to the store
	after error                                                          // comes instead of a success, once the store has written
	swaps int
}

var errDisk = errors.New("disk on fire")

func (s *faultyStore) set(change func(*faultyStore)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *faultyStore) Load(ctx context.Context, key oauth.Key) (oauth.Installation, oauth.Version, error) {
	s.mu.Lock()
	hook := s.load
	s.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return oauth.Installation{}, "", err
		}
	}
	return s.Store.Load(ctx, key)
}

func (s *faultyStore) Swap(ctx context.Context, key oauth.Key, old oauth.Version, in oauth.Installation) (oauth.Version, error) {
	s.mu.Lock()
	hook, after := s.swap, s.after
	s.swaps++
	s.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, old, in); err != nil {
			return "", err
		}
	}
	version, err := s.Store.Swap(ctx, key, old, in)
	if err == nil && after != nil {
		return "", after
	}
	return version, err
}

// silent keeps provoked errors out of the output of a test. Later options can set another logger.
func silent() oauth.Option { return oauth.WithLogger(slog.New(slog.DiscardHandler)) }

// logs returns an option that writes every level into the buffer returned.
func logs() (*syncBuffer, oauth.Option) {
	var b syncBuffer
	return &b, oauth.WithLogger(slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})))
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// errOf drops the proof of a verification.
func errOf(_ event.Proof, err error) error { return err }

// built returns a function that takes the result of a constructor of handlers, and wants no error.
func built(tb testing.TB) func(http.Handler, error) http.Handler {
	tb.Helper()
	return func(h http.Handler, err error) http.Handler {
		tb.Helper()
		require.NoError(tb, err)
		return h
	}
}
