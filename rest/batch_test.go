package rest_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

type deal struct {
	ID        string
	Title     string `json:"TITLE"`
	ContactID string `json:"CONTACT_ID"`
}

func TestBatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.Add(eventtest.Contact, map[string]any{"NAME": "Ann"}, eventtest.AdminID)
	require.NoError(t, err)
	_, err = w.Add(eventtest.Deal, map[string]any{"TITLE": "a & b = [c] + 100% $x ж", "CONTACT_ID": 1}, eventtest.AdminID)
	require.NoError(t, err)
	w.ResetRecords()
	requests := w.Requests().REST

	b := rest.NewBatch()
	got := rest.Add[deal](b, "deal", "crm.deal.get", map[string]any{"id": 1})
	contact := rest.Add[struct{ NAME string }](b, "contact", "crm.contact.get", map[string]any{"id": got.Ref("CONTACT_ID")})
	copied := rest.Add[int](b, "copy", "crm.deal.add", map[string]any{"fields": map[string]any{"TITLE": got.Ref("TITLE"), "NOTE": "1 & 2"}})
	missing := rest.Add[deal](b, "missing", "crm.deal.get", map[string]any{"id": 99})
	unknown := rest.Add[deal](b, "unknown", "crm.no.such", nil)
	deals := rest.Add[[]deal](b, "list", "crm.deal.list", url.Values{"filter[>ID]": {"0"}, "select[]": {"ID", "TITLE"}})
	now := rest.Add[string](b, "now", "server.time", nil)
	require.Equal(t, 7, b.Len())
	require.NoError(t, w.client(t).Batch(t.Context(), b))

	require.Equal(t, 1, w.Requests().REST-requests)
	d, err := got.Result()
	require.NoError(t, err)
	require.Equal(t, deal{ID: "1", Title: "a & b = [c] + 100% $x ж", ContactID: "1"}, d)
	c, err := contact.Result()
	require.NoError(t, err)
	require.Equal(t, "Ann", c.NAME)
	id, err := copied.Result()
	require.NoError(t, err)
	object, _ := w.Object(eventtest.Deal, int64(id))
	require.Equal(t, "a & b = [c] + 100% $x ж", object["TITLE"])
	require.Equal(t, "1 & 2", object["NOTE"])
	_, err = missing.Result()
	var e *rest.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, rest.Error{Method: "crm.deal.get", Status: 200, Description: "Not found"}, public(e))
	_, err = unknown.Response()
	require.ErrorIs(t, err, rest.ErrMethodNotFound)
	require.ErrorIs(t, b.Err(), rest.ErrMethodNotFound)
	rows, err := deals.Result()
	require.NoError(t, err)
	require.Len(t, rows, 2)
	response, err := deals.Response()
	require.NoError(t, err)
	require.Equal(t, 2, *response.Total)
	require.Nil(t, response.Next)
	require.Positive(t, response.Time.Finish)
	moment, err := now.Result()
	require.NoError(t, err)
	require.NotEmpty(t, moment)
}

// TestRefs: a reference may stand anywhere in the parameters, and takes the type of what it refers
// to.
func TestRefs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deals(t, 3, strconv.Itoa)
	client := w.client(t)
	b := rest.NewBatch()
	list := rest.Add[[]deal](b, "list", "crm.deal.list", map[string]any{
		"order": map[string]any{"ID": "ASC"}, "select": []string{"ID", "TITLE"},
	})
	ref := list.Ref("1", "ID")
	type filter struct {
		ID    []any     `url:"@ID"`
		After *rest.Ref `url:"<ID,omitempty"`
	}
	within := rest.Add[[]deal](b, "within", "crm.deal.list", map[string]any{"filter": filter{ID: []any{ref, list.Ref("2", "ID")}}})
	before := rest.Add[[]deal](b, "before", "crm.deal.list", struct{ Filter filter }{filter{ID: []any{1, 2}, After: &ref}})
	alone := rest.Add[deal](b, "alone", "crm.deal.get", rest.Ordered{rest.Arg("id", ref)})
	require.NoError(t, client.Batch(t.Context(), b))
	titles := func(c *rest.Command[[]deal]) (titles []string) {
		rows, err := c.Result()
		require.NoError(t, err)
		for _, row := range rows {
			titles = append(titles, row.Title)
		}
		return titles
	}
	require.Equal(t, []string{"2", "3"}, titles(within))
	require.Equal(t, []string{"1"}, titles(before))
	got, err := alone.Result()
	require.NoError(t, err)
	require.Equal(t, "2", got.Title)

	coalescer, err := rest.NewCoalescer(client)
	require.NoError(t, err)
	for _, c := range []rest.Doer{client, coalescer} {
		_, err = c.Do(t.Context(), "crm.deal.get", map[string]any{"id": ref})
		require.ErrorIs(t, err, rest.ErrBadCall)
	}
	require.Equal(t, "rest.Ref rest.Ref", fmt.Sprintf("%v %#v", ref, ref))
}

