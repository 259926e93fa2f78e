package webhook_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// noteKey is the key of a text in a context.
type noteKey struct{}

func note(ctx context.Context) string {
	text, _ := ctx.Value(noteKey{}).(string)
	return text
}

func withNote(ctx context.Context, text string) context.Context {
	return context.WithValue(ctx, noteKey{}, text)
}

// noted returns a request whose context has a text.
func noted(body, text string) *http.Request {
	r := request(body)
	return r.WithContext(withNote(r.Context(), text))
}

// TestRequestObserver: what an observer gets of each kind of request. An observer that panics
// changes nothing.
func TestRequestObserver(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		method string
		body   string
		opts   []webhook.Option
		err    error // of the handler
		want   webhook.RequestInfo
		none   bool
	}{
		"accepted":     {body: dealUpdate(1), want: webhook.RequestInfo{Event: "ONCRMDEALUPDATE", MemberID: member, Status: 200}},
		"any name":     {body: body("ON"+strings.Repeat("X", 50), nil), want: webhook.RequestInfo{Event: "other", MemberID: member, Status: 200}},
		"a smart one":  {body: body("ONCRMDYNAMICITEMADD_147", nil), want: webhook.RequestInfo{Event: "ONCRMDYNAMICITEMADD_{TYPEID}", MemberID: member, Status: 200}},
		"not read":     {body: "a=%zz%", want: webhook.RequestInfo{Reason: webhook.ReasonNotEvent, Status: 400}},
		"not verified": {body: strings.ReplaceAll(dealUpdate(1), token, "wrong"), want: webhook.RequestInfo{Event: "ONCRMDEALUPDATE", Reason: webhook.ReasonForbidden, Status: 403}},
		"a check":      {method: http.MethodGet, none: true},
		"a method":     {method: http.MethodPut, want: webhook.RequestInfo{Reason: webhook.ReasonMethod, Status: 405}},
		"in the request": {
			body: dealUpdate(1), opts: []webhook.Option{webhook.WithSync()}, err: errors.New("no"),
			want: webhook.RequestInfo{Event: "ONCRMDEALUPDATE", MemberID: member, Status: 500},
		},
		"not stored": {
			body: dealUpdate(1), opts: []webhook.Option{webhook.WithQueue(failingQueue{})},
			want: webhook.RequestInfo{Event: "ONCRMDEALUPDATE", MemberID: member, Status: 503, Reason: webhook.ReasonUnavailable},
		},
		"values that panic": {
			body: dealUpdate(1), opts: []webhook.Option{webhook.WithContext(func(context.Context, *http.Request) context.Context { panic("no") })},
			want: webhook.RequestInfo{Event: "ONCRMDEALUPDATE", MemberID: member, Status: 503, Reason: webhook.ReasonUnavailable},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var got []webhook.RequestInfo
				var of string
				opts := append([]webhook.Option{}, test.opts...)
				opts = append(opts, webhook.WithObserver(func(context.Context, webhook.RequestInfo) { panic("metrics") }),
					webhook.WithObserver(func(ctx context.Context, info webhook.RequestInfo) { got, of = append(got, info), note(ctx) }))
				h := newHandler(t, do(func(context.Context, *event.Delivery) error { return test.err }), opts...)
				r := noted(test.body, "request 1")
				if test.method != "" {
					r.Method = test.method
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if test.none {
					require.Empty(t, got)
					return
				}
				require.Equal(t, []webhook.RequestInfo{test.want}, got)
				require.Equal(t, w.Code, got[0].Status)
				require.Equal(t, "request 1", of)
			})
		})
	}
}

type failingQueue struct{}

func (failingQueue) Enqueue(context.Context, *event.Delivery) error { return errors.New("down") }

