package oauth

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const fuzzMember = "a223c6b3710f85df22e9377d6c4f7553"

func testKeyring(tb testing.TB, n byte) keyring {
	tb.Helper()
	k, err := newEncryptionKey([]byte(strings.Repeat(string(rune('a'+n)), EncryptionKeySize)))
	require.NoError(tb, err)
	return keyring{k}
}

// FuzzParseFile reads what may stand in a file: it never panics, leaks nothing into errors, and what it takes can be written
// and read again.
func FuzzParseFile(f *testing.F) {
	key, keys := Key{MemberID: fuzzMember, UserID: 7}, testKeyring(f, 0)
	in := Installation{MemberID: fuzzMember, AccessToken: "planted-a", RefreshToken: "planted-r", Scope: []string{"crm"}, Expires: time.Unix(1<<31, 5)}
	for _, keys := range []keyring{nil, keys, testKeyring(f, 1)} {
		data, err := encodeFile(key, in, keys)
		require.NoError(f, err)
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	for _, text := range []string{
		"", "null", "{}", "[]", `{"format":1}`, `{"format":2}`, `{"format":1e400}`, `{"format":1,"format":2}`, strings.Repeat("[", 20000),
		`{"format":1,"member_id":"` + fuzzMember + `","user_id":7,"installation":{"expires":"0000-01-01T00:00:00+24:00","scope":[null,""]}}`,
		`{"format":1,"member_id":"` + fuzzMember + `","user_id":7,"sealed":{"key_id":"` + keys[0].id + `","data":"AAAA"}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, keys := range []keyring{nil, keys} {
			in, err := parseFile(data, key, keys)
			if err != nil {
				require.True(t, errors.Is(err, ErrUnreadable) || errors.Is(err, ErrEncryptionKey))
				require.NotContains(t, err.Error(), "planted")
				require.Less(t, len(err.Error()), 200)
				continue
			}
			again, err := encodeFile(key, in, keys)
			if err != nil {
				continue // such as a time that JSON reads and does not write
			}
			back, err := parseFile(again, key, keys)
			require.NoError(t, err)
			require.Equal(t, toStored(in), toStored(back))
			require.NotEqual(t, versionOf(data), versionOf(again))
		}
	})
}

// FuzzFileName gives names to keys: one to each, harmless, and to be told from all others.
func FuzzFileName(f *testing.F) {
	for _, id := range []string{"", fuzzMember, "../x", "A", "x\x00y", "-", "a-1", strings.Repeat("z", 1000), "\xff"} {
		f.Add(id, int64(0), id+"1", int64(-7))
	}
	f.Fuzz(func(t *testing.T, id string, user int64, otherID string, otherUser int64) {
		key, other := Key{MemberID: id, UserID: user}, Key{MemberID: otherID, UserID: otherUser}
		name := fileName(key)
		require.Equal(t, key == other, strings.EqualFold(name, fileName(other)))
		require.LessOrEqual(t, len(name), 128)
		require.Empty(t, strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-."))
		require.NotContains(t, name, "..")
		require.False(t, strings.HasPrefix(name, lockPrefix))
		got, known, ours := parseName(name)
		require.True(t, ours)
		if known {
			require.Equal(t, key, got)
		}
		// Whatever else is taken for a name of ours, is one.
		if got, known, _ := parseName(id); known {
			require.Equal(t, id, fileName(got))
		}
	})
}

func TestFileNames(t *testing.T) {
	t.Parallel()
	hash := "2e1cfa82b035c26cbbbdae632cea070514eb8b773f616aaeaf668e2f0be8f10d"
	for name, key := range map[string]Key{
		"portal-" + fuzzMember + ".json":                      {MemberID: fuzzMember},
		"portal-" + fuzzMember + "-7.json":                    {MemberID: fuzzMember, UserID: 7},
		"portal-d--9223372036854775808.json":                  {MemberID: "d", UserID: math.MinInt64},
		"portal-" + strings.Repeat("x", maxPlainID) + ".json": {MemberID: strings.Repeat("x", maxPlainID)},
	} {
		require.Equal(t, name, fileName(key))
		got, known, ours := parseName(name)
		require.True(t, known && ours, name)
		require.Equal(t, key, got)
	}
	for _, id := range []string{"", "D", "..", strings.Repeat("x", maxPlainID+1)} {
		name := fileName(Key{MemberID: id, UserID: 3})
		require.Regexp(t, `^hashed-[0-9a-f]{64}-3\.json$`, name)
		_, known, ours := parseName(name)
		require.True(t, ours && !known, name)
	}
	for c := range 256 { // what is not there twice where case is ignored stands for itself
		id := string([]byte{byte(c)})
		plain := c >= '0' && c <= '9' || c >= 'a' && c <= 'z'
		require.Equal(t, plain, fileName(Key{MemberID: id}) == "portal-"+id+".json")
	}
	for _, name := range []string{
		"", ".json", "portal-.json", "portal-D.json", "portal-d", "portal-d-0.json", "portal-d-07.json", "portal-d-+7.json", "portal-d-.json",
		"portal-d-7-7.json", "portal-d-99999999999999999999.json", "portal-d.json.json", "portal-d.json.tmp", "lock-0", "lock-0.json",
		"hashed-" + hash[1:] + ".json", "hashed-" + hash + "-0.json", "HASHED-" + hash + ".json", "portal-" + strings.Repeat("x", maxPlainID+1) + ".json",
	} {
		_, known, ours := parseName(name)
		require.False(t, known || ours, name)
	}
}

// TestEncodeFileReadsBack holds the promise that what JSON would bend is not written.
func TestEncodeFileReadsBack(t *testing.T) {
	t.Parallel()
	for _, keys := range []keyring{nil, testKeyring(t, 0)} {
		key := Key{MemberID: fuzzMember}
		zone := time.FixedZone("", -3600)
		in := Installation{Expires: time.Now(), InstalledAt: time.Date(1, 1, 1, 0, 0, 0, 1, zone), Scope: []string{}}
		data, err := encodeFile(key, in, keys)
		require.NoError(t, err)
		require.True(t, json.Valid(data))
		back, err := parseFile(data, key, keys)
		require.NoError(t, err)
		require.True(t, in.Expires.Equal(back.Expires))
		require.True(t, in.InstalledAt.Equal(back.InstalledAt))
		require.True(t, back.UpdatedAt.IsZero())

		for _, bad := range []Installation{
			{Scope: []string{"\xc3"}}, {Status: "\xff"}, {MemberID: "\x80"}, {UpdatedAt: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)},
		} {
			_, err := encodeFile(key, bad, keys)
			require.ErrorIs(t, err, errNoText)
		}
		_, err = encodeFile(Key{MemberID: "\xff"}, in, keys)
		require.ErrorIs(t, err, errNoText)
	}
}