func TestHalt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deals(t, 1, strconv.Itoa)
	client := w.client(t)
	b := rest.NewBatch()
	b.Halt()
	before := rest.Add[deal](b, "before", "crm.deal.get", map[string]any{"id": 1})
	failing := rest.Add[deal](b, "failing", "crm.deal.get", map[string]any{"id": 2})
	var after []*rest.Command[deal]
	for i := range 70 {
		after = append(after, rest.Add[deal](b, "after"+strconv.Itoa(i), "crm.deal.get", map[string]any{"id": 1}))
	}

	_, err := before.Result()
	require.ErrorIs(t, err, rest.ErrNotRun, "it was not sent so far")
	requests := w.Requests().REST
	require.NoError(t, client.Batch(t.Context(), b))

	require.Equal(t, 1, w.Requests().REST-requests, "the second request is not made")
	_, err = before.Result()
	require.NoError(t, err)
	_, err = failing.Result()
	require.Error(t, err)
	require.NotErrorIs(t, err, rest.ErrNotRun)
	for _, command := range after {
		_, err = command.Result()
		require.ErrorIs(t, err, rest.ErrNotRun)
	}

	// The same batch once more, now that nothing fails.
	_, err = w.Add(eventtest.Deal, map[string]any{"TITLE": "2"}, eventtest.AdminID)
	require.NoError(t, err)
	require.NoError(t, client.Batch(t.Context(), b))
	require.NoError(t, b.Err())
}

func TestBatchIsSplit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deals(t, 1, strconv.Itoa)
	tests := map[string]struct {
		commands int
		refs     map[int]int // from one command to an earlier one
		want     []int       // commands in each request
		bad      bool
	}{
		"none":                  {commands: 0},
		"one":                   {commands: 1, want: []int{1}},
		"full":                  {commands: 50, want: []int{50}},
		"one more":              {commands: 51, want: []int{50, 1}},
		"three":                 {commands: 120, want: []int{50, 50, 20}},
		"reference across":      {commands: 60, refs: map[int]int{50: 49}, want: []int{49, 11}},
		"pairs":                 {commands: 60, refs: map[int]int{1: 0, 49: 48, 51: 48}, want: []int{48, 12}},
		"chain of 50":           {commands: 100, refs: chain(1, 49), want: []int{50, 50}},
		"chain shifted":         {commands: 60, refs: chain(11, 59), want: []int{10, 50}},
		"chain of 51":           {commands: 60, refs: chain(1, 50), bad: true},
		"from the last to zero": {commands: 51, refs: map[int]int{50: 0}, bad: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := newScript(t, func(s sent) (int, string, error) {
				results := map[string]any{}
				for key, values := range s.form {
					if name, ok := strings.CutPrefix(key, "cmd["); ok {
						results[strings.TrimSuffix(name, "]")] = values[0]
					}
				}
				body, err := json.Marshal(map[string]any{"result": map[string]any{"result": results, "result_error": []any{}}})
				return 200, string(body), err
			})
			b := rest.NewBatch()
			var commands []*rest.Command[string]
			for i := range test.commands {
				params := map[string]any{"id": i}
				if to, ok := test.refs[i]; ok {
					params["to"] = commands[to].Ref("ID")
				}
				commands = append(commands, rest.Add[string](b, fmt.Sprintf("n%d", i), "crm.deal.get", params))
			}

			err := newHosts(t, on(tr)).Portal("a").Batch(t.Context(), b)

			if test.bad {
				require.ErrorIs(t, err, rest.ErrBadCall)
				require.Zero(t, tr.count())
				return
			}
			require.NoError(t, err)
			var sizes []int
			for _, s := range tr.requests() {
				sizes = append(sizes, len(s.form)-2) // less halt and auth
				require.Equal(t, "0", s.form.Get("halt"))
			}
			require.Equal(t, test.want, sizes)
			for i, command := range commands {
				echoed, err := command.Result()
				require.NoError(t, err)
				query, err := url.ParseQuery(strings.TrimPrefix(echoed, "crm.deal.get?"))
				require.NoError(t, err)
				require.Equal(t, strconv.Itoa(i), query.Get("id"))
				if to, ok := test.refs[i]; ok {
					require.Equal(t, fmt.Sprintf("$result[n%d][ID]", to), query.Get("to"))
				}
			}
		})
	}
}

