package rest_test

import (
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

func TestNotFound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := withComments(t)
		client := w.client(t)
		w.deals(t, 1, func(int) string { return "x" })
		calls := map[string]struct {
			method string
			params any
			missing, found,
			silent bool
		}{
			"deal":             {method: "crm.deal.get", params: map[string]any{"id": 1}, found: true},
			"no deal":          {method: "crm.deal.get", params: map[string]any{"id": 9}, missing: true},
			"other case":       {method: "CRM.deal.Get", params: map[string]any{"id": 9}, missing: true},
			"no deal to write": {method: "crm.deal.update", params: map[string]any{"id": 9, "fields": map[string]any{"TITLE": "y"}}, missing: true},
			"no deal to take":  {method: "crm.deal.delete", params: map[string]any{"id": 9}, missing: true},
			"no number":        {method: "crm.deal.get", params: map[string]any{"id": "x"}},
			"no item":          {method: "crm.item.get", params: map[string]any{"entityTypeId": 2, "id": 9}, missing: true},
			"no comment":       {method: "task.commentitem.get", params: arguments(1, 9)}, // or not visible
			"no argument":      {method: "task.commentitem.get", params: []int{1}},
			"no method":        {method: "crm.no.such"},
			"no task":          {method: "tasks.task.get", params: map[string]any{"taskId": 9}, silent: true},
			"no user":          {method: "user.get", params: map[string]any{"ID": 9}, silent: true},
		}
		b := rest.NewBatch()
		commands := map[string]*rest.Command[any]{}
		for name, call := range calls {
			commands[name] = rest.Add[any](b, "n"+strconv.Itoa(len(commands)), call.method, call.params)
		}
		require.NoError(t, client.Batch(t.Context(), b))
		coalescer := w.portals(t).Coalescer(w.MemberID())
		var wg sync.WaitGroup
		for name, call := range calls {
			check := func(way string, err error) {
				if found := call.found || call.silent; found != (err == nil) || call.missing != isNotFound(err) {
					t.Error(name, way, err)
				}
			}
			_, err := rest.Call[any](t.Context(), client, call.method, call.params)
			check("client", err)
			_, err = commands[name].Result()
			check("batch", err)
			wg.Go(func() { check("coalescer", coalescer.Call(t.Context(), call.method, call.params, nil)) })
		}
		wg.Wait()
	})
}

func isNotFound(err error) bool { return errors.Is(err, rest.ErrNotFound) }

// TestNotFoundIsOfTheMethod: neither a page of a proxy nor another method's code means that an
// object is gone.
func TestNotFoundIsOfTheMethod(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := w.client(t, rest.WithRetries(0))
	for name, fault := range map[string]eventtest.Fault{
		"page":                   eventtest.HTML(404),
		"code of another method": eventtest.Fail(404, "NOT_FOUND", "Not found"),
		"words with more":        eventtest.Fail(400, "", "Not found: try later"),
		"portal":                 eventtest.Fail(403, "PORTAL_DELETED", "Portal was deleted"),
		"token":                  eventtest.Fail(401, "APPLICATION_NOT_FOUND", "Application not found"),
		"rights":                 eventtest.Fail(400, "", "Access denied"),
	} {
		w.Once("crm.deal.get", fault)
		err := client.Call(t.Context(), "crm.deal.get", map[string]any{"id": 1}, nil)
		require.Error(t, err, name)
		require.NotErrorIs(t, err, rest.ErrNotFound, name)
	}
	require.NotErrorIs(t, &rest.Error{Method: "crm.deal.list", Status: 400, Description: "Not found"}, rest.ErrNotFound)
	require.NotErrorIs(t, rest.ErrNotFound, rest.ErrCore)
}
