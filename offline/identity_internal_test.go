package offline

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNamesOfQueues(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	id := identity{clientID: "local.5f0a1b2c3d4e5f.12345678", memberID: "a223c6b3710f85df22e9377d6c4f7553"}
	require.Equal(t, "local.5f0a1b2c3d4e5f.12345678_a223c6b3710f85df22e9377d6c4f7553", id.folder())
	require.Equal(t, "offline/consumer/local.5f0a1b2c3d4e5f.12345678/a223c6b3710f85df22e9377d6c4f7553/", id.leaseName())
	require.Equal(t, "offline/fleet/local.5f0a1b2c3d4e5f.12345678//", id.fleetPrefix())

	seen := make(map[string]identity)
	unique := func(id identity, names ...string) {
		for _, name := range names {
			other, taken := seen[name]
			require.False(t, taken, "%+v and %+v are both called %q", id, other, name)
			seen[name] = id
		}
	}
	odd := []string{
		"portal", "..", ".", "../../etc", "a/b", "a%2Fb", "a_b", "A", "a", strings.Repeat("a", 65), "a-b", "a\x00", "consumer", "fleet", "x",
		"x-" + digest(".."), "nul", "a b", "\u00e4",
	}
	for _, client := range odd {
		for _, member := range odd {
			for _, connector := range []string{"", "erp", "ERP", "../x", "a/b"} {
				id := identity{clientID: client, memberID: member, connector: connector}
				unique(id, id.folder(), id.leaseName())
				require.Regexp(t, `^[a-z0-9][a-z0-9.-]{0,63}_[a-z0-9][a-z0-9.-]{0,63}(_[a-f0-9]{32})?$`, id.folder())
				require.Regexp(t, `^[!-~]+$`, id.leaseName())
				require.NotEqual(t, id.oldFolder(), id.folder())
			}
		}
		for _, connector := range []string{"", "erp", "ERP", "../x", "a/b"} {
			id := identity{clientID: client, connector: connector}
			unique(id, id.fleetPrefix())
			require.Regexp(t, `^[!-~]+$`, id.fleetPrefix())
		}
	}
	for prefix := range seen {
		if !strings.HasPrefix(prefix, "offline/fleet/") {
			continue
		}
		for name := range seen {
			require.False(t, name != prefix && strings.HasPrefix(name, prefix), "%q is among the leases of %q", name, prefix)
		}
	}
}
