package offline_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/offline"
)

func TestDurations(t *testing.T) {
	t.Parallel()
	var none offline.Latency
	require.Zero(t, none.Quantile(0.5))
	require.Zero(t, none.Count())
}