// TestHandlerDurations: handlers are timed by the name of the catalogue, also those that panic.
func TestHandlerDurations(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]webhook.Option{
		"memory": nil, "sync": {webhook.WithSync()}, "store": {webhook.WithStore(newStore(t))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHandler(t, do(func(_ context.Context, d *event.Delivery) error {
					<-time.After(3 * time.Second)
					if d.Name == "ONX2" {
						panic("no")
					}
					return nil
				}), opts...)
				require.Zero(t, h.Stats().LastAccepted)
				for _, name := range []string{"ONCRMDEALUPDATE", "ONX1", "ONX2", "ONCRMDYNAMICITEMADD_1", "ONCRMDYNAMICITEMADD_2"} {
					post(h, body(name, nil))
				}
				last := time.Now()
				require.NoError(t, h.Idle(t.Context()))
				s := h.Stats()
				counts := make(map[string]uint64)
				for label, took := range s.Handlers {
					counts[label] = took.Count()
					require.Equal(t, 3*time.Second*time.Duration(took.Count()), took.Sum()) //nolint:gosec // few
				}
				require.Equal(t, map[string]uint64{"ONCRMDEALUPDATE": 1, "other": 2, "ONCRMDYNAMICITEMADD_{TYPEID}": 2}, counts)
				require.False(t, s.LastAccepted.IsZero())
				require.False(t, s.LastAccepted.After(last))
			})
		})
	}
}

// TestSeveralContexts: each function of WithContext gets what the one before it returned.
func TestSeveralContexts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		got := ""
		add := func(text string) webhook.Option {
			return webhook.WithContext(func(ctx context.Context, _ *http.Request) context.Context { return withNote(ctx, note(ctx)+text) })
		}
		h := newHandler(t, do(func(ctx context.Context, _ *event.Delivery) error { got = note(ctx); return nil }),
			add("a"), webhook.WithContext(func(context.Context, *http.Request) context.Context { return nil }), add("b"))
		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
		require.NoError(t, h.Idle(t.Context()))
		require.Equal(t, "ab", got)
	})
}

// keepNote carries the text of a request's context through a store.
func keepNote() webhook.Option {
	return webhook.WithSavedContext("note",
		func(ctx context.Context, _ *http.Request) string { return note(ctx) }, withNote)
}

// TestSavedContext: what was saved of a request reaches its handler: in the same process, after a
// restart, after the delivery was put aside, and at each attempt.
func TestSavedContext(t *testing.T) {
	t.Parallel()
	key := webhook.WithEncryptionKey([]byte("0123456789abcdef0123456789abcdef"))
	for name, opts := range map[string][]webhook.Option{
		"memory": nil, "clear": {}, "encrypted": {key}, "put aside": {webhook.WithQueueSize(2)}, "encrypted, put aside": {key, webhook.WithQueueSize(2)},
	} {
		for _, restart := range []bool{false, true} {
			if opts == nil && restart {
				continue
			}
			t.Run(name+map[bool]string{true: ", restart"}[restart], func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s, failing := newStore(t), true
					seen := make(map[string][]string)
					handle := do(func(ctx context.Context, d *event.Delivery) error {
						seen[d.Entity().ID] = append(seen[d.Entity().ID], note(ctx))
						if d.Entity().ID == "1" && failing {
							failing = false
							return errors.New("once")
						}
						return nil
					})
					store := []webhook.Option{webhook.WithStore(s)}
					if opts == nil {
						store = nil
					}
					opts := append(append(store, keepNote(), webhook.WithWorkers(1)), opts...)
					receiving := opts
					if restart {
						receiving = append(append([]webhook.Option{}, opts...), webhook.WithReceiveOnly())
					}
					h := newHandler(t, handle, receiving...)
					for i, text := range []string{"one", "", "three", strings.Repeat("x", webhook.MaxSavedContext), strings.Repeat("x", webhook.MaxSavedContext+1)} {
						w := httptest.NewRecorder()
						h.ServeHTTP(w, noted(dealUpdate(i+1), text))
						require.Equal(t, http.StatusOK, w.Code)
					}
					if restart {
						require.NoError(t, h.Shutdown(t.Context()))
						h = newHandler(t, handle, append(opts, webhook.WithStore(s.Open()))...)
					}
					require.NoError(t, h.Idle(t.Context()))
					require.Equal(t, map[string][]string{
						"1": {"one", "one"}, "2": {""}, "3": {"three"}, "4": {strings.Repeat("x", webhook.MaxSavedContext)}, "5": {""},
					}, seen)
				})
			})
		}
	}
}

