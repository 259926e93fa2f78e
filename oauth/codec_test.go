package oauth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
)

func codec(tb testing.TB, opts ...oauth.CodecOption) *oauth.Codec {
	tb.Helper()
	c, err := oauth.NewCodec(opts...)
	require.NoError(tb, err)
	return c
}

// encryptionKey returns the n-th key for tests.
func encryptionKey(n byte) []byte {
	return bytes.Repeat([]byte{0x5a, n}, oauth.EncryptionKeySize/2)
}

// plantedInstallation has a secret in every field that can hold one.
func plantedInstallation() oauth.Installation {
	return oauth.Installation{
		MemberID: member, ClientEndpoint: "https://example.bitrix24.com/rest/", ServerEndpoint: official,
		AccessToken: planted + "-a", RefreshToken: planted + "-r", ApplicationToken: planted + "-t", PreviousApplicationToken: planted + "-p",
		Expires: time.Now().Add(time.Hour), Scope: []string{"crm"},
	}
}

// golden is a document of version 2 of the format, to the byte. Stores hold such documents, so a
// change of this test is a new format.
const golden = `{
	"format": 2,
	"client_id": "local.5c8bb1b0891cf2.87252039",
	"member_id": "a223c6b3710f85df22e9377d6c4f7553",
	"user_id": 7,
	"installation": {
		"member_id": "a223c6b3710f85df22e9377d6c4f7553",
		"client_endpoint": "https://example.bitrix24.com/rest/",
		"server_endpoint": "https://oauth.bitrix.info/rest/",
		"access_token": "access \u003c\u0026\u003e é",
		"refresh_token": "refresh",
		"expires": "2026-11-28T21:00:00.000000789Z",
		"user_id": 7,
		"scope": [
			"crm",
			"task"
		],
		"status": "L",
		"application_token": "application",
		"previous_application_token": "previous",
		"rotated_at": "2026-11-28T19:00:00Z",
		"extra_application_tokens": [
			"extra"
		],
		"installed_at": "2026-11-28T20:00:00Z",
		"event_time": "2026-11-28T19:59:59Z",
		"set_up_at": "2026-11-28T20:00:01Z",
		"updated_at": "2026-11-28T20:00:02Z"
	}
}
`

func goldenInstallation() oauth.Installation {
	at := time.Date(2026, 11, 28, 20, 0, 0, 0, time.UTC)
	return oauth.Installation{ //nolint:gosec // opens nothing
		MemberID: member, ClientEndpoint: "https://example.bitrix24.com/rest/", ServerEndpoint: official,
		AccessToken: "access <&> é", RefreshToken: "refresh", Expires: at.Add(time.Hour + 789), UserID: 7, Scope: []string{"crm", "task"},
		Status:           "L",
		ApplicationToken: "application", PreviousApplicationToken: "previous", RotatedAt: at.Add(-time.Hour),
		ExtraApplicationTokens: []event.Secret{"extra"}, InstalledAt: at, EventTime: at.Add(-time.Second), SetUpAt: at.Add(time.Second),
		UpdatedAt: at.Add(2 * time.Second),
	}
}

