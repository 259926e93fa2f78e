package oauth_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/offline"
)

// shared hides that a store is in memory, so that it looks like one that other processes use.
func shared(s *oauth.MemoryStore) oauth.Store { return &faultyStore{Store: s} }

// TestRefusalIsFinalAfterMinutes checks when a refusal is final. Another process may have spent the
// refused token, and be about to store its successor.
func TestRefusalIsFinalAfterMinutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{respond: says(400, `{"error":"invalid_grant"}`)}
		portals := scripted(t, shared(stored(t)), s)
		began := time.Now()
		for {
			_, _, err := portals.Renew(t.Context(), member, "a1")
			if errors.Is(err, oauth.ErrReauthorize) {
				break
			}
			require.ErrorIs(t, err, oauth.ErrTemporary)
			require.Less(t, time.Since(began), 5*time.Minute)
			pass(time.Second)
		}
		require.Greater(t, time.Since(began), 3*time.Minute)
		require.Less(t, len(s.requests()), 12, "the pauses between requests grow")
	})
}

// TestRefusalIsFinalAtOnce checks that a refusal is final at once if no other process uses the
// store.
func TestRefusalIsFinalAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{respond: says(400, `{"error":"invalid_grant"}`)}
		portals := scripted(t, shared(stored(t)), s, oauth.WithExclusiveStore())
		_, _, err := portals.Renew(t.Context(), member, "a1")
		require.ErrorIs(t, err, oauth.ErrReauthorize)
		require.Len(t, s.requests(), 1)
	})
}

// TestWinnerIsSlow has a winner that stores its pair a while after the loser was refused.
func TestWinnerIsSlow(t *testing.T) {
	t.Parallel()
	for name, delay := range map[string]time.Duration{"3 seconds": 3 * time.Second, "a minute": time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := stored(t)
				s := &script{respond: says(400, `{"error":"invalid_grant"}`)}
				portals := scripted(t, shared(store), s)
				time.AfterFunc(delay, func() {
					otherProcess(t, store, func(in *oauth.Installation) { in.AccessToken, in.RefreshToken = "a9", "r9" })
				})
				for {
					_, token, err := portals.Renew(t.Context(), member, "a1")
					if err == nil {
						require.Equal(t, "a9", token)
						break
					}
					require.ErrorIs(t, err, oauth.ErrTemporary, "nothing that makes an application give the portal up")
					pass(time.Second)
				}
			})
		})
	}
}

// TestRefusalThatCannotBeDecided has a store that cannot be read, or lags behind.
func TestRefusalThatCannotBeDecided(t *testing.T) {
	t.Parallel()
	t.Run("store down", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			store := &faultyStore{Store: stored(t)}
			s := &script{respond: func(sent) (int, string) {
				store.set(func(s *faultyStore) { s.load = func(context.Context) error { return errDisk } })
				return 400, `{"error":"invalid_grant"}`
			}}
			portals := scripted(t, store, s)
			_, _, err := portals.Renew(t.Context(), member, "a1")
			require.ErrorIs(t, err, oauth.ErrStore)
			var e *oauth.Error
			require.True(t, errors.As(err, &e) && !e.Permanent())
		})
	})
	t.Run("forgotten meanwhile", func(t *testing.T) {
		t.Parallel()
		store := stored(t)
		s := &script{respond: func(sent) (int, string) {
			_, version, err := store.Load(t.Context(), oauth.Key{ClientID: clientID, MemberID: member})
			require.NoError(t, err)
			require.NoError(t, store.Delete(t.Context(), oauth.Key{ClientID: clientID, MemberID: member}, version))
			return 400, `{"error":"invalid_grant"}`
		}}
		_, _, err := scripted(t, store, s).Renew(t.Context(), member, "a1")
		require.ErrorIs(t, err, oauth.ErrNotFound)
	})
}

