package event_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

// record returns a handler that records its calls under a name and returns err.
func record(calls *[]string, name string, err error) event.HandlerFunc {
	return func(context.Context, *event.Delivery) error {
		*calls = append(*calls, name)
		return err
	}
}

func delivery(t *testing.T, body string) *event.Delivery {
	t.Helper()
	d, err := event.Parse("application/x-www-form-urlencoded", []byte(body))
	require.NoError(t, err)
	return d
}

func TestMuxRoutesByNameWithoutCase(t *testing.T) {
	t.Parallel()
	var got event.CRMEntity
	mux := event.NewMux()
	event.On(mux, event.OnCrmDealUpdate, func(_ context.Context, d *event.Delivery, e event.CRMEntity) error {
		require.Equal(t, "ONCRMDEALUPDATE", d.Name)
		got = e
		return nil
	})
	require.NoError(t, mux.HandleEvent(t.Context(), delivery(t, "event=onCrmDealUpdate&data[FIELDS][ID]=21")))
	require.Equal(t, event.CRMEntity{ID: 21}, got)
	require.True(t, mux.Handles("oncrmdealupdate"))
	require.False(t, mux.Handles("ONCRMDEALADD"))
}

func TestMuxReportsPayloadThatDoesNotFit(t *testing.T) {
	t.Parallel()
	mux := event.NewMux()
	event.On(mux, event.OnCrmDealUpdate, func(context.Context, *event.Delivery, event.CRMEntity) error {
		t.Error("the handler must not run")
		return nil
	})
	err := mux.HandleEvent(t.Context(), delivery(t, "event=ONCRMDEALUPDATE&data[FIELDS][ID]=top-secret"))
	var de *event.DecodeError
	require.ErrorAs(t, err, &de)
	require.Equal(t, "ONCRMDEALUPDATE", de.Event)
	require.Equal(t, "data.FIELDS.ID", de.Path)
	require.NotContains(t, err.Error(), "top-secret")
	kind, _ := event.OutcomeOf(err)
	require.Equal(t, event.OutcomeDropped, kind, "no retry corrects a payload")
}

func TestMuxUnhandled(t *testing.T) {
	t.Parallel()
	t.Run("without a handler it is an error", func(t *testing.T) {
		t.Parallel()
		d := delivery(t, "event=ONWHATEVER&data=7")
		var zero event.Mux
		require.ErrorIs(t, zero.HandleEvent(t.Context(), d), event.ErrUnhandled)
		mux := event.NewMux()
		mux.Handle("ONOTHER", record(new([]string), "other", nil))
		require.ErrorIs(t, mux.HandleEvent(t.Context(), d), event.ErrUnhandled)
		kind, _ := event.OutcomeOf(event.ErrUnhandled)
		require.Equal(t, event.OutcomeDropped, kind, "the same program does not handle it next time")
	})
	t.Run("middleware sees the error", func(t *testing.T) {
		t.Parallel()
		var seen error
		mux := event.NewMux()
		mux.Use(func(next event.Handler) event.Handler {
			return event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
				seen = next.HandleEvent(ctx, d)
				return seen
			})
		})
		require.ErrorIs(t, mux.HandleEvent(t.Context(), &event.Delivery{Name: "ONX"}), event.ErrUnhandled)
		require.ErrorIs(t, seen, event.ErrUnhandled)
	})
	t.Run("the handler sees the raw data", func(t *testing.T) {
		t.Parallel()
		mux := event.NewMux()
		var raw event.Data
		mux.Unhandled(event.HandlerFunc(func(_ context.Context, d *event.Delivery) error {
			raw = d.Data
			return nil
		}))
		require.NoError(t, mux.HandleEvent(t.Context(), delivery(t, "event=ONWHATEVER&data[a][]=1&data[a][]=2")))
		require.Equal(t, map[string]any{"a": []any{"1", "2"}}, raw.Value())
	})
}

func TestMuxMiddlewareOrder(t *testing.T) {
	t.Parallel()
	var calls []string
	wrap := func(name string) event.Middleware {
		return func(next event.Handler) event.Handler {
			return event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
				calls = append(calls, name)
				return next.HandleEvent(ctx, d)
			})
		}
	}
	mux := event.NewMux()
	mux.Use(wrap("outer"), wrap("inner"))
	mux.Handle("ONX", record(&calls, "handler", nil))
	mux.Unhandled(record(&calls, "unhandled", nil))
	require.NoError(t, mux.HandleEvent(t.Context(), &event.Delivery{Name: "ONX"}))
	require.NoError(t, mux.HandleEvent(t.Context(), &event.Delivery{Name: "ONY"}))
	require.Equal(t, []string{"outer", "inner", "handler", "outer", "inner", "unhandled"}, calls)
}

