package oauth_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth"
)

// folderOfApplication is the folder in which a file store keeps the files of clientID.
const folderOfApplication = "local_2e5c8bb1b0891cf2_2e87252039"

// fileOf returns the path of an installation of clientID. The member ID looks like those of
// Bitrix24.
func fileOf(dir string, key oauth.Key) string {
	name := key.MemberID
	if key.UserID != 0 {
		name = fmt.Sprintf("%s-%d", name, key.UserID)
	}
	return filepath.Join(dir, folderOfApplication, key.MemberID[:2], name+".json")
}

func contentOf(tb testing.TB, path string) string {
	tb.Helper()
	data, err := os.ReadFile(path) //nolint:gosec // a path of the test's
	require.NoError(tb, err)
	return string(data)
}

// overwrite changes a file as someone with an editor would.
func overwrite(tb testing.TB, path, text string) {
	tb.Helper()
	require.NoError(tb, os.WriteFile(path, []byte(text), 0o600))
}

func TestEncryptionHidesTokens(t *testing.T) {
	t.Parallel()
	dir, key := t.TempDir(), encryptionKey(1)
	s := fileStore(t, dir, oauth.WithEncryptionKey(key))
	version, err := s.Swap(t.Context(), fileKey, "", plantedInstallation())
	require.NoError(t, err)
	first := contentOf(t, fileOf(dir, fileKey))
	for _, secret := range []string{planted, `"crm"`, "example.bitrix24.com", string(key), hex.EncodeToString(key)} {
		require.NotContains(t, first, secret)
	}
	clear(key) // the store has a copy
	in, _, err := s.Load(t.Context(), fileKey)
	require.NoError(t, err)
	require.Equal(t, planted+"-r", string(in.RefreshToken))

	_, err = s.Swap(t.Context(), fileKey, version, in)
	require.NoError(t, err)
	require.NotEqual(t, sealed(t, first), sealed(t, contentOf(t, fileOf(dir, fileKey))), "a nonce is used once")
}

func sealed(tb testing.TB, file string) string {
	tb.Helper()
	var doc struct {
		Sealed struct {
			Data string `json:"data"`
		} `json:"sealed"`
	}
	require.NoError(tb, json.Unmarshal([]byte(file), &doc))
	require.NotEmpty(tb, doc.Sealed.Data)
	return doc.Sealed.Data
}

// TestEncryptionKeyRotation opens one file with one set of keys after the other.
func TestEncryptionKeyRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	with := func(keys ...byte) *oauth.FileStore {
		var opts []oauth.FileOption
		for _, n := range keys {
			opts = append(opts, oauth.WithEncryptionKey(encryptionKey(n)))
		}
		return fileStore(t, dir, opts...)
	}
	opens := func(keys ...byte) {
		t.Helper()
		in, _, err := with(keys...).Load(t.Context(), fileKey)
		require.NoError(t, err)
		require.Equal(t, planted+"-a", string(in.AccessToken))
	}
	shut := func(keys ...byte) {
		t.Helper()
		s := with(keys...)
		in, version, err := s.Load(t.Context(), fileKey)
		require.ErrorIs(t, err, oauth.ErrEncryptionKey)
		require.ErrorContains(t, err, member+".json")
		require.Empty(t, version)
		require.Equal(t, oauth.Installation{}, in)
		requireNothingPlanted(t, err)
		_, err = s.Swap(t.Context(), fileKey, "", plantedInstallation())
		require.ErrorIs(t, err, oauth.ErrConflict, "tokens that cannot be read are still worth something")
	}
	rewrite := func(keys ...byte) {
		t.Helper()
		s := with(keys...)
		in, version, err := s.Load(t.Context(), fileKey)
		require.NoError(t, err)
		_, err = s.Swap(t.Context(), fileKey, version, in)
		require.NoError(t, err)
	}

	_, err := with().Swap(t.Context(), fileKey, "", plantedInstallation())
	require.NoError(t, err)
	require.Contains(t, contentOf(t, fileOf(dir, fileKey)), planted)
	opens(1) // a file in clear, which the next write encrypts
	require.Contains(t, contentOf(t, fileOf(dir, fileKey)), planted)
	rewrite(1)
	require.NotContains(t, contentOf(t, fileOf(dir, fileKey)), planted)
	opens(1)
	opens(2, 1)
	opens(3, 2, 1)
	shut()
	shut(2)
	rewrite(2, 1)
	opens(2)
	opens(1, 2)
	shut(1)
	rewrite(2) // which stays
	opens(2)
}

