package event_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

// record returns a handler that notes its calls under a name and returns err.
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
	require.Equal(t, event.Dropped, kind, "no retry mends a payload")
}

func TestMuxUnhandled(t *testing.T) {
	t.Parallel()
	t.Run("without a handler nothing happens", func(t *testing.T) {
		t.Parallel()
		require.NoError(t, event.NewMux().HandleEvent(t.Context(), delivery(t, "event=ONWHATEVER&data=7")))
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
		"nil caller":          func() { event.NewAPI(nil) },
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

func TestOutcomes(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		err   error
		kind  event.Outcome
		after time.Duration
	}{
		"nil":             {nil, event.Default, 0},
		"plain":           {boom, event.Default, 0},
		"drop":            {event.Drop(boom), event.Dropped, 0},
		"retry":           {event.Retry(boom, time.Minute), event.Retried, time.Minute},
		"negative retry":  {event.Retry(boom, -1), event.Retried, 0},
		"wrapped":         {errors.Join(errors.New("x"), event.Drop(boom)), event.Dropped, 0},
		"payload":         {&event.DecodeError{Path: "data"}, event.Dropped, 0},
		"gone":            {fmt.Errorf("copy: %w", event.ErrGone), event.Dropped, 0},
		"gone, twice":     {errors.Join(event.ErrGone, fmt.Errorf("copy: %w", event.ErrGone)), event.Dropped, 0},
		"gone, and more":  {fmt.Errorf("x: %w", errors.Join(event.ErrGone, boom)), event.Default, 0},
		"payload at last": {errors.Join(boom, &event.DecodeError{Path: "data"}), event.Default, 0},
		"retried payload": {event.Retry(&event.DecodeError{Path: "data"}, time.Second), event.Retried, time.Second},
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
		"all well":                  {[]error{nil, nil}, event.Default, 0},
		"one fails":                 {[]error{nil, b}, event.Default, 0},
		"all drop":                  {[]error{event.Drop(a), event.Drop(b)}, event.Dropped, 0},
		"one drops, one fails":      {[]error{event.Drop(a), b}, event.Default, 0},
		"the longest retry":         {[]error{event.Retry(a, 1), event.Retry(b, 2)}, event.Retried, 2},
		"drop, retry":               {[]error{event.Drop(a), event.Retry(b, 3)}, event.Retried, 3},
		"retry wins over a failure": {[]error{a, event.Retry(b, 4)}, event.Retried, 4},
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
