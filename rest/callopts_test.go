package rest_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/rest"
)

func TestCallOptions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, fine)
		client := newHosts(t, on(tr)).Portal("a")
		for _, opt := range []rest.CallOption{rest.Timeout(0), rest.Timeout(-1), rest.Retries(-1)} {
			for _, err := range []error{
				client.With(opt).Call(t.Context(), "profile", nil, nil),
				client.With(nil, opt, rest.Idempotent()).Batch(t.Context(), rest.NewBatch()),
			} {
				require.ErrorIs(t, err, rest.ErrBadCall)
			}
		}
		require.Zero(t, tr.count())
		require.NoError(t, client.Call(t.Context(), "profile", nil, nil), "the client stays as it was")
	})
}

// TestIdempotentIsOfOneClient: a helper that the caller uses has a client of its own, and its calls
// are not repeated.
func TestIdempotentIsOfOneClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requests := make(map[string]int)
		tr := newScript(t, func(s sent) (int, string, error) {
			requests[s.method]++
			return 504, "<html>", nil
		})
		client := newHosts(t, on(tr), rest.WithRetries(1)).Portal("a")
		require.Error(t, client.With(rest.Idempotent()).Call(t.Context(), "crm.deal.update", nil, nil))
		require.Error(t, client.Call(t.Context(), "crm.timeline.comment.add", nil, nil))
		require.Equal(t, map[string]int{"crm.deal.update": 2, "crm.timeline.comment.add": 1}, requests)
	})
}
