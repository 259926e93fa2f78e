package dispatch_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

// TestMergeWhileWaitingForRoom: items that wait for room are merged once the first of them has
// some. They need no room of their own.
func TestMergeWhileWaitingForRoom(t *testing.T) {
	t.Parallel()
	type arrival struct {
		fired int64
		cost  int64
		merge string
	}
	for name, test := range map[string]struct {
		arrivals []arrival
		handled  []int // indexes of the arrivals
		merged   []int // what each handled item stands for besides itself
	}{
		"all":                      {[]arrival{{1, 1, "m"}, {2, 1, "m"}, {3, 1, "m"}}, []int{2}, []int{2}},
		"the older one came later": {[]arrival{{1, 1, "m"}, {3, 1, "m"}, {2, 1, "m"}}, []int{1}, []int{2}},
		"a smaller one":            {[]arrival{{1, 4, "m"}, {2, 1, "m"}}, []int{1}, []int{1}},
		"a larger one":             {[]arrival{{1, 1, "m"}, {2, 4, "m"}}, []int{1}, []int{1}},
		"another between them":     {[]arrival{{1, 1, "m"}, {2, 1, ""}, {3, 1, "m"}}, []int{0, 1, 2}, []int{0, 0, 0}},
		"two kinds":                {[]arrival{{1, 1, "m"}, {2, 1, "n"}, {3, 1, "n"}}, []int{0, 2}, []int{0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var handled, merged []int
				release := make(chan struct{})
				f := &front{handle: func(ctx context.Context, it *dispatch.Item) error {
					index, ok := it.Front.(int)
					if !ok {
						<-release
						return nil
					}
					handled = append(handled, index)
					merged = append(merged, event.AttemptOf(ctx).Merged)
					return nil
				}}
				cfg := config(f, 4)
				cfg.Size = 8 // of which the portal may hold 6
				d := dispatch.New(cfg)
				key := dispatch.Key{MemberID: "a"}
				large := item(2)
				large.Cost = 6
				require.NoError(t, d.Enqueue(key, large, 0))
				admitted := make(chan error, len(test.arrivals))
				for i, a := range test.arrivals {
					it := item(1)
					it.Front, it.Cost, it.Merge = i, a.cost, a.merge
					it.Delivery.Time = time.Unix(a.fired, 0)
					go func() { admitted <- d.Enqueue(key, it, time.Hour) }()
					synctest.Wait()
				}
				require.Zero(t, d.Counts().Outcomes[dispatch.OutcomeMerged])
				close(release)
				for range test.arrivals {
					require.NoError(t, <-admitted)
				}
				require.NoError(t, d.Idle(t.Context()))
				require.Equal(t, test.handled, handled)
				require.Equal(t, test.merged, merged)
				c := d.Counts()
				require.EqualValues(t, 1+len(test.arrivals), c.Accepted)
				require.EqualValues(t, len(test.arrivals)-len(test.handled), c.Outcomes[dispatch.OutcomeMerged])
				require.EqualValues(t, len(test.handled)+1, c.Outcomes[dispatch.OutcomeDone])

				// No room was lost.
				large = item(3)
				large.Cost = 8
				require.NoError(t, d.Enqueue(key, large, 0))
				require.NoError(t, d.Shutdown(t.Context()))
			})
		})
	}
}
