package offline_test

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
)

// times returns when a method ran, from start on.
func (f *fixture) times(start time.Time, method string) []time.Duration {
	var at []time.Duration
	for _, c := range f.Calls() {
		if c.Method == method {
			at = append(at, c.Time.Sub(start))
		}
	}
	return at
}

// requireWaits checks that the waits between times are within half of those wanted and the whole.
func requireWaits(t *testing.T, at []time.Duration, want ...time.Duration) {
	t.Helper()
	require.Greater(t, len(at), len(want))
	for i, w := range want {
		wait := at[i+1] - at[i]
		require.LessOrEqual(t, wait, w, "wait %d", i)
		require.GreaterOrEqual(t, wait, w/2, "wait %d", i)
	}
}

func TestPaceOfAnEmptyQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		c := newConsumer(t, f.api, new(journal).HandleEvent, offline.WithInterval(time.Second, 8*time.Second))
		start := time.Now()
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		require.NoError(t, c.Run(ctx))
		requireWaits(
			t,
			f.times(start, "event.offline.get"),
			time.Second,
			2*time.Second,
			4*time.Second,
			8*time.Second,
			8*time.Second,
			8*time.Second,
		)
		require.Len(t, f.times(start, "event.offline.list"), 2, "abandoned and parked records are looked for at the start only")
	})
}

func TestPaceQuickensWithRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		c := newConsumer(t, f.api, new(journal).HandleEvent, offline.WithInterval(time.Second, time.Hour), offline.WithBatchSize(2))
		start := time.Now()
		time.AfterFunc(7200*time.Millisecond, func() { f.change("UPDATE", 1, 2, 3) }) // after the fourth look, before the fifth
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
		defer stop()
		require.NoError(t, c.Run(ctx))
		requireWaits(
			t,
			f.times(start, "event.offline.get"),
			time.Second,
			2*time.Second,
			4*time.Second,
			8*time.Second,
			0,
			0,
			time.Second,
			2*time.Second,
		)
	})
}

func TestPaceOfAFailingPortal(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for name, test := range map[string]struct {
		fail func(f *fixture)
		want []time.Duration
	}{
		// After the third failure the calls are tried one by one as well: one of them may be to blame.
		"broken connections": {func(f *fixture) { f.Always(eventtest.AnyMethod, eventtest.Reset()) }, []time.Duration{s, 2 * s, 0, 4 * s, 8 * s, 16 * s, 32 * s, time.Minute}},
		"no connections": {
			func(f *fixture) { f.net.Break(f.Domain(), errors.New("connection refused")) },
			[]time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, time.Minute, time.Minute},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				start := time.Now()
				var at []time.Duration
				c := newConsumer(t, tap{Caller: f.api, whole: func(string, map[string]any) {
					at = append(at, time.Since(start))
					f.net.Break(f.Domain(), nil)
					f.Heal()
					if len(at) <= 8 {
						test.fail(f)
					}
				}}, new(journal).HandleEvent)
				c.Wake() // does not cut these waits short
				require.NoError(t, c.Drain(t.Context()))
				requireWaits(t, at, test.want...)
				require.EqualValues(t, 9, c.Stats().Requests)
			})
		})
	}
}

func TestReservationsGrowAndShrink(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", upTo(2000)...)
		gets := 0
		c := newConsumer(t, tap{Caller: f.api, before: func(method string, _ map[string]any) error {
			if method == "event.offline.get" {
				if gets++; gets == 5 || gets == 6 {
					f.Once("batch", eventtest.LoseAnswer())
				}
			}
			return nil
		}}, new(journal).HandleEvent, offline.WithBatchSize(300))
		require.NoError(t, c.Drain(t.Context()))
		var limits []string
		for _, call := range f.Calls() {
			if call.Method == "event.offline.get" {
				limits = append(limits, call.Params.Get("limit").Text())
			}
		}
		require.Equal(t, []string{"50", "100", "200", "300", "300", "150", "75", "150", "300"}, limits[:9])
		require.EqualValues(t, 2000, c.Stats().Handled)
		require.EqualValues(t, 450, c.Stats().Recovered)
		require.Empty(t, f.OfflineRows())
	})
}

func TestReservationsShrinkIfHandlersAreSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", upTo(700)...)
		c := newConsumer(t, f.api, func(context.Context, *event.Delivery) error {
			time.Sleep(time.Second) //nolint:forbidigo // in fake time
			return nil
		}, offline.WithWorkers(5))
		require.NoError(t, c.Drain(t.Context()))
		var limits []string
		for _, call := range f.Calls() {
			if call.Method == "event.offline.get" {
				limits = append(limits, call.Params.Get("limit").Text())
			}
		}
		require.Equal(t, []string{"50", "100", "100", "100", "100", "100", "100", "100", "100"}, limits[:9], "of 200 they would take 40 seconds")
		require.LessOrEqual(t, len(limits), 10)
		require.EqualValues(t, 700, c.Stats().Handled)
	})
}

func TestFinishedRecordsAreClearedWhileOthersRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", 1, 2)
		start := time.Now()
		f.drain(func(_ context.Context, d *event.Delivery) error {
			if dealID(t, d) == 2 {
				time.Sleep(20 * time.Second) //nolint:forbidigo // a slow handler, in fake time
			}
			return nil
		})
		cleared := f.times(start, "event.offline.clear")
		require.Len(t, cleared, 2)
		require.LessOrEqual(t, cleared[0], 5*time.Second)
		require.GreaterOrEqual(t, cleared[1], 20*time.Second)
	})
}

func TestACallThatNeverReturnsIsCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.Once("batch", eventtest.Delay(time.Hour))
		start := time.Now()
		c := f.drain(new(journal).HandleEvent)
		require.EqualValues(t, 2, c.Stats().Requests)
		require.Less(t, time.Since(start), 2*time.Minute)
	})
}

func TestRecordsWithoutAUsableMessageID(t *testing.T) {
	t.Parallel()
	message, number := regexp.MustCompile(`"MESSAGE_ID":"[0-9a-f]{32}"`), regexp.MustCompile(`"ID":"[0-9]+"`)
	tests := []struct {
		name     string
		numbered bool
		err      error
		cleared  bool
		left     uint64
	}{
		{name: "cleared by number", numbered: true, cleared: true},
		{name: "cannot be parked", numbered: true, err: final(errHandler), left: 1},
		{name: "cannot be cleared", left: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.change("UPDATE", 1)
				spoil := func(_ string, answer json.RawMessage) json.RawMessage {
					answer = message.ReplaceAll(answer, []byte(`"MESSAGE_ID":"1"`))
					if !tt.numbered {
						answer = number.ReplaceAll(answer, []byte(`"ID":"0"`))
					}
					return answer
				}
				handled := 0
				c := newConsumer(t, tap{Caller: f.api, after: spoil}, func(context.Context, *event.Delivery) error {
					handled++
					return tt.err
				})
				ctx, stop := context.WithTimeout(t.Context(), time.Hour) // with several looks for abandoned records
				defer stop()
				require.NoError(t, c.Run(ctx))
				require.Equal(t, 1, handled)
				require.Equal(t, tt.left, c.Stats().Abandoned)
				require.Zero(t, f.CallCount("event.offline.error"))
				if tt.cleared {
					require.Empty(t, f.states())
					require.Equal(t, 1, f.CallCount("event.offline.clear"))
				} else {
					require.Equal(t, []string{"reserved"}, f.states())
					require.Zero(t, f.CallCount("event.offline.clear"))
				}
			})
		})
	}
}
