package rest_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/rest"
)

type (
	itself   []itself
	ring     *ring
	readable func()
)

func (*readable) UnmarshalJSON([]byte) error { return nil }

// TestTargets: a result that cannot be stored is found before anything is sent.
func TestTargets(t *testing.T) {
	t.Parallel()
	client, portal := clientOf(t, says(200, `{"result":[]}`))
	coalescer, err := rest.NewCoalescer(client, rest.WithWindow(time.Millisecond))
	require.NoError(t, err)
	var (
		nilPointer *map[string]any
		channel    chan int
		function   func()
		number     complex128
		inside     []map[string]*chan int
		keyed      map[complex64]int
		fault      error
		stringer   []fmt.Stringer
	)
	for name, target := range map[string]any{
		"map":                 map[string]any{},
		"struct":              deal{},
		"number":              5,
		"channel":             channel,
		"nil pointer":         nilPointer,
		"pointer to channel":  &channel,
		"pointer to function": &function,
		"complex":             &number,
		"channel far inside":  &inside,
		"keys":                &keyed,
		"error":               &fault,
		"interfaces":          &stringer,
	} {
		for way, call := range map[string]func() error{
			"client":    func() error { return client.Call(t.Context(), "crm.deal.add", nil, target) },
			"coalescer": func() error { return coalescer.Call(t.Context(), "crm.deal.add", nil, target) },
		} {
			err := call()
			require.ErrorIs(t, err, rest.ErrBadCall, "%s by a %s", name, way)
			var e *rest.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, "crm.deal.add", e.Method)
		}
	}
	require.ErrorIs(t, client.Call(t.Context(), "no method", nil, &channel), rest.ErrBadCall)

	_, err = rest.Call[chan int](t.Context(), client, "crm.deal.add", nil)
	require.ErrorIs(t, err, rest.ErrBadCall)
	_, err = rest.Call[[]func()](t.Context(), coalescer, "crm.deal.add", nil)
	require.ErrorIs(t, err, rest.ErrBadCall)
	n := 0
	for _, err := range rest.All[chan int](t.Context(), client, "crm.deal.list", nil) {
		require.ErrorIs(t, err, rest.ErrBadCall)
		n++
	}
	require.Equal(t, 1, n)
	b := rest.NewBatch()
	rest.Add[any](b, "a", "crm.deal.add", nil)
	rest.Add[map[string]chan int](b, "b", "crm.deal.get", nil)
	require.ErrorIs(t, client.Batch(t.Context(), b), rest.ErrBadCall)
	require.Empty(t, portal.requests())
}

func TestTargetsThatDo(t *testing.T) {
	t.Parallel()
	client, portal := clientOf(t, says(200, `{"result":null}`))
	var round ring
	for name, target := range map[string]any{
		"none": nil,
		"any":  new(any),
		"left out": new(struct {
			C chan int `json:"-"`
		}),
		"pointers":    new(**int),
		"itself":      new(itself),
		"ring":        &round,
		"reads":       new(readable),
		"reads text":  new(map[netip.Addr][]netip.Addr),
		"numbers":     new(map[int][3]uint8),
		"interface{}": new(map[string]any),
	} {
		require.NoError(t, client.Call(t.Context(), "profile", nil, target), name)
	}
	require.Len(t, portal.requests(), 10)
}
