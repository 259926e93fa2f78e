package oauth_test

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth"
)

// counting is an OAuth server that issues a2 and r2, then a3 and r3, and so on.
func counting() *script {
	n := 1
	return &script{respond: func(sent) (int, string) {
		n++
		return 200, pair("a"+strconv.Itoa(n), "r"+strconv.Itoa(n), nil)
	}}
}

func failing(context.Context, oauth.Version, oauth.Installation) error { return errDisk }

// pass lets the bubble's time pass.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the bubble's clock
}

func TestStoreFailsAfterARenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, inner := counting(), stored(t)
		store := &faultyStore{Store: inner, swap: failing}
		out, logger := logs()
		portals := scripted(t, store, s, logger)

		_, token, err := portals.Renew(t.Context(), member, "a1")
		require.NoError(t, err)
		require.Equal(t, "a2", token)
		require.Equal(t, "a1", string(load(t, inner, member).AccessToken))
		require.Equal(t, 3, store.swaps, "it is tried a few times at once")
		require.Equal(t, 1, strings.Count(out.String(), `"level":"ERROR"`))

		// The tokens in memory are used, whoever asks and with any token.
		for _, refused := range []string{"", "a1"} {
			_, token, err = portals.Renew(t.Context(), member, refused)
			require.NoError(t, err)
			require.Equal(t, "a2", token)
		}
		_, token, err = portals.Access(t.Context(), member)
		require.NoError(t, err)
		require.Equal(t, "a2", token)
		in, err := portals.Installation(t.Context(), member)
		require.NoError(t, err)
		require.Equal(t, "r2", string(in.RefreshToken))
		swaps := store.swaps
		_, _, err = portals.Access(t.Context(), member)
		require.NoError(t, err)
		require.Equal(t, swaps, store.swaps, "within a second the store is left alone")

		// The store recovers, and the next access writes.
		store.set(func(s *faultyStore) { s.swap = nil })
		pass(time.Second)
		_, token, err = portals.Access(t.Context(), member)
		require.NoError(t, err)
		require.Equal(t, "a2", token)
		require.Equal(t, "r2", string(load(t, inner, member).RefreshToken))
		require.Len(t, s.requests(), 1, "the spent token was never sent again")
		require.NoError(t, portals.Shutdown(t.Context()))
	})
}

func TestStoreIsOutForLongerThanATokenLives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, inner := counting(), stored(t)
		store := &faultyStore{Store: inner, swap: failing, load: func(context.Context) error { return nil }}
		portals := scripted(t, store, s)
		_, _, err := portals.Renew(t.Context(), member, "a1")
		require.NoError(t, err)
		store.set(func(s *faultyStore) { s.load = func(context.Context) error { return errDisk } })

		pass(2 * time.Hour)
		_, token, err := portals.Access(t.Context(), member)
		require.NoError(t, err)
		require.Equal(t, "a3", token)
		_, token, err = portals.Renew(t.Context(), member, "a3")
		require.NoError(t, err)
		require.Equal(t, "a4", token)
		require.Equal(t, "a1", string(load(t, inner, member).AccessToken))

		store.set(func(s *faultyStore) { s.load, s.swap = nil, nil })
		require.NoError(t, portals.Shutdown(t.Context()))
		in := load(t, inner, member)
		require.Equal(t, "a4", string(in.AccessToken))
		require.Equal(t, "r4", string(in.RefreshToken))
		var refreshed []string
		for _, r := range s.requests() {
			refreshed = append(refreshed, r.form.Get("refresh_token"))
		}
		require.Equal(t, []string{"r1", "r2", "r3"}, refreshed)
	})
}

