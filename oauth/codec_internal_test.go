package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

const (
	fuzzClient = "local.5c8bb1b0891cf2.87252039"
	fuzzMember = "a223c6b3710f85df22e9377d6c4f7553"
)

func testCodec(tb testing.TB, opts ...CodecOption) *Codec {
	tb.Helper()
	c, err := NewCodec(opts...)
	require.NoError(tb, err)
	return c
}

func testKey(n byte) CodecOption {
	return WithEncryptionKey([]byte(strings.Repeat(string(rune('a'+n)), EncryptionKeySize)))
}

// TestCodecKnowsEveryField checks that storedInstallation has every field of Installation. If you
// add a field to one, add it to the other.
func TestCodecKnowsEveryField(t *testing.T) {
	t.Parallel()
	requireSameFields(t, "Installation", reflect.TypeFor[Installation](), reflect.TypeFor[storedInstallation]())
}

func requireSameFields(t *testing.T, path string, in, stored reflect.Type) {
	t.Helper()
	switch {
	case in == reflect.TypeFor[time.Time]():
		require.Equal(t, in, stored, path)
	case in.Kind() == reflect.Struct:
		require.Equal(t, reflect.Struct, stored.Kind(), path)
		require.Equal(t, in.NumField(), stored.NumField(), "storedInstallation has other fields than %s", path)
		for i := range in.NumField() {
			name := in.Field(i).Name
			field, ok := stored.FieldByName(name)
			require.True(t, ok, "storedInstallation lacks %s.%s", path, name)
			tag, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			require.Regexp(t, "^[a-z_]+$", tag, "JSON name of %s.%s", path, name)
			require.Contains(t, []string{"omitempty", "omitzero"}, options, "%s.%s: a version that does not know it refuses it", path, name)
			requireSameFields(t, path+"."+name, in.Field(i).Type, field.Type)
		}
	case in.Kind() == reflect.Slice:
		require.Equal(t, reflect.Slice, stored.Kind(), path)
		requireSameFields(t, path+"[]", in.Elem(), stored.Elem())
	case in == reflect.TypeFor[event.Secret]():
		require.Equal(t, reflect.TypeFor[string](), stored, "%s: a secret encodes as [redacted]", path)
	default:
		require.True(t, in.ConvertibleTo(stored) && in.Kind() == stored.Kind(), "%s is a %s, and stored as a %s", path, in, stored)
		require.Contains(t, []reflect.Kind{reflect.String, reflect.Int64, reflect.Int, reflect.Bool}, in.Kind(), path)
	}
}

// filled returns a value with something in every field.
func filled(tb testing.TB) Installation {
	tb.Helper()
	var in Installation
	fillValue(tb, "planted", reflect.ValueOf(&in).Elem())
	return in
}

func fillValue(tb testing.TB, name string, v reflect.Value) {
	tb.Helper()
	switch _, isTime := reflect.TypeAssert[time.Time](v); {
	case isTime:
		v.Set(reflect.ValueOf(time.Date(2031, 2, 3, 4, 5, 6, 789, time.UTC)))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fillValue(tb, name+"-"+v.Type().Field(i).Name, v.Field(i))
		}
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fillValue(tb, fmt.Sprint(name, i), v.Index(i))
		}
	case v.Kind() == reflect.String:
		v.SetString(name)
	case v.CanInt():
		v.SetInt(1<<40 + 7)
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	default:
		tb.Fatalf("%s is a %s", name, v.Type())
	}
}

func TestCodecKeepsEveryField(t *testing.T) {
	t.Parallel()
	key, in := Key{ClientID: fuzzClient, MemberID: fuzzMember, UserID: 7}, filled(t)
	for name, c := range map[string]*Codec{"plain": testCodec(t), "encrypted": testCodec(t, testKey(0), WithEncryptionOnly())} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := c.Seal(key, in)
			require.NoError(t, err)
			require.True(t, json.Valid(data))
			require.NotContains(t, string(data), "redacted")
			back, err := c.Open(key, data)
			require.NoError(t, err)
			require.Equal(t, in, back)
		})
	}
}