// TestSavedContextOfOthers: functions that panic or return nothing lose no delivery, and a version
// of the program without the option, or with other keys, handles the record all the same.
func TestSavedContextOfOthers(t *testing.T) {
	t.Parallel()
	broken := func(context.Context, string) context.Context { panic("restore") }
	none := func(context.Context, string) context.Context { return nil }
	save := func(context.Context, *http.Request) string { return "text" }
	panics := func(context.Context, *http.Request) string { panic("save") }
	for name, test := range map[string]struct{ stores, handles []webhook.Option }{
		"no option":        {stores: []webhook.Option{keepNote()}},
		"other keys":       {stores: []webhook.Option{keepNote()}, handles: []webhook.Option{webhook.WithSavedContext("other", save, broken)}},
		"new option":       {handles: []webhook.Option{keepNote()}},
		"broken restore":   {stores: []webhook.Option{keepNote()}, handles: []webhook.Option{webhook.WithSavedContext("note", save, broken)}},
		"restores none":    {stores: []webhook.Option{keepNote()}, handles: []webhook.Option{webhook.WithSavedContext("note", save, none)}},
		"save that panics": {stores: []webhook.Option{webhook.WithSavedContext("note", panics, withNote)}, handles: []webhook.Option{keepNote()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				h := newHandler(t, nothing(), append(test.stores, webhook.WithStore(s), webhook.WithReceiveOnly())...)
				w := httptest.NewRecorder()
				h.ServeHTTP(w, noted(dealUpdate(1), "one"))
				require.Equal(t, http.StatusOK, w.Code)
				require.NoError(t, h.Shutdown(t.Context()))
				var r recorder
				h = newHandler(t, &r, append(test.handles, webhook.WithStore(s.Open()))...)
				require.NoError(t, h.Idle(t.Context()))
				require.Len(t, r.deliveries(), 1)
			})
		})
	}
}

// damagedStore is a store that cuts the data of its records short.
type damagedStore struct {
	*webhooktest.MemoryStore

	keep int
}

func (s damagedStore) Commit(ctx context.Context, records []*webhook.Record, marks []webhook.Mark) error {
	for _, r := range records {
		r.Data = r.Data[:min(len(r.Data), s.keep)]
	}
	return s.MemoryStore.Commit(ctx, records, marks)
}

// TestDamagedSavedContext: a record that was cut anywhere is parked, and nothing panics.
func TestDamagedSavedContext(t *testing.T) {
	t.Parallel()
	for keep := 1; keep < 40; keep++ {
		synctest.Test(t, func(t *testing.T) {
			s := newStore(t)
			h := newHandler(t, nothing(), keepNote(), webhook.WithStore(damagedStore{s, keep}), webhook.WithReceiveOnly())
			h.ServeHTTP(httptest.NewRecorder(), noted(dealUpdate(1), "a text"))
			require.NoError(t, h.Shutdown(t.Context()))
			var r recorder
			h = newHandler(t, &r, keepNote(), webhook.WithStore(s.Open()))
			require.NoError(t, h.Idle(t.Context()))
			require.Empty(t, r.deliveries())
			require.EqualValues(t, 1, h.Stats().Store.Parked)
		})
	}
}

func TestObserverOptions(t *testing.T) {
	t.Parallel()
	save := func(context.Context, *http.Request) string { return "" }
	many := []webhook.Option{webhook.WithStore(newStore(t))}
	for key := range strings.SplitSeq("a b c d e f g h i", " ") {
		many = append(many, webhook.WithSavedContext(key, save, withNote))
	}
	for name, opts := range map[string][]webhook.Option{
		"nil observer":      {webhook.WithObserver(nil)},
		"nil save":          {webhook.WithStore(newStore(t)), webhook.WithSavedContext("a", nil, withNote)},
		"nil restore":       {webhook.WithStore(newStore(t)), webhook.WithSavedContext("a", save, nil)},
		"no key":            {webhook.WithStore(newStore(t)), webhook.WithSavedContext("", save, withNote)},
		"long key":          {webhook.WithStore(newStore(t)), webhook.WithSavedContext(strings.Repeat("a", 33), save, withNote)},
		"odd key":           {webhook.WithStore(newStore(t)), webhook.WithSavedContext("A", save, withNote)},
		"a key twice":       {webhook.WithStore(newStore(t)), webhook.WithSavedContext("a", save, withNote), webhook.WithSavedContext("a", save, withNote)},
		"too many":          many,
		"context and store": {webhook.WithStore(newStore(t)), webhook.WithContext(func(ctx context.Context, _ *http.Request) context.Context { return ctx })},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := webhook.NewHandler(anyPortal(), nothing(), opts...)
			require.ErrorIs(t, err, webhook.ErrConfig)
		})
	}
}
