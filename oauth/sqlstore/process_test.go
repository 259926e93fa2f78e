package sqlstore_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
)

// Tests of several processes start this test binary again, with a job in the environment.
const (
	processEnv = "SQLSTORE_TEST_PROCESS"
	processes  = 8
	callers    = 50 // in each process
)

// job is the work of one process.
type job struct {
	Place        place  `json:"place"`
	OAuthHost    string `json:"oauth_host"`
	ClientSecret string `json:"client_secret"`
}

// round is the report of a process about one expiry.
type round struct {
	Tokens []string `json:"tokens"` // that its callers ended with, hashed, each once
	Errors []string `json:"errors"`
}

// TestProcess is the test that the processes run.
func TestProcess(t *testing.T) {
	t.Parallel()
	text := os.Getenv(processEnv)
	if text == "" {
		t.Skip("for the tests that start it")
	}
	var j job
	require.NoError(t, json.Unmarshal([]byte(text), &j))
	store := j.Place.store(t) // all at once: the first one creates the tables
	portals := j.portals(t, store)
	report(t, "ready")
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		member, expired, _ := strings.Cut(orders.Text(), " ")
		result := renewAll(t.Context(), portals, member, expired)
		doc, err := json.Marshal(result)
		require.NoError(t, err)
		report(t, string(doc))
	}
	require.NoError(t, portals.Shutdown(t.Context()))
}

// portals makes the Portals of a replica of the application. The store is its refresh lock as well.
func (j job) portals(tb testing.TB, store interface {
	oauth.Store
	oauth.Locker
},
) *oauth.Portals {
	tb.Helper()
	portals, err := oauth.NewPortals(oauth.Config{ClientID: clientID, ClientSecret: event.Secret(j.ClientSecret)}, store,
		oauth.WithHosts(j.OAuthHost), oauth.WithInsecureHTTP(), oauth.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(tb, err)
	return portals
}

// renewAll lets many callers renew an expired token at the same time.
func renewAll(ctx context.Context, portals *oauth.Portals, member, expired string) round {
	var (
		result round
		mu     sync.Mutex
		wg     sync.WaitGroup
		tokens = make(map[string]bool)
		start  = make(chan struct{})
	)
	for range callers {
		wg.Go(func() {
			<-start
			_, token, err := portals.Renew(ctx, member, expired)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				result.Errors = append(result.Errors, err.Error())
				return
			}
			tokens[hashed(token)] = true
		})
	}
	close(start)
	wg.Wait()
	for token := range tokens {
		result.Tokens = append(result.Tokens, token)
	}
	return result
}

