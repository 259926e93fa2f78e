package rest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

// collect ranges over all rows, and checks that nothing comes after an error.
func collect[T any](t *testing.T, rows func(func(T, error) bool)) ([]T, error) {
	t.Helper()
	var all []T
	var failed error
	for row, err := range rows {
		require.NoError(t, failed, "the error is the last that is yielded")
		if err != nil {
			failed = err
			continue
		}
		all = append(all, row)
	}
	return all, failed
}

func TestAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deals(t, 120, func(i int) string { return "deal " + strconv.Itoa(i%2) })
	type dealList struct {
		Filter struct {
			Title string `url:"TITLE,omitempty"`
		} `url:"filter"`
		Select []string `url:"select,brackets"`
	}
	tests := map[string]struct {
		method   string
		params   any
		opts     []rest.ListOption
		first    string
		rows     int
		requests int
	}{
		"by position":     {"crm.deal.list", nil, nil, "1", 120, 3},
		"by identifier":   {"crm.deal.list", nil, []rest.ListOption{rest.ByID("ID")}, "1", 120, 3},
		"from a position": {"crm.deal.list", map[string]any{"start": 100}, nil, "101", 20, 1},
		"filter":          {"crm.deal.list", map[string]any{"filter": map[string]any{"TITLE": "deal 0"}}, nil, "2", 60, 2},
		"filter, identifier": {
			"crm.deal.list", map[string]any{"filter": map[string]any{"TITLE": "deal 0"}}, []rest.ListOption{rest.ByID("ID")}, "2", 60, 3,
		},
		"filter in capitals": {
			"crm.deal.list", map[string]any{"FILTER": map[string]any{"TITLE": "deal 0"}}, []rest.ListOption{rest.ByID("ID")}, "2", 60, 3,
		},
		"lower bound": {
			"crm.deal.list", map[string]any{"filter": map[string]any{">ID": 100}}, []rest.ListOption{rest.ByID("ID")}, "101", 20, 2,
		},
		"order":   {"crm.deal.list", map[string]any{"order": map[string]any{"ID": "DESC"}}, nil, "120", 120, 3},
		"struct":  {"crm.deal.list", dealList{Select: []string{"TITLE"}}, nil, "1", 120, 3},
		"values":  {"crm.deal.list", url.Values{"filter[TITLE]": {"deal 1"}}, []rest.ListOption{rest.ByID("ID")}, "1", 60, 3},
		"nothing": {"crm.deal.list", map[string]any{"filter": map[string]any{"TITLE": "none"}}, nil, "", 0, 1},
		"nothing by id": {
			"crm.deal.list", map[string]any{"filter": map[string]any{"TITLE": "none"}}, []rest.ListOption{rest.ByID("ID")}, "", 0, 1,
		},
		"member": {"crm.item.list", map[string]any{"entityTypeId": 2}, nil, "1", 120, 3},
		"member by id": {
			"crm.item.list", map[string]any{"entityTypeId": 2}, []rest.ListOption{rest.ByID("id"), rest.RowsAt("items"), nil}, "1", 120, 3,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := &tap{next: http.DefaultTransport}
			client := w.client(t, on(tr), rest.WithoutRateLimit())
			type row struct {
				ID any
			}
			rows := rest.All[row](t.Context(), client, test.method, test.params, test.opts...)
			for range 2 { // ranging again starts again
				before := tr.count()
				all, err := collect(t, rows)
				require.NoError(t, err)
				require.Len(t, all, test.rows)
				seen := map[string]bool{}
				for _, r := range all {
					seen[fmt.Sprint(r.ID)] = true
				}
				require.Len(t, seen, test.rows, "no row twice")
				if test.rows > 0 {
					require.Equal(t, test.first, fmt.Sprint(all[0].ID))
				}
				require.Equal(t, test.requests, tr.count()-before)
			}
		})
	}
}

func TestAllStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deals(t, 120, strconv.Itoa)
	t.Run("at a break", func(t *testing.T) {
		t.Parallel()
		tr := &tap{next: http.DefaultTransport}
		n := 0
		for _, err := range rest.All[deal](t.Context(), w.client(t, on(tr)), "crm.deal.list", nil) {
			require.NoError(t, err)
			if n++; n == 50 {
				break
			}
		}
		require.Equal(t, 1, tr.count())
	})
	t.Run("with the context", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		var last error
		for _, err := range rest.All[deal](ctx, w.client(t), "crm.deal.list", nil) {
			if err != nil {
				last = err
				continue
			}
			if n++; n == 7 {
				cancel()
			}
		}
		require.ErrorIs(t, last, context.Canceled)
		require.Equal(t, 7, n)
	})
	t.Run("at an error on the second page", func(t *testing.T) {
		t.Parallel()
		own := newWorld(t)
		own.deals(t, 60, strconv.Itoa)
		n := 0
		var last error
		for _, err := range rest.All[deal](t.Context(), own.client(t), "crm.deal.list", nil) {
			if err != nil {
				last = err
				continue
			}
			if n++; n == 50 {
				own.Once("crm.deal.list", eventtest.Fail(403, "ACCESS_DENIED", "Access denied!"))
			}
		}
		require.ErrorIs(t, last, rest.ErrAccessDenied)
		require.Equal(t, 50, n)
	})
}

func TestAllCopiesParameters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deals(t, 3, strconv.Itoa)
	filter := map[string]any{"TITLE": "2"}
	params := map[string]any{"filter": filter}
	rows := rest.All[deal](t.Context(), w.client(t), "crm.deal.list", params, rest.ByID("ID"))
	filter["TITLE"] = "3"

	all, err := collect(t, rows)

	require.NoError(t, err)
	require.Equal(t, []deal{{ID: "2", Title: "2"}}, all)
	require.Equal(t, map[string]any{"filter": map[string]any{"TITLE": "3"}}, params)
}

func TestAllThroughACoalescer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deals(t, 60, strconv.Itoa)
	all, err := collect(t, rest.All[deal](t.Context(), w.portals(t).Coalescer(w.MemberID()), "crm.deal.list", nil))
	require.NoError(t, err)
	require.Len(t, all, 60)
}

