package oauthtest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/b24events/b24events/oauth"
)

// These are IDs of two applications in the form of Bitrix24.
const (
	application      = "local.5c8bb1b0891cf2.87252039"
	otherApplication = "app.67e3d1a2b4c5f6.12345678"
)

// These are keys of two portals in the form of Bitrix24.
var (
	portal      = oauth.Key{ClientID: application, MemberID: "a223c6b3710f85df22e9377d6c4f7553"}
	otherPortal = oauth.Key{ClientID: application, MemberID: "d4c1a8f07b2e4f6c9d3e5a1b8c7f6e20"}
)

// kit is a store under test with the checks that many subtests share.
type kit struct {
	*testing.T

	oauth.Store
}

// create stores an installation under a free key and returns its version.
func (k kit) create(key oauth.Key, in oauth.Installation) oauth.Version {
	k.Helper()
	return k.swap(key, "", in)
}

func (k kit) swap(key oauth.Key, old oauth.Version, in oauth.Installation) oauth.Version {
	k.Helper()
	version, err := k.Swap(k.Context(), key, old, in)
	if err != nil {
		k.Fatalf("Swap: unexpected error: %v", err)
	}
	if version == "" {
		k.Fatal("Swap returned an empty version, which means that there is no installation")
	}
	return version
}

func (k kit) remove(key oauth.Key, old oauth.Version) {
	k.Helper()
	if err := k.Delete(k.Context(), key, old); err != nil {
		k.Fatalf("Delete: unexpected error: %v", err)
	}
}

// holds checks that exactly this version and installation are stored.
func (k kit) holds(key oauth.Key, version oauth.Version, in oauth.Installation) {
	k.Helper()
	found, v, err := k.Load(k.Context(), key)
	if err != nil {
		k.Fatalf("Load: unexpected error: %v", err)
	}
	if d := difference(in, found); d != "" {
		k.Errorf("Load returned another %s than was stored", d)
	}
	if v != version {
		k.Errorf("Load returned version %q, but Swap had returned %q", v, version)
	}
}

func (k kit) empty(key oauth.Key) {
	k.Helper()
	in, version, err := k.Load(k.Context(), key)
	if !errors.Is(err, oauth.ErrNotFound) {
		k.Errorf("Load of nothing: want ErrNotFound, got %v", err)
	}
	if version != "" || difference(in, oauth.Installation{}) != "" {
		k.Error("Load of nothing returned something besides its error")
	}
}

// conflict checks an error of Swap or Delete.
func (k kit) conflict(what string, err error) {
	k.Helper()
	if !errors.Is(err, oauth.ErrConflict) {
		k.Errorf("%s: want ErrConflict, got %v", what, err)
	}
	k.keepsSecret(what, err)
}

// keepsSecret checks that printing a value does not print a secret.
func (k kit) keepsSecret(what string, v any) {
	k.Helper()
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		if strings.Contains(fmt.Sprintf(verb, v), secret) {
			k.Errorf("%s shows a secret when printed with %s", what, verb)
		}
	}
}
