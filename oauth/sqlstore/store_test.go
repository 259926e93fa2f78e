package sqlstore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/longtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/oauth/oauthtest"
	"github.com/b24events/b24events/oauth/sqlstore"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/offline/offlinetest"
)

var (
	_ oauth.Store    = (*sqlstore.Store)(nil)
	_ oauth.Locker   = (*sqlstore.Store)(nil)
	_ offline.Leaser = (*sqlstore.Store)(nil)
)

// conform runs every suite on places that fresh returns. The suites of leases wait for them to
// expire.
func conform(t *testing.T, fresh func(tb testing.TB) place) {
	t.Helper()
	conformStore(t, fresh)
	t.Run("locker", func(t *testing.T) {
		t.Parallel()
		oauthtest.TestLocker(t, func(t *testing.T) oauth.Locker { t.Helper(); return fresh(t).store(t) })
	})
	t.Run("leaser", func(t *testing.T) {
		t.Parallel()
		offlinetest.TestLeaser(t, func(t *testing.T) offline.Leaser { t.Helper(); return fresh(t).store(t) })
	})
}

// conformStore runs the suites of installations.
func conformStore(t *testing.T, fresh func(tb testing.TB) place) {
	t.Helper()
	t.Run("store", func(t *testing.T) {
		t.Parallel()
		oauthtest.TestStore(t, func(t *testing.T) oauth.Store { t.Helper(); return fresh(t).store(t) })
	})
	t.Run("shared store", func(t *testing.T) {
		t.Parallel()
		oauthtest.TestSharedStore(t, func(t *testing.T) func() oauth.Store {
			t.Helper()
			p := fresh(t)
			return func() oauth.Store { return p.store(t) }
		})
	})
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, e := range engines {
		for name, encrypted := range map[string]bool{"plain": false, "encrypted": true} {
			t.Run(e.name+" "+name, func(t *testing.T) {
				t.Parallel()
				conform(t, func(tb testing.TB) place {
					tb.Helper()
					p := e.fresh(tb)
					p.Encrypted = encrypted
					return p
				})
			})
		}
	}
}

// TestConformanceOfSettings runs the suites with settings that change what statements do.
func TestConformanceOfSettings(t *testing.T) {
	t.Parallel()
	longtest.Skip(t, "it runs the suites with each setting")
	for name, c := range map[string]struct {
		fresh      func(tb testing.TB) place
		parameters string
		suites     func(t *testing.T, fresh func(tb testing.TB) place)
	}{
		"PostgreSQL serializable": {freshPostgreSQL, "default_transaction_isolation=serializable", conform},
		"PostgreSQL repeatable":   {freshPostgreSQL, "default_transaction_isolation=repeatable%20read", conformStore},
		"MariaDB serializable":    {freshMariaDB, "tx_isolation='SERIALIZABLE'", conform},
		"MariaDB rows found":      {freshMariaDB, "clientFoundRows=true&interpolateParams=true&parseTime=true", conformStore},
		"MariaDB other modes": {
			freshMariaDB, "sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES,SIMULTANEOUS_ASSIGNMENT'&time_zone='%2B05:30'&collation=latin1_swedish_ci",
			conform,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.suites(t, func(tb testing.TB) place {
				tb.Helper()
				return c.fresh(tb).with(c.parameters)
			})
		})
	}
}