// TestMuxUseLate registers middleware after handlers.
func TestMuxUseLate(t *testing.T) {
	t.Parallel()
	var calls []string
	note := func(name string) event.Middleware {
		return func(next event.Handler) event.Handler {
			return event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
				calls = append(calls, name)
				return next.HandleEvent(ctx, d)
			})
		}
	}
	mux := event.NewMux()
	mux.Use(note("outer"))
	mux.Handle("ONX", record(&calls, "x", nil))
	mux.Unhandled(record(&calls, "rest", nil))
	mux.Use(note("inner"))
	mux.Handle("ONY", record(&calls, "y", nil))
	for _, name := range []string{"ONX", "ONY", "ONZ"} {
		require.NoError(t, mux.HandleEvent(t.Context(), &event.Delivery{Name: name}))
	}
	require.Equal(t, []string{"outer", "inner", "x", "outer", "inner", "y", "outer", "inner", "rest"}, calls)
}

func TestMuxFoldsNames(t *testing.T) {
	t.Parallel()
	var calls []string
	mux := event.NewMux()
	mux.Handle("onCrmDealAdd", record(&calls, "deal", nil))
	for _, name := range []string{"ONCRMDEALADD", "onCrmDealAdd", " OnCrmDealAdd "} {
		require.True(t, mux.Handles(name), "%q", name)
		require.NoError(t, mux.HandleEvent(t.Context(), &event.Delivery{Name: name}), "%q", name)
	}
	require.Len(t, calls, 3)
}

// pointerHandler is a handler whose method needs what it points to.
type pointerHandler struct{ err error }

func (h *pointerHandler) HandleEvent(context.Context, *event.Delivery) error { return h.err }

func TestMuxMistakesPanic(t *testing.T) {
	t.Parallel()
	ok := event.HandlerFunc(func(context.Context, *event.Delivery) error { return nil })
	served := func() *event.Mux {
		m := event.NewMux()
		_ = m.HandleEvent(context.Background(), &event.Delivery{Name: "ONX"})
		return m
	}
	for name, f := range map[string]func(){
		"empty name":          func() { event.NewMux().Handle(" ", ok) },
		"nil handler":         func() { event.NewMux().Handle("ONX", nil) },
		"nil handler func":    func() { event.NewMux().Handle("ONX", event.HandlerFunc(nil)) },
		"nil pointer":         func() { event.NewMux().Handle("ONX", (*pointerHandler)(nil)) },
		"nil pointer at last": func() { event.NewMux().Unhandled((*pointerHandler)(nil)) },
		"middleware that panics": func() {
			event.NewMux().Use(func(event.Handler) event.Handler { panic("no database") })
		},
		"middleware that returns nil": func() {
			event.NewMux().Use(func(event.Handler) event.Handler { return nil })
		},
		"middleware that returns a nil pointer": func() {
			event.NewMux().Use(func(event.Handler) event.Handler { return (*pointerHandler)(nil) })
		},
		"nil typed handler":   func() { event.On(event.NewMux(), event.OnCrmDealAdd, nil) },
		"zero descriptor":     func() { event.NewMux().Handle(event.Descriptor[struct{}]{}.Name(), ok) },
		"duplicate":           func() { m := event.NewMux(); m.Handle("ONX", ok); m.Handle("onx", ok) },
		"late handle":         func() { served().Handle("ONX", ok) },
		"late use":            func() { served().Use(func(h event.Handler) event.Handler { return h }) },
		"late unhandled":      func() { served().Unhandled(ok) },
		"nil middleware":      func() { event.NewMux().Use(nil) },
		"nil unhandled":       func() { event.NewMux().Unhandled(nil) },
		"second unhandled":    func() { m := event.NewMux(); m.Unhandled(ok); m.Unhandled(ok) },
		"nil joined":          func() { event.Join(ok, nil) },
		"define without name": func() { event.Define[struct{}](" ") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Panics(t, f)
		})
	}
}

