package oauth_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
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

// In the model some processes share a store and work on one portal or two at random. Meanwhile the
// store fails, hangs, panics, and writes without reporting it, and the OAuth server fails before it
// does anything. The server accepts each refresh token once, and its responses arrive. Then
// everything works again, the processes shut down, and the store must hold pairs that work. Run
// more of it with
//
//	go test ./oauth -run TestModel -oauth.seeds 5000
//
// These mutants of the package do not survive 500 seeds. Each is one change:
//
//	pendingwrite.go  writeLocked does not keep what the store could not take
//	pendingwrite.go  writeLocked keeps nothing before it writes, so that a store that panics loses the pair
//	pendingwrite.go  rebase replaces the renewal of an installation by that same installation
//	keystate.go      lock does not wait
//	keystate.go      drop leaves the pending write
//	renew.go         storeRenewedLocked knows only the refresh token that was just spent
//	portals.go       Shutdown does not write
var modelSeeds = flag.Int("oauth.seeds", 60, "how many runs of the model TestModel makes")

func TestModel(t *testing.T) {
	t.Parallel()
	for seed := range *modelSeeds {
		for _, processes := range []int{1, 2} {
			t.Run(fmt.Sprintf("%d processes, seed %d", processes, seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { runModel(t, uint64(seed), processes) }) //nolint:gosec // not negative
			})
		}
	}
}

// dice gives random numbers to several goroutines.
type dice struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (d *dice) n(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

// upTo returns a duration that is mostly short.
func (d *dice) upTo(limit time.Duration) time.Duration {
	if d.n(3) > 0 {
		limit /= 50
	}
	return time.Duration(d.n(int(limit/time.Millisecond)+1)) * time.Millisecond
}

// authority is an OAuth server that takes each refresh token once.
type authority struct {
	mu   sync.Mutex
	made int
	live map[string]holder // refresh tokens
}

type holder struct {
	member string
	user   int
}

// issue makes a pair.
func (a *authority) issue(h holder) (access, refresh string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.made++
	n := strconv.Itoa(a.made)
	a.live["r"+n] = h
	return "a" + n, "r" + n
}

// take uses up a refresh token.
func (a *authority) take(refresh string) (holder, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h, ok := a.live[refresh]
	delete(a.live, refresh)
	return h, ok
}

func (a *authority) works(refresh event.Secret) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.live[string(refresh)]
	return ok
}

// model is one run.
type model struct {
	*dice

	t         *testing.T
	inner     *oauth.MemoryStore
	authority *authority
	processes []*replica

	members int  // how many portals there are
	honest  bool // the store writes if it says so, and only then
	forgets bool // portals are forgotten

	mu   sync.Mutex
	calm bool
	done []deed
	bad  []string // what happened and must not
	log  []string
}

// deed is something done to a portal from outside.
type deed struct {
	kind, member string
	process      int
	start, end   time.Time
	err          error
	token        event.Secret // the application token that it brought
}

// replica is one process of the application.
type replica struct {
	*model

	id       int
	portals  *oauth.Portals
	accepted map[string]bool // refresh tokens, guarded by model.mu
	mood     string          // of its way to the store, guarded by model.mu
}

func (m *model) isCalm() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calm
}

// trace records what happened, for the report of a run that fails.
func (p *replica) trace(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, time.Now().Format("04:05.000 ")+strconv.Itoa(p.id)+" "+fmt.Sprintf(format, args...))
}

func (m *model) violated(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bad = append(m.bad, fmt.Sprintf(format, args...))
}

// respond is the token endpoint, for one process.
func (p *replica) respond(r sent) (status int, body string) {
	refresh := r.form.Get("refresh_token")
	p.mu.Lock()
	again := p.accepted[refresh]
	p.mu.Unlock()
	if again {
		p.violated("process %d sends %s again, which was accepted", p.id, refresh)
	}
	if !p.isCalm() {
		pass(p.upTo(5 * time.Second))
		switch p.n(12) {
		case 0:
			return 0, ""
		case 1:
			return 503, "<html>"
		}
	}
	h, ok := p.authority.take(refresh)
	if !ok {
		return 400, `{"error":"invalid_grant"}`
	}
	p.mu.Lock()
	p.accepted[refresh] = true
	p.mu.Unlock()
	access, next := p.authority.issue(h)
	p.trace("trade %s→%s", refresh, next)
	if !p.isCalm() {
		pass(p.upTo(8 * time.Second)) // together within the time limit of the client
	}
	return 200, pair(access, next, map[string]any{"member_id": h.member, "user_id": h.user})
}

