package oauth

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/b24events/b24events/internal/seal"
)

// ErrEncryptionKey means that an encryption key has the wrong length or is missing, or that an
// installation is encrypted with a key that was not given.
const ErrEncryptionKey ErrorKind = "an encryption key is missing or wrong"

// EncryptionKeySize is the length of a key for [WithEncryptionKey], in bytes.
const EncryptionKeySize = seal.KeySize

// keyring holds the keys of a codec. The first encrypts and all decrypt; without a key, documents
// are in clear.
type keyring seal.Keyring

func newEncryptionKey(key []byte) (seal.Key, error) {
	k, err := seal.NewKey(key, "b24events/oauth: key id")
	switch {
	case errors.Is(err, seal.ErrKeySize):
		return k, keyConfigError("WithEncryptionKey",
			"the key must be "+strconv.Itoa(EncryptionKeySize)+" bytes, not "+strconv.Itoa(len(key)))
	case err != nil:
		return k, &Error{Op: "WithEncryptionKey", Kind: ErrConfig, Err: fmt.Errorf("%w: %w", ErrEncryptionKey, err)}
	default:
		return k, nil
	}
}

// keyConfigError is a configError that matches ErrEncryptionKey, too.
func keyConfigError(op, detail string) error {
	return &Error{Op: op, Kind: ErrConfig, Detail: detail, Err: ErrEncryptionKey}
}

// seal encrypts with the first key and returns that key's ID. It authenticates the key of the
// installation too, so that nobody can give one portal the tokens of another by moving them in the
// store.
func (r keyring) seal(plain []byte, key Key) (id string, sealed []byte) {
	id = r[0].ID
	return id, seal.Keyring(r).Seal(nil, plain, boundTo(id, key))
}

// open decrypts. known is false if the key is not in the ring, and ok is false if the content is
// not what was sealed for this installation.
func (r keyring) open(id string, sealed []byte, key Key) (plain []byte, known, ok bool) {
	return seal.Keyring(r).Open(id, sealed, boundTo(id, key))
}

// boundTo returns what is authenticated together with an encrypted installation. No two keys give
// the same bytes: the length of the client ID says where the member ID begins.
func boundTo(id string, key Key) []byte {
	return []byte("b24events/oauth: installation\n" + id + "\n" + strconv.FormatInt(key.UserID, 10) + "\n" +
		strconv.Itoa(len(key.ClientID)) + "\n" + key.ClientID + key.MemberID)
}
