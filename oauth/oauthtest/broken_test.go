package oauthtest_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/oauth/oauthtest"
)

// faultEnv names the fault of the store that a process of its own runs the suite on.
const faultEnv = "OAUTHTEST_FAULT"

// brokenStore is a good store, but for one fault.
type brokenStore struct {
	fault string

	mu    sync.Mutex
	rows  map[oauth.Key]row
	count int
}

type row struct {
	in      oauth.Installation
	version oauth.Version
}

func (s *brokenStore) has(fault string) bool { return s.fault == fault }

func (s *brokenStore) key(key oauth.Key) oauth.Key {
	switch {
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

// kept returns what the store keeps of an installation.
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
	key = s.key(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	found, known := s.rows[key]
	upsert := !known && s.has("creates for any version")
	overwrite := s.has("creates over others") && old == ""
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
	return nil
}

func (s *brokenStore) Keys(ctx context.Context) iter.Seq2[oauth.Key, error] {
	return func(yield func(oauth.Key, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(oauth.Key{}, err)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for key := range s.rows {
			if s.has("lists no users") && key.UserID != 0 {
				continue
			}
			if !yield(key, nil) {
				return
			}
			if s.has("lists twice") {
				yield(key, nil)
			}
		}
	}
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
		return &brokenStore{fault: fault, rows: make(map[oauth.Key]row)}
	})
}

// TestBrokenSharedStore is the like for stores that several processes use.
func TestBrokenSharedStore(t *testing.T) {
	t.Parallel()
	fault := os.Getenv(faultEnv)
	if fault == "" {
		t.Skip("for TestSuiteFindsFaults")
	}
	oauthtest.TestSharedStore(t, func(*testing.T) func() oauth.Store {
		backing := &brokenStore{fault: fault, rows: make(map[oauth.Key]row)}
		return func() oauth.Store {
			switch fault {
			case "shares nothing":
				return oauth.NewMemoryStore()
			case "caches":
				return &cachingStore{Store: backing, seen: make(map[oauth.Key]row)}
			}
			return backing
		}
	})
}

// cachingStore believes that nobody else writes.
type cachingStore struct {
	oauth.Store

	mu   sync.Mutex
	seen map[oauth.Key]row
}

func (s *cachingStore) Load(ctx context.Context, key oauth.Key) (oauth.Installation, oauth.Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.seen[key]; ok {
		return r.in, r.version, nil
	}
	in, version, err := s.Store.Load(ctx, key)
	if err == nil {
		s.seen[key] = row{in, version}
	}
	return in, version, err
}

// TestSuiteFindsFaults runs the suite on stores with a fault each. The suite fails a testing.T, so each run is a process.
func TestSuiteFindsFaults(t *testing.T) {
	t.Parallel()
	const whole, shared = "TestBrokenStore", "TestBrokenSharedStore"
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
		{"loads after the end", whole, "cancelled"},
		{"writes after the end", whole, "cancelled"},
		{"deletes after the end", whole, "cancelled"},
		{"prints", whole, "printed"},
		{"lists no users", whole, "list"},
		{"lists twice", whole, "list"},
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
			cmd := exec.CommandContext(ctx, self, "-test.v", "-test.timeout=1m", "-test.run=^"+c.test+"$/^"+c.subtest) //nolint:gosec // this very program
			cmd.Env = append(os.Environ(), faultEnv+"="+c.fault)
			out, err := cmd.CombinedOutput()
			if c.subtest == "" {
				require.NoError(t, err, "%s", out)
				assert.Contains(t, string(out), "--- PASS: "+c.test)
				return
			}
			require.Error(t, err, "the suite did not notice:\n%s", out)
			assert.Contains(t, string(out), "--- FAIL: "+c.test+"/"+c.subtest)
			assert.NotContains(t, string(out), "panic:")
		})
	}
}
