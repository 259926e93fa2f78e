package oauthtest_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/longtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/oauth/oauthtest"
)

// faultEnv names the fault of the store on which a separate process runs the suite.
const faultEnv = "OAUTHTEST_FAULT"

// brokenStore is a good store with one fault.
type brokenStore struct {
	fault string

	mu    sync.Mutex
	rows  map[oauth.Key]row
	late  map[oauth.Key]row // what was stored before the last Swap
	pages map[string][]oauth.Key
	count int

	prepared map[oauth.Key]int
}

func newBroken(fault string) *brokenStore {
	return &brokenStore{
		fault: fault, rows: make(map[oauth.Key]row), late: make(map[oauth.Key]row), prepared: make(map[oauth.Key]int),
	}
}

type row struct {
	in      oauth.Installation
	version oauth.Version
}

func (s *brokenStore) has(fault string) bool { return s.fault == fault }

func (s *brokenStore) key(key oauth.Key) oauth.Key {
	switch {
	case s.has("forgets applications"):
		key.ClientID = ""
	case s.has("joins names"):
		key = oauth.Key{ClientID: "", MemberID: key.ClientID + key.MemberID, UserID: key.UserID}
	case s.has("forgets users"):
		key.UserID = 0
	case s.has("ignores case"):
		key.MemberID = strings.ToLower(key.MemberID)
	case s.has("cuts member ids"):
		key.MemberID = key.MemberID[:min(len(key.MemberID), 255)]
	case s.has("trims member ids"):
		key.MemberID = strings.TrimSpace(key.MemberID)
	}
	return key
}

// kept returns what the store keeps for an installation.
func (s *brokenStore) kept(in oauth.Installation) oauth.Installation {
	switch {
	case s.has("shares slices it is given"):
		return in
	case s.has("forgets a field"):
		in.PreviousApplicationToken = ""
	case s.has("keeps seconds"):
		in.Expires = in.Expires.Truncate(time.Second)
	case s.has("drops the zone"):
		y, m, d := in.UpdatedAt.Date()
		in.UpdatedAt = time.Date(y, m, d, in.UpdatedAt.Hour(), in.UpdatedAt.Minute(), in.UpdatedAt.Second(), in.UpdatedAt.Nanosecond(), time.UTC)
	case s.has("zero times become epochs") && in.InstalledAt.IsZero():
		in.InstalledAt = time.Unix(0, 0)
	case s.has("stores redacted secrets"):
		in.AccessToken = event.Secret(in.AccessToken.String())
	case s.has("splits at spaces"):
		in.Scope = strings.Fields(strings.Join(in.Scope, " "))
	case s.has("has short columns") && len(in.AccessToken) > 255:
		in.AccessToken = in.AccessToken[:255]
	}
	in.Scope = append([]string(nil), in.Scope...)
	in.ExtraApplicationTokens = append([]event.Secret(nil), in.ExtraApplicationTokens...)
	return in
}

