package sqlitestore_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/sqlitestore"
)

// newDurable returns a handler that survives crashes. The caller shuts it down, and then closes the
// store.
func newDurable(ctx context.Context, v webhook.Verifier, mux *event.Mux, file string) (*webhook.Handler, io.Closer, error) {
	store, err := sqlitestore.Open(ctx, file) // on a local disk
	if err != nil {
		return nil, nil, err
	}
	handler, err := webhook.NewHandler(v, mux, webhook.WithStore(store))
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return handler, store, nil
}

// TestReadme runs the README's durable handler twice over one file.
func TestReadme(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef0123456789abcdef"
	file := filepath.Join(t.TempDir(), "queue.db")
	var got []int64
	for round := range 2 {
		mux := event.NewMux()
		event.On(mux, event.OnCrmDealUpdate, func(_ context.Context, _ *event.Delivery, e event.CRMEntity) error {
			got = append(got, e.ID)
			return nil
		})
		handler, store, err := newDurable(t.Context(), webhook.Tokens(token), mux, file)
		require.NoError(t, err)
		r, err := eventtest.NewRequest(t.Context(), event.OnCrmDealUpdate, event.CRMEntity{ID: int64(round + 1)},
			eventtest.WithToken(token))
		require.NoError(t, err)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		require.Equal(t, http.StatusOK, w.Code)
		require.NoError(t, handler.Idle(t.Context()))
		require.NoError(t, handler.Shutdown(t.Context()))
		require.NoError(t, store.Close())
	}
	require.Equal(t, []int64{1, 2}, got)
}
