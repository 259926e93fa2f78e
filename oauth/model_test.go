package oauth_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
)

var modelSeeds = flag.Int("oauth.model.seeds", 60, "how many random schedules TestModel plays")

// TestModel plays random schedules of renewals, installations, removals and restarts of two processes that share
// one store, with an OAuth server that takes each refresh token once, and with a store that is slow, fails
// before or after it has written, and hangs. It checks that
//
//   - every call returns, and nothing is unsaved after a Shutdown that returned nil;
//   - a process never sends a refresh token again that the OAuth server has accepted from it;
//   - a portal that was forgotten last does not come back;
//   - otherwise what the store holds in the end works, if anything was ever stored.
//
// Mutants that it catches with some thousand schedules: an unsaved pair that is not written over the record whose
// token it has spent; an installation that waited to be written and replaces its own renewed successor.
// TestUnsavedPairs and TestForget have the others.
func TestModel(t *testing.T) {
	t.Parallel()
	for seed := range *modelSeeds {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				newModel(t, uint64(seed)).play() //nolint:gosec // a small number
			})
		})
	}
}

type model struct {
	t      *testing.T
	random *rand.Rand
	inner  *oauth.MemoryStore
	script *script
	rarely int           // one step in so many is an installation
	pause  time.Duration // at most, between the steps of one caller

	mu       sync.Mutex
	healthy  bool                       // the store does not fail any more
	pairs    int                        // given out so far
	valid    map[string]bool            // refresh tokens that work
	accepted map[string]map[string]bool // by process: what the OAuth server has accepted from it
	installs int                        // under way, or that may come to be stored later
	maybe    bool                       // an installation overlapped the last removal, or came after it
	stored   bool                       // something was stored at some time
	doubt    bool                       // a creation was written and seemed to fail: nobody can tell that from one that did
	forgets  int
	trace    []string
}

// note keeps what happened, for a schedule that fails. The caller has the lock.
func (m *model) note(format string, args ...any) {
	m.trace = append(m.trace, time.Now().Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

func newModel(t *testing.T, seed uint64) *model {
	t.Helper()
	m := &model{
		t: t, random: rand.New(rand.NewPCG(seed, 9)), inner: oauth.NewMemoryStore(), //nolint:gosec // repeatable
		valid: make(map[string]bool), accepted: make(map[string]map[string]bool),
	}
	m.rarely, m.pause = 8, 8*time.Second
	if seed%2 == 1 {
		m.rarely = 40
	}
	if seed%3 == 1 {
		m.pause = 40 * time.Second
	}
	m.script = &script{answer: m.answer}
	m.script.client(t)
	return m
}

// chance reports true once in n.
func (m *model) chance(n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.random.IntN(n) == 0
}

func (m *model) between(low, high time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return low + time.Duration(m.random.Int64N(int64(high-low)))
}

// answer is the OAuth server: a refresh token works once.
func (m *model) answer(r sent) (int, string) {
	pass(m.between(0, 2*time.Second))
	if m.chance(12) {
		return 503, "<html>"
	}
	token, process := r.form.Get("refresh_token"), r.authorization
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.accepted[process] == nil {
		m.accepted[process] = make(map[string]bool)
	}
	if m.accepted[process][token] {
		m.t.Errorf("process %s sends %s again, which was accepted", process, token)
	}
	if !m.valid[token] {
		m.note("%s is refused %s", process, token)
		return 400, `{"error":"invalid_grant"}`
	}
	delete(m.valid, token)
	m.accepted[process][token] = true
	access, refresh := m.pair()
	m.note("%s trades %s for %s", process, token, refresh)
	return 200, pair(access, refresh, nil)
}

// pair makes a new pair. The caller has the lock.
func (m *model) pair() (access, refresh string) {
	m.pairs++
	n := strconv.Itoa(m.pairs)
	m.valid["r"+n] = true
	return "a" + n, "r" + n
}

// process is one replica of the application. Its requests tell which one it is.
type modelProcess struct {
	model *model
	name  string

	mu      sync.Mutex
	portals *oauth.Portals
	life    int
}

func (p *modelProcess) current() *oauth.Portals {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.portals
}

type named struct {
	name string
	next http.RoundTripper
}

func (n named) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", n.name)
	return n.next.RoundTrip(r)
}

func (p *modelProcess) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.life++
	client := &http.Client{Transport: named{p.name + strconv.Itoa(p.life), p.model.script}}
	portals, err := oauth.NewPortals(oauth.Config{ClientID: clientID, ClientSecret: "c1ient-secret"},
		modelStore{p.model}, oauth.WithHTTPClient(client))
	require.NoError(p.model.t, err)
	p.portals = portals
}

// modelStore is the store as the processes see it.
type modelStore struct{ m *model }

// trouble makes an operation slow, and tells whether it fails: before, or after its effect.
func (s modelStore) trouble(ctx context.Context) (before, after error) {
	if s.m.chance(3) {
		pass(s.m.between(0, time.Second))
	}
	s.m.mu.Lock()
	healthy := s.m.healthy
	s.m.mu.Unlock()
	switch {
	case healthy:
		return nil, nil
	case s.m.chance(8):
		return errDisk, nil
	case s.m.chance(4):
		return nil, errDisk
	case s.m.chance(40):
		<-ctx.Done() // it hangs
		return ctx.Err(), nil
	}
	return nil, nil
}

