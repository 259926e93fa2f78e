package oauth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// ErrEncryptionKey means that an encryption key has the wrong length or is missing, or that an
// installation is encrypted with a key that was not given.
const ErrEncryptionKey Kind = "an encryption key is missing or wrong"

// EncryptionKeySize is the length of a key for [WithEncryptionKey], in bytes.
const EncryptionKeySize = 32

// encryptionKey is a key of AES-256-GCM behind an interface that prints as an address.
type encryptionKey struct {
	id   string // tells keys apart, and nothing about them
	aead cipher.AEAD
}

// keyring holds the keys of a codec. The first encrypts and all decrypt; without a key, documents
// are in clear.
type keyring []encryptionKey

func newEncryptionKey(key []byte) (encryptionKey, error) {
	if len(key) != EncryptionKeySize {
		return encryptionKey{}, &Error{
			Op: opCodec, Kind: ErrEncryptionKey,
			Detail: "it must be " + strconv.Itoa(EncryptionKeySize) + " bytes, not " + strconv.Itoa(len(key)),
		}
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return encryptionKey{}, &Error{Op: opCodec, Kind: ErrEncryptionKey, Err: err}
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return encryptionKey{}, &Error{Op: opCodec, Kind: ErrEncryptionKey, Err: err}
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("b24events/oauth: key id"))
	return encryptionKey{id: hex.EncodeToString(mac.Sum(nil)[:8]), aead: aead}, nil
}

// seal encrypts with the first key and returns that key's id. The key of the installation is
// authenticated along, so that nobody can give one portal the tokens of another by moving them in
// the store.
func (r keyring) seal(plain []byte, key Key) (id string, sealed []byte) {
	k := r[0]
	return k.id, k.aead.Seal(nil, nil, plain, boundTo(k.id, key))
}

// open decrypts. known is false if the key is not in the ring, and ok is false if the content is
// not what was sealed for this installation.
func (r keyring) open(id string, sealed []byte, key Key) (plain []byte, known, ok bool) {
	for _, k := range r {
		if k.id != id {
			continue
		}
		plain, err := k.aead.Open(nil, nil, sealed, boundTo(id, key))
		return plain, true, err == nil
	}
	return nil, false, false
}

// boundTo is what is authenticated along with an encrypted installation. No two keys give the same
// bytes: the length of the client ID says where the member ID begins.
func boundTo(id string, key Key) []byte {
	return []byte("b24events/oauth: installation\n" + id + "\n" + strconv.FormatInt(key.UserID, 10) + "\n" +
		strconv.Itoa(len(key.ClientID)) + "\n" + key.ClientID + key.MemberID)
}