func TestMuxBindings(t *testing.T) {
	t.Parallel()
	ok := event.HandlerFunc(func(context.Context, *event.Delivery) error { return nil })
	mux := event.NewMux()
	for _, name := range []string{
		event.OnCrmDealAdd.Name(), event.OnOfflineEvent.Name(), event.OnImBotV2MessageAdd.Name(),
		event.OnCrmDynamicItemAddOf(147).Name(), "ONMYEVENT",
	} {
		mux.Handle(name, ok)
	}
	const url = "https://example.com/b24"
	require.Equal(t, []event.Binding{
		{Event: "ONCRMDEALADD", Handler: url},
		{Event: "ONOFFLINEEVENT", Handler: url},
		{Event: "ONCRMDYNAMICITEMADD_147", Handler: url},
		{Event: "ONMYEVENT", Handler: url},
	}, mux.Bindings(url), "imbot.v2 events come without event.bind")
	require.Equal(t, []event.Binding{
		{Event: "ONCRMDEALADD", Offline: true, Connector: "c"},
		{Event: "ONCRMDYNAMICITEMADD_147", Offline: true, Connector: "c"},
		{Event: "ONMYEVENT", Offline: true, Connector: "c"},
	}, mux.OfflineBindings("c"))
}

type permanentError bool

func (e permanentError) Error() string   { return "refused" }
func (e permanentError) Permanent() bool { return bool(e) }

type emptyError struct{}

func (emptyError) Error() string   { return "none" }
func (emptyError) Unwrap() []error { return nil }

func TestOutcomes(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		err   error
		kind  event.Outcome
		after time.Duration
	}{
		"nil":             {nil, event.OutcomeDefault, 0},
		"plain":           {boom, event.OutcomeDefault, 0},
		"drop":            {event.Drop(boom), event.OutcomeDropped, 0},
		"retry":           {event.Retry(boom, time.Minute), event.OutcomeRetried, time.Minute},
		"negative retry":  {event.Retry(boom, -1), event.OutcomeRetried, 0},
		"a drop wrapped":  {fmt.Errorf("x: %w", event.Drop(boom)), event.OutcomeDropped, 0},
		"drop, failure":   {errors.Join(event.Drop(boom), boom), event.OutcomeDefault, 0},
		"failure, drop":   {errors.Join(boom, event.Drop(boom)), event.OutcomeDefault, 0},
		"drop, retry":     {errors.Join(event.Drop(boom), event.Retry(boom, 2)), event.OutcomeRetried, 2},
		"retry, drop":     {errors.Join(event.Retry(boom, 2), event.Drop(boom)), event.OutcomeRetried, 2},
		"longest retry":   {fmt.Errorf("%w; %w; %w", event.Retry(boom, 2), event.Retry(boom, 9), boom), event.OutcomeRetried, 9},
		"two drops":       {errors.Join(event.Drop(boom), event.Drop(boom)), event.OutcomeDropped, 0},
		"drop of a retry": {event.Drop(errors.Join(event.Retry(boom, 2), boom)), event.OutcomeDropped, 0},
		"gone; failure":   {fmt.Errorf("%w; %w", event.ErrGone, boom), event.OutcomeDefault, 0},
		"joins in joins":  {errors.Join(event.Drop(boom), errors.Join(event.ErrGone, fmt.Errorf("x: %w", boom))), event.OutcomeDefault, 0},
		"unknown":         {fmt.Errorf("x: %w", event.ErrUnknown), event.OutcomeDropped, 0},
		"panic":           {event.NewPanicError(boom, nil), event.OutcomeDropped, 0},
		"panic, failure":  {errors.Join(event.NewPanicError(boom, nil), boom), event.OutcomeDefault, 0},
		"permanent":       {fmt.Errorf("x: %w", permanentError(true)), event.OutcomeDropped, 0},
		"not permanent":   {fmt.Errorf("x: %w", permanentError(false)), event.OutcomeDefault, 0},
		"permanent, more": {errors.Join(permanentError(true), boom), event.OutcomeDefault, 0},
		"empty join":      {emptyError{}, event.OutcomeDefault, 0},
		"payload":         {&event.DecodeError{Path: "data"}, event.OutcomeDropped, 0},
		"gone":            {fmt.Errorf("copy: %w", event.ErrGone), event.OutcomeDropped, 0},
		"gone, twice":     {errors.Join(event.ErrGone, fmt.Errorf("copy: %w", event.ErrGone)), event.OutcomeDropped, 0},
		"gone, and more":  {fmt.Errorf("x: %w", errors.Join(event.ErrGone, boom)), event.OutcomeDefault, 0},
		"payload at last": {errors.Join(boom, &event.DecodeError{Path: "data"}), event.OutcomeDefault, 0},
		"retried payload": {event.Retry(&event.DecodeError{Path: "data"}, time.Second), event.OutcomeRetried, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kind, after := event.OutcomeOf(tc.err)
			require.Equal(t, tc.kind, kind)
			require.Equal(t, tc.after, after)
		})
	}
	require.NoError(t, event.Drop(nil))
	require.NoError(t, event.Retry(nil, time.Second))
	require.ErrorIs(t, event.Drop(boom), boom)
	require.ErrorIs(t, event.Retry(boom, 0), boom)
}

