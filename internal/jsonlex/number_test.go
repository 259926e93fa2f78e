package jsonlex_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/jsonlex"
)

func TestIsNumber(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"0", "-0", "12", "1.50", "1e3", "-1.2E-3", "18446744073709551616"} {
		require.True(t, jsonlex.IsNumber(s), s)
	}
	for _, s := range []string{"", "-", "+1", "01", "1.", ".5", "1e", "0x1", " 1", "1 ", "1,5", "NaN", "s3cr3t"} {
		require.False(t, jsonlex.IsNumber(s), s)
	}
}

// TestFloatText: numbers read as those that encoding/json writes.
func TestFloatText(t *testing.T) {
	t.Parallel()
	for _, f := range []float64{0, 1, -1.5, 0.1, 1e-6, 1e-7, 1e20, 1e21, math.MaxFloat64, math.SmallestNonzeroFloat64} {
		text, ok := jsonlex.FloatText(f, 64)
		require.True(t, ok)
		doc, err := json.Marshal(f)
		require.NoError(t, err)
		require.JSONEq(t, string(doc), text)
	}
	text, ok := jsonlex.FloatText(float64(float32(0.1)), 32)
	require.True(t, ok)
	require.Equal(t, "0.1", text)
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		_, ok := jsonlex.FloatText(f, 64)
		require.False(t, ok)
	}
}