func TestAllOddResponses(t *testing.T) {
	t.Parallel()
	byID := []rest.ListOption{rest.ByID("ID")}
	tests := map[string]struct {
		responses []string
		params    any
		opts      []rest.ListOption
		want      string // the identifiers
		err       error
	}{
		"next repeats": {responses: []string{`{"result":[{"ID":1}],"next":50}`}, want: "1", err: rest.ErrBadResponse},
		"next goes back": {
			responses: []string{`{"result":[{"ID":1}],"next":50}`, `{"result":[{"ID":2}],"next":1}`}, want: "1", err: rest.ErrBadResponse,
		},
		"next is the start":     {responses: []string{`{"result":[{"ID":1}],"next":0}`}, err: rest.ErrBadResponse},
		"next in quotes":        {responses: []string{`{"result":[{"ID":1}],"next":"50"}`, `{"result":[{"ID":2}]}`}, want: "1 2"},
		"empty page in between": {responses: []string{`{"result":[],"next":50}`, `{"result":[{"ID":2}]}`}, want: "2"},
		"one list":              {responses: []string{`{"result":{"tasks":[{"ID":1}],"meta":{"a":1}}}`}, want: "1"},
		"two lists":             {responses: []string{`{"result":{"tasks":[{"ID":1}],"users":[]}}`}, err: rest.ErrBadResult},
		"two lists, one named": {
			responses: []string{`{"result":{"tasks":[{"ID":1}],"users":[]}}`}, opts: []rest.ListOption{rest.RowsAt("tasks")}, want: "1",
		},
		"named, missing": {
			responses: []string{`{"result":{"users":[]}}`}, opts: []rest.ListOption{rest.RowsAt("tasks")}, err: rest.ErrBadResult,
		},
		"named, no list": {
			responses: []string{`{"result":{"tasks":{"a":1}}}`}, opts: []rest.ListOption{rest.RowsAt("tasks")}, err: rest.ErrBadResult,
		},
		"named, result is a list": {responses: []string{`{"result":[]}`}, opts: []rest.ListOption{rest.RowsAt("tasks")}},
		"list with gaps":          {responses: []string{`{"result":{"3":{"ID":1},"1":{"ID":2}}}`}, want: "1 2"},
		"member with gaps": {
			responses: []string{`{"result":{"tasks":{"3":{"ID":1},"1":{"ID":2}}}}`}, opts: []rest.ListOption{rest.RowsAt("tasks")}, want: "1 2",
		},
		"empty object":         {responses: []string{`{"result":{}}`}},
		"empty list":           {responses: []string{`{"result":[]}`}},
		"no list":              {responses: []string{`{"result":{"a":1}}`}, err: rest.ErrBadResult},
		"scalar":               {responses: []string{`{"result":true}`}, err: rest.ErrBadResult},
		"null":                 {responses: []string{`{"result":null}`}, err: rest.ErrBadResult},
		"row of another type":  {responses: []string{`{"result":[{"ID":1},{"ID":"planted-value"}]}`}, want: "1", err: rest.ErrBadResult},
		"row that is PHP's {}": {responses: []string{`{"result":[[],{"ID":2}]}`}, want: "0 2"},
		"rows repeat":          {responses: []string{`{"result":[{"ID":1},{"ID":2}]}`}, opts: byID, want: "1 2", err: rest.ErrBadResponse},
		"short page": {
			responses: []string{`{"result":[{"ID":1}]}`, `{"result":[{"ID":7}]}`, `{"result":[]}`}, opts: byID, want: "1 7",
		},
		"out of order": {responses: []string{`{"result":[{"ID":5},{"ID":3}]}`, `{"result":[]}`}, opts: byID, err: rest.ErrBadResponse},
		"out of order, later": {
			responses: []string{`{"result":[{"ID":5}]}`, `{"result":[{"ID":8},{"ID":7}]}`}, opts: byID, want: "5", err: rest.ErrBadResponse,
		},
		"a row twice": {responses: []string{`{"result":[{"ID":5},{"ID":5}]}`}, opts: byID, err: rest.ErrBadResponse},
		"pages overlap": {
			responses: []string{`{"result":[{"ID":5},{"ID":7}]}`, `{"result":[{"ID":7},{"ID":9}]}`},
			opts:      byID, want: "5 7", err: rest.ErrBadResponse,
		},
		"zero": {responses: []string{`{"result":[{"ID":0},{"ID":1}]}`, `{"result":[]}`}, opts: byID, want: "0 1"},
		"zero again": {
			responses: []string{`{"result":[{"ID":0}]}`, `{"result":[{"ID":0}]}`}, opts: byID, want: "0", err: rest.ErrBadResponse,
		},
		"text and numbers": {
			responses: []string{`{"result":[{"ID":"9"},{"ID":10},{"ID":"011"}]}`, `{"result":[]}`}, opts: byID, want: "9 10 11",
		},
		"above 2^53": {
			responses: []string{
				`{"result":[{"ID":9007199254740992},{"ID":"9007199254740993"}]}`, `{"result":[{"ID":9007199254740994}]}`, `{"result":[]}`,
			},
			opts: byID, want: "9007199254740992 9007199254740993 9007199254740994",
		},
		"above 2^64": {responses: []string{`{"result":[{"ID":"18446744073709551616"}]}`}, opts: byID, err: rest.ErrBadResult},
		"negative later": {
			responses: []string{`{"result":[{"ID":1}]}`, `{"result":[{"ID":2},{"ID":"-3"}]}`}, opts: byID, want: "1", err: rest.ErrBadResult,
		},
		"fraction": {responses: []string{`{"result":[{"ID":1.5}]}`}, opts: byID, err: rest.ErrBadResult},
		"behind a filter": {
			responses: []string{`{"result":[{"ID":5}]}`}, params: map[string]any{"filter": map[string]any{">ID": 5}}, opts: byID,
			err: rest.ErrBadResponse,
		},
		"behind After": {
			responses: []string{`{"result":[{"ID":5}]}`}, opts: []rest.ListOption{rest.ByID("ID"), rest.After(5)}, err: rest.ErrBadResponse,
		},
		"two spellings":           {responses: []string{`{"result":[{"id":"x","Id":"y","ID":1}]}`, `{"result":[]}`}, opts: byID, want: "1"},
		"total is larger":         {responses: []string{`{"result":[{"ID":1}],"total":2}`}, want: "1", err: rest.ErrBadResponse},
		"total is larger, quotes": {responses: []string{`{"result":[{"ID":1}],"total":"120"}`}, want: "1", err: rest.ErrBadResponse},
		"total shrinks": {
			responses: []string{`{"result":[{"ID":1}],"next":50,"total":60}`, `{"result":[{"ID":2}],"total":2}`}, want: "1 2",
		},
		"next leaves rows out": {
			responses: []string{`{"result":[{"ID":1}],"next":50,"total":51}`, `{"result":[{"ID":51}],"total":51}`}, want: "1 51",
			err: rest.ErrBadResponse,
		},
		"total of another kind":   {responses: []string{`{"result":[{"ID":1}],"total":{"a":1}}`}, want: "1"},
		"total, by ID":            {responses: []string{`{"result":[{"ID":1}],"total":9}`, `{"result":[],"total":9}`}, opts: byID, want: "1"},
		"no identifier":           {responses: []string{`{"result":[{"NAME":1}]}`}, opts: byID, err: rest.ErrBadResult},
		"identifier is no number": {responses: []string{`{"result":[{"ID":"x"}]}`}, opts: byID, err: rest.ErrBadResult},
		"negative identifier":     {responses: []string{`{"result":[{"ID":-1}]}`}, opts: byID, err: rest.ErrBadResult},
		"rows are no objects":     {responses: []string{`{"result":[1]}`}, opts: byID, err: rest.ErrBadResult},
		"small letters":           {responses: []string{`{"result":{"tasks":[{"id":1}]}}`, `{"result":{"tasks":[]}}`}, opts: byID, want: "1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newHosts(t, on(newTransport(t, test.responses...))).Portal("a")
			all, err := collect(t, rest.All[struct{ ID int }](t.Context(), client, "tasks.task.list", test.params, test.opts...))
			require.ErrorIs(t, err, test.err)
			if err != nil {
				require.NotContains(t, err.Error(), "planted-value")
			}
			var ids []string
			for _, r := range all {
				ids = append(ids, strconv.Itoa(r.ID))
			}
			require.Equal(t, test.want, strings.Join(ids, " "))
		})
	}
}

func TestAllRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		params any
		opts   []rest.ListOption
	}{
		"start=-1":             {params: map[string]any{"start": -1}},
		"start is no number":   {params: map[string]any{"start": "planted-value"}},
		"start is a list":      {params: url.Values{"start[]": {"1"}}},
		"START":                {params: map[string]any{"START": 50}},
		"start and identifier": {params: map[string]any{"start": 5}, opts: []rest.ListOption{rest.ByID("ID")}},
		"order and identifier": {params: map[string]any{"order": map[string]any{"TITLE": "ASC"}}, opts: []rest.ListOption{rest.ByID("ID")}},
		"ORDER and identifier": {params: map[string]any{"ORDER": map[string]any{"TITLE": "ASC"}}, opts: []rest.ListOption{rest.ByID("ID")}},
		"no field":             {opts: []rest.ListOption{rest.ByID("")}},
		"field with a bracket": {opts: []rest.ListOption{rest.ByID("ID]")}},
		"no member":            {opts: []rest.ListOption{rest.RowsAt("")}},
		"After by position":    {opts: []rest.ListOption{rest.After(5)}},
		"order and direction":  {params: map[string]any{"order": "ASC"}, opts: []rest.ListOption{rest.ByID("ID")}},
		"token":                {params: map[string]any{"auth": "planted-value"}},
		"scalar":               {params: 5},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := newTransport(t, fine)
			_, err := collect(t, rest.All[deal](t.Context(), newHosts(t, on(tr)).Portal("a"), "crm.deal.list", test.params, test.opts...))
			require.ErrorIs(t, err, rest.ErrBadCall)
			require.NotContains(t, err.Error(), "planted-value")
			require.Zero(t, tr.count())
		})
	}
}
