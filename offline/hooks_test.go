package offline_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
)

func TestHooksOnRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.AddEvent("ON ODD", "")
		f.bindRaw("ON ODD")
		f.change("UPDATE", 1, 2)
		require.NoError(t, f.Raise("ON ODD", nil, 0))
		time.Sleep(90 * time.Second) //nolint:forbidigo // in fake time
		var mu sync.Mutex
		lags := make(map[string]time.Duration)
		reasons := make(map[string]error)
		hooks := offline.Hooks{
			Handled: func(_ context.Context, d *event.Delivery, lag time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				lags[name(d)] = lag
			},
			Parked: func(_ context.Context, r offline.Record, err error) {
				mu.Lock()
				defer mu.Unlock()
				if r.Delivery == nil {
					reasons["unread"] = err
					return
				}
				reasons[name(r.Delivery)] = err
			},
		}
		var h refuses
		h.set(true, "2")
		c := f.drain(h.HandleEvent, offline.WithHooks(hooks))
		require.Equal(t, map[string]time.Duration{"UPDATE 1": 90 * time.Second}, lags)
		require.Equal(t, 90*time.Second, c.Stats().LastLag)
		require.Len(t, reasons, 2)
		require.ErrorIs(t, reasons["UPDATE 2"], errHandler)
		require.ErrorIs(t, reasons["unread"], event.ErrMalformed)
		require.Equal(t, 2, c.Stats().Backlog.Parked)

		f.drain(h.HandleEvent, offline.WithHooks(hooks))
		require.Len(t, reasons, 2, "what stays parked is not parked again")
	})
}

func TestBacklogIsMeasured(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.change("UPDATE", upTo(100)...)
		time.Sleep(time.Minute) //nolint:forbidigo // in fake time
		f.change("ADD", upTo(100)...)
		oldest := f.OfflineRows()[50].Time
		f.ResetRecords()
		var measured []offline.Backlog
		c := newConsumer(t, f.api, new(journal).HandleEvent, offline.WithHooks(offline.Hooks{
			Measured: func(_ context.Context, b offline.Backlog) { measured = append(measured, b) },
		}))
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
		defer stop()
		require.NoError(t, c.Run(ctx))
		require.GreaterOrEqual(t, len(measured), 3)
		require.LessOrEqual(t, len(measured), 6, "not more often than every 30 seconds")
		require.Equal(t, f.MemberID(), measured[0].MemberID)
		require.Equal(t, 150, measured[0].Waiting, "after the first reservation")
		require.True(t, measured[0].Oldest.Equal(oldest))
		last := measured[len(measured)-1]
		require.Zero(t, last.Waiting)
		require.True(t, last.Oldest.IsZero())
		require.WithinDuration(t, time.Now(), c.Stats().Backlog.At, time.Minute)
		require.Equal(t, 3, f.CallCount("event.offline.list"), "abandoned, parked, and once a full reservation")
		require.InDelta(t, 0.05, c.Stats().RequestsPerEvent(), 0.03)
	})
}

func TestStall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var heard []offline.Stall
		c := newConsumer(t, f.api, new(journal).HandleEvent, offline.WithStallAlert(3*time.Minute, time.Hour), offline.WithHooks(offline.Hooks{
			Stalled: func(_ context.Context, s offline.Stall) { heard = append(heard, s) },
		}))
		start := time.Now()
		fail := func(after, length time.Duration) {
			time.AfterFunc(after, func() { f.net.Break(f.Domain(), errors.New("no route")) })
			time.AfterFunc(after+length, func() { f.net.Break(f.Domain(), nil) })
		}
		fail(10*time.Minute, 2*time.Minute) // too short to be reported
		fail(20*time.Minute, 30*time.Minute)
		time.AfterFunc(3*time.Hour, func() { f.change("UPDATE", 1) })
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Hour+30*time.Minute)
		defer stop()
		require.NoError(t, c.Run(ctx))

		require.Len(t, heard, 4)
		at := func(i int) time.Duration { return heard[i].Since.Sub(start) }
		require.Equal(t, offline.StallNoResponse, heard[0].Kind)
		require.False(t, heard[0].Over)
		require.InDelta(t, 20*time.Minute, at(0), float64(2*time.Minute))
		require.Equal(t, offline.Stall{MemberID: f.MemberID(), Kind: offline.StallNoResponse, Since: heard[0].Since, Over: true}, heard[1])
		require.Equal(t, offline.StallNoRecord, heard[2].Kind)
		require.Less(t, at(2), time.Minute, "there was none since the start")
		require.Equal(t, offline.Stall{MemberID: f.MemberID(), Kind: offline.StallNoRecord, Since: heard[2].Since, Over: true}, heard[3])
	})
}

