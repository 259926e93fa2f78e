package webhook_test

import (
	"context"
	"net/http"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/webhook"
)

// TestStorm sends thousands of deliveries, some twice and many out of order: each that was
// acknowledged is handled, and those of one object never at the same time.
func TestStorm(t *testing.T) {
	t.Parallel()
	var (
		mu      sync.Mutex
		handled int
		changes = map[string]bool{}
		busy    = map[event.Entity]bool{}
	)
	mux := event.NewMux()
	note := func(_ context.Context, d *event.Delivery, _ event.CRMEntity) error {
		mu.Lock()
		if busy[d.Entity()] {
			t.Errorf("%v is handled twice at the same time", d.Entity())
		}
		busy[d.Entity()] = true
		mu.Unlock()
		runtime.Gosched() // a chance for another of this object
		mu.Lock()
		defer mu.Unlock()
		busy[d.Entity()] = false
		handled++
		changes[d.Key()] = true
		return nil
	}
	event.On(mux, event.OnCrmDealAdd, note)
	event.On(mux, event.OnCrmDealUpdate, note)
	h, err := webhook.NewHandler(webhook.Tokens(token), mux, webhook.WithQueueSize(10_000))
	require.NoError(t, err)
	storm := eventtest.Storm{
		Seed: 1, Events: []eventtest.Event{event.OnCrmDealAdd, event.OnCrmDealUpdate}, Objects: 40, Changes: 3000, Duplicates: 0.2, Reorder: 50,
		Workers: 8, Options: []eventtest.RequestOption{eventtest.WithToken(token)},
	}
	report, err := storm.Serve(t.Context(), h)
	require.NoError(t, err)
	require.Equal(t, map[int]int{http.StatusOK: report.Sent}, report.Answers)
	require.NoError(t, h.Shutdown(t.Context()))
	require.Equal(t, report.Sent, handled)
	require.Len(t, changes, report.Changes, "duplicates have the key of what they repeat")

	storm.Options = []eventtest.RequestOption{eventtest.WithToken("wrong")}
	report, err = storm.Serve(t.Context(), h)
	require.NoError(t, err)
	require.Zero(t, report.Answers[http.StatusOK], "nothing forged is let in")
	require.Equal(t, report.Sent, report.Answers[http.StatusForbidden]+report.Answers[http.StatusServiceUnavailable])
}
