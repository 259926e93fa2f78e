//go:build !race

package rest

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMemoryOfIdlePortals: a process that called 100,000 portals in the last minute keeps little of
// each. The race detector would count its own.
func TestMemoryOfIdlePortals(t *testing.T) { //nolint:paralleltest // it measures the heap
	const portals = 100_000
	hosts := make([]string, portals)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("b24-%x.bitrix24.com", i)
	}
	l := newLimiter(DefaultRate, DefaultBurst)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for _, host := range hosts {
		require.NoError(t, l.wait(t.Context(), &turn{host: host}))
	}
	each := (heap() - before) / portals
	t.Logf("%d bytes for a portal", each)
	require.Less(t, each, uint64(256))
	require.Len(t, l.lines, portals)
	runtime.KeepAlive(hosts)
}