func TestWhatTheStoreHoldsWhenItRecovers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		meanwhile func(t *testing.T, inner *oauth.MemoryStore)
		want      string // access token; empty if the portal was forgotten
		app       string
	}{
		"unchanged": {func(*testing.T, *oauth.MemoryStore) {}, "a3", "t1"},
		"another process's application token": {func(t *testing.T, inner *oauth.MemoryStore) {
			t.Helper()
			otherProcess(t, inner, func(in *oauth.Installation) { in.ApplicationToken = "t9" })
		}, "a3", "t9"},
		"another process's installation": {func(t *testing.T, inner *oauth.MemoryStore) {
			t.Helper()
			otherProcess(t, inner, func(in *oauth.Installation) { in.AccessToken, in.RefreshToken = "a9", "r9" })
		}, "a9", "t1"},
		"forgotten": {func(t *testing.T, inner *oauth.MemoryStore) {
			t.Helper()
			_, version, err := inner.Load(t.Context(), oauth.Key{ClientID: clientID, MemberID: member})
			require.NoError(t, err)
			require.NoError(t, inner.Delete(t.Context(), oauth.Key{ClientID: clientID, MemberID: member}, version))
		}, "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, inner := counting(), stored(t)
				store := &faultyStore{Store: inner, swap: failing}
				portals := scripted(t, store, s)
				_, _, err := portals.Renew(t.Context(), member, "a1")
				require.NoError(t, err)
				_, _, err = portals.Renew(t.Context(), member, "a2") // two pairs that the store does not have
				require.NoError(t, err)

				test.meanwhile(t, inner)
				store.set(func(s *faultyStore) { s.swap = nil })
				pass(time.Second)
				_, token, err := portals.Access(t.Context(), member)

				if test.want == "" {
					require.ErrorIs(t, err, oauth.ErrNotFound)
					requireEmpty(t, inner, member)
					return
				}
				require.NoError(t, err)
				require.Equal(t, test.want, token)
				in := load(t, inner, member)
				require.Equal(t, test.want, string(in.AccessToken))
				require.Equal(t, test.app, string(in.ApplicationToken))
				require.Len(t, s.requests(), 2)
			})
		})
	}
}

func TestWriteThatOnlySeemedToFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, inner := counting(), stored(t)
		store := &faultyStore{Store: inner, after: errDisk}
		portals := scripted(t, store, s)

		_, token, err := portals.Renew(t.Context(), member, "a1")

		require.NoError(t, err)
		require.Equal(t, "a2", token)
		require.Equal(t, "r2", string(load(t, inner, member).RefreshToken))
		require.Len(t, s.requests(), 1)
		require.NoError(t, portals.Shutdown(t.Context()))
	})
}

func TestAnswerAtTheLastMomentIsStillWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{respond: func(sent) (int, string) {
			pass(29_990 * time.Millisecond) // a renewal has 30 seconds
			return 200, pair("a2", "r2", nil)
		}}
		inner := stored(t)
		store := &faultyStore{Store: inner}
		store.swap = func(context.Context, oauth.Version, oauth.Installation) error {
			store.set(func(s *faultyStore) { s.swap = nil })
			return errDisk // once: the next try is past the 30 seconds
		}
		portals := scripted(t, store, s, oauth.WithHTTPClient(withTimeout(s.client(t), time.Minute)))

		_, _, err := portals.Renew(t.Context(), member, "a1")

		require.NoError(t, err)
		require.Equal(t, "r2", string(load(t, inner, member).RefreshToken))
	})
}

func TestStoreThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, inner := counting(), stored(t)
		store := &faultyStore{Store: inner, swap: func(ctx context.Context, _ oauth.Version, _ oauth.Installation) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		start := time.Now()

		_, token, err := scripted(t, store, s).Renew(t.Context(), member, "a1")

		require.NoError(t, err)
		require.Equal(t, "a2", token)
		require.Less(t, time.Since(start), 10*time.Second)
	})
}

func TestStoreThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := counting()
	store := &faultyStore{Store: stored(t), load: func(context.Context) error { return errDisk }}
	portals := scripted(t, store, s)
	ctx := t.Context()

	_, _, err := portals.Access(ctx, member)
	require.ErrorIs(t, err, oauth.ErrStore)
	require.ErrorIs(t, err, errDisk)
	_, _, err = portals.Renew(ctx, member, "a1")
	require.ErrorIs(t, err, oauth.ErrStore)
	_, err = portals.ApplicationTokens(ctx, member)
	require.ErrorIs(t, err, oauth.ErrStore)
	require.ErrorIs(t, portals.Forget(ctx, member), oauth.ErrStore)
	require.Empty(t, s.requests())
}

