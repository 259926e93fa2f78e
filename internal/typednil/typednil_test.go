package typednil_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/typednil"
)

func TestIs(t *testing.T) {
	t.Parallel()
	var err error
	for name, v := range map[string]any{
		"nothing": nil, "interface": err, "pointer": (*int)(nil), "function": (func())(nil), "map": map[string]int(nil), "slice": []int(nil),
		"channel": (chan int)(nil),
	} {
		require.True(t, typednil.Is(v), name)
	}
	for name, v := range map[string]any{
		"struct": struct{}{}, "text": "", "number": 0, "error": errors.New("x"), "pointer": new(int), "empty slice": []int{},
	} {
		require.False(t, typednil.Is(v), name)
	}
}
