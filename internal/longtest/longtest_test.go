package longtest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/longtest"
)

func TestLongTests(t *testing.T) {
	for name, c := range map[string]struct {
		value string
		skips bool
		times int
	}{
		"ordinary run": {"", true, 2},
		"long run":     {"1", testing.Short(), map[bool]int{true: 2, false: 10}[testing.Short()]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("LONG_TESTS", c.value)
			require.Equal(t, c.times, longtest.Times(2, 10))
			skipped := true
			t.Run("a long one", func(t *testing.T) {
				longtest.Skip(t, "it takes minutes")
				skipped = false
			})
			require.Equal(t, c.skips, skipped)
		})
	}
}
