package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

func TestRetries(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for title, test := range map[string]struct {
		err      error
		attempts int // of an earlier process
		max      int // of the item
		maxWait  time.Duration
		times    []time.Duration
		waits    []time.Duration
		want     dispatch.Outcome
	}{
		"backoff":                      {errBoom, 0, 0, 0, []time.Duration{0, s, 5 * s}, []time.Duration{s, 4 * s}, dispatch.OutcomeFailed},
		"an asked wait":                {event.Retry(errBoom, 7*s), 0, 0, 0, []time.Duration{0, 7 * s, 14 * s}, []time.Duration{7 * s, 7 * s}, dispatch.OutcomeFailed},
		"at once":                      {event.Retry(errBoom, 0), 0, 0, 0, []time.Duration{0, 0, 0}, []time.Duration{0, 0}, dispatch.OutcomeFailed},
		"an asked wait has a bound":    {event.Retry(errBoom, 7*s), 0, 0, 2 * s, []time.Duration{0, 2 * s, 4 * s}, []time.Duration{2 * s, 2 * s}, dispatch.OutcomeFailed},
		"the bound is not for backoff": {errBoom, 0, 0, s / 2, []time.Duration{0, s, 5 * s}, []time.Duration{s, 4 * s}, dispatch.OutcomeFailed},
		"attempts of the item":         {errBoom, 0, 2, 0, []time.Duration{0, s}, []time.Duration{s}, dispatch.OutcomeFailed},
		"attempts of an earlier life":  {errBoom, 1, 0, 0, []time.Duration{0, 4 * s}, []time.Duration{4 * s}, dispatch.OutcomeFailed},
		"all attempts of an earlier":   {errBoom, 7, 0, 0, []time.Duration{0}, nil, dispatch.OutcomeFailed},
		"a final error":                {event.Drop(errBoom), 0, 0, 0, []time.Duration{0}, nil, dispatch.OutcomeFailed},
		"gone":                         {fmt.Errorf("get: %w", event.ErrGone), 0, 0, 0, []time.Duration{0}, nil, dispatch.OutcomeFailed},
		"no handler":                   {fmt.Errorf("mux: %w", event.ErrUnhandled), 0, 0, 0, []time.Duration{0}, nil, dispatch.OutcomeUnhandled},
		"no handler beside a failure":  {errors.Join(event.ErrUnhandled, errBoom), 0, 1, 0, []time.Duration{0}, nil, dispatch.OutcomeFailed},
		"final beside a failure":       {errors.Join(event.Drop(errBoom), errBoom), 0, 2, 0, []time.Duration{0, s}, []time.Duration{s}, dispatch.OutcomeFailed},
		"success":                      {nil, 0, 0, 0, []time.Duration{0}, nil, dispatch.OutcomeDone},
		"an error with broken methods": {(*url.Error)(nil), 0, 0, 0, []time.Duration{0}, nil, dispatch.OutcomeFailed},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder(func(context.Context, *dispatch.Item) error { return test.err })
				cfg := setup(r)
				cfg.MaxWait = test.maxWait
				d := dispatch.New(cfg)
				it := named("a", "1")
				it.Attempts, it.MaxAttempts = test.attempts, test.max
				require.NoError(t, d.Enqueue(portal("a"), it, 0))
				require.NoError(t, d.Idle(t.Context()))
				require.Equal(t, test.times, r.times("a"))
				require.Equal(t, test.waits, r.waits)
				for i, c := range r.calls {
					require.Equal(t, test.attempts+i+1, c.n)
				}
				require.Equal(t, test.want, r.outcome(t, "a"))
				require.EqualValues(t, len(test.waits), d.Counts().Retried)
				require.NoError(t, d.Shutdown(t.Context()))
				accountsAddUp(t, d)
			})
		})
	}
}

// TestRest: an item that rests holds up its lane, but no worker and no other lane.
func TestRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failed := false
		r := newRecorder(func(_ context.Context, it *dispatch.Item) error {
			if name(it) == "fails" && !failed {
				failed = true
				return event.Retry(errBoom, time.Hour)
			}
			return nil
		})
		d := dispatch.New(setup(r))
		for _, it := range []*dispatch.Item{named("fails", "1"), named("behind", "1"), named("besides", "2")} {
			require.NoError(t, d.Enqueue(portal("a"), it, 0))
		}
		synctest.Wait()
		require.Equal(t, dispatch.Depth{Queued: 2}, d.Depth())
		require.Equal(t, []string{"fails", "besides"}, r.names())
		require.NoError(t, d.Idle(t.Context()))
		require.Equal(t, []string{"fails", "besides", "fails", "behind"}, r.names())
		require.Equal(t, time.Hour, time.Since(r.began))
		require.NoError(t, d.Shutdown(t.Context()))
	})
}

