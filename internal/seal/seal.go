// Package seal encrypts stored data with AES-256-GCM, and lets programs change the keys.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
)

// KeySize is the length of a key, in bytes.
const KeySize = 32

// IDSize is the length of the ID of a key, in hexadecimal digits.
const IDSize = 16

// ErrKeySize means that a key has another length than KeySize.
var ErrKeySize = errors.New("seal: the key has the wrong length")

// Key is a key for one purpose. Printing it shows the ID and addresses, but not the key.
type Key struct {
	ID   string // identifies the key, and reveals nothing about it
	aead cipher.AEAD
}

// NewKey returns a key. The purpose, such as "b24events/oauth: key id", gives a key that is used
// for several purposes a different ID for each.
func NewKey(key []byte, purpose string) (Key, error) {
	if len(key) != KeySize {
		return Key{}, ErrKeySize
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return Key{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return Key{}, err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(purpose))
	return Key{ID: hex.EncodeToString(mac.Sum(nil)[:IDSize/2]), aead: aead}, nil
}

// Keyring holds keys. The first one encrypts, and all of them decrypt.
type Keyring []Key

// Seal appends plain to dst, encrypted with the first key. bound is authenticated with it; it
// should name the key and what plain belongs to.
func (r Keyring) Seal(dst, plain, bound []byte) []byte { return r[0].aead.Seal(dst, nil, plain, bound) }

// Open decrypts with the key of an ID. known is false if the key is not in the ring, and ok is
// false if sealed or bound differs from what Seal wrote.
func (r Keyring) Open(id string, sealed, bound []byte) (plain []byte, known, ok bool) {
	for _, k := range r {
		if k.ID == id {
			plain, err := k.aead.Open(nil, nil, sealed, bound)
			return plain, true, err == nil
		}
	}
	return nil, false, false
}
