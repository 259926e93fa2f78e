package dispatch_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

// TestOrderAfterARemoval: what is dropped is still being reported while new items of the portal
// arrive. They keep their order.
func TestOrderAfterARemoval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key := dispatch.Key{ClientID: "app", MemberID: "a"}
		reported, release := make(chan struct{}), make(chan struct{})
		var (
			mu      sync.Mutex
			remove  event.RemovalReporter
			running int
			most    int
		)
		f := &front{
			handle: func(ctx context.Context, it *dispatch.Item) error {
				if it.Front == "resting" {
					remove, _ = ctx.Value(event.RemovalReporterKey{}).(event.RemovalReporter)
					return event.Retry(context.Canceled, time.Hour)
				}
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				<-release
				mu.Lock()
				running--
				mu.Unlock()
				return nil
			},
			report: func(_ *dispatch.Item, o dispatch.Outcome) {
				if o == dispatch.OutcomeRemoved {
					<-reported
				}
			},
		}
		cfg := config(f, 8)
		var dropped []int
		cfg.Removed = func(k dispatch.Key, n int) {
			require.Equal(t, key, k)
			dropped = append(dropped, n)
		}
		d := dispatch.New(cfg)
		resting := item(1)
		resting.Front = "resting"
		require.NoError(t, d.Enqueue(key, resting, 0))
		synctest.Wait()
		remove(key.ClientID, key.MemberID, time.Now())
		remove(key.ClientID, "another", time.Now())
		remove(key.ClientID, key.MemberID, time.Now())
		synctest.Wait()
		require.Equal(t, []int{1}, dropped)
		require.NoError(t, d.Enqueue(key, item(1), 0))
		synctest.Wait()
		close(reported)
		synctest.Wait()
		require.NoError(t, d.Enqueue(key, item(1), 0))
		synctest.Wait()
		close(release)
		require.NoError(t, d.Idle(t.Context()))
		require.Equal(t, 1, most, "one item of a lane at a time")
		require.EqualValues(t, 1, d.Counts().Outcomes[dispatch.OutcomeRemoved])
		require.EqualValues(t, 2, d.Counts().Outcomes[dispatch.OutcomeDone])
		require.NoError(t, d.Shutdown(t.Context()))
	})
}
