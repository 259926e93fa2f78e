package dispatch_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/dispatch"
)

// TestOrder: items are named after their portal, and their object if they have one. Every call
// takes a second.
func TestOrder(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		workers, limit int
		items          string // portal, object, number
		want           string // a column is what begins in a second
	}{
		"one lane is one at a time":            {4, 4, "a11 a12 a13", "a11|a12|a13"},
		"two lanes run side by side":           {4, 4, "a11 a12 a21 a22", "a11 a21|a12 a22"},
		"items without a lane have no order":   {4, 4, "a-1 a-2 a-3", "a-1 a-2 a-3"},
		"a portal is limited":                  {4, 2, "a11 a21 a31 a41 b11", "a11 a21 b11|a31 a41"},
		"portals take turns":                   {1, 1, "a11 a21 a31 b11 b21 c11", "a11|b11|c11|a21|b21|a31"},
		"portals take turns with two workers":  {2, 2, "a11 a21 a31 a41 b11 b21", "a11 a21|b11 b21|a31 a41"},
		"lanes of a portal take turns":         {1, 1, "a11 a12 a21 a22", "a11|a21|a12|a22"},
		"an urgent one passes a storm":         {1, 1, "a11 a21 a31 a!1 b!1", "a11 a!1|a21 b!1|a31"},
		"urgent ones of a portal have a lane":  {1, 1, "a!1 a!2 b!1", "a!1|b!1|a!2"},
		"urgent and ordinary have own workers": {1, 1, "a!1 a11 a12", "a!1 a11|a12"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder(nil)
				cfg := setup(r)
				cfg.Workers, cfg.Limit = test.workers, test.limit
				d := dispatch.New(cfg)
				for s := range strings.FieldsSeq(test.items) {
					it := named(s, strings.TrimPrefix(s[1:2], "-"))
					it.Urgent = s[1] == '!'
					require.NoError(t, d.Enqueue(portal(s[:1]), it, 0))
				}
				require.NoError(t, d.Idle(t.Context()))
				var columns []string
				for i, column := range strings.Split(test.want, "|") {
					var began []string
					for _, c := range r.calls {
						if c.at == time.Duration(i)*time.Second {
							began = append(began, c.name)
						}
					}
					slices.Sort(began)
					columns = append(columns, strings.Join(began, " "))
					sorted := strings.Fields(column)
					slices.Sort(sorted)
					require.Equal(t, strings.Join(sorted, " "), columns[i], "second %d", i)
				}
				require.Len(t, r.calls, len(strings.Fields(test.items)))
				accountsAddUp(t, d)
				require.NoError(t, d.Shutdown(t.Context()))
			})
		})
	}
}

// TestUrgentBesidesHanging: overdue urgent items make way for those of other portals.
func TestUrgentBesidesHanging(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(func(ctx context.Context, it *dispatch.Item) error {
			if strings.HasPrefix(name(it), "hangs") {
				<-ctx.Done()
			}
			return nil
		})
		cfg := setup(r)
		cfg.Urgent = 2
		d := dispatch.New(cfg)
		for i := range 2 {
			it := named(fmt.Sprint("hangs ", i), "")
			it.Urgent = true
			require.NoError(t, d.Enqueue(portal(name(it)), it, 0))
		}
		it := named("other", "")
		it.Urgent = true
		require.NoError(t, d.Enqueue(portal("other"), it, 0))
		again := named("again", "")
		again.Urgent = true
		require.NoError(t, d.Enqueue(portal("hangs 1"), again, 0))
		<-time.After(dispatch.SlowAfter)
		synctest.Wait()
		require.Equal(t, []time.Duration{dispatch.SlowAfter}, r.times("other"))
		require.Empty(t, r.times("again"), "one urgent item of a portal at a time")
		require.NoError(t, d.Shutdown(t.Context()))
		require.Equal(t, []time.Duration{time.Minute}, r.times("again")[:1])
		accountsAddUp(t, d)
	})
}

// TestLimits: no worker is idle while there is work, and none of the limits is passed.
func TestLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(nil)
		cfg := setup(r)
		cfg.Workers, cfg.Limit = 8, 3
		d := dispatch.New(cfg)
		for i := range 60 {
			require.NoError(t, d.Enqueue(portal("a"), named("a", strconv.Itoa(i)), 0))
		}
		synctest.Wait()
		require.Equal(t, dispatch.Depth{Queued: 57, Running: 3}, d.Depth())
		for i := range 60 {
			require.NoError(t, d.Enqueue(portal(strconv.Itoa(i)), named("b", ""), 0))
		}
		synctest.Wait()
		require.Equal(t, dispatch.Depth{Queued: 112, Running: 8}, d.Depth())
		require.NoError(t, d.Idle(t.Context()))
		require.Equal(t, 8, r.most)
		require.NoError(t, d.Shutdown(t.Context()))
	})
}