// FuzzCodecOpen opens what may be in a store. Open never panics and leaks nothing into errors. What
// it accepts can be sealed and opened again.
func FuzzCodecOpen(f *testing.F) {
	key := Key{ClientID: fuzzClient, MemberID: fuzzMember, UserID: 7}
	plain, sealed, strict := testCodec(f), testCodec(f, testKey(0)), testCodec(f, testKey(0), WithEncryptionOnly())
	for _, c := range []*Codec{plain, sealed, testCodec(f, testKey(1))} {
		data, err := c.Seal(key, filled(f))
		require.NoError(f, err)
		f.Add(data)
		f.Add(data[:len(data)/2])
		data, err = c.seal(key, Installation{}, newMark())
		require.NoError(f, err)
		f.Add(data)
	}
	header := `{"format":2,"client_id":"` + fuzzClient + `","member_id":"` + fuzzMember + `","user_id":7,`
	for _, text := range []string{
		"", "null", "{}", "[]", `{"format":1}`, `{"format":2}`, `{"format":3}`, `{"format":1e400}`, `{"format":2,"format":3}`,
		strings.Repeat("[", 20000),
		header + `"installation":{"expires":"0000-01-01T00:00:00+24:00","scope":[null,""]}}`,
		header + `"installation":{"expires":"0000-01-01T00:00:00+23:00","scope":[null,""]}}`,
		header + `"sealed":{"key_id":"` + (*sealed.keys)[0].ID + `","data":"AAAA"}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, c := range []*Codec{plain, sealed, strict} {
			in, err := c.Open(key, data)
			if err != nil {
				require.True(t, errors.Is(err, ErrUnreadable) || errors.Is(err, ErrEncryptionKey))
				require.NotContains(t, err.Error(), "planted")
				require.Less(t, len(err.Error()), 250)
				require.Equal(t, Installation{}, in)
				continue
			}
			again, err := c.Seal(key, in)
			if err != nil {
				continue // for example a time that JSON reads and does not write
			}
			back, err := c.Open(key, again)
			require.NoError(t, err)
			require.Equal(t, in, back)
			for _, other := range []Key{{ClientID: fuzzClient, MemberID: fuzzMember}, {MemberID: fuzzMember, UserID: 7}} {
				_, err = c.Open(other, data)
				require.ErrorIs(t, err, ErrUnreadable)
			}
		}
	})
}

// TestSealReadsBack checks that Seal refuses what JSON would change.
func TestSealReadsBack(t *testing.T) {
	t.Parallel()
	for _, c := range []*Codec{testCodec(t), testCodec(t, testKey(0))} {
		key := Key{ClientID: fuzzClient, MemberID: fuzzMember}
		zone := time.FixedZone("", -3600)
		in := Installation{Expires: time.Now(), InstalledAt: time.Date(1, 1, 1, 0, 0, 0, 1, zone), Scope: []string{}}
		data, err := c.Seal(key, in)
		require.NoError(t, err)
		require.True(t, json.Valid(data))
		back, err := c.Open(key, data)
		require.NoError(t, err)
		require.True(t, in.Expires.Equal(back.Expires))
		require.True(t, in.InstalledAt.Equal(back.InstalledAt))
		require.True(t, back.UpdatedAt.IsZero())

		for name, bad := range map[string]Installation{
			"in a list": {Scope: []string{"\xc3"}}, "in a text": {Status: "\xff"}, "at the start": {MemberID: "\x80"},
			"a time before all": {UpdatedAt: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)},
		} {
			_, err := c.Seal(key, bad)
			require.ErrorIs(t, err, errNoText, name)
		}
		_, err = c.Seal(Key{MemberID: "\xff"}, in)
		require.ErrorIs(t, err, errNoText)
		_, err = c.Seal(Key{ClientID: "\xff", MemberID: "x"}, in)
		require.ErrorIs(t, err, errNoText)
		_, err = c.Seal(key, Installation{Status: strings.Repeat("x", maxDocument)})
		require.ErrorIs(t, err, errTooLarge)
	}
}

// TestBoundToIsUnambiguous splits the same bytes between application and portal in several ways.
func TestBoundToIsUnambiguous(t *testing.T) {
	t.Parallel()
	seen := make(map[string]Key)
	for _, key := range []Key{
		{ClientID: "a", MemberID: "bc"},
		{ClientID: "ab", MemberID: "c"},
		{ClientID: "", MemberID: "abc"},
		{ClientID: "abc"},
		{ClientID: "a", MemberID: "bc", UserID: 1},
		{ClientID: "a", MemberID: "\nbc"},
		{ClientID: "a\n", MemberID: "bc"},
		{ClientID: "1\n", MemberID: "a"},
	} {
		text := string(boundTo("id", key))
		require.NotContains(t, seen, text, "%v and %v", key, seen[text])
		seen[text] = key
	}
}

// FuzzPlaces makes places of keys. Each key has one, which is a harmless path and is different from
// all others.
func FuzzPlaces(f *testing.F) {
	for _, id := range []string{
		"", fuzzMember, fuzzClient, "../x", "A", "x\x00y", "-", "a-1", "con", "com1", "_", "_63on", "nul",
		strings.Repeat("z", 65), strings.Repeat("\xff", 64),
	} {
		f.Add(fuzzClient, id, int64(0), id, id+"1", int64(7))
		f.Add(id, fuzzMember, int64(5), fuzzClient, id, int64(-7))
	}
	f.Fuzz(func(t *testing.T, client, member string, user int64, otherClient, otherMember string, otherUser int64) {
		key, other := Key{client, member, user}, Key{otherClient, otherMember, otherUser}
		p, ok := placeOf(key)
		require.Equal(t, member != "" && user >= 0 && len(member) <= maxID && len(client) <= maxID, ok)
		// Every name that keyIn accepts is one of the store.
		if found, ok := keyIn(client, shardOf(member), otherMember); ok {
			p, ok := placeOf(found)
			require.True(t, ok)
			require.Equal(t, otherMember, p.name)
		}
		if id, ok := unescape(member); ok {
			require.Equal(t, member, escape(id))
		}
		if !ok {
			return
		}
		if q, ok := placeOf(other); ok {
			require.Equal(t, key == other, strings.EqualFold(p.path(), q.path()))
		}
		require.Equal(t, p.path(), strings.ToLower(p.path()))
		for _, part := range []string{p.application, p.shard, p.name, tempName(p.name)} {
			require.LessOrEqual(t, len(part), 255)
			require.NotEmpty(t, part)
			require.Empty(t, strings.Trim(part, idBytes+"_-."))
			require.NotContains(t, part, "..")
			stem, _, _ := strings.Cut(part, ".")
			require.False(t, isDevice(stem), part)
		}
		for _, part := range []string{p.application, p.shard} {
			require.NotContains(t, part, ".", "it could be the name of a lock")
		}
		id, ok := unescape(p.application)
		require.True(t, ok)
		require.Equal(t, client, id)
		shard, ok := unescape(p.shard)
		require.True(t, ok)
		found, ok := keyIn(client, shard, p.name)
		require.True(t, ok)
		require.Equal(t, key, found)
		final, ok := tempTarget(tempName(p.name))
		require.True(t, ok)
		require.Equal(t, p.name, final)
		_, ok = tempTarget(p.name)
		require.False(t, ok)
	})
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	for want, key := range map[string]Key{
		"local_2e5c8bb1b0891cf2_2e87252039/a2/" + fuzzMember + ".json":   {ClientID: fuzzClient, MemberID: fuzzMember},
		"local_2e5c8bb1b0891cf2_2e87252039/a2/" + fuzzMember + "-7.json": {ClientID: fuzzClient, MemberID: fuzzMember, UserID: 7},
		"_/d/d-9223372036854775807.json":                                 {MemberID: "d", UserID: math.MaxInt64},
		"_63on/_41_2f/_41_2f_2e_2e.json":                                 {ClientID: "con", MemberID: "A/.."},
		"a_5f/nu/_6eul-1.json":                                           {ClientID: "a_", MemberID: "nul", UserID: 1},
		"com/co/com.json":                                                {ClientID: "com", MemberID: "com"},
		"_63om1/co/_63om9.json":                                          {ClientID: "com1", MemberID: "com9"},
		strings.Repeat("x", maxID) + "/yy/" + strings.Repeat("y", maxID) + ".json": {
			ClientID: strings.Repeat("x", maxID),
			MemberID: strings.Repeat("y", maxID),
		},
	} {
		p, ok := placeOf(key)
		require.True(t, ok, key)
		require.Equal(t, want, p.path())
	}
	for _, key := range []Key{
		{ClientID: "x"},
		{MemberID: "x", UserID: -1},
		{MemberID: strings.Repeat("x", maxID+1)},
		{ClientID: strings.Repeat("x", maxID+1), MemberID: "x"},
	} {
		_, ok := placeOf(key)
		require.False(t, ok, key)
	}
	for _, name := range []string{
		"", ".json", "_.json", "D.json", "d", "d-0.json", "d-07.json", "d-+7.json", "d-.json", "d--7.json", "d-7-7.json",
		"d-99999999999999999999.json",
		"d.json.json", "d.json.tmp", "_64.json", "_4.json", "_4g.json", "_2E.json", "dx.json", "d.json.bak", "_2e_2E.json",
	} {
		_, ok := keyIn("", "d", name)
		require.False(t, ok, name)
		_, ok = tempTarget(name)
		require.False(t, ok, name)
	}
}

// TestShardsKeepTheOrder checks that the order of shards is the order of portals.
func TestShardsKeepTheOrder(t *testing.T) {
	t.Parallel()
	ids := []string{"a", "a\x00", "a\x01b", "aa", "ab", "a-", "A", "Ab", "\xff", "\xff\x00", "b", "-", ".", "_", fuzzMember}
	for _, a := range ids {
		for _, b := range ids {
			if a < b {
				require.LessOrEqual(t, shardOf(a), shardOf(b), "%q %q", a, b)
			}
		}
	}
}

// TestKeyIndex compares the index with a plain map.
func TestKeyIndex(t *testing.T) {
	t.Parallel()
	var x keyIndex
	model := make(map[Key]bool)
	seed := uint32(1)
	next := func(n uint32) uint32 {
		seed = seed*1664525 + 1013904223
		return seed >> 8 % n
	}
	for step := range 20000 {
		key := Key{ClientID: strconv.Itoa(int(next(2))), MemberID: strconv.Itoa(int(next(3000))), UserID: int64(next(2))}
		if step < 12000 && step%3 > 0 || step%3 == 0 {
			x.insert(key)
			model[key] = true
		} else {
			x.remove(key)
			delete(model, key)
		}
	}
	var last Key
	n := 0
	for key := range x.after(Key{}) {
		require.True(t, model[key])
		require.Positive(t, key.compare(last))
		last = key
		n++
	}
	require.Len(t, model, n)
	require.Greater(t, n, 2*maxRun, "too few to fill several runs")
	for _, run := range x.runs {
		require.NotEmpty(t, run)
		require.Less(t, len(run), maxRun)
	}
	for key := range model {
		for following := range x.after(key) {
			require.Positive(t, following.compare(key))
			break
		}
		x.remove(key)
	}
	require.Empty(t, x.runs)
}
