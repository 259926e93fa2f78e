package rest_test

import (
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

type comment struct {
	ID      string
	Message string `json:"POST_MESSAGE"`
}

// withComments returns a portal with two tasks. Task 1 has the comments 1 and 3, task 2 has 2 and
// 4.
func withComments(t *testing.T) *world {
	t.Helper()
	w := newBubble(t)
	for i := range 2 {
		_, err := w.Add(eventtest.Task, map[string]any{"TITLE": strconv.Itoa(i)}, eventtest.AdminID)
		require.NoError(t, err)
	}
	for i := range 4 {
		fields := map[string]any{"TASK_ID": 1 + i%2, "POST_MESSAGE": "comment " + strconv.Itoa(i+1)}
		_, err := w.Add(eventtest.TaskComment, fields, eventtest.AdminID)
		require.NoError(t, err)
	}
	return w
}

func arguments(task, item int) rest.Ordered {
	return rest.Ordered{rest.Arg("TASKID", task), rest.Arg("ITEMID", item)}
}

// TestPositionalMethods: the order of the arguments gets to the portal on every way.
func TestPositionalMethods(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := withComments(t)
		client := w.client(t)
		ordered := arguments(2, 4)
		for name, params := range map[string]any{
			"ordered": arguments(2, 4),
			"pointer": &ordered,
			"slice":   []any{2, 4},
			"others":  pairs{{"TASKID", "2"}, {"ITEMID", "4"}},
			"struct": struct {
				Task int `url:"TASKID"`
				Item int `url:"ITEMID"`
			}{2, 4},
		} {
			got, err := rest.Call[comment](t.Context(), client, "task.commentitem.get", params)
			require.NoError(t, err, name)
			require.Equal(t, comment{"4", "comment 4"}, got, name)
		}
		_, err := rest.Call[comment](t.Context(), client, "task.commentitem.get", map[string]any{"TASKID": 2, "ITEMID": 4})
		require.ErrorIs(t, err, rest.ErrCore, "a map goes out by its keys, ITEMID first")

		b := rest.NewBatch()
		first := rest.Add[comment](b, "first", "task.commentitem.get", arguments(1, 3))
		list := rest.Add[[]comment](b, "list", "task.commentitem.getlist", rest.Ordered{
			rest.Arg("TASKID", 2), rest.Arg("ORDER", map[string]any{"ID": "asc"}), rest.Arg("FILTER", map[string]any{">ID": 1}),
		})
		byRef := rest.Add[comment](b, "byRef", "task.commentitem.get",
			rest.Ordered{rest.Arg("TASKID", 2), rest.Arg("ITEMID", list.Ref("1", "ID"))})
		require.NoError(t, client.Batch(t.Context(), b))
		got, err := first.Result()
		require.NoError(t, err)
		require.Equal(t, comment{"3", "comment 3"}, got)
		rows, err := list.Result()
		require.NoError(t, err)
		require.Equal(t, []comment{{"2", "comment 2"}, {"4", "comment 4"}}, rows)
		got, err = byRef.Result()
		require.NoError(t, err)
		require.Equal(t, comment{"4", "comment 4"}, got)

		before := w.tap.count()
		coalescer := w.portals(t).Coalescer(w.MemberID())
		var wg sync.WaitGroup
		for item := 1; item <= 4; item++ {
			wg.Go(func() {
				got, err := rest.Call[comment](t.Context(), coalescer, "task.commentitem.get", arguments(2-item%2, item))
				if err != nil || got.Message != "comment "+strconv.Itoa(item) {
					t.Error(item, got, err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, 1, w.tap.count()-before, "together")

		n := 0
		for row, err := range rest.All[comment](t.Context(), client, "task.commentitem.getlist", rest.Ordered{rest.Arg("TASKID", 2)}) {
			_ = row
			require.ErrorIs(t, err, rest.ErrCore, "the position of a page would be its ORDER")
			n++
		}
		require.Equal(t, 1, n)
	})
}