// TestFailuresBackOff checks that a portal whose renewals fail gets requests after growing pauses,
// for any number of callers.
func TestFailuresBackOff(t *testing.T) {
	t.Parallel()
	for name, respond := range map[string]func(sent) (int, string){
		"page": says(503, "<html>"), "unknown code": says(400, `{"error":"user_not_found"}`), "no connection": says(0, ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &script{respond: respond}
				portals := scripted(t, stored(t), s)
				for range 100 {
					_, _, err := portals.Renew(t.Context(), member, "a1")
					require.ErrorIs(t, err, oauth.ErrTemporary)
				}
				require.Len(t, s.requests(), 1)
				for range 600 {
					pass(time.Second)
					_, _, _ = portals.Renew(t.Context(), member, "a1")
				}
				require.Less(t, len(s.requests()), 20, "in ten minutes")
				require.Greater(t, len(s.requests()), 8)
				s.respond = says(200, pair("a2", "r2", nil))
				pass(time.Minute)
				_, token, err := portals.Renew(t.Context(), member, "a1")
				require.NoError(t, err)
				require.Equal(t, "a2", token)
			})
		})
	}
}

// TestBrokenOAuthHost checks that an OAuth server that is down does not get requests for every
// portal.
func TestBrokenOAuthHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{respond: says(502, "<html>")}
		store := oauth.NewMemoryStore()
		const many = 500
		ids := make([]string, many)
		for i := range ids {
			ids[i] = "portal" + string(rune('a'+i%26)) + string(rune('a'+i/26%26))
			_, err := store.Swap(t.Context(), oauth.Key{ClientID: clientID, MemberID: ids[i]}, "", oauth.Installation{
				MemberID: ids[i], ClientEndpoint: "https://example.bitrix24.com/rest/", ServerEndpoint: official, AccessToken: "a1",
				RefreshToken: event.Secret("r" + ids[i]),
			})
			require.NoError(t, err)
		}
		portals := scripted(t, store, s)
		renewAll := func() (failed int) {
			for _, id := range ids {
				if _, _, err := portals.Renew(t.Context(), id, "a1"); err != nil {
					require.ErrorIs(t, err, oauth.ErrTemporary)
					failed++
				}
			}
			return failed
		}
		require.Equal(t, many, renewAll())
		require.Len(t, s.requests(), 5)
		pass(2 * time.Second)
		require.Equal(t, many, renewAll())
		require.Len(t, s.requests(), 6, "one request asks whether it is well again")
		s.respond = func(r sent) (int, string) {
			return 200, pair("a2", "r2", map[string]any{"member_id": r.form.Get("refresh_token")[1:]})
		}
		pass(2 * time.Minute)
		require.Zero(t, renewAll())
	})
}

