package offline_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/offline"
)

// mortal is a caller that dies at its last call: before the portal runs it, or after, with the
// answer lost. From then on nothing gets through, as from a process that was killed.
type mortal struct {
	event.Caller
	afterwards bool

	mu   sync.Mutex
	left int
}

func (m *mortal) Call(ctx context.Context, method string, params, result any) error {
	m.mu.Lock()
	m.left--
	left := m.left
	m.mu.Unlock()
	dead := refusal{code: "invalid_token"} // ends a consumer at once
	switch {
	case left < 0, left == 0 && !m.afterwards:
		return dead
	case left == 0:
		var lost json.RawMessage
		return errors.Join(dead, m.Caller.Call(ctx, method, params, &lost))
	default:
		return m.Caller.Call(ctx, method, params, result)
	}
}

// Consumers die at random calls while objects change: the last change of every object must reach a
// handler, and nothing may stay behind.
func TestNoChangeIsMissedWhateverDies(t *testing.T) {
	t.Parallel()
	const objects, lives = 12, 60
	f := newFixture(t)
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // repeatable
	var mu sync.Mutex
	version := make(map[int]int) // of an object, on the portal
	synced := make(map[int]int)  // what handlers read last
	change := func() {
		id := 1 + random.IntN(objects)
		version[id]++
		f.change("UPDATE", id)
	}
	handle := func(_ context.Context, d *event.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		if random.IntN(5) == 0 {
			change() // while a reservation is held
		}
		if random.IntN(8) == 0 {
			return event.Retry(errHandler, time.Microsecond)
		}
		id := dealID(t, d)
		synced[id] = version[id]
		return nil
	}
	died := 0
	for range lives {
		mu.Lock()
		for range random.IntN(8) {
			change()
		}
		caller := &mortal{Caller: f.api, left: 1 + random.IntN(7), afterwards: random.IntN(2) == 0}
		mu.Unlock()
		c := newConsumer(t, caller, handle, offline.WithMaxAttempts(100), offline.WithBatchSize(1+random.IntN(6)))
		if c.Drain(t.Context()) != nil {
			died++
		}
	}
	require.Greater(t, died, lives/4, "they hardly ever died, so nothing was tested")
	require.NoError(t, newConsumer(t, f.api, handle, offline.WithMaxAttempts(100)).Drain(t.Context()))
	require.Equal(t, version, synced)
	require.Empty(t, f.OfflineRows())
}
