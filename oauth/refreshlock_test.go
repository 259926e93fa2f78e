package oauth_test

import (
	"testing"

	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/oauth/oauthtest"
	"github.com/b24events/b24events/offline"
)

// One implementation serves the renewals of this package and the leases of package offline.
var (
	_ oauth.Locker = (*offline.MemoryLeaser)(nil)
	_ oauth.Locker = offline.Leaser(nil)
)

func TestMemoryLeaserIsALocker(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	oauthtest.TestLocker(t, func(*testing.T) oauth.Locker { return offline.NewMemoryLeaser() })
}