func TestStoreThatPanics(t *testing.T) {
	t.Parallel()
	store := &faultyStore{Store: stored(t), swap: func(context.Context, oauth.Version, oauth.Installation) error {
		panic("planted-9d1e")
	}}
	out, logger := logs()

	_, _, err := scripted(t, store, counting(), logger).Renew(t.Context(), member, "a1")

	require.ErrorIs(t, err, oauth.ErrStore)
	require.Contains(t, out.String(), "pendingwrite.go", "the stack is logged")
	requireNothingPlanted(t, err)
	require.NotContains(t, out.String(), "planted-9d1e")
}

func TestForget(t *testing.T) {
	t.Parallel()
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		store := stored(t)
		portals := scripted(t, store, counting())
		require.NoError(t, portals.Forget(t.Context(), member))
		requireEmpty(t, store, member)
		require.NoError(t, portals.Forget(t.Context(), member))
	})
	t.Run("during a renewal", func(t *testing.T) {
		t.Parallel()
		store := stored(t)
		var portals *oauth.Portals
		s := &script{respond: func(sent) (int, string) {
			require.NoError(t, portals.Forget(t.Context(), member))
			return 200, pair("a2", "r2", nil)
		}}
		portals = scripted(t, store, s)
		_, _, err := portals.Renew(t.Context(), member, "a1")
		require.ErrorIs(t, err, oauth.ErrNotFound)
		requireEmpty(t, store, member)
	})
	t.Run("while tokens wait to be written", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			store := &faultyStore{Store: stored(t), swap: failing}
			portals := scripted(t, store, counting())
			_, _, err := portals.Renew(t.Context(), member, "a1")
			require.NoError(t, err)
			require.NoError(t, portals.Forget(t.Context(), member))
			_, _, err = portals.Access(t.Context(), member)
			require.ErrorIs(t, err, oauth.ErrNotFound)
			require.NoError(t, portals.Shutdown(t.Context()))
		})
	})
	t.Run("conflicts without end", func(t *testing.T) {
		t.Parallel()
		err := scripted(t, conflicting{stored(t)}, counting()).Forget(t.Context(), member)
		require.ErrorIs(t, err, oauth.ErrStore)
		require.ErrorIs(t, err, oauth.ErrConflict)
	})
}

type conflicting struct{ oauth.Store }

func (conflicting) Delete(context.Context, oauth.Key, oauth.Version) error { return oauth.ErrConflict }

func TestShutdown(t *testing.T) {
	t.Parallel()
	t.Run("waits for a renewal", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			store := stored(t)
			portals := scripted(t, store, &script{respond: func(sent) (int, string) {
				pass(5 * time.Second)
				return 200, pair("a2", "r2", nil)
			}})
			ctx, leave := context.WithTimeout(t.Context(), time.Second)
			defer leave()
			_, _, err := portals.Renew(ctx, member, "a1")
			require.ErrorIs(t, err, context.DeadlineExceeded)

			require.ErrorIs(t, portals.Shutdown(ctx), context.DeadlineExceeded)
			require.Equal(t, "a1", string(load(t, store, member).AccessToken))
			require.NoError(t, portals.Shutdown(t.Context()))
			require.Equal(t, "a2", string(load(t, store, member).AccessToken))

			_, token, err := portals.Access(t.Context(), member)
			require.NoError(t, err, "what needs no renewal still works")
			require.Equal(t, "a2", token)
			_, _, err = portals.Renew(t.Context(), member, "a2")
			require.ErrorIs(t, err, oauth.ErrShutdown)
		})
	})
	t.Run("reports what is lost", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			store := &faultyStore{Store: stored(t), swap: failing}
			portals := scripted(t, store, counting())
			_, _, err := portals.Renew(t.Context(), member, "a1")
			require.NoError(t, err)
			require.ErrorIs(t, portals.Shutdown(t.Context()), oauth.ErrStore)
		})
	})
}

func withTimeout(c *http.Client, d time.Duration) *http.Client {
	c.Timeout = d
	return c
}