// panicky is an error whose methods panic when they are called the second time.
type panicky struct{ calls int }

func (p *panicky) Error() string { return "panicky" }

func (p *panicky) Is(error) bool {
	if p.calls++; p.calls > 1 {
		panic("is")
	}
	return false
}

// TestBreakage: a front that panics or ends its goroutine, anywhere, breaks nothing.
func TestBreakage(t *testing.T) {
	t.Parallel()
	breakers := map[string]func(){
		"panics":               func() { panic("boom") },
		"panics with an error": func() { panic(errBoom) },
		"panics with a trap":   func() { panic((*url.Error)(nil)) },
		"ends the goroutine":   runtime.Goexit,
	}
	for how, doBreak := range breakers {
		for where, test := range map[string]struct {
			handler func() error
			retries func()
			report  func(o dispatch.Outcome)
			slack   func()
			calls   int
			want    dispatch.Outcome
		}{
			"Handle":              {handler: func() error { doBreak(); return nil }, calls: 1, want: dispatch.OutcomeFailed},
			"Retrying":            {handler: func() error { return errBoom }, retries: doBreak, calls: 3, want: dispatch.OutcomeFailed},
			"Finished":            {report: func(dispatch.Outcome) { doBreak() }, calls: 1, want: dispatch.OutcomeDone},
			"Finished of a cut":   {handler: func() error { <-time.After(time.Second); return nil }, report: func(dispatch.Outcome) { doBreak() }, calls: 1},
			"OnSlack":             {slack: doBreak, calls: 1, want: dispatch.OutcomeDone},
			"Handle and Finished": {handler: func() error { doBreak(); return nil }, report: func(dispatch.Outcome) { doBreak() }, calls: 1, want: dispatch.OutcomeFailed},
			"all of them":         {handler: func() error { doBreak(); return nil }, report: func(dispatch.Outcome) { doBreak() }, slack: doBreak, calls: 1, want: dispatch.OutcomeFailed},
		} {
			t.Run(how+" in "+where, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					r := newRecorder(func(context.Context, *dispatch.Item) error {
						if test.handler == nil {
							return nil
						}
						return test.handler()
					})
					if test.retries != nil {
						r.retries = func(*dispatch.Item, time.Duration) { test.retries() }
					}
					if test.report != nil {
						r.report = func(_ *dispatch.Item, o dispatch.Outcome) { test.report(o) }
					}
					d := dispatch.New(setup(r))
					p := d.Open(portal("a"), dispatch.PortalOptions{Front: r, Limit: 1, OnSlack: test.slack})
					var items []*dispatch.Item
					for i := range 40 {
						items = append(items, named(strconv.Itoa(i), strconv.Itoa(i%20)))
					}
					p.Add(items...)
					if where == "Finished of a cut" {
						synctest.Wait()
						go p.Stop(errBoom)
						synctest.Wait()
						<-p.Done()
						require.EqualValues(t, 39, d.Counts().Outcomes[dispatch.OutcomeCut])
					} else {
						require.NoError(t, d.Idle(t.Context()))
						for i := range items {
							require.Equal(t, test.want, r.outcome(t, strconv.Itoa(i)))
							require.Len(t, r.times(strconv.Itoa(i)), test.calls)
						}
					}
					p.Close()
					require.NoError(t, d.Enqueue(portal("b"), named("after", ""), 0))
					require.NoError(t, d.Shutdown(t.Context()))
					require.Len(t, r.times("after"), max(1, test.calls))
					accountsAddUp(t, d)
				})
			})
		}
	}
}

// TestErrorThatPanicsLater: methods of errors are not called where a panic would do harm.
func TestErrorThatPanicsLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(func(context.Context, *dispatch.Item) error { return &panicky{} })
		d := dispatch.New(setup(r))
		require.NoError(t, d.Enqueue(portal("a"), named("a", ""), 0))
		require.NoError(t, d.Shutdown(t.Context()))
		require.Equal(t, dispatch.OutcomeFailed, r.outcome(t, "a"))
	})
}

// TestPanicIsAnError: the front gets panics and the end of the goroutine as errors.
func TestPanicIsAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(func(_ context.Context, it *dispatch.Item) error {
			if name(it) == "exits" {
				runtime.Goexit()
			}
			panic(errBoom)
		})
		d := dispatch.New(setup(r))
		require.NoError(t, d.Enqueue(portal("a"), named("panics", ""), 0))
		require.NoError(t, d.Enqueue(portal("a"), named("exits", ""), 0))
		require.NoError(t, d.Shutdown(t.Context()))
		var p *event.PanicError
		require.ErrorAs(t, r.errs["panics"], &p)
		require.ErrorIs(t, r.errs["panics"], errBoom)
		require.ErrorIs(t, r.errs["exits"], dispatch.ErrGoexit)
	})
}