func hashed(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// report writes a line to the process that started this one.
func report(t *testing.T, line string) {
	t.Helper()
	_, err := fmt.Fprintln(os.Stdout, line)
	require.NoError(t, err)
}

// process is a process that runs TestProcess.
type process struct {
	in  io.Writer
	out *bufio.Reader
	err *strings.Builder
}

// start starts a process.
func (j job) start(tb testing.TB) *process {
	tb.Helper()
	text, err := json.Marshal(j) //nolint:gosec // a secret of a fake portal
	require.NoError(tb, err)
	self, err := os.Executable()
	require.NoError(tb, err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 3*time.Minute)
	cmd := exec.CommandContext(ctx, self, "-test.run=^TestProcess$", "-test.timeout=3m") //nolint:gosec // this very program
	p := &process{err: &strings.Builder{}}
	cmd.Env = append(os.Environ(), processEnv+"="+string(text))
	cmd.Stderr = p.err
	p.in, err = cmd.StdinPipe()
	require.NoError(tb, err)
	out, err := cmd.StdoutPipe()
	require.NoError(tb, err)
	p.out = bufio.NewReader(out)
	require.NoError(tb, cmd.Start())
	tb.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	return p
}

func (p *process) say(tb testing.TB, line string) {
	tb.Helper()
	_, err := io.WriteString(p.in, line+"\n")
	require.NoError(tb, err)
}

func (p *process) line(tb testing.TB) string {
	tb.Helper()
	line, err := p.out.ReadString('\n')
	require.NoError(tb, err, "the process said %q, and %q", line, p.err)
	return strings.TrimSuffix(line, "\n")
}

// world is a portal with its OAuth server and an installed application.
type world struct {
	*eventtest.Portal

	app *eventtest.Application
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	p := eventtest.NewPortal(tb)
	app, err := p.AddApp(eventtest.App{ClientID: clientID, ClientSecret: "the-secret-of-the-application", Scope: []string{"crm"}})
	require.NoError(tb, err)
	require.NoError(tb, app.Install(tb.Context()))
	return &world{Portal: p, app: app}
}

func (w *world) key() oauth.Key { return oauth.Key{ClientID: clientID, MemberID: w.MemberID()} }

func (w *world) job(p place) job {
	return job{Place: p, OAuthHost: w.OAuthHost(), ClientSecret: string(w.app.ClientSecret())}
}

// install stores tokens as a verified installation does.
func (w *world) install(tb testing.TB, store oauth.Store) oauth.Installation {
	tb.Helper()
	g, err := w.app.Grant(eventtest.AdminID)
	require.NoError(tb, err)
	in := oauth.Installation{
		MemberID: g.MemberID, ClientEndpoint: g.ClientEndpoint, ServerEndpoint: g.ServerEndpoint,
		AccessToken: g.AccessToken, RefreshToken: g.RefreshToken, Expires: g.Expires, UserID: g.UserID, Scope: g.Scope, Status: g.Status,
		ApplicationToken: g.ApplicationToken,
	}
	_, err = store.Swap(tb.Context(), w.key(), "", in)
	require.NoError(tb, err)
	return in
}

// TestProcessesShareOneRefresh has 400 callers in 8 processes whose token expires, and a server
// whose refresh tokens work once. The server gets one refresh for each expiry, and all callers go
// on with its tokens.
func TestProcessesShareOneRefresh(t *testing.T) {
	t.Parallel()
	for _, e := range engines {
		for name, encrypted := range map[string]bool{"plain": false, "encrypted": true} {
			t.Run(e.name+" "+name, func(t *testing.T) {
				t.Parallel()
				p := e.fresh(t)
				p.Encrypted = encrypted
				testOneRefresh(t, p)
			})
		}
	}
}

func testOneRefresh(t *testing.T, p place) {
	t.Helper()
	w := newWorld(t)
	replicas := make([]*process, processes)
	for i := range replicas {
		replicas[i] = w.job(p).start(t)
	}
	for _, r := range replicas {
		require.Equal(t, "ready", r.line(t))
	}
	store := p.store(t)
	before := w.install(t, store)
	for range 3 {
		w.ResetRecords()
		w.ExpireAccessTokens()
		for _, r := range replicas {
			r.say(t, w.MemberID()+" "+string(before.AccessToken))
		}
		var tokens []string
		for _, r := range replicas {
			var result round
			line := r.line(t)
			require.NoError(t, json.Unmarshal([]byte(line), &result), line)
			require.Empty(t, result.Errors)
			tokens = append(tokens, result.Tokens...)
		}
		calls := w.OAuthCalls()
		require.Len(t, calls, 1, "the server is asked once for each expiry")
		require.Equal(t, http.StatusOK, calls[0].Status)

		after, _, err := store.Load(t.Context(), w.key())
		require.NoError(t, err)
		require.NotEqual(t, before.AccessToken, after.AccessToken)
		require.NotEqual(t, before.RefreshToken, after.RefreshToken)
		require.Len(t, tokens, processes, "the callers of each process end with one token")
		for _, token := range tokens {
			require.Equal(t, hashed(string(after.AccessToken)), token)
		}
		before = after
	}

	// The refresh token of the last round works.
	portals := w.job(p).portals(t, store)
	_, _, err := portals.Renew(t.Context(), w.MemberID(), string(before.AccessToken))
	require.NoError(t, err)
	require.NoError(t, portals.Shutdown(t.Context()))
}

// TestProcessesWithoutTheLock shows that the lock only saves requests. Without it, the
// compare-and-swap lets one process win, and no portal is lost.
func TestProcessesWithoutTheLock(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p place) {
		t.Helper()
		w := newWorld(t)
		store := p.store(t)
		before := w.install(t, store)
		w.ResetRecords()
		w.ExpireAccessTokens()
		var (
			wg      sync.WaitGroup
			mu      sync.Mutex
			tokens  = make(map[string]bool)
			replica = w.job(p)
		)
		for range 4 {
			other := replica.Place.store(t)
			portals, err := oauth.NewPortals(oauth.Config{ClientID: clientID, ClientSecret: event.Secret(replica.ClientSecret)}, other,
				oauth.WithHosts(replica.OAuthHost), oauth.WithInsecureHTTP(), oauth.WithLogger(slog.New(slog.DiscardHandler)))
			require.NoError(t, err)
			wg.Go(func() {
				_, token, err := portals.Renew(t.Context(), w.MemberID(), string(before.AccessToken))
				if err != nil && !errors.Is(err, oauth.ErrTemporary) {
					t.Errorf("Renew: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					tokens[token] = true
				}
			})
		}
		wg.Wait()
		after, _, err := store.Load(t.Context(), w.key())
		require.NoError(t, err)
		require.Equal(t, map[string]bool{string(after.AccessToken): true}, tokens)
		won := 0
		for _, call := range w.OAuthCalls() {
			if call.Status == http.StatusOK {
				won++
			}
		}
		require.Equal(t, 1, won)
	})
}