// TestUnsavedPairs has pairs that the store could not take, and something that happens after that.
func TestUnsavedPairs(t *testing.T) {
	t.Parallel()
	t.Run("a renewal that began before a reinstallation", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			store := &faultyStore{Store: stored(t)}
			s := &script{respond: func(r sent) (int, string) {
				if r.form.Get("refresh_token") == "r1" {
					pass(3 * time.Second)
					return 200, pair("a-renewed", "r-renewed", nil)
				}
				return 200, pair("a-installed", "r-installed", nil)
			}}
			portals := scripted(t, store, s)
			var all sync.WaitGroup
			all.Go(func() { _, _, _ = portals.Renew(t.Context(), member, "a1") })
			pass(time.Second)
			store.set(func(s *faultyStore) { s.swap = failing })
			all.Go(func() {
				err := errOf(portals.Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: claim()}))
				require.ErrorIs(t, err, oauth.ErrStore)
			})
			pass(time.Minute)
			store.set(func(s *faultyStore) { s.swap = nil })
			all.Wait()
			require.NoError(t, portals.Shutdown(t.Context()))
			require.Equal(t, "r-installed", string(load(t, store, member).RefreshToken), "the newest pair")
		})
	})
	t.Run("renewed again while the store is out", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			inner := stored(t)
			store := &faultyStore{Store: inner, swap: failing}
			portals := scripted(t, store, counting())
			for _, refused := range []string{"a1", "a2", "a3"} {
				_, _, err := portals.Renew(t.Context(), member, refused)
				require.NoError(t, err)
			}
			otherProcess(t, inner, func(in *oauth.Installation) { in.Status = "P" }) // something else is changed meanwhile
			store.set(func(s *faultyStore) { s.swap = nil })
			require.NoError(t, portals.Shutdown(t.Context()))
			in := load(t, inner, member)
			require.Equal(t, "r4", string(in.RefreshToken))
			require.Equal(t, "t1", string(in.ApplicationToken))
		})
	})
	t.Run("forgotten while a pair waits and is renewed", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			inner := oauth.NewMemoryStore()
			store := &faultyStore{Store: inner, swap: failing}
			s := &script{respond: func(r sent) (int, string) {
				if r.form.Get("refresh_token") == "r2" {
					pass(5 * time.Second)
				}
				return 200, pair("a"+r.form.Get("refresh_token"), "r2", nil)
			}}
			portals := scripted(t, store, s)
			require.ErrorIs(t, errOf(portals.Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: claim()})), oauth.ErrStore)
			var all sync.WaitGroup
			all.Go(func() {
				_, _, err := portals.Renew(t.Context(), member, "ar0")
				require.ErrorIs(t, err, oauth.ErrNotFound)
			})
			pass(time.Second)
			require.NoError(t, portals.Forget(t.Context(), member))
			store.set(func(s *faultyStore) { s.swap = nil })
			all.Wait()
			require.NoError(t, portals.Shutdown(t.Context()))
			requireEmpty(t, inner, member)
		})
	})
	for name, later := range map[string]func(*oauth.Installation){
		"its own successor, which another process renewed": func(in *oauth.Installation) { in.AccessToken, in.RefreshToken = "a9", "r9" },
		"a later installation": func(in *oauth.Installation) {
			in.AccessToken, in.RefreshToken, in.InstalledAt = "a9", "r9", in.InstalledAt.Add(20*time.Second)
		},
	} {
		t.Run("an installation that waits does not replace "+name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				inner := stored(t)
				store := &faultyStore{Store: inner, after: errDisk}
				store.swap = func(context.Context, oauth.Version, oauth.Installation) error {
					store.set(func(s *faultyStore) { s.load = func(context.Context) error { return errDisk } }) // the process cannot see that it wrote
					return nil
				}
				portals := scripted(t, store, &script{respond: says(200, pair("a2", "r2", nil))})
				require.ErrorIs(t, errOf(portals.Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: claim()})), oauth.ErrStore)
				require.Equal(t, "r2", string(load(t, inner, member).RefreshToken))
				otherProcess(t, inner, later)
				store.set(func(s *faultyStore) { s.load, s.swap, s.after = nil, nil, nil })
				require.NoError(t, portals.Shutdown(t.Context()))
				require.Equal(t, "r9", string(load(t, inner, member).RefreshToken))
			})
		})
	}
	t.Run("forgotten by another process", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			inner := stored(t)
			store := &faultyStore{Store: inner, swap: failing}
			portals := scripted(t, store, counting())
			_, _, err := portals.Renew(t.Context(), member, "a1")
			require.NoError(t, err)
			require.NoError(t, scripted(t, inner, counting()).Forget(t.Context(), member))
			store.set(func(s *faultyStore) { s.swap = nil })
			require.NoError(t, portals.Shutdown(t.Context()))
			requireEmpty(t, inner, member)
		})
	})
	t.Run("shutdown gives them to the caller", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			store := &faultyStore{Store: stored(t), swap: failing}
			portals := scripted(t, store, counting())
			_, _, err := portals.Renew(t.Context(), member, "a1")
			require.NoError(t, err)
			err = portals.Shutdown(t.Context())
			var unsaved *oauth.UnsavedError
			require.ErrorAs(t, err, &unsaved)
			require.ErrorIs(t, err, oauth.ErrStore)
			require.Len(t, unsaved.Installations, 1)
			require.Equal(t, "r2", string(unsaved.Installations[oauth.Key{ClientID: clientID, MemberID: member}].RefreshToken))
			require.NotContains(t, err.Error(), "r2")
		})
	})
}

func TestShutdownObeysItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &faultyStore{Store: stored(t), swap: failing}
		portals := scripted(t, store, counting())
		_, _, err := portals.Renew(t.Context(), member, "a1")
		require.NoError(t, err)
		store.set(func(s *faultyStore) {
			s.swap = func(ctx context.Context, _ oauth.Version, _ oauth.Installation) error {
				<-ctx.Done() // it hangs
				return ctx.Err()
			}
		})
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		began := time.Now()
		err = portals.Shutdown(ctx)
		require.LessOrEqual(t, time.Since(began), time.Second)
		var unsaved *oauth.UnsavedError
		require.ErrorAs(t, err, &unsaved)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// preparing is a store whose disk may be full.
