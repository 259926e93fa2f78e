package dispatch_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

// TestShutdown: one item runs for a time, and what else there is is said in the case.
func TestShutdown(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for title, test := range map[string]struct {
		waiting, resting int
		patience         time.Duration // of Shutdown
		runs             time.Duration // deaf to its context if negative
		report           time.Duration // what each report takes
		takes            time.Duration
		left             int
		outcomes         map[dispatch.Outcome]int
	}{
		"nothing waits":               {0, 0, time.Minute, s, 0, s, 0, map[dispatch.Outcome]int{dispatch.OutcomeDone: 1}},
		"it drains":                   {5, 0, time.Minute, s, 0, s, 0, map[dispatch.Outcome]int{dispatch.OutcomeDone: 6}},
		"what rests is tried":         {0, 3, time.Minute, s, 0, s, 0, map[dispatch.Outcome]int{dispatch.OutcomeDone: 4}},
		"it is cut":                   {5, 2, s, time.Hour, 0, s, 8, map[dispatch.Outcome]int{dispatch.OutcomeCut: 8}},
		"at once":                     {5, 0, 0, time.Hour, 0, 0, 6, map[dispatch.Outcome]int{dispatch.OutcomeCut: 6}},
		"a handler that ends in time": {0, 0, s, -2 * s, 0, 2 * s, 0, map[dispatch.Outcome]int{dispatch.OutcomeDone: 1}},
		"a handler is stuck":          {1, 0, s, -time.Hour, 0, 2*s + s/2, 2, map[dispatch.Outcome]int{dispatch.OutcomeCut: 2}},
		"600 reports of 5 ms":         {600, 0, 100 * time.Millisecond, time.Hour, 5 * time.Millisecond, 290 * time.Millisecond, 601, map[dispatch.Outcome]int{dispatch.OutcomeCut: 601}},
		"endless reports":             {600, 0, s, -time.Hour, time.Hour, 3 * s, 601, nil},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				reports, most := 0, 0
				rested := false
				r := newRecorder(func(ctx context.Context, it *dispatch.Item) error {
					switch name(it) {
					case "rests":
						if !rested {
							return event.Retry(errBoom, time.Hour)
						}
					case "runs":
						if test.runs < 0 {
							<-time.After(-test.runs)
							return nil
						}
						select {
						case <-time.After(test.runs):
						case <-ctx.Done():
							require.ErrorIs(t, context.Cause(ctx), errClosed)
							return ctx.Err()
						}
					}
					return nil
				})
				r.report = func(*dispatch.Item, dispatch.Outcome) {
					mu.Lock()
					reports++
					most = max(most, reports)
					mu.Unlock()
					<-time.After(test.report)
					mu.Lock()
					reports--
					mu.Unlock()
				}
				d := dispatch.New(setup(r))
				for i := range test.resting {
					require.NoError(t, d.Enqueue(portal("a"), named("rests", fmt.Sprint("r", i)), 0))
				}
				synctest.Wait()
				rested = true
				require.NoError(t, d.Enqueue(portal("a"), named("runs", "1"), 0))
				for range test.waiting {
					require.NoError(t, d.Enqueue(portal("a"), named("waits", "1"), 0))
				}
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), test.patience)
				defer cancel()
				later := make(chan error, 2)
				for range 2 {
					go func() { later <- d.Shutdown(t.Context()) }()
				}
				synctest.Wait()
				require.ErrorIs(t, d.Enqueue(portal("a"), named("late", "1"), time.Hour), dispatch.ErrClosed)
				_, err := d.Do(portal("a"), named("late", "1"))
				require.ErrorIs(t, err, dispatch.ErrClosed)
				require.True(t, d.Closed())
				err = d.Shutdown(ctx)
				require.Equal(t, test.takes, time.Since(began))
				if test.left == 0 {
					require.NoError(t, err)
				} else {
					var cut *dispatch.CutError
					require.ErrorAs(t, err, &cut)
					require.Equal(t, test.left, cut.Left)
					require.ErrorIs(t, err, context.DeadlineExceeded)
				}
				for range 2 {
					if other := <-later; err == nil {
						require.NoError(t, other)
					} else {
						require.Equal(t, err, other)
					}
				}
				<-time.After(100 * time.Hour)
				require.LessOrEqual(t, most, 33)
				got := make(map[dispatch.Outcome]int)
				for _, all := range r.finished {
					for _, o := range all {
						got[o]++
					}
				}
				if test.outcomes != nil {
					require.Equal(t, test.outcomes, got)
				}
				accountsAddUp(t, d)
				require.Equal(t, err, d.Shutdown(t.Context()))
			})
		})
	}
}

// TestShutdownAndPortals: it covers portals of Open.
func TestShutdownAndPortals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(func(ctx context.Context, it *dispatch.Item) error {
			if name(it) == "rests" {
				return event.Retry(errBoom, time.Hour)
			}
			<-ctx.Done()
			return ctx.Err()
		})
		d := dispatch.New(setup(r))
		asked := 0
		p := d.Open(portal("a"), dispatch.PortalOptions{Front: r, Limit: 1, OnSlack: func() { asked++ }})
		p.Add(named("rests", "1"))
		synctest.Wait()
		p.Add(named("runs", "2"), named("waits", "3"))
		asked = 0
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var cut *dispatch.CutError
		require.ErrorAs(t, d.Shutdown(ctx), &cut)
		require.Equal(t, 3, cut.Left)
		require.Zero(t, asked, "there is nothing to ask for after a cut")
		p.Add(named("late", "1"))
		require.Equal(t, dispatch.OutcomeCut, r.outcome(t, "late"))
		p.Close()
		accountsAddUp(t, d)
	})
}

// TestDo: an item runs within the caller, is tried once, and Shutdown knows of it.
func TestDo(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		err  error // nil with a cut: the handler waits for its context
		cut  bool
		want dispatch.Outcome
	}{
		"success":     {nil, false, dispatch.OutcomeDone},
		"no retries":  {event.Retry(errBoom, 0), false, dispatch.OutcomeFailed},
		"unhandled":   {event.ErrUnhandled, false, dispatch.OutcomeUnhandled},
		"in Shutdown": {context.Canceled, true, dispatch.OutcomeCut},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ended, cancel := context.WithCancel(t.Context())
				cancel()
				d := new(dispatch.Dispatcher)
				r := newRecorder(func(ctx context.Context, _ *dispatch.Item) error {
					require.Equal(t, event.Attempt{Number: 1, Max: 1, Received: time.Now()}, event.AttemptOf(ctx))
					if test.cut {
						go func() { assert.Error(t, d.Shutdown(ended)) }()
						<-ctx.Done()
					}
					return test.err
				})
				d = dispatch.New(setup(r))
				o, err := d.Do(portal("a"), named("a", "1"))
				require.Equal(t, test.want, o)
				require.ErrorIs(t, err, test.err)
				require.Equal(t, test.want, r.outcome(t, "a"))
				synctest.Wait()
				accountsAddUp(t, d)
			})
		})
	}
}
