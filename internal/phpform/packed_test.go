package phpform_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/phpform"
)

// TestReadingAllocatesNothing: the decision what to do with a delivery takes no memory.
//
//nolint:paralleltest // AllocsPerRun counts those of all goroutines
func TestReadingAllocatesNothing(t *testing.T) {
	v, err := phpform.Decode("a=1&b[]=2&b[]=3&c[d][e]=4", phpform.Limits{})
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		n := 0
		for key, item := range v.All() {
			n += len(key) + item.Len()
		}
		c, _ := v.GetFold("C")
		d, ok := c.Get("d")
		if n != 6 || !ok || d.Empty() {
			t.Errorf("%d elements, %v", n, d)
		}
	}))
}

func TestAllStopsWhenItIsTold(t *testing.T) {
	t.Parallel()
	decoded, err := phpform.Decode("a=1&b=2&c=3", phpform.Limits{})
	require.NoError(t, err)
	for _, v := range []phpform.Value{decoded, phpform.Map(decoded.Entries()...)} {
		var keys []string
		for key := range v.All() {
			if keys = append(keys, key); len(keys) == 2 {
				break
			}
		}
		require.Equal(t, []string{"a", "b"}, keys)
	}
	for range phpform.Text("a").All() {
		t.Error("a scalar has no elements")
	}
}

// TestPack: a tree that was built reads the same after it is packed, with long keys and texts, and
// with packed trees inside.
func TestPack(t *testing.T) {
	t.Parallel()
	inner, err := phpform.Decode("x[]=1&x[]=2&y=%00", phpform.Limits{})
	require.NoError(t, err)
	long := strings.Repeat("k", 300)
	built := phpform.Map(
		phpform.Entry{Key: long, Value: phpform.Text(strings.Repeat("v", 40_000))},
		phpform.Entry{Key: "", Value: phpform.Value{}},
		phpform.Entry{Key: "inner", Value: inner},
		phpform.Entry{Key: "list", Value: phpform.List(phpform.Boolean(true), phpform.Boolean(false), phpform.Int(-7), phpform.Map())},
		phpform.Entry{Key: "out of order", Value: phpform.Map(
			phpform.Entry{Key: "1", Value: phpform.Text("b")}, phpform.Entry{Key: "0", Value: phpform.Text("a")},
		)},
	)
	packed := built.Pack()
	require.Equal(t, string(built.AppendJSON(nil)), string(packed.AppendJSON(nil)))
	require.Equal(t, phpform.Encode(built), phpform.Encode(packed))
	require.Equal(t, packed, phpform.Unpacked(packed.Packed()))
	require.Equal(t, packed, packed.Pack())
	require.Equal(t, built.Len(), packed.Len())
	for _, e := range built.Entries() {
		got, ok := packed.Get(e.Key)
		require.True(t, ok)
		requireSame(t, e.Value, got)
	}
	require.Equal(t, phpform.Text("a"), phpform.Text("a").Pack())
	require.Equal(t, phpform.Map(), phpform.Map().Pack())
}

func TestEqualFold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"ID", "id", true},
		{"a_B[1", "A_b[1", true},
		{"имя", "ИМЯ", true},
		{"ID", "IDs", false},
		{"@", "`", false}, // which differ as letters do
		{"[", "{", false},
		{"k", "\u212a", false}, // the Kelvin sign is longer
	} {
		require.Equal(t, c.want, phpform.EqualFold(c.a, c.b), "%q %q", c.a, c.b)
		require.Equal(t, c.want, phpform.EqualFold(c.b, c.a), "%q %q", c.b, c.a)
	}
}