type preparing struct {
	oauth.Store

	full     bool
	prepared int
	released int
}

func (s *preparing) Prepare(context.Context, oauth.Key) (func(), error) {
	if s.full {
		return nil, errDisk
	}
	s.prepared++
	return func() { s.released++ }, nil
}

// TestNoCredentialIsSpentInVain checks that no credential that works once is sent if the disk is
// full.
func TestNoCredentialIsSpentInVain(t *testing.T) {
	t.Parallel()
	user := claim()
	user.AccessToken, user.RefreshToken = "u0", "ur0"
	for name, spend := range map[string]func(context.Context, *oauth.Portals) error{
		"renewal": func(ctx context.Context, p *oauth.Portals) error { _, _, err := p.Renew(ctx, member, "a1"); return err },
		"install": func(ctx context.Context, p *oauth.Portals) error {
			return errOf(p.Verify(ctx, &event.Delivery{Name: "ONAPPINSTALL", Auth: claim()}))
		},
		"page": func(ctx context.Context, p *oauth.Portals) error { _, err := p.Install(ctx, claim()); return err },
		"user": func(ctx context.Context, p *oauth.Portals) error { _, err := p.KeepUser(ctx, user); return err },
		"code": func(ctx context.Context, p *oauth.Portals) error {
			_, err := p.Exchange(ctx, oauth.Code{Code: "c"})
			return err
		},
		"user's code": func(ctx context.Context, p *oauth.Portals) error {
			_, err := p.ExchangeUser(ctx, oauth.Code{Code: "c"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := counting()
			inner := stored(t)
			before := load(t, inner, member)
			store := &preparing{Store: inner, full: true}
			portals := scripted(t, store, s)
			require.ErrorIs(t, spend(t.Context(), portals), oauth.ErrStore)
			require.Empty(t, s.requests())
			require.Equal(t, before, load(t, inner, member))

			store.full = false
			require.NoError(t, spend(t.Context(), portals))
			require.Equal(t, 1, store.prepared)
			require.Equal(t, 1, store.released)
		})
	}
}

// TestFormsOfTokenResponses checks that a pair is kept, however odd the response is that brings it.
func TestFormsOfTokenResponses(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]eventtest.Fault{
		"text/plain": eventtest.PlainText(), "byte order mark": eventtest.BOM(), "PHP notice": eventtest.Notice(),
		"no lifetime": eventtest.ExpiresIn(`""`), "lifetime in quotes": eventtest.ExpiresIn(`"3600"`),
		"lifetime with a point": eventtest.ExpiresIn("3600.0"), "lifetime false": eventtest.ExpiresIn("false"),
		"lifetime null": eventtest.ExpiresIn("null"), "lifetime an array": eventtest.ExpiresIn("[]"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			in := w.installed(t)
			portals := w.portals(t, w.store)
			w.Once("oauth/token", fault)
			_, token, err := portals.Renew(t.Context(), w.MemberID(), string(in.AccessToken))
			require.NoError(t, err)
			got := load(t, w.store, w.MemberID())
			require.Equal(t, token, string(got.AccessToken))
			require.NotEqual(t, in.RefreshToken, got.RefreshToken)
			require.WithinDuration(t, time.Now().Add(time.Hour), got.Expires, time.Minute)
			_, _, err = portals.Renew(t.Context(), w.MemberID(), token)
			require.NoError(t, err, "the pair works")
		})
	}
}

// TestRefreshLock checks that eight processes with an expired token send one request.
func TestRefreshLock(t *testing.T) {
	t.Parallel()
	const none, given, ofStore = 0, 1, 2
	for name, lock := range map[string]int{"without a lock": none, "with a lock": given, "with a store that is one": ofStore} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			in := w.installed(t)
			leaser := offline.NewMemoryLeaser()
			var all sync.WaitGroup
			for range 8 {
				store := shared(w.store)
				var opts []oauth.Option
				switch lock {
				case given:
					opts = append(opts, oauth.WithRefreshLock(leaser))
				case ofStore:
					store = lockingStore{store, leaser}
				}
				portals := w.portals(t, store, opts...)
				all.Go(func() {
					_, token, err := portals.Renew(t.Context(), w.MemberID(), string(in.AccessToken))
					require.NoError(t, err)
					require.NotEqual(t, string(in.AccessToken), token)
				})
			}
			all.Wait()
			if lock != none {
				require.Equal(t, 1, w.renewals())
			}
		})
	}
}