// disturb does something to an operation of the store before it runs. after is to be called once it
// has run.
func (p *replica) disturb(ctx context.Context) (after func() error, err error) {
	fine := func() error { return nil }
	p.mu.Lock()
	calm, mood := p.calm, p.mood
	p.mu.Unlock()
	if calm {
		return fine, ctx.Err()
	}
	if mood == "fine" && p.n(10) == 0 {
		mood = []string{"down", "hangs", "lies", "panics", "panics late"}[p.n(5)]
	}
	if p.honest && (mood == "lies" || mood == "panics late") {
		mood = "fine"
	}
	timer := time.NewTimer(p.upTo(2 * time.Second))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return fine, ctx.Err()
	}
	switch mood {
	case "down":
		return fine, errDisk
	case "hangs":
		<-ctx.Done()
		return fine, ctx.Err()
	case "panics":
		panic("model: a store panics")
	case "panics late":
		return func() error { panic("model: a store panics after it has written") }, nil
	case "lies":
		return func() error { return errDisk }, nil
	default:
		return fine, nil
	}
}

func (p *replica) Load(ctx context.Context, key oauth.Key) (oauth.Installation, oauth.Version, error) {
	after, err := p.disturb(ctx)
	if err != nil {
		return oauth.Installation{}, "", err
	}
	in, version, err := p.inner.Load(ctx, key)
	if late := after(); late != nil {
		return oauth.Installation{}, "", late
	}
	return in, version, err
}

func (p *replica) Swap(ctx context.Context, key oauth.Key, old oauth.Version, in oauth.Installation) (oauth.Version, error) {
	after, err := p.disturb(ctx)
	if err != nil {
		return "", err
	}
	version, err := p.inner.Swap(ctx, key, old, in)
	p.trace("swap %s/%d %q→%q %s: %v", key.MemberID[31:], key.UserID, old, version, string(in.RefreshToken), err)
	if late := after(); late != nil {
		return "", late
	}
	return version, err
}

func (p *replica) Delete(ctx context.Context, key oauth.Key, old oauth.Version) error {
	after, err := p.disturb(ctx)
	if err != nil {
		return err
	}
	err = p.inner.Delete(ctx, key, old)
	p.trace("delete %s/%d %q: %v", key.MemberID[31:], key.UserID, old, err)
	if late := after(); late != nil {
		return late
	}
	return err
}

func (p *replica) List(ctx context.Context, after oauth.Key, limit int) ([]oauth.Key, error) {
	late, err := p.disturb(ctx)
	if err != nil {
		return nil, err
	}
	if err := late(); err != nil {
		return nil, err
	}
	return p.inner.List(ctx, after, limit)
}

// moods changes how well a process reaches its store.
func (p *replica) moods() {
	for !p.isCalm() {
		mood := []string{"fine", "fine", "fine", "down", "hangs", "lies"}[p.n(6)]
		p.mu.Lock()
		p.mood = mood
		p.mu.Unlock()
		pass(p.upTo(20*time.Second) + time.Second)
	}
}

const clerk = 7

// act does one thing at random, and records it if it counts in the end.
func (p *replica) act(t *testing.T) {
	t.Helper()
	d := deed{member: p.memberAt(p.n(p.members)), process: p.id, start: time.Now()}
	ctx, cancel := context.WithTimeout(t.Context(), p.upTo(40*time.Second)+time.Second)
	defer cancel()
	defer func() {
		v := recover() // a panic of the store in the caller's own goroutine
		if v != nil {
			d.err = errors.New("panic")
		}
		d.end = time.Now()
		if took := d.end.Sub(d.start); took > 45*time.Second {
			p.violated("%s took %v", d.kind, took)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.done = append(p.done, d)
	}()
	switch p.n(15) {
	case 0, 1, 2, 3:
		d.kind = "renew"
		var access string
		if _, access, d.err = p.portals.Access(ctx, d.member); d.err == nil {
			_, _, d.err = p.portals.Renew(ctx, d.member, access)
		}
	case 4, 5:
		d.kind = "access"
		_, _, d.err = p.portals.Access(ctx, d.member)
	case 6, 7, 8:
		d.kind = "install"
		access, refresh := p.authority.issue(holder{d.member, 1})
		d.token = event.Secret("t" + access)
		auth := claim()
		auth.MemberID, auth.AccessToken, auth.RefreshToken, auth.ApplicationToken = d.member, event.Secret(access), event.Secret(refresh), d.token
		_, d.err = p.portals.Verify(ctx, &event.Delivery{Name: "ONAPPINSTALL", Auth: auth, Time: time.Now()})
	case 9, 14:
		if !p.forgets {
			break
		}
		d.kind = "forget"
		d.err = p.portals.Forget(ctx, d.member)
	case 10, 11:
		d.kind = "add"
		d.token = event.Secret("extra-application-token-" + strconv.Itoa(p.n(1_000_000)))
		d.err = p.portals.AddApplicationToken(ctx, d.member, d.token)
	case 12:
		d.kind = "page"
		access, refresh := p.authority.issue(holder{d.member, clerk})
		auth := claim()
		auth.MemberID, auth.AccessToken, auth.RefreshToken = d.member, event.Secret(access), event.Secret(refresh)
		_, d.err = p.portals.KeepUser(ctx, auth)
	default:
		d.kind = "user"
		var access string
		if _, access, d.err = p.portals.User(clerk).Access(ctx, d.member); d.err == nil {
			_, _, d.err = p.portals.User(clerk).Renew(ctx, d.member, access)
		}
	}
}

func (*model) memberAt(i int) string { return member[:len(member)-1] + strconv.Itoa(i) }

// start makes a process.
func (m *model) start(t *testing.T, id int) *replica {
	t.Helper()
	p := &replica{model: m, id: id, accepted: make(map[string]bool), mood: "fine"}
	p.portals = scripted(t, p, &script{respond: p.respond})
	return p
}

func runModel(t *testing.T, seed uint64, processes int) {
	t.Helper()
	m := &model{
		dice: &dice{rng: rand.New(rand.NewPCG(seed, uint64(processes)))}, t: t, //nolint:gosec // a model, not a secret
		members: 1 + int(seed/2%2), inner: oauth.NewMemoryStore(), authority: &authority{live: make(map[string]holder)},
	}
	// If there are two processes, one may have written something without learning it. It cannot know
	// that the other has used that up and forgotten it.
	m.honest = processes > 1 && seed%2 == 0
	m.forgets = processes == 1 || m.honest
	var all sync.WaitGroup
	for id := range processes {
		p := m.start(t, id)
		m.processes = append(m.processes, p)
		all.Go(p.moods)
		for range 4 {
			all.Go(func() {
				for range 16 {
					pass(p.upTo(12 * time.Second))
					p.act(t)
				}
			})
		}
	}
	time.AfterFunc(time.Duration(20+m.n(200))*time.Second, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.calm = true
	})
	all.Wait()
	pass(2 * time.Minute) // what backed off may be tried again
	for _, p := range m.processes {
		require.NoError(t, p.portals.Shutdown(t.Context()))
	}
	m.judge(t)
}