// chain makes each command of a range refer to the one before it.
func chain(from, to int) map[int]int {
	refs := map[int]int{}
	for i := from; i <= to; i++ {
		refs[i] = i - 1
	}
	return refs
}

func TestBatchResponses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body string
		want [2]error // of the commands a and b; nil for "A" and "B"
		err  error    // of the batch
	}{
		"objects": {body: `{"result":{"result":{"a":"A","b":"B"},"result_error":[],"result_total":[],"result_next":[],"result_time":[]}}`},
		"null":    {body: `{"result":{"result":{"a":"A","b":"B"},"result_error":null}}`},
		"one failed": {
			body: `{"result":{"result":{"a":"A"},"result_error":{"b":{"error":"access_denied","error_description":"<b>no</b>"}}}}`,
			want: [2]error{nil, rest.ErrAccessDenied},
		},
		"all failed": {
			body: `{"result":{"result":[],"result_error":{"a":{"error":"ERROR_BATCH_LENGTH_EXCEEDED"},"b":{"error":"expired_token"}}}}`,
			want: [2]error{rest.ErrorCode("ERROR_BATCH_LENGTH_EXCEEDED"), rest.ErrExpiredToken},
		},
		"lists instead of objects": {
			body: `{"result":{"result":["A","B"],"result_error":[]}}`, want: [2]error{rest.ErrBadResponse, rest.ErrBadResponse},
		},
		"left out":     {body: `{"result":{"result":{"b":"B"},"result_error":[]}}`, want: [2]error{rest.ErrBadResponse, nil}},
		"odd error":    {body: `{"result":{"result":{"b":"B"},"result_error":{"a":"x"}}}`, want: [2]error{rest.ErrBadResponse, nil}},
		"empty":        {body: `{"result":[]}`, want: [2]error{rest.ErrBadResponse, rest.ErrBadResponse}},
		"other result": {body: `{"result":{"result":{"a":{"x":1},"b":"B"}}}`, want: [2]error{rest.ErrBadResult, nil}},
		"scalar section": {
			body: `{"result":{"result":5}}`, want: [2]error{rest.ErrBadResponse, rest.ErrBadResponse}, err: rest.ErrBadResponse,
		},
		"scalar": {body: `{"result":true}`, want: [2]error{rest.ErrBadResponse, rest.ErrBadResponse}, err: rest.ErrBadResponse},
		"refused as a whole": {
			body: `{"error":"ACCESS_DENIED"}`, want: [2]error{rest.ErrAccessDenied, rest.ErrAccessDenied}, err: rest.ErrAccessDenied,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := clientOf(t, says(200, test.body))
			b := rest.NewBatch()
			commands := []*rest.Command[string]{rest.Add[string](b, "a", "profile", nil), rest.Add[string](b, "b", "scope", nil)}

			require.ErrorIs(t, client.Batch(t.Context(), b), test.err)

			for i, command := range commands {
				result, err := command.Result()
				require.ErrorIs(t, err, test.want[i])
				requireNoSecrets(t, err)
				if test.want[i] == nil {
					require.Equal(t, []string{"A", "B"}[i], result)
					continue
				}
				var e *rest.Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, []string{"profile", "scope"}[i], e.Method)
			}
		})
	}
}