// lockingStore is a store that is a Locker, too.
type lockingStore struct {
	oauth.Store
	oauth.Locker
}

// brokenLock fails, hangs, or is always taken.
type brokenLock struct{ err error }

var errHangs = errors.New("it hangs")

func (l brokenLock) Acquire(ctx context.Context, _ string, _ time.Duration, _ ...string) ([]string, error) {
	if errors.Is(l.err, errHangs) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, l.err
}
func (brokenLock) Release(context.Context, string, ...string) error { return nil }

func TestRefreshLockIsAnEconomy(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{"fails": errDisk, "hangs": errHangs, "another process keeps it": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				portals := scripted(t, stored(t), counting(), oauth.WithRefreshLock(brokenLock{err}))
				_, token, err := portals.Renew(t.Context(), member, "a1")
				require.NoError(t, err)
				require.Equal(t, "a2", token)
			})
		})
	}
}

// TestRedirectsToManyHosts checks that a portal that redirects to one host after another costs one
// check a minute.
func TestRedirectsToManyHosts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{identifies: true, respond: func(r sent) (int, string) {
			if r.form.Has("grant_type") {
				return 200, pair("a2", "r2", nil)
			}
			return 200, `{"result":{}}` // so that the renewal has to tell
		}}
		portals := scripted(t, stored(t), s)
		for _, host := range []string{"a", "b", "c", "d", "e"} {
			require.ErrorIs(t, portals.Moved(t.Context(), member, "https://"+host+".example.com/rest/"), oauth.ErrUnverified)
		}
		require.Len(t, s.requests(), 2, "one look and one renewal")
	})
}

// TestPortalThatHangs checks that an installation is decided while its sender still waits.
func TestPortalThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{respond: says(200, pair("a2", "r2", nil)), portal: func(string, sent) (int, string) {
			pass(time.Minute)
			return 200, `{"result":true}`
		}}
		portals := scripted(t, oauth.NewMemoryStore(), s)
		began := time.Now()
		err := errOf(portals.Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: claim()}))
		require.ErrorIs(t, err, oauth.ErrTemporary)
		require.Less(t, time.Since(began), 17*time.Second)
		require.Greater(t, time.Since(began), 10*time.Second)
	})
}

// tardy is a slow store that is a Preparer.
type tardy struct{ *faultyStore }

func (tardy) Prepare(context.Context, oauth.Key) (release func(), err error) {
	pass(4 * time.Second)
	return func() {}, nil
}

// TestSlowRenewalLosesNothing lets the time of a renewal end while the OAuth server responds, and
// the time of an installation while that renewal holds the lock of the key. Both refresh tokens are
// used up by then.
func TestSlowRenewalLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := tardy{&faultyStore{Store: stored(t), load: func(context.Context) error {
			pass(2500 * time.Millisecond)
			return nil
		}}}
		s := &script{respond: func(r sent) (int, string) {
			if r.form.Get("refresh_token") == "r0" {
				return 200, pair("a-installed", "r-installed", nil)
			}
			pass(13 * time.Second)
			return 200, pair("a-renewed", "r-renewed", nil)
		}}
		portals := scripted(t, store, s, oauth.WithRefreshLock(brokenLock{nil}))
		var both sync.WaitGroup
		both.Go(func() {
			err := errOf(portals.Verify(t.Context(), &event.Delivery{Name: "ONAPPINSTALL", Auth: claim()}))
			require.NoError(t, err)
		})
		pass(time.Second)
		began := time.Now()
		_, token, err := portals.Renew(t.Context(), member, "a1")
		require.NoError(t, err)
		require.Equal(t, "a-renewed", token)
		require.Greater(t, time.Since(began), 30*time.Second)
		both.Wait()
		require.Equal(t, "r-installed", string(load(t, store.Store, member).RefreshToken))
	})
}
