package pgstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/offline/offlinetest"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/pgstore"
)

func TestLeaser(t *testing.T) {
	t.Parallel()
	offlinetest.TestLeaser(t, func(t *testing.T) offline.Leaser {
		t.Helper()
		return newKit(t).open()
	})
}

// TestLeaseTokens: a token grows with each owner of a lease, also after its row was deleted.
func TestLeaseTokens(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open(pgstore.WithPace(0, 0, 10*time.Millisecond, 0))
	token := func() int64 { return k.number(`SELECT token FROM {s}.leases WHERE name = 'a'`) }
	take := func(owner string) {
		t.Helper()
		held, err := s.Acquire(t.Context(), owner, time.Hour, "a", "a")
		require.NoError(t, err)
		require.Equal(t, []string{"a"}, held)
	}
	take("one")
	first := token()
	take("one")
	require.Equal(t, first, token(), "who renews a lease keeps its token")
	require.NoError(t, s.Release(t.Context(), "one", "a"))
	take("one")
	second := token()
	require.Greater(t, second, first, "between two leases of one owner may have been another's")
	require.NoError(t, s.Release(t.Context(), "one", "a"))
	k.exec(`UPDATE {s}.leases SET token = token + 3600000000`) // as if the clock had been an hour ahead
	take("two")
	third := token()
	require.Greater(t, third, second+3600000000)
	k.exec(`UPDATE {s}.leases SET token = $1, until = now() - interval '2 days'`, second)
	eventually(t, "leases that ended long ago are deleted", func() bool { return k.number(`SELECT count(*) FROM {s}.leases`) == 0 })
	take("three")
	require.Greater(t, token(), second)
}

// TestKeep: handled records are kept for their time and then deleted; parked ones stay.
func TestKeep(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open(pgstore.WithKeep(time.Hour), pgstore.WithPace(0, 0, 10*time.Millisecond, 0))
	all := store(t, s, records(0, make([]string, 2500)...)...)
	var marks []webhook.Mark
	for _, r := range all[:2400] {
		marks = append(marks, done(r))
	}
	for _, r := range all[2400:] {
		marks = append(marks, parked(r, "no"))
	}
	mark(t, s, marks...)
	kept, err := s.List(t.Context(), webhook.StateDone, "", 3000)
	require.NoError(t, err)
	require.Len(t, kept, 2400)
	k.exec(`UPDATE {s}.archive SET settled = settled - interval '59 minutes' WHERE id <= $1`, pgstore.Number(all[9].ID))
	k.exec(`UPDATE {s}.archive SET settled = settled - interval '61 minutes' WHERE id > $1`, pgstore.Number(all[9].ID))
	eventually(t, "what is too old is deleted",
		func() bool { return k.number(`SELECT count(*) FROM {s}.archive WHERE state = 'done'`) == 10 })
	depth, err := s.Depth(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(10), depth.Kept)
	require.Equal(t, int64(100), depth.Parked)
}

// TestListAfterNothing: a page cannot begin after a record that is not there.
func TestListAfterNothing(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.open()
	all := store(t, s, records(0, "0", "1", "2", "3")...)
	for _, r := range all[1:] {
		mark(t, s, parked(r, "no"))
	}
	page, err := s.List(t.Context(), webhook.StateParked, all[1].ID, 3)
	require.NoError(t, err)
	require.Len(t, page, 2)
	_, err = s.Discard(t.Context(), all[1].ID)
	require.NoError(t, err)
	for _, id := range []string{all[0].ID, all[1].ID, "1"} {
		_, err = s.List(t.Context(), webhook.StateParked, id, 3)
		require.ErrorContains(t, err, "list from the beginning")
	}
	for _, state := range []webhook.State{webhook.StatePending, webhook.StateDone, 99} {
		page, err = s.List(t.Context(), state, "", 3)
		require.NoError(t, err)
		require.Empty(t, page)
	}
}
