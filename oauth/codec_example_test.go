package oauth_test

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/b24events/b24events/oauth"
)

// A store over a database keeps the bytes of a codec in one column.
func ExampleCodec() {
	secret := make([]byte, oauth.EncryptionKeySize) // in a real program, from a vault
	_, _ = rand.Read(secret)
	codec, err := oauth.NewCodec(oauth.WithEncryptionKey(secret), oauth.WithEncryptionOnly())
	if err != nil {
		panic(err)
	}
	key := oauth.Key{ClientID: "local.5c8bb1b0891cf2.87252039", MemberID: "a223c6b3710f85df22e9377d6c4f7553"}
	column, err := codec.Seal(key, oauth.Installation{MemberID: key.MemberID, AccessToken: "access"})
	if err != nil {
		panic(err)
	}

	in, err := codec.Open(key, column)
	fmt.Println(in.AccessToken == "access", err)
	key.MemberID = "d4c1a8f07b2e4f6c9d3e5a1b8c7f6e20" // of another portal
	_, err = codec.Open(key, column)
	fmt.Println(errors.Is(err, oauth.ErrUnreadable))
	// Output:
	// true <nil>
	// true
}