func (s modelStore) Load(ctx context.Context, key oauth.Key) (oauth.Installation, oauth.Version, error) {
	before, after := s.trouble(ctx)
	if err := errors.Join(before, after); err != nil {
		return oauth.Installation{}, "", err
	}
	return s.m.inner.Load(ctx, key)
}

func (s modelStore) Swap(ctx context.Context, key oauth.Key, old oauth.Version, in oauth.Installation) (oauth.Version, error) {
	before, after := s.trouble(ctx)
	if before != nil {
		return "", before
	}
	version, err := s.m.inner.Swap(ctx, key, old, in)
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.doubt = s.m.doubt || (old == "" && err == nil && after != nil)
	s.m.note("swap of version %q to %s: version %q, %v, %v", old, string(in.RefreshToken), version, err, after)
	return version, errors.Join(err, after)
}

func (s modelStore) Delete(ctx context.Context, key oauth.Key, old oauth.Version) error {
	before, after := s.trouble(ctx)
	if before != nil {
		return before
	}
	err := s.m.inner.Delete(ctx, key, old)
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.note("delete of version %q: %v, %v", old, err, after)
	return errors.Join(err, after)
}

func (s modelStore) List(ctx context.Context, after oauth.Key, limit int) ([]oauth.Key, error) {
	return s.m.inner.List(ctx, after, limit)
}

func (m *model) play() {
	processes := []*modelProcess{{model: m, name: "A"}, {model: m, name: "B"}}
	for _, p := range processes {
		p.start()
	}
	m.install(processes[0])
	var all sync.WaitGroup
	for _, p := range processes {
		for range 3 {
			all.Go(func() {
				for range 12 {
					m.step(p)
					pass(m.between(0, m.pause))
				}
			})
		}
	}
	all.Wait()
	m.mu.Lock()
	m.healthy = true
	m.mu.Unlock()
	pass(5 * time.Minute)
	for _, p := range processes {
		require.NoError(m.t, p.current().Shutdown(m.t.Context()))
	}
	m.judge()
}

// step does something at random.
func (m *model) step(p *modelProcess) {
	switch {
	case m.chance(m.rarely):
		m.install(p)
	case m.chance(18):
		m.forget(p)
	case m.chance(20):
		m.restart(p)
	case m.chance(4):
		portals := p.current()
		_, _ = portals.Installation(m.t.Context(), member)
		_ = portals.AddApplicationToken(m.t.Context(), member, event.Secret("a-token-of-a-bot-"+m.between(0, 3).String()))
	default:
		portals := p.current()
		ctx, cancel := context.WithTimeout(m.t.Context(), m.between(time.Millisecond, 20*time.Second))
		defer cancel()
		if _, token, err := portals.Access(ctx, member); err == nil {
			_, _, _ = portals.Renew(ctx, member, token)
		}
	}
}

// install is an administrator's installation.
func (m *model) install(p *modelProcess) {
	m.mu.Lock()
	access, refresh := m.pair()
	m.installs++
	m.note("%s installs %s", p.name, refresh)
	m.maybe = true
	m.mu.Unlock()
	a := claim()
	a.AccessToken, a.RefreshToken = event.Secret(access), event.Secret(refresh)
	err := errOf(p.current().Verify(m.t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: a}))
	m.mu.Lock()
	defer m.mu.Unlock()
	if !errors.Is(err, oauth.ErrStore) { // which may be kept in memory, and written later
		m.installs--
	}
	m.note("%s has installed %s: %v", p.name, refresh, err)
	m.stored = m.stored || err == nil
}

func (m *model) forget(p *modelProcess) {
	m.mu.Lock()
	m.maybe = m.installs > 0
	m.forgets++
	m.note("%s forgets", p.name)
	m.mu.Unlock()
	if p.current().Forget(m.t.Context(), member) != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.maybe = true // something is left
	}
}

// restart replaces a process: the new one is up before the old one has written everything that it has.
func (m *model) restart(p *modelProcess) {
	old := p.current()
	p.start()
	m.shutdown(old)
}

// shutdown ends a process in order.
func (m *model) shutdown(portals *oauth.Portals) {
	for {
		ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
		err := portals.Shutdown(ctx)
		cancel()
		if err == nil {
			return
		}
		pass(time.Second)
	}
}

// judge looks at what the store holds in the end.
func (m *model) judge() {
	m.mu.Lock()
	defer m.mu.Unlock()
	in, _, err := m.inner.Load(m.t.Context(), oauth.Key{ClientID: clientID, MemberID: member})
	switch {
	case err == nil && !m.maybe:
		m.t.Error("a forgotten portal came back")
	case err == nil && !m.valid[string(in.RefreshToken)] && (!m.doubt || m.forgets == 0):
		m.t.Errorf("the stored refresh token %s does not work; these do: %v", string(in.RefreshToken), m.valid)
	case err != nil:
		require.ErrorIs(m.t, err, oauth.ErrNotFound)
	}
	if m.t.Failed() {
		m.t.Logf("stored %s\n%s", string(in.RefreshToken), strings.Join(m.trace, "\n"))
	}
}