// TestHostileKeys stores keys of any bytes, all of which are different. All engines accept the same
// ones.
func TestHostileKeys(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("x", sqlstore.MaxIDLength)
	ids := []string{
		"x", "X", "x ", "x  ", " x", "x\x00", "x\x00\x00", "\x00", "\x00x", "é", "e\u0301", "É", "ß", "ss", "ſ", "\u212a", "K", "k",
		"\xff", "\xff\xff", "\xc3", "\xed\xa0\x80", "\ufffd", "\U0001f600", "'", `"`, `\`, `\x00`, "%", "_", "?", "$1", ";", "--", "NULL",
		longest, longest[1:], strings.Repeat("\xff", sqlstore.MaxIDLength),
	}
	each(t, func(t *testing.T, p place) {
		t.Helper()
		s := p.store(t)
		var keys []oauth.Key
		for _, id := range ids {
			keys = append(keys, oauth.Key{ClientID: clientID, MemberID: id}, oauth.Key{ClientID: clientID, MemberID: id, UserID: math.MaxInt64},
				oauth.Key{ClientID: id, MemberID: "x"})
		}
		keys = append(keys, oauth.Key{MemberID: "x"})
		for i, key := range keys {
			if !isUTF8(key) { // a codec writes text
				_, err := s.Swap(t.Context(), key, "", oauth.Installation{})
				require.ErrorContains(t, err, "not UTF-8", "%q", key)
				_, _, err = s.Load(t.Context(), key)
				require.ErrorIs(t, err, oauth.ErrNotFound, "%q", key)
				continue
			}
			_, err := s.Swap(t.Context(), key, "", oauth.Installation{UserID: int64(i)})
			require.NoError(t, err, "%q", key)
		}
		var listed []oauth.Key
		for i, key := range keys {
			if !isUTF8(key) {
				continue
			}
			in, version, err := s.Load(t.Context(), key)
			require.NoError(t, err, "%q", key)
			require.EqualValues(t, i, in.UserID, "%q", key)
			require.NotEmpty(t, version)
			if key.ClientID == clientID {
				listed = append(listed, key)
			}
		}
		slices.SortFunc(listed, func(a, b oauth.Key) int {
			if c := strings.Compare(a.MemberID, b.MemberID); c != 0 {
				return c
			}
			return int(a.UserID&1) - int(b.UserID&1)
		})
		var found []oauth.Key
		for key, err := range oauth.Keys(t.Context(), s, clientID) {
			require.NoError(t, err)
			found = append(found, key)
		}
		require.Equal(t, listed, found)

		for _, key := range []oauth.Key{
			{ClientID: clientID, MemberID: longest + "x"},
			{ClientID: longest + "x", MemberID: memberID},
			{ClientID: clientID},
			{ClientID: clientID, MemberID: memberID, UserID: -1},
		} {
			_, err := s.Swap(t.Context(), key, "", installation("one"))
			require.ErrorContains(t, err, "nothing")
			requireSafe(t, err)
			_, _, err = s.Load(t.Context(), key)
			require.ErrorIs(t, err, oauth.ErrNotFound)
			require.NoError(t, s.Delete(t.Context(), key, "1"))
		}
		page, err := s.List(t.Context(), oauth.Key{ClientID: clientID, MemberID: strings.Repeat("x", 100_000), UserID: -5}, 3)
		require.NoError(t, err)
		require.Len(t, page, 3, "those that follow")
		page, err = s.List(t.Context(), oauth.Key{ClientID: strings.Repeat("x", 100_000)}, 3)
		require.NoError(t, err)
		require.Empty(t, page)
	})
}

func isUTF8(key oauth.Key) bool {
	return strings.ToValidUTF8(key.ClientID+"|"+key.MemberID, "") == key.ClientID+"|"+key.MemberID
}

// TestHostileVersions compares versions byte by byte.
func TestHostileVersions(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p place) {
		t.Helper()
		s := p.store(t)
		version, err := s.Swap(t.Context(), portal, "", installation("one"))
		require.NoError(t, err)
		for _, old := range []oauth.Version{
			version + " ", version + "\x00", " " + version, oauth.Version(strings.ToLower(string(version))), version[1:],
			"\xff", "' OR 1=1 --", oauth.Version(strings.Repeat("x", 100_000)),
		} {
			_, err := s.Swap(t.Context(), portal, old, installation("two"))
			require.ErrorIs(t, err, oauth.ErrConflict, "%.30q", old)
			require.ErrorIs(t, s.Delete(t.Context(), portal, old), oauth.ErrConflict, "%.30q", old)
		}
		in, found, err := s.Load(t.Context(), portal)
		require.NoError(t, err)
		require.Equal(t, version, found)
		require.Equal(t, installation("one"), in)
	})
}

// TestDamagedRow damages a row by hand. The row is listed, and reported with its key. A caller that
// knows its version can replace it.
func TestDamagedRow(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprint("encrypted ", encrypted), func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, p place) {
				t.Helper()
				p.Encrypted = encrypted
				s, db := p.store(t), p.open(t)
				whole := portal
				whole.UserID = 7
				for _, key := range []oauth.Key{portal, whole} {
					_, err := s.Swap(t.Context(), key, "", installation("one"))
					require.NoError(t, err)
				}
				_, version, err := s.Load(t.Context(), portal)
				require.NoError(t, err)
				set := "UPDATE " + p.table("installations") + " SET document = "
				for name, document := range map[string]string{
					"no JSON": "'" + planted + "'",
					"empty":   "''",
					"another user's": "(SELECT document FROM (SELECT document FROM " + p.table("installations") +
						" WHERE user_id = 7) AS other)",
				} {
					run(t, db, set+document+" WHERE user_id = 0")
					_, found, err := s.Load(t.Context(), portal)
					require.ErrorIs(t, err, oauth.ErrUnreadable, name)
					require.ErrorContains(t, err, memberID, name)
					require.Empty(t, found)
					requireSafe(t, err)
				}
				page, err := s.List(t.Context(), oauth.Key{ClientID: clientID}, 10)
				require.NoError(t, err)
				require.Equal(t, []oauth.Key{portal, whole}, page)
				written, err := oauth.Reseal(t.Context(), s, clientID)
				require.ErrorIs(t, err, oauth.ErrUnreadable)
				require.Equal(t, 1, written)
				_, err = s.Swap(t.Context(), portal, "", installation("two"))
				require.ErrorIs(t, err, oauth.ErrConflict)
				_, err = s.Swap(t.Context(), portal, version, installation("two"))
				require.NoError(t, err)
				in, _, err := s.Load(t.Context(), portal)
				require.NoError(t, err)
				require.Equal(t, installation("two"), in)
			})
		})
	}
}

// TestEncryption checks what the database holds, and changes the key.
func TestEncryption(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p place) {
		t.Helper()
		document := func() string {
			var data []byte
			require.NoError(t, p.open(t).QueryRowContext(t.Context(), "SELECT document FROM "+p.table("installations")).Scan(&data))
			require.True(t, json.Valid(data))
			return string(data)
		}
		inClear := p.store(t)
		_, err := inClear.Swap(t.Context(), portal, "", installation("one"))
		require.NoError(t, err)
		require.Contains(t, document(), planted)

		newKey := []byte(strings.Repeat("n", oauth.EncryptionKeySize))
		both := p.store(t, sqlstore.WithCodec(oauth.WithEncryptionKey(newKey)), sqlstore.WithCodec(oauth.WithEncryptionKey(oldKey)))
		written, err := oauth.Reseal(t.Context(), both, clientID)
		require.NoError(t, err)
		require.Equal(t, 1, written)
		require.NotContains(t, document(), planted)

		only := p.store(t, sqlstore.WithCodec(oauth.WithEncryptionKey(newKey), oauth.WithEncryptionOnly()))
		in, _, err := only.Load(t.Context(), portal)
		require.NoError(t, err)
		require.Equal(t, installation("one"), in)
		_, _, err = inClear.Load(t.Context(), portal)
		require.ErrorIs(t, err, oauth.ErrEncryptionKey)
		requireSafe(t, err)
		p.Encrypted = true
		_, _, err = p.store(t).Load(t.Context(), portal)
		require.ErrorIs(t, err, oauth.ErrEncryptionKey)
	})
}

// TestLargest stores installations of nearly 1 MiB, and refuses larger ones.
func TestLargest(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p place) {
		t.Helper()
		s := p.store(t)
		in := installation("one")
		in.Status = strings.Repeat("x", 1<<20-2000)
		version, err := s.Swap(t.Context(), portal, "", in)
		require.NoError(t, err)
		in.AccessToken = "two"
		version, err = s.Swap(t.Context(), portal, version, in)
		require.NoError(t, err)
		in.Status += strings.Repeat("x", 2000)
		_, err = s.Swap(t.Context(), portal, version, in)
		require.ErrorContains(t, err, "more than 1 MiB")
		found, _, err := s.Load(t.Context(), portal)
		require.NoError(t, err)
		require.Equal(t, event.Secret("two"), found.AccessToken)
		require.Len(t, found.Status, 1<<20-2000)
	})
}

// TestPrinted prints the store, which holds the pool.
func TestPrinted(t *testing.T) {
	t.Parallel()
	s := freshSQLite(t).store(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
		require.Equal(t, "sqlstore.Store", fmt.Sprintf(verb, s))
	}
}

// TestListReadsAPage counts what the server reads for a page in the middle of 20,000 keys.
func TestListReadsAPage(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p place) {
		t.Helper()
		s, db := p.store(t), p.open(t)
		db.SetMaxOpenConns(1)
		const portals, users, limit = 2000, 10, 200
		fill(t, db, p, portals, users)
		args := []any{[]byte(clientID), []byte("m01000"), int64(4), limit}
		switch p.dialect() {
		case sqlstore.PostgreSQL:
			run(t, db, "ANALYZE "+p.table("installations"))
			plan := strings.Join(texts(t, p, "EXPLAIN (ANALYZE, TIMING OFF) "+s.ListStatement(), args...), "\n")
			require.NotContains(t, plan, "Sort")
			require.NotContains(t, plan, "Filter")
			require.Contains(t, plan, "ROW(member_id, user_id) > ROW(", "the index finds the beginning")
			require.Contains(t, plan, "rows=200", "and no more rows are read")
		case sqlstore.MySQL:
			args = slices.Insert(args, 2, args[1])
			run(t, db, "FLUSH STATUS") // of this connection
			rows, err := db.QueryContext(t.Context(), s.ListStatement(), args...)
			require.NoError(t, err)
			n := 0
			for rows.Next() {
				n++
			}
			require.NoError(t, rows.Err())
			require.NoError(t, rows.Close())
			require.Equal(t, limit, n)
			read := number(t, db, "SELECT SUM(variable_value) FROM information_schema.session_status WHERE variable_name LIKE 'Handler_read%'")
			require.LessOrEqual(t, read, int64(limit+5))
		default:
			plan := strings.Join(texts(t, p, "EXPLAIN QUERY PLAN "+s.ListStatement(), args...), "\n")
			require.NotContains(t, plan, "TEMP B-TREE")
			require.Contains(t, plan, "COVERING INDEX")
			require.Contains(t, plan, "(client_id=? AND (member_id,user_id)>(?,?))")
		}
		page, err := s.List(t.Context(), oauth.Key{ClientID: clientID, MemberID: "m01000", UserID: 4}, limit)
		require.NoError(t, err)
		require.Len(t, page, limit)
		require.Equal(t, oauth.Key{ClientID: clientID, MemberID: "m01000", UserID: 5}, page[0])
		require.Equal(t, oauth.Key{ClientID: clientID, MemberID: "m01020", UserID: 4}, page[limit-1])
	})
}

// TestSQLiteIsBusy lets another process keep the file locked for longer than the busy timeout.
func TestSQLiteIsBusy(t *testing.T) {
	t.Parallel()
	p := freshSQLite(t)
	p.DSN = strings.Replace(p.DSN, "busy_timeout(10000)", "busy_timeout(1000)", 1)
	s := p.store(t)
	other, err := p.open(t).Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	_, err = other.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = s.Swap(ctx, portal, "", installation("one"))
	require.ErrorIs(t, err, context.DeadlineExceeded, "no longer than the context")
	requireSafe(t, err)
	_, _, err = s.Load(t.Context(), portal)
	require.ErrorIs(t, err, oauth.ErrNotFound, "readers do not wait")

	unlocked := make(chan error, 1)
	time.AfterFunc(1500*time.Millisecond, func() {
		_, err := other.ExecContext(t.Context(), "ROLLBACK")
		unlocked <- err
	})
	_, err = s.Swap(t.Context(), portal, "", installation("one"))
	require.NoError(t, err)
	require.NoError(t, <-unlocked)
}