func TestCodecGolden(t *testing.T) {
	t.Parallel()
	key := oauth.Key{ClientID: clientID, MemberID: member, UserID: 7}
	data, err := codec(t).Seal(key, goldenInstallation())
	require.NoError(t, err)
	require.Equal(t, golden, string(data)) //nolint:testifylint // to the byte
	in, err := codec(t).Open(key, []byte(golden))
	require.NoError(t, err)
	require.Equal(t, goldenInstallation(), in)

	// An encrypted one, written before Installation had all its fields, opens as well.
	const sealed = `{"format":2,"client_id":"local.5c8bb1b0891cf2.87252039","member_id":"a223c6b3710f85df22e9377d6c4f7553",` +
		`"user_id":7,"sealed":` +
		`{"key_id":"a895ff3c8e6cc578","data":"` +
		`Mq6/6PIIdSJ92hl+hIG48RcOtaDtLKZdndzkZQidzwKgOkzcfPLNgDfJscoT5kTrbikowLPtIYFFa4t5DHO+KbFey//WUFHmFpkOs5lvcW2kig` +
		`OU/fMFwdpkY6btLbwaThbcW5Pun78+8Ww7LzjZtEfFTLXNKpHJ3gI3890Weu71sCoegfSGxSydOPmhQ+CkLK3gaXfiWWMWIPSjAe0dvx2xZ7V7` +
		`titRWIVFy3dZFd8O93YFBXzS4EdSvdrk2haYwpMCMp0YPNe3H8AI79D4g70JtWdu5ZOtZhwBaTM+fvcUhmX9AkBwlS3e1hj5qEzF+X2Xrpr8Ta` +
		`LHsaf1Ryc1IqLRXuiEC7oKAXrbwm4nL8oKxmHjoWKTeawO6L9cjfGP86fzLm4oznxv20OlkxHuk8xCMGmL/qu4aanAMIzoyyCGeBVpnY4CdfuG` +
		`fhGm8VToK6goyxya2Kbh2G4+M935HBiskmJET7vtBiF6nMP0nYRZB6g+vtEyDx9QNgzMfLuc7OnWeyuuVa4y+Z76s4ebNtzWX1ubHDNpukhQuW` +
		`qanKHT2xqj+/Z4+155S902QEcbc6QIrxfTXMbRFeBSjRfW1d44A6xKY/mofQpGC2YnMYKVLg4ywhAus6JnnbsNh+0E0VDLeLoKTDzlmA++C+kM` +
		`AglTUJhygC8EJCxDjKuLamoDjWl2AGRK4H7Xh6Af0bJV2A==` +
		`"}}`
	in, err = codec(t, oauth.WithEncryptionKey(encryptionKey(1)), oauth.WithEncryptionOnly()).Open(key, []byte(sealed))
	require.NoError(t, err)
	before := goldenInstallation()
	before.RotatedAt, before.EventTime, before.ExtraApplicationTokens = time.Time{}, time.Time{}, nil
	require.Equal(t, before, in)

	data, err = codec(t).Seal(oauth.Key{ClientID: "c", MemberID: "m"}, oauth.Installation{})
	require.NoError(t, err)
	const empty = "{\n\t\"format\": 2,\n\t\"client_id\": \"c\",\n\t\"member_id\": \"m\",\n\t\"installation\": {}\n}\n"
	require.Equal(t, empty, string(data)) //nolint:testifylint // to the byte
}

func TestCodecOpensOnlyItsOwn(t *testing.T) {
	t.Parallel()
	key := oauth.Key{ClientID: clientID, MemberID: member, UserID: 7}
	secret := oauth.WithEncryptionKey(encryptionKey(1))
	for name, c := range map[string]*oauth.Codec{"plain": codec(t), "encrypted": codec(t, secret)} {
		data, err := c.Seal(key, plantedInstallation())
		require.NoError(t, err)
		for what, other := range map[string]oauth.Key{
			"application": {ClientID: "app.1", MemberID: member, UserID: 7},
			"portal":      {ClientID: clientID, MemberID: "b223c6b3710f85df22e9377d6c4f7553", UserID: 7},
			"user":        {ClientID: clientID, MemberID: member, UserID: 8},
			"no user":     {ClientID: clientID, MemberID: member},
		} {
			_, err := c.Open(other, data)
			require.ErrorIs(t, err, oauth.ErrUnreadable, "%s, of another %s", name, what)
			requireNothingPlanted(t, err)

			// It does not open even if somebody writes the other key into the document.
			var doc map[string]any
			require.NoError(t, json.Unmarshal(data, &doc))
			doc["client_id"], doc["member_id"], doc["user_id"] = other.ClientID, other.MemberID, other.UserID
			forged, err := json.Marshal(doc)
			require.NoError(t, err)
			_, err = c.Open(other, forged)
			if name == "encrypted" {
				require.ErrorIs(t, err, oauth.ErrUnreadable, what)
			} else {
				require.NoError(t, err)
			}
		}
	}
	data, err := codec(t, secret).Seal(key, plantedInstallation())
	require.NoError(t, err)
	_, err = codec(t).Open(key, data)
	require.ErrorIs(t, err, oauth.ErrEncryptionKey)
	_, err = codec(t, oauth.WithEncryptionKey(encryptionKey(2))).Open(key, data)
	require.ErrorIs(t, err, oauth.ErrEncryptionKey)
	in, err := codec(t, oauth.WithEncryptionKey(encryptionKey(2)), nil, secret).Open(key, data)
	require.NoError(t, err)
	require.Equal(t, planted+"-a", string(in.AccessToken))
}

// TestCodecRefusesWhatItDoesNotKnow opens a document of a later version, in clear and in the
// encrypted part.
func TestCodecRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	key := oauth.Key{ClientID: clientID, MemberID: member, UserID: 7}
	for name, text := range map[string]string{
		"a newer format":       strings.Replace(golden, `"format": 2`, `"format": 3`, 1),
		"the format before":    strings.Replace(golden, `"format": 2`, `"format": 1`, 1),
		"a new member":         strings.Replace(golden, `"status"`, `"of_a_later_version": 1, "status"`, 1),
		"a new member outside": strings.Replace(golden, `"user_id"`, `"realm": "eu", "user_id"`, 1),
	} {
		_, err := codec(t).Open(key, []byte(text))
		require.ErrorIs(t, err, oauth.ErrUnreadable, name)
	}
}