func (s *brokenStore) Load(ctx context.Context, key oauth.Key) (oauth.Installation, oauth.Version, error) {
	if err := ctx.Err(); err != nil && !s.has("loads after the end") {
		return oauth.Installation{}, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.rows[s.key(key)]
	if !ok {
		if s.has("finds nothing without an error") {
			return oauth.Installation{}, "", nil
		}
		return oauth.Installation{}, "", oauth.ErrNotFound
	}
	if s.has("shares slices it returns") {
		return r.in, r.version, nil
	}
	return s.kept(r.in), r.version, nil
}

func (s *brokenStore) Swap(ctx context.Context, key oauth.Key, old oauth.Version, in oauth.Installation) (oauth.Version, error) {
	if err := ctx.Err(); err != nil && !s.has("writes after the end") {
		return "", err
	}
	if (key.MemberID == "" || key.UserID < 0) && !s.has("takes any key") {
		return "", errors.New("there is no such key")
	}
	key = s.key(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	found, known := s.rows[key]
	upsert := !known && s.has("creates for any version")
	overwrite := s.has("creates over others") && old == "" || s.has("overwrites what is prepared") && s.prepared[key] > 0
	if found.version != old && !upsert && !overwrite && !s.has("lets the last win") {
		if s.has("prints in errors") {
			return "", fmt.Errorf("%w: %s", oauth.ErrConflict, string(in.AccessToken))
		}
		return "", oauth.ErrConflict
	}
	if s.has("checks, then writes") {
		s.mu.Unlock()
		<-time.After(time.Millisecond)
		s.mu.Lock()
	}
	s.count++
	version := oauth.Version(strconv.Itoa(s.count))
	switch {
	case s.has("counts per row"):
		n := 0
		_, _ = fmt.Sscan(string(found.version), &n)
		version = oauth.Version(strconv.Itoa(n + 1))
	case s.has("hashes as version"):
		version = oauth.Version(fmt.Sprint(in.UserID, string(in.AccessToken)))
	}
	if s.has("does not write") {
		return version, nil
	}
	if s.has("deletes, then writes") && known {
		delete(s.rows, key)
		s.mu.Unlock()
		<-time.After(time.Millisecond)
		s.mu.Lock()
	}
	s.late[key] = found
	s.rows[key] = row{s.kept(in), version}
	return version, nil
}

func (s *brokenStore) Delete(ctx context.Context, key oauth.Key, old oauth.Version) error {
	if err := ctx.Err(); err != nil && !s.has("deletes after the end") {
		return err
	}
	key = s.key(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.rows[key]
	switch {
	case !ok && s.has("misses what is to be deleted"):
		return oauth.ErrNotFound
	case !ok:
		return nil
	case r.version != old && !s.has("deletes any version"):
		return oauth.ErrConflict
	case s.has("does not delete"):
		return nil
	}
	delete(s.rows, key)
	s.count++
	return nil
}

func (s *brokenStore) List(ctx context.Context, after oauth.Key, limit int) ([]oauth.Key, error) {
	if err := ctx.Err(); err != nil && !s.has("lists after the end") {
		return nil, err
	}
	if limit < 1 && !s.has("takes any limit") {
		return nil, errors.New("the limit is not positive")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	less := func(a, b oauth.Key) int {
		switch {
		case s.has("lists in the order of a collation") && !strings.EqualFold(a.MemberID, b.MemberID):
			return strings.Compare(strings.ToLower(a.MemberID), strings.ToLower(b.MemberID))
		case s.has("lists users as text"):
			return cmp.Or(strings.Compare(a.MemberID, b.MemberID), strings.Compare(strconv.FormatInt(a.UserID, 10), strconv.FormatInt(b.UserID, 10)))
		case s.has("lists in no order"):
			return cmp.Compare(hash(a), hash(b))
		}
		return cmp.Or(strings.Compare(a.MemberID, b.MemberID), cmp.Compare(a.UserID, b.UserID))
	}
	var keys []oauth.Key
	_, known := s.rows[after]
	for key := range s.rows {
		follows := less(key, after) > 0
		switch {
		case s.has("lists what it starts after"):
			follows = follows || key == after
		case s.has("goes on after portals"):
			follows = key.MemberID > after.MemberID
		case s.has("starts again") && !known:
			follows = true
		}
		foreign := key.ClientID != after.ClientID && !s.has("lists every application")
		user := key.UserID != 0 && s.has("lists no users")
		if follows && !foreign && !user {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, less)
	switch {
	case s.has("lists all at once"):
		return keys, nil
	case s.has("leaves the last page out") && len(keys) < limit && limit < 1000:
		return nil, nil
	case s.has("lists what others overwrite"):
		question := fmt.Sprint(s.count, after, limit)
		if s.pages[question] == nil {
			s.pages = map[string][]oauth.Key{question: keys}
		}
		keys = s.pages[question]
	}
	return keys[:max(0, min(limit, len(keys)))], nil
}

func hash(key oauth.Key) uint32 {
	h := fnv.New32a()
	_, _ = fmt.Fprint(h, key.MemberID, key.UserID)
	return h.Sum32()
}

func (s *brokenStore) Prepare(ctx context.Context, key oauth.Key) (release func(), err error) {
	if err := ctx.Err(); err != nil && !s.has("prepares after the end") {
		return nil, err
	}
	if key.MemberID == "" && !s.has("prepares any key") {
		return nil, errors.New("there is no such key")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has("prepares once") && s.prepared[key] > 0 {
		return nil, errors.New("it is prepared")
	}
	if _, known := s.rows[key]; !known && s.has("creates when it prepares") {
		s.rows[key] = row{version: "0"}
	}
	s.prepared[key]++
	var once sync.Once
	return func() {
		once.Do(func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.prepared[key]--
			if s.has("releases what was written") {
				delete(s.rows, key)
			}
		})
	}, nil
}

func (s *brokenStore) Format(f fmt.State, _ rune) {
	if s.has("prints") {
		for _, r := range s.rows {
			_, _ = fmt.Fprint(f, string(r.in.RefreshToken))
		}
	}
	_, _ = f.Write([]byte("brokenStore"))
}

// TestBrokenStore runs in a process that TestSuiteFindsFaults starts.
func TestBrokenStore(t *testing.T) {
	t.Parallel()
	fault := os.Getenv(faultEnv)
	if fault == "" {
		t.Skip("for TestSuiteFindsFaults")
	}
	oauthtest.TestStore(t, func(*testing.T) oauth.Store {
		return newBroken(fault)
	})
}

// TestBrokenSharedStore does the same for stores that several processes use.
func TestBrokenSharedStore(t *testing.T) {
	t.Parallel()
	fault := os.Getenv(faultEnv)
	if fault == "" {
		t.Skip("for TestSuiteFindsFaults")
	}
	oauthtest.TestSharedStore(t, func(*testing.T) func() oauth.Store {
		backing := newBroken(fault)
		return func() oauth.Store {
			switch fault {
			case "shares nothing":
				return oauth.NewMemoryStore()
			case "caches":
				return &cachingStore{brokenStore: backing, seen: make(map[oauth.Key]row)}
			case "lags":
				return &laggingStore{brokenStore: backing}
			}
			return backing
		}
	})
}

// cachingStore assumes that nobody else writes.
type cachingStore struct {
	*brokenStore

	mu   sync.Mutex
	seen map[oauth.Key]row
}

func (s *cachingStore) Load(ctx context.Context, key oauth.Key) (oauth.Installation, oauth.Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.seen[key]; ok {
		return r.in, r.version, nil
	}
	in, version, err := s.brokenStore.Load(ctx, key)
	if err == nil {
		s.seen[key] = row{in, version}
	}
	return in, version, err
}

// laggingStore loads from a replica that sometimes misses the last write of another instance.
type laggingStore struct {
	*brokenStore

	own   oauth.Version
	loads int
}

func (s *laggingStore) Swap(ctx context.Context, key oauth.Key, old oauth.Version, in oauth.Installation) (oauth.Version, error) {
	version, err := s.brokenStore.Swap(ctx, key, old, in)
	s.own = version
	return version, err
}

func (s *laggingStore) Load(ctx context.Context, key oauth.Key) (oauth.Installation, oauth.Version, error) {
	in, version, err := s.brokenStore.Load(ctx, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	late := s.late[key]
	if err == nil && version != s.own && late.version != "" && s.loads%10 == 0 {
		return late.in, late.version, nil
	}
	return in, version, err
}

// brokenLocker is a good locker with one fault.
type brokenLocker struct {
	fault string
	mu    sync.Mutex
	locks map[string]lock
}

type lock struct {
	owner string
	until time.Time
}

func (l *brokenLocker) has(fault string) bool { return l.fault == fault }

func (l *brokenLocker) name(name string) string {
	if l.has("ignores case") {
		return strings.ToLower(name)
	}
	return name
}

func (l *brokenLocker) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	if err := ctx.Err(); err != nil && !l.has("acquires after the end") {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var held []string
	for _, name := range names {
		found, taken := l.locks[l.name(name)]
		inForce := taken && (time.Now().Before(found.until) || l.has("never runs out")) && !l.has("gives to all")
		if inForce && (found.owner != owner || l.has("does not prolong")) {
			if l.has("gives all or nothing") {
				return nil, nil
			}
			if found.owner == owner {
				held = append(held, name)
			}
			continue
		}
		if l.has("checks, then gives") {
			l.mu.Unlock()
			<-time.After(time.Millisecond)
			l.mu.Lock()
		}
		if l.has("runs out early") {
			ttl /= 2
		}
		l.locks[l.name(name)] = lock{owner, time.Now().Add(ttl)}
		held = append(held, name)
	}
	return held, nil
}

func (l *brokenLocker) Release(ctx context.Context, owner string, names ...string) error {
	if err := ctx.Err(); err != nil && !l.has("releases after the end") {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		if l.locks[l.name(name)].owner == owner && !l.has("does not release") || l.has("releases those of others") {
			delete(l.locks, l.name(name))
		}
	}
	return nil
}

// TestBrokenLocker does the same for lockers.
func TestBrokenLocker(t *testing.T) {
	t.Parallel()
	fault := os.Getenv(faultEnv)
	if fault == "" {
		t.Skip("for TestSuiteFindsFaults")
	}
	oauthtest.TestLocker(t, func(*testing.T) oauth.Locker {
		return &brokenLocker{fault: fault, locks: make(map[string]lock)}
	})
}

// TestSuiteFindsFaults runs the suite on stores that have one fault each. The suite fails a
// testing.T, so each run is a process.
func TestSuiteFindsFaults(t *testing.T) {
	t.Parallel()
	longtest.Skip(t, "it starts a process for each fault")
	const whole, shared, locker = "TestBrokenStore", "TestBrokenSharedStore", "TestBrokenLocker"
	for _, c := range []struct{ fault, test, subtest string }{
		{"creates for any version", whole, "missing"},
		{"finds nothing without an error", whole, "missing"},
		{"misses what is to be deleted", whole, "missing"},
		{"creates over others", whole, "create_only"},
		{"prints in errors", whole, "create_only"},
		{"lets the last win", whole, "replace"},
		{"lets the last win", whole, "race_to_delete"},
		{"does not write", whole, "replace"},
		{"deletes any version", whole, "delete"},
		{"does not delete", whole, "delete"},
		{"counts per row", whole, "versions_never_come_back"},
		{"hashes as version", whole, "versions_never_come_back"},
		{"forgets a field", whole, "every_field"},
		{"keeps seconds", whole, "every_field"},
		{"drops the zone", whole, "every_field"},
		{"zero times become epochs", whole, "every_field"},
		{"stores redacted secrets", whole, "every_field"},
		{"splits at spaces", whole, "every_field"},
		{"has short columns", whole, "large"},
		{"shares slices it is given", whole, "copies"},
		{"shares slices it returns", whole, "copies"},
		{"forgets users", whole, "keys"},
		{"ignores case", whole, "hostile_keys"},
		{"cuts member ids", whole, "hostile_keys"},
		{"trims member ids", whole, "hostile_keys"},
		{"checks, then writes", whole, "race_to_create"},
		{"checks, then writes", whole, "race_to_replace"},
		{"checks, then writes", whole, "lost_updates"},
		{"loads after the end", whole, "canceled"},
		{"writes after the end", whole, "canceled"},
		{"deletes after the end", whole, "canceled"},
		{"prints", whole, "printed"},
		{"forgets applications", whole, "keys"},
		{"joins names", whole, "keys"},
		{"takes any key", whole, "refused_keys"},
		{"lists no users", whole, "list$"},
		{"lists every application", whole, "list$"},
		{"lists what it starts after", whole, "list_in_pages"},
		{"lists after the end", whole, "list$"},
		{"lists what others overwrite", whole, "list$"},
		{"lists all at once", whole, "list_in_pages"},
		{"lists in no order", whole, "list_in_pages"},
		{"lists users as text", whole, "list_in_pages"},
		{"lists in the order of a collation", whole, "list_in_pages"},
		{"goes on after portals", whole, "list_in_pages"},
		{"leaves the last page out", whole, "list_in_pages"},
		{"starts again", whole, "list_while_it_changes"},
		{"deletes, then writes", whole, "list_while_it_changes"},
		{"takes any limit", whole, "list_limit"},
		{"creates when it prepares", whole, "prepare$"},
		{"releases what was written", whole, "prepare$"},
		{"prepares after the end", whole, "prepare$"},
		{"prepares any key", whole, "prepare$"},
		{"overwrites what is prepared", whole, "prepare_and_conflict"},
		{"overwrites what is prepared", whole, "prepare_and_race"},
		{"prepares once", whole, "prepare_twice"},
		{"prepares once", shared, "prepare"},
		{"lags", shared, "load_after_swap"},
		{"gives to all", locker, "one_owner"},
		{"gives all or nothing", locker, "one_owner"},
		{"does not release", locker, "released"},
		{"releases those of others", locker, "released"},
		{"never runs out", locker, "runs_out"},
		{"runs out early", locker, "runs_out"},
		{"does not prolong", locker, "runs_out"},
		{"ignores case", locker, "names"},
		{"checks, then gives", locker, "race"},
		{"acquires after the end", locker, "canceled"},
		{"releases after the end", locker, "canceled"},
		{"none", locker, ""},
		{"shares nothing", shared, "one_sees_what_the_other_writes"},
		{"shares nothing", shared, "race_to_create"},
		{"caches", shared, "one_sees_what_the_other_writes"},
		{"checks, then writes", shared, "race_to_replace"},
		{"checks, then writes", shared, "lost_updates"},
		{"none", whole, ""},
		{"none", shared, ""},
	} {
		t.Run(c.fault+" "+c.subtest, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			self, err := os.Executable()
			require.NoError(t, err)
			only := "-test.run=^" + c.test + "$/^" + c.subtest
			cmd := exec.CommandContext(ctx, self, "-test.v", "-test.timeout=1m", only) //nolint:gosec // this very program
			cmd.Env = append(os.Environ(), faultEnv+"="+c.fault)
			out, err := cmd.CombinedOutput()
			if c.subtest == "" {
				require.NoError(t, err, "%s", out)
				assert.Contains(t, string(out), "--- PASS: "+c.test)
				return
			}
			require.Error(t, err, "the suite did not notice:\n%s", out)
			assert.Contains(t, string(out), "--- FAIL: "+c.test+"/"+strings.TrimSuffix(c.subtest, "$"))
			assert.NotContains(t, string(out), "panic:")
		})
	}
}
