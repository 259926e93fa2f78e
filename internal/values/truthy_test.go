package values_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/values"
)

func TestTruthy(t *testing.T) {
	t.Parallel()
	for _, v := range []any{true, 1.0, -2.5, "1", "Y", "y", "true", "TRUE"} {
		require.True(t, values.Truthy(v), "%v", v)
	}
	for _, v := range []any{nil, false, 0.0, "", "0", "N", "yes", "false", []any{true}, map[string]any{}} {
		require.False(t, values.Truthy(v), "%v", v)
	}
}
