package sqlitestore_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/webhook"
)

// TestHandlerGroups: what 64 connections send at a time costs few commits, each of which syncs
// once. TestRecordsPerSync counts the syncs themselves.
func TestHandlerGroups(t *testing.T) {
	t.Parallel()
	const connections, each, token = 64, 100, "0123456789abcdef0123456789abcdef"
	mux := event.NewMux()
	event.On(mux, event.OnCrmDealUpdate, func(context.Context, *event.Delivery, event.CRMEntity) error { return nil })
	handler, store, err := newDurable(t.Context(), webhook.Tokens(token), mux, filepath.Join(t.TempDir(), "queue.db"))
	require.NoError(t, err)
	var all sync.WaitGroup
	for i := range connections {
		all.Go(func() {
			for range each {
				r, err := eventtest.NewRequest(t.Context(), event.OnCrmDealUpdate, event.CRMEntity{ID: int64(i + 1)},
					eventtest.WithToken(token))
				if err != nil {
					t.Error(err)
					return
				}
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					t.Errorf("status %d", w.Code)
				}
			}
		})
	}
	all.Wait()
	require.NoError(t, handler.Idle(t.Context()))
	n := handler.Stats().Store
	require.NoError(t, handler.Shutdown(t.Context()))
	require.NoError(t, store.Close())
	require.EqualValues(t, connections*each, n.Records)
	require.GreaterOrEqual(t, n.Marks, n.Records)
	t.Logf("%d deliveries and their outcomes in %d commits", n.Records, n.Commits)
	require.GreaterOrEqual(t, n.Records/n.Commits, uint64(15))
}