// columnStore is a store over a column of bytes, like one over a database.
type columnStore struct {
	*oauth.MemoryStore // for the versions and the order; its installations are empty

	codec *oauth.Codec
	rows  map[oauth.Key][]byte
}

func (s *columnStore) Load(ctx context.Context, key oauth.Key) (oauth.Installation, oauth.Version, error) {
	_, version, err := s.MemoryStore.Load(ctx, key)
	if err != nil {
		return oauth.Installation{}, "", err
	}
	in, err := s.codec.Open(key, s.rows[key])
	return in, version, err
}

func (s *columnStore) Swap(ctx context.Context, key oauth.Key, old oauth.Version, in oauth.Installation) (oauth.Version, error) {
	data, err := s.codec.Seal(key, in)
	if err != nil {
		return "", err
	}
	version, err := s.MemoryStore.Swap(ctx, key, old, oauth.Installation{})
	if err == nil {
		s.rows[key] = data
	}
	return version, err
}

// TestReseal changes the key of stores, in steps.
func TestReseal(t *testing.T) {
	t.Parallel()
	const portals = 250 // more than a page
	old, next := oauth.WithEncryptionKey(encryptionKey(1)), oauth.WithEncryptionKey(encryptionKey(2))
	dir := t.TempDir()
	rows, order := make(map[oauth.Key][]byte), oauth.NewMemoryStore()
	for name, open := range map[string]func(opts ...oauth.CodecOption) oauth.Store{
		"files": func(opts ...oauth.CodecOption) oauth.Store {
			var all []oauth.FileOption
			for _, opt := range opts {
				all = append(all, opt)
			}
			return fileStore(t, dir, all...)
		},
		"column": func(opts ...oauth.CodecOption) oauth.Store {
			return &columnStore{MemoryStore: order, codec: codec(t, opts...), rows: rows}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keyOf := func(n int64) oauth.Key {
				return oauth.Key{ClientID: clientID, MemberID: member, UserID: n}
			}
			other := oauth.Key{ClientID: "app.2", MemberID: member}
			first := open(old)
			for n := range int64(portals) {
				_, err := first.Swap(t.Context(), keyOf(n), "", oauth.Installation{UserID: n})
				require.NoError(t, err)
			}
			_, err := first.Swap(t.Context(), other, "", oauth.Installation{})
			require.NoError(t, err)

			n, err := oauth.Reseal(t.Context(), open(next, old), clientID)
			require.NoError(t, err)
			require.Equal(t, portals, n)
			last := open(next)
			for n := range int64(portals) {
				in, _, err := last.Load(t.Context(), keyOf(n))
				require.NoError(t, err)
				require.Equal(t, n, in.UserID)
			}
			_, _, err = last.Load(t.Context(), other)
			require.ErrorIs(t, err, oauth.ErrEncryptionKey, "another application's are left alone")

			// What cannot be read is reported, and the rest is written.
			_, err = last.Swap(t.Context(), oauth.Key{ClientID: "app.2", MemberID: "z"}, "", oauth.Installation{})
			require.NoError(t, err)
			n, err = oauth.Reseal(t.Context(), last, "app.2")
			require.ErrorIs(t, err, oauth.ErrEncryptionKey)
			require.ErrorContains(t, err, "1 of 2")
			require.Equal(t, 1, n)

			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err = oauth.Reseal(ctx, last, clientID)
			require.ErrorIs(t, err, context.Canceled)
		})
	}
}

// TestResealMeetsRenewals renews between the Load and the Swap of Reseal.
func TestResealMeetsRenewals(t *testing.T) {
	t.Parallel()
	key := oauth.Key{ClientID: clientID, MemberID: member}
	inner := stored(t)
	meddling := &faultyStore{Store: inner}
	meddling.swap = func(ctx context.Context, _ oauth.Version, _ oauth.Installation) error {
		if meddling.swaps > 2 {
			return nil
		}
		in, version, err := inner.Load(ctx, key)
		require.NoError(t, err)
		in.AccessToken += "+"
		_, err = inner.Swap(ctx, key, version, in)
		return err
	}
	n, err := oauth.Reseal(t.Context(), meddling, clientID)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, "a1++", string(load(t, inner, member).AccessToken))
	require.Equal(t, 3, meddling.swaps)

	n, err = oauth.Reseal(t.Context(), &faultyStore{Store: inner, swap: failing}, clientID)
	require.ErrorIs(t, err, errDisk)
	require.Zero(t, n)
	n, err = oauth.Reseal(t.Context(), unlistable{inner}, clientID)
	require.ErrorIs(t, err, errDisk)
	require.Zero(t, n)
}