func TestJoin(t *testing.T) {
	t.Parallel()
	a, b := errors.New("a"), errors.New("b")
	for name, tc := range map[string]struct {
		errs  []error
		kind  event.Outcome
		after time.Duration
	}{
		"all well":                  {[]error{nil, nil}, event.OutcomeDefault, 0},
		"one fails":                 {[]error{nil, b}, event.OutcomeDefault, 0},
		"all drop":                  {[]error{event.Drop(a), event.Drop(b)}, event.OutcomeDropped, 0},
		"one drops, one fails":      {[]error{event.Drop(a), b}, event.OutcomeDefault, 0},
		"the longest retry":         {[]error{event.Retry(a, 1), event.Retry(b, 2)}, event.OutcomeRetried, 2},
		"drop, retry":               {[]error{event.Drop(a), event.Retry(b, 3)}, event.OutcomeRetried, 3},
		"retry wins over a failure": {[]error{a, event.Retry(b, 4)}, event.OutcomeRetried, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls []string
			err := event.Join(record(&calls, "1", tc.errs[0]), record(&calls, "2", tc.errs[1])).HandleEvent(t.Context(), &event.Delivery{})
			require.Equal(t, []string{"1", "2"}, calls, "both run")
			kind, after := event.OutcomeOf(err)
			require.Equal(t, tc.kind, kind)
			require.Equal(t, tc.after, after)
			require.Equal(t, tc.errs[0] != nil, errors.Is(err, a))
			require.Equal(t, tc.errs[1] != nil, errors.Is(err, b))
		})
	}
}

func TestJoinRunsAll(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	fails := event.HandlerFunc(func(context.Context, *event.Delivery) error { panic(boom) })
	exits := event.HandlerFunc(func(context.Context, *event.Delivery) error { runtime.Goexit(); return nil })
	d := &event.Delivery{Name: "ONX"}

	t.Run("after a panic", func(t *testing.T) {
		t.Parallel()
		var calls []string
		err := event.Join(fails, record(&calls, "2", nil), fails, record(&calls, "4", nil)).HandleEvent(t.Context(), d)
		require.Equal(t, []string{"2", "4"}, calls)
		var p *event.PanicError
		require.ErrorAs(t, err, &p)
		require.ErrorIs(t, err, boom)
		require.NotEmpty(t, p.Stack)
		kind, _ := event.OutcomeOf(err)
		require.Equal(t, event.OutcomeDropped, kind)
	})
	t.Run("a panic beside a failure is tried again", func(t *testing.T) {
		t.Parallel()
		var calls []string
		err := event.Join(fails, record(&calls, "2", boom)).HandleEvent(t.Context(), d)
		kind, _ := event.OutcomeOf(err)
		require.Equal(t, event.OutcomeDefault, kind)
	})
	t.Run("after runtime.Goexit", func(t *testing.T) {
		t.Parallel()
		var calls []string
		var ended sync.WaitGroup
		ended.Go(func() {
			_ = event.Join(record(&calls, "1", nil), exits, record(&calls, "3", nil)).HandleEvent(t.Context(), d)
			calls = append(calls, "not reached")
		})
		ended.Wait()
		require.Equal(t, []string{"1", "3"}, calls)
	})
}

func TestJoinUnhandled(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	d := &event.Delivery{Name: "ONX"}
	var calls []string
	mux := event.NewMux()
	require.NoError(t, event.Join(mux, record(&calls, "1", nil)).HandleEvent(t.Context(), d), "one of them took it")
	err := event.Join(mux, record(&calls, "2", boom)).HandleEvent(t.Context(), d)
	require.ErrorIs(t, err, boom)
	require.NotErrorIs(t, err, event.ErrUnhandled)
	require.ErrorIs(t, event.Join(mux, event.NewMux()).HandleEvent(t.Context(), d), event.ErrUnhandled)
	require.ErrorIs(t, event.Join().HandleEvent(t.Context(), d), event.ErrUnhandled)
}