// TestEncryptionBindsFiles gives portals the files of others.
func TestEncryptionBindsFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := fileStore(t, dir, oauth.WithEncryptionKey(encryptionKey(1)))
	keys := []oauth.Key{
		fileKey,
		{ClientID: clientID, MemberID: member, UserID: 7},
		{ClientID: clientID, MemberID: "0123456789abcdef0123456789abcdef"},
	}
	versions := make([]oauth.Version, len(keys))
	for i, key := range keys {
		var err error
		versions[i], err = s.Swap(t.Context(), key, "", plantedInstallation())
		require.NoError(t, err)
	}
	victim := fileOf(dir, keys[0])
	mine := contentOf(t, victim)
	for _, other := range keys[1:] {
		theirs := contentOf(t, fileOf(dir, other))
		for name, forged := range map[string]string{
			"the whole file":     theirs,
			"the encrypted part": replaced(t, mine, sealed(t, mine), sealed(t, theirs)),
		} {
			overwrite(t, victim, forged)
			_, _, err := s.Load(t.Context(), keys[0])
			require.ErrorIs(t, err, oauth.ErrUnreadable, name)
			requireNothingPlanted(t, err)
		}
	}

	data := sealed(t, mine)
	for _, bad := range []string{"", "AAAA", data[:16], data[:len(data)-4] + "AAAA", "AAAA" + data[4:]} {
		overwrite(t, victim, replaced(t, mine, data, bad))
		_, _, err := s.Load(t.Context(), keys[0])
		require.ErrorIs(t, err, oauth.ErrUnreadable)
	}
	overwrite(t, victim, mine)
	_, version, err := s.Load(t.Context(), keys[0])
	require.NoError(t, err)
	require.Equal(t, versions[0], version)
}

func replaced(tb testing.TB, text, old, with string) string {
	tb.Helper()
	require.Contains(tb, text, old)
	return string(bytes.Replace([]byte(text), []byte(old), []byte(with), 1))
}

// TestEncryptionOnly replaces an encrypted file by one in clear.
func TestEncryptionOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := oauth.WithEncryptionKey(encryptionKey(1))
	_, err := fileStore(t, dir).Swap(t.Context(), fileKey, "", plantedInstallation())
	require.NoError(t, err)
	_, version, err := fileStore(t, dir, key).Load(t.Context(), fileKey)
	require.NoError(t, err, "without the option it is taken")

	strict := fileStore(t, dir, key, oauth.WithEncryptionOnly())
	in, _, err := strict.Load(t.Context(), fileKey)
	require.ErrorIs(t, err, oauth.ErrUnreadable)
	require.Equal(t, oauth.Installation{}, in)
	requireNothingPlanted(t, err)
	keys, err := strict.List(t.Context(), oauth.Key{ClientID: clientID}, 10)
	require.NoError(t, err)
	require.Equal(t, []oauth.Key{fileKey}, keys)

	_, err = strict.Swap(t.Context(), fileKey, version, plantedInstallation())
	require.NoError(t, err)
	in, _, err = strict.Load(t.Context(), fileKey)
	require.NoError(t, err)
	require.Equal(t, planted+"-a", string(in.AccessToken))

	_, err = oauth.NewFileStore(t.TempDir(), oauth.WithEncryptionOnly())
	require.ErrorIs(t, err, oauth.ErrEncryptionKey)
	_, err = oauth.NewCodec(oauth.WithEncryptionOnly())
	require.ErrorIs(t, err, oauth.ErrEncryptionKey)
}

func TestEncryptionKeysDoNotPrint(t *testing.T) {
	t.Parallel()
	key := []byte(planted + planted + planted)[:oauth.EncryptionKeySize]
	opt := oauth.WithEncryptionKey(key)
	s := fileStore(t, t.TempDir(), opt)
	c, err := oauth.NewCodec(opt)
	require.NoError(t, err)
	texts := fmt.Sprintf("%v %+v %#v %v %+v %#v %#v %v %+v %#v %v %+v %#v", s, s, s, *s, *s, *s, opt, c, c, c, *c, *c, *c)
	for _, form := range []string{planted[:8], hex.EncodeToString(key)[:16], "112 108 97 110", "0x70, 0x6c, 0x61, 0x6e"} {
		require.NotContains(t, texts, form)
	}
	_, err = oauth.NewFileStore(t.TempDir(), oauth.WithEncryptionKey([]byte(planted)))
	require.ErrorIs(t, err, oauth.ErrEncryptionKey)
	requireNothingPlanted(t, err)
}
