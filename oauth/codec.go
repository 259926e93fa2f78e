package oauth

import (
	"fmt"
	"reflect"
)

// Codec turns an [Installation] into bytes for a [Store] and back. It writes every field, the
// secrets in clear, and encrypts the result if it has a key. [FileStore] uses it; a store over a
// database keeps the bytes in one column. A Codec is safe for concurrent use. Make one with
// [NewCodec].
//
// The bytes are a JSON document of at most 1 MiB. It names the application, the portal and the user
// in clear, and has their installation in clear or encrypted. A document opens only under the key
// that it was sealed for.
//
// [Codec.Open] refuses a document with a member that this version of the package does not know: the
// next write would lose it. A new version of this package writes such a member only if it has a
// value. So update all processes that share a store before you use what is new, or older ones get
// [ErrUnreadable] for it.
type Codec struct {
	keys          *keyring
	encryptedOnly bool
}

// CodecOption configures [NewCodec], and [NewFileStore] too.
type CodecOption interface {
	FileOption
	applyCodec(cfg *codecConfig) error
}

type codecConfig struct {
	keys          keyring
	encryptedOnly bool
}

// codecOption makes each option of a Codec an option of a FileStore, too.
type codecOption func(*codecConfig) error

func (o codecOption) applyCodec(cfg *codecConfig) error { return o(cfg) }
func (o codecOption) applyFile(cfg *fileConfig) error   { return o(&cfg.codec) }

// WithEncryptionKey encrypts installations with AES-256-GCM under a key of [EncryptionKeySize]
// random bytes, which is copied. What is encrypted is bound to its application, portal and user: it
// cannot be decrypted under the key of another. Nothing shows that an older version of the same
// installation was put back.
//
// To change keys, give the option several times. The first key encrypts and all decrypt. Documents
// that are not encrypted still open, unless [WithEncryptionOnly] is given.
//
// To change the key of a store that several processes share, take three steps, so that no process
// meets a key that it does not have:
//
//  1. Start all processes with the old key first and the new one second.
//  2. Start all processes with the new key first and the old one second.
//  3. Call [Reseal] once for each application. When it has returned without an error, start all
//     processes with the new key only.
func WithEncryptionKey(key []byte) CodecOption {
	k, err := newEncryptionKey(key)
	return codecOption(func(cfg *codecConfig) error {
		if err != nil {
			return err
		}
		cfg.keys = append(cfg.keys, k)
		return nil
	})
}

// WithEncryptionOnly refuses what is not encrypted with an [ErrUnreadable]. Without it, whoever can
// write to the store can replace an encrypted installation by one in clear. It needs a
// [WithEncryptionKey].
//
// To encrypt a store that was written without a key, call [Reseal] with the key and without this
// option, and then add it.
func WithEncryptionOnly() CodecOption {
	return codecOption(func(cfg *codecConfig) error {
		cfg.encryptedOnly = true
		return nil
	})
}

// NewCodec returns a codec. Without options it writes in clear. If a key has the wrong length, or
// if WithEncryptionOnly is given without a key, it returns an error that matches [ErrConfig] and
// [ErrEncryptionKey].
func NewCodec(opts ...CodecOption) (*Codec, error) {
	var cfg codecConfig
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt.applyCodec(&cfg); err != nil {
			return nil, err
		}
	}
	return cfg.codec()
}

func (cfg *codecConfig) codec() (*Codec, error) {
	if cfg.encryptedOnly && len(cfg.keys) == 0 {
		return nil, keyConfigError("WithEncryptionOnly", "it needs a WithEncryptionKey")
	}
	return &Codec{keys: &cfg.keys, encryptedOnly: cfg.encryptedOnly}, nil
}

// Seal returns the document of an installation. It refuses an installation that would not come back
// as it is: text that is not UTF-8, a time before the year 0 or after 9999, more than 1 MiB.
func (c *Codec) Seal(key Key, in Installation) ([]byte, error) { return c.seal(key, in, "") }

// seal also writes a mark, which distinguishes two writes of the same installation.
func (c *Codec) seal(key Key, in Installation, mark string) ([]byte, error) {
	var stored storedInstallation
	convert(reflect.ValueOf(&stored).Elem(), reflect.ValueOf(in))
	doc := document{Format: documentFormat, ClientID: key.ClientID, MemberID: key.MemberID, UserID: key.UserID, Write: mark}
	if len(*c.keys) == 0 {
		doc.Installation = &stored
	} else {
		plain, err := marshal(stored)
		if err != nil {
			return nil, errNoText
		}
		id, data := c.keys.seal(plain, key)
		doc.Sealed = &sealedInstallation{KeyID: id, Data: data}
	}
	data, err := marshalIndent(doc)
	if err != nil {
		return nil, errNoText
	}
	if len(data) > maxDocument {
		return nil, errTooLarge
	}
	back, err := c.open(key, data) // what JSON would change is refused instead
	if err != nil || !reflect.DeepEqual(back, stored) {
		return nil, errNoText
	}
	return data, nil
}

// Open returns the installation in a document that was sealed for key. It returns [ErrUnreadable]
// or [ErrEncryptionKey]. Its errors hold nothing of the document. data is not kept.
func (c *Codec) Open(key Key, data []byte) (Installation, error) {
	stored, err := c.open(key, data)
	if err != nil {
		return Installation{}, err
	}
	var in Installation
	convert(reflect.ValueOf(&in).Elem(), reflect.ValueOf(stored))
	return in, nil
}

func (c *Codec) open(key Key, data []byte) (storedInstallation, error) {
	doc, err := parseDocument(data)
	switch {
	case err != nil:
		return storedInstallation{}, err
	case doc.ClientID != key.ClientID:
		return storedInstallation{}, unreadable("it belongs to another application")
	case doc.MemberID != key.MemberID || doc.UserID != key.UserID:
		return storedInstallation{}, unreadable("it belongs to another portal or user")
	case doc.Installation != nil && c.encryptedOnly:
		return storedInstallation{}, unreadable("it is not encrypted, and WithEncryptionOnly refuses that")
	case doc.Installation != nil:
		return *doc.Installation, nil
	}
	plain, known, ok := c.keys.open(doc.Sealed.KeyID, doc.Sealed.Data, key)
	switch {
	case !known && len(*c.keys) == 0:
		return storedInstallation{}, &Error{Op: opCodec, Kind: ErrEncryptionKey, Detail: "the installation is encrypted; see WithEncryptionKey"}
	case !known:
		return storedInstallation{}, &Error{
			Op: opCodec, Kind: ErrEncryptionKey, Detail: "the installation is encrypted with a key that was not given",
		}
	case !ok:
		return storedInstallation{}, unreadable("its encrypted part was changed, or moved here from another installation")
	}
	var stored storedInstallation
	if !decodeStrictly(plain, &stored) {
		return storedInstallation{}, unreadable("its encrypted part is malformed, or has members that this version does not know")
	}
	return stored, nil
}

// Format prints no key, whatever the verb.
func (c *Codec) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("oauth.Codec")) }