func TestBatchRefused(t *testing.T) {
	t.Parallel()
	params := map[string]any{"x": "planted-value"}
	tests := map[string]func(b *rest.Batch){
		"empty name":        func(b *rest.Batch) { rest.Add[any](b, "", "profile", params) },
		"number for a name": func(b *rest.Batch) { rest.Add[any](b, "0", "profile", params) },
		"digit first":       func(b *rest.Batch) { rest.Add[any](b, "1a", "profile", params) },
		"bracket in a name": func(b *rest.Batch) { rest.Add[any](b, "a]", "profile", params) },
		"letter of another": func(b *rest.Batch) { rest.Add[any](b, "ж", "profile", params) },
		"long name":         func(b *rest.Batch) { rest.Add[any](b, strings.Repeat("a", 65), "profile", params) },
		"name twice":        func(b *rest.Batch) { rest.Add[any](b, "ok", "profile", params) },
		"batch in a batch":  func(b *rest.Batch) { rest.Add[any](b, "a", "Batch", params) },
		"upload":            func(b *rest.Batch) { rest.Add[any](b, "a", "upload", params) },
		"download":          func(b *rest.Batch) { rest.Add[any](b, "a", "download", params) },
		"bad method":        func(b *rest.Batch) { rest.Add[any](b, "a", "crm.deal.get?id=planted-value", params) },
		"token":             func(b *rest.Batch) { rest.Add[any](b, "a", "profile", map[string]any{"auth": "planted-value"}) },
		"connector": func(b *rest.Batch) {
			rest.Add[any](b, "a", "event.offline.get", map[string]any{"auth_connector": "planted-value"})
		},
		"parameters":        func(b *rest.Batch) { rest.Add[any](b, "a", "profile", 5) },
		"reference to none": func(b *rest.Batch) { rest.Add[any](b, "a", "profile", map[string]any{"x": "$result[planted-value]"}) },
		"reference to later": func(b *rest.Batch) {
			rest.Add[any](b, "a", "profile", map[string]any{"x": "see $total[b]"})
			rest.Add[any](b, "b", "scope", nil)
		},
		"reference to self": func(b *rest.Batch) { rest.Add[any](b, "a", "profile", map[string]any{"x": "$error[a][error]"}) },
		"nested reference": func(b *rest.Batch) {
			rest.Add[any](b, "a", "profile", map[string]any{"x": []any{map[string]any{"y": "$next[zz]"}}})
		},
		"key that refers": func(b *rest.Batch) {
			rest.Add[any](b, "a", "profile", map[string]any{"x": map[string]any{"$result[ok]": 1}})
		},
		"text of strangers": func(b *rest.Batch) {
			rest.Add[any](b, "a", "crm.deal.add", struct{ Title string }{"planted-value $RESULT[ok][EMAIL]"})
		},
		"letters between": func(b *rest.Batch) { rest.Add[any](b, "a", "profile", map[string]any{"x": "$results[ok]"}) },
		"reference elsewhere": func(b *rest.Batch) {
			rest.Add[any](b, "a", "profile", map[string]any{"x": rest.Add[any](rest.NewBatch(), "ok", "profile", nil).Ref()})
		},
		"no reference": func(b *rest.Batch) { rest.Add[any](b, "a", "profile", map[string]any{"x": rest.Ref{}}) },
		"reference as a key": func(b *rest.Batch) {
			rest.Add[any](b, "a", "profile", map[rest.Ref]any{rest.Add[any](b, "c", "scope", nil).Ref(): 1})
		},
		"reference as a whole": func(b *rest.Batch) { rest.Add[any](b, "a", "profile", rest.Add[any](b, "c", "scope", nil).Ref()) },
		"space in a path":      func(b *rest.Batch) { rest.Add[any](b, "a", "profile", nil).Ref("a b") },
		"bracket in a path":    func(b *rest.Batch) { rest.Add[any](b, "a", "profile", nil).Ref("a]") },
		"empty key in path":    func(b *rest.Batch) { rest.Add[any](b, "a", "profile", nil).Ref("") },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, portal := clientOf(t, says(200, `{"result":[]}`))
			b := rest.NewBatch()
			good := rest.Add[any](b, "ok", "profile", nil)
			spoil(b)

			err := client.Batch(t.Context(), b)

			require.ErrorIs(t, err, rest.ErrBadCall)
			require.NotContains(t, err.Error(), "planted-value")
			require.Empty(t, portal.requests())
			_, err = good.Result()
			require.ErrorIs(t, err, rest.ErrNotRun)
			for _, v := range []any{b, good} {
				require.NotContains(t, fmt.Sprintf("%v %+v %#v", v, v, v), "planted-value")
			}
		})
	}
}

func TestBatchAndTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.renewable(t)
	client := w.client(t)
	b := rest.NewBatch()
	user := rest.Add[struct{ ID string }](b, "user", "user.current", nil)
	w.Once("batch", eventtest.Fail(401, "expired_token", "The access token provided has expired"))

	require.NoError(t, client.Batch(t.Context(), b))

	require.Len(t, w.creds.refused, 1)
	_, err := user.Result()
	require.NoError(t, err)

	// A command that the portal refuses in this way is not retried: later ones may have used its
	// result.
	w.Once("user.current", eventtest.Fail(401, "expired_token", ""))
	require.NoError(t, client.Batch(t.Context(), b))
	_, err = user.Result()
	require.ErrorIs(t, err, rest.ErrExpiredToken)
	require.Len(t, w.creds.refused, 1)
}

func TestBatchAndLostResponses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deals(t, 1, strconv.Itoa)
	client := w.client(t)

	reads := rest.NewBatch()
	got := rest.Add[deal](reads, "a", "crm.deal.get", map[string]any{"id": 1})
	w.Once("batch", eventtest.LoseAnswer())
	require.NoError(t, client.Batch(t.Context(), reads), "reads are repeated")
	_, err := got.Result()
	require.NoError(t, err)

	writes := rest.NewBatch()
	added := rest.Add[int](writes, "a", "crm.deal.add", map[string]any{"fields": map[string]any{"TITLE": "x"}})
	w.Once("batch", eventtest.LoseAnswer())
	require.Error(t, client.Batch(t.Context(), writes))
	_, err = added.Result()
	require.Error(t, err)
	require.NotErrorIs(t, err, rest.ErrNotRun, "it may have run, and it has")
	require.Equal(t, 1, w.CallCount("crm.deal.add"))
}

// TestBatchThatPartlyRan: one command ran and the other may be made again. The batch as a whole may
// not.
func TestBatchThatPartlyRan(t *testing.T) {
	t.Parallel()
	client, _ := clientOf(t, says(200, `{"result":{"result":{"a":17},"result_error":{"b":{"error":"OPERATION_TIME_LIMIT"}}}}`))
	b := rest.NewBatch()
	rest.Add[int](b, "a", "crm.deal.add", nil)
	blocked := rest.Add[int](b, "b", "crm.contact.add", nil)
	require.NoError(t, client.Batch(t.Context(), b))

	_, ok := rest.Retryable(b.Err())
	require.False(t, ok)
	require.False(t, notRun(b.Err()))
	_, err := blocked.Result()
	_, ok = rest.Retryable(err)
	require.True(t, ok)
	require.True(t, notRun(err))
}

func TestBatchEchoesNoToken(t *testing.T) {
	t.Parallel()
	const echo = `{"result":{"result":[],"result_error":{"a":{"error":"X","error_description":"s3cr3t/ACCESS+token=1"}}}}`
	client, _ := clientOf(t, says(200, echo))
	b := rest.NewBatch()
	a := rest.Add[any](b, "a", "profile", nil)
	require.NoError(t, client.Batch(t.Context(), b))
	_, err := a.Result()
	require.ErrorIs(t, err, rest.ErrorCode("X"))
	requireNoSecrets(t, err)
}
