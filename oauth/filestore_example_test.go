package oauth_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"

	"github.com/b24events/b24events/oauth"
)

// A program keeps its installations in files, encrypted, and lists them when it starts.
func ExampleNewFileStore() {
	dir, err := os.MkdirTemp("", "tokens") // in a real program, a directory that stays, such as /var/lib/myapp/tokens
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	key := make([]byte, oauth.EncryptionKeySize) // in a real program, from a vault
	_, _ = rand.Read(key)

	store, err := oauth.NewFileStore(dir, oauth.WithEncryptionKey(key))
	if err != nil {
		panic(err)
	}
	defer func() { _ = store.Close() }()
	ctx := context.Background()
	const clientID = "local.5c8bb1b0891cf2.87252039"
	portal := oauth.Key{ClientID: clientID, MemberID: "a223c6b3710f85df22e9377d6c4f7553"}
	_, err = store.Swap(ctx, portal, "", oauth.Installation{AccessToken: "access"})
	if err != nil {
		panic(err)
	}

	for key, err := range oauth.Keys(ctx, store, clientID) {
		fmt.Println(key.MemberID, err)
	}
	// Output: a223c6b3710f85df22e9377d6c4f7553 <nil>
}