func TestIgnoredUsers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	change := func(id int, user int64) {
		require.NoError(t, f.Raise("ONCRMDEALUPDATE", map[string]any{"FIELDS": map[string]any{"ID": id}}, user))
	}
	change(1, 7)
	change(2, 8)
	change(3, 0) // a robot's
	change(4, 9)
	change(4, 7) // the trap: the last user of a merged record counts
	var seen journal
	c := f.drain(seen.HandleEvent, offline.WithIgnoredUsers(7), offline.WithIgnoredUsers(11, 12))
	require.ElementsMatch(t, []string{"UPDATE 2", "UPDATE 3"}, seen.entries())
	require.Empty(t, f.OfflineRows(), "what is ignored is cleared too")
	s := c.Stats()
	require.EqualValues(t, 2, s.Ignored)
	require.EqualValues(t, 2, s.Handled)
	require.EqualValues(t, 4, s.Cleared)
}

// PROTOCOL 3.2: changes merge into a parked record, and the last user counts. What it was parked
// for was another's change, and is not done.
func TestIgnoredUsersDoNotEndParkedRecords(t *testing.T) {
	t.Parallel()
	for _, spool := range []bool{false, true} {
		t.Run(fmt.Sprint("spool ", spool), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			opts := []offline.ConsumerOption{offline.WithIgnoredUsers(9)}
			f.change("UPDATE", 1) // by user 7
			var h refuses
			h.set(true, "1")
			f.drain(h.HandleEvent, opts...)
			require.NoError(t, f.Raise("ONCRMDEALUPDATE", map[string]any{"FIELDS": map[string]any{"ID": 1}}, 9))
			require.Equal(t, []string{"parked"}, f.states())
			if spool {
				require.NoError(t, f.ChangeQuirks(func(m *eventtest.Quirks) { m.NoExtendedOffline = true }))
				opts = append(opts, offline.WithSpool(t.TempDir()))
			}
			h.set(false, "1")
			c := f.drain(h.HandleEvent, opts...)
			require.Equal(t, []string{"UPDATE 1", "UPDATE 1"}, h.entries(), "user 7's change reached the handler")
			require.Zero(t, c.Stats().Ignored)
			require.Empty(t, f.states())
		})
	}
}

// PROTOCOL 3.4, the table: what an application writes under its handler's connector makes no
// record, with and without one.
func TestOwnChangesMakeNoRecords(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.bind("erp", "ONCRMDEALADD")
	add := func(c event.Caller, connector string) {
		params := map[string]any{"fields": map[string]any{"TITLE": "x"}}
		if connector != "" {
			params["auth_connector"] = connector
		}
		require.NoError(t, c.Call(t.Context(), "crm.deal.add", params, nil))
	}
	count := func(opts ...offline.ConsumerOption) int {
		var seen journal
		f.drain(seen.HandleEvent, opts...)
		return len(seen.entries())
	}
	add(f.api, "")
	require.Equal(t, 0, count())
	require.Equal(t, 1, count(offline.WithConnector("erp")))
	add(f.api, "erp")
	require.Equal(t, 1, count())
	require.Equal(t, 0, count(offline.WithConnector("erp")))
	_, err := f.Add(eventtest.Deal, nil, eventtest.AdminID) // a person
	require.NoError(t, err)
	require.Equal(t, 1, count())
	require.Equal(t, 1, count(offline.WithConnector("erp")))
}

// The portal goes away while a record waits to be parked, dropped or cleared. Someone should know.
func TestStallIsNoticedWhileARecordWaits(t *testing.T) {
	t.Parallel()
	for name, result := range map[string]error{"cleared": nil, "parked": errHandler, "dropped": event.Drop(errHandler)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stalls []offline.Stall
			var began time.Time
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.change("UPDATE", 1)
				ctx, stop := context.WithTimeout(t.Context(), 24*time.Hour)
				defer stop()
				c := newConsumer(t, f.api, func(context.Context, *event.Delivery) error {
					began = time.Now()
					f.net.Break(f.Domain(), errors.New("no route"))
					return result
				}, offline.WithMaxAttempts(1), offline.WithStallAlert(5*time.Minute, 0), offline.WithHooks(offline.Hooks{
					Stalled: func(_ context.Context, s offline.Stall) {
						stalls = append(stalls, s)
						require.Less(t, time.Since(began), 10*time.Minute)
					},
				}))
				require.Error(t, c.Drain(ctx))
			})
			expect(t, len(stalls) == 1, "a day without the portal, and %d stalls were reported", len(stalls))
		})
	}
}
