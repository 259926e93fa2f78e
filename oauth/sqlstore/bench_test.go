package sqlstore_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkStore measures what each verified delivery costs (load), each refresh (swap and
// acquire), and each renewal of the leases of a large fleet.
func BenchmarkStore(b *testing.B) {
	names := make([]string, 1000)
	for i := range names {
		names[i] = "lease/" + strconv.Itoa(i)
	}
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) {
			s, in := e.fresh(b).store(b), installation("one")
			version, err := s.Swap(b.Context(), portal, "", in)
			require.NoError(b, err)
			b.Run("load", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_, _, err = s.Load(b.Context(), portal)
					require.NoError(b, err)
				}
			})
			b.Run("swap", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					version, err = s.Swap(b.Context(), portal, version, in)
					require.NoError(b, err)
				}
			})
			for _, n := range []int{1, len(names)} {
				b.Run("acquire "+strconv.Itoa(n), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						held, err := s.Acquire(b.Context(), "owner", time.Minute, names[:n]...)
						require.NoError(b, err)
						require.Len(b, held, n)
					}
				})
			}
		})
	}
}
