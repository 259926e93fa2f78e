package seal_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/seal"
)

func key(t *testing.T, n byte, purpose string) seal.Key {
	t.Helper()
	k, err := seal.NewKey(bytes.Repeat([]byte{n}, seal.KeySize), purpose)
	require.NoError(t, err)
	require.Len(t, k.ID, seal.IDSize)
	return k
}

func TestKeySize(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 16, 24, 31, 33, 64} {
		_, err := seal.NewKey(make([]byte, size), "test")
		require.ErrorIs(t, err, seal.ErrKeySize, "%d bytes", size)
	}
}

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	first, second := key(t, 1, "test"), key(t, 2, "test")
	require.NotEqual(t, first.ID, second.ID)
	require.NotEqual(t, first.ID, key(t, 1, "another purpose").ID)
	plain, bound := []byte("plain"), []byte("bound")
	sealed := seal.Keyring{first}.Seal([]byte("before"), plain, bound)
	require.Equal(t, "before", string(sealed[:6]), "it appends")
	sealed = sealed[6:]
	require.NotContains(t, string(sealed), "plain")
	require.NotEqual(t, sealed, seal.Keyring{first}.Seal(nil, plain, bound), "each time another")

	for name, test := range map[string]struct {
		ring      seal.Keyring
		id        string
		sealed    []byte
		bound     string
		known, ok bool
	}{
		"the same key":       {seal.Keyring{first}, first.ID, sealed, "bound", true, true},
		"after a new first":  {seal.Keyring{second, first}, first.ID, sealed, "bound", true, true},
		"a key that is gone": {seal.Keyring{second}, first.ID, sealed, "bound", false, false},
		"no keys":            {nil, first.ID, sealed, "bound", false, false},
		"another key's ID":   {seal.Keyring{second, first}, second.ID, sealed, "bound", true, false},
		"bound to another":   {seal.Keyring{first}, first.ID, sealed, "other", true, false},
		"cut":                {seal.Keyring{first}, first.ID, sealed[:len(sealed)-1], "bound", true, false},
		"empty":              {seal.Keyring{first}, first.ID, nil, "bound", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, known, ok := test.ring.Open(test.id, test.sealed, []byte(test.bound))
			require.Equal(t, test.known, known)
			require.Equal(t, test.ok, ok)
			if ok {
				require.Equal(t, plain, got)
			}
		})
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	t.Parallel()
	k, err := seal.NewKey([]byte("this-is-thirty-two-bytes-of-key!"), "test")
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%s", "%q"} {
		require.NotContains(t, fmt.Sprintf(verb, seal.Keyring{k}), "thirty", verb)
	}
}