// judge checks what is stored in the end.
func (m *model) judge(t *testing.T) {
	t.Helper()
	report := func() string {
		var b strings.Builder
		for _, d := range m.done {
			fmt.Fprintf(&b, "%s–%s %d %s %s %s %v\n", d.start.Format("04:05.000"), d.end.Format("04:05.000"), d.process, d.kind, d.member[31:],
				d.token, d.err)
		}
		return b.String() + strings.Join(m.log, "\n")
	}
	require.Empty(t, m.bad, report())
	later := m.start(t, len(m.processes)) // a process that finds only what is stored
	for i := range m.members {
		member := m.memberAt(i)
		for _, user := range []int64{0, clerk} {
			key := oauth.Key{ClientID: clientID, MemberID: member, UserID: user}
			in, _, err := m.inner.Load(t.Context(), key)
			if errors.Is(err, oauth.ErrNotFound) {
				continue
			}
			require.NoError(t, err)
			require.True(t, m.authority.works(in.RefreshToken), "the stored pair %s of %v was used up\n%s", string(in.RefreshToken), key, report())
		}
		in, _, err := m.inner.Load(t.Context(), oauth.Key{ClientID: clientID, MemberID: member})
		known := err == nil
		if known {
			_, _, err := later.portals.Renew(t.Context(), member, string(in.AccessToken))
			require.NoError(t, err, report())
		}
		m.judgeDeeds(t, member, in, known, report)
	}
}

// judgeDeeds compares what is stored for a portal with what was done to it.
func (m *model) judgeDeeds(t *testing.T, member string, in oauth.Installation, known bool, report func() string) {
	t.Helper()
	var done []deed
	for _, d := range m.done {
		if d.member == member {
			done = append(done, d)
		}
	}
	// undone reports whether something of a kind may have come after a deed, so that the deed need not
	// be visible.
	undone := func(d deed, kind string) bool {
		for _, other := range done {
			end := other.end
			if other.err != nil { // its work may have gone on
				end = end.Add(flightGrace)
			}
			if other.kind == kind && other.start != d.start && !end.Before(d.start) {
				return true
			}
		}
		return false
	}
	// If there are two processes, one does not know that the other has forgotten what it keeps in
	// memory.
	kept := len(m.processes) > 1 && slices.ContainsFunc(done, func(d deed) bool { return d.kind == "install" && d.err != nil })
	for _, d := range done {
		switch {
		case d.err != nil:
		case d.kind == "install" && !undone(d, "forget"):
			require.True(t, known, "an installation was lost: %s\n%s", string(d.token), report())
			if !undone(d, "install") {
				require.Equal(t, string(d.token), string(in.ApplicationToken), report())
			}
		case d.kind == "add" && !undone(d, "forget"):
			require.Contains(t, in.ExtraApplicationTokens, d.token, "an application token was lost: %s\n%s", string(d.token), report())
		case d.kind == "forget" && !undone(d, "install") && !kept:
			require.False(t, known, "a forgotten portal came back\n%s", report())
		}
	}
}

// flightGrace is how long work may go on after its caller has left.
const flightGrace = time.Minute
