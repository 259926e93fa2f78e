package offline_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
)

// spoolFiles returns the names of the files in a spool, without the lock, and checks who may read
// them. spoolDir returns the folder of the application's queue in a spool.
func (f *fixture) spoolDir(dir string) string {
	return filepath.Join(dir, f.app.ClientID()+"_"+f.MemberID())
}

func spoolFiles(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		mode := info.Mode().Perm()
		if runtime.GOOS == "windows" { // which has access lists instead, see package disk
			mode &= 0o700
		}
		switch {
		case d.IsDir() && path != dir:
			require.Equal(t, fs.FileMode(0o700), mode)
		case !d.IsDir():
			require.Equal(t, fs.FileMode(0o600), mode)
			if d.Name() != "lock" && d.Name() != "identity.json" {
				names = append(names, d.Name())
			}
		}
		return nil
	}))
	return names
}

func withoutReservations(t *testing.T) *fixture {
	t.Helper()
	return newFixture(t, eventtest.WithoutExtendedOffline())
}

// PROTOCOL 2.6: if the plan lacks rest_offline_extended, only clear=1 works.
func TestSpoolOnAPlanThatCannotReserve(t *testing.T) {
	t.Parallel()
	f := withoutReservations(t)
	f.change("UPDATE", upTo(120)...)
	dir := t.TempDir()
	var log bytes.Buffer
	var seen journal
	c := f.drain(func(ctx context.Context, d *event.Delivery) error {
		if len(spoolFiles(t, dir)) == 0 {
			return final(errHandler) // not on the disk
		}
		return seen.HandleEvent(ctx, d)
	}, offline.WithSpool(dir), offline.WithLogger(slog.New(slog.NewTextHandler(&log, nil))), offline.WithWorkers(1))
	require.Len(t, seen.entries(), 120)
	require.Empty(t, f.OfflineRows())
	require.Empty(t, spoolFiles(t, dir))
	require.Equal(t, 1, strings.Count(log.String(), "going on with deletion on reading"), "said once")
	s := c.Stats()
	require.EqualValues(t, 120, s.Spooled)
	require.EqualValues(t, 120, s.Cleared)
	require.Zero(t, s.Parked)
	require.Zero(t, f.CallCount("event.offline.clear"))
	require.Equal(t, 5, f.Requests().REST, "a refusal, readings of 50, 70 and none, and a measurement of what waits")
}

func TestSpoolSurvivesTheProcess(t *testing.T) {
	t.Parallel()
	f := withoutReservations(t)
	f.change("UPDATE", 1, 2, 3)
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	var seen journal
	c := newConsumer(t, f.api, func(ctx context.Context, d *event.Delivery) error {
		if dealID(t, d) == 2 {
			stop()
			<-ctx.Done()
			return ctx.Err()
		}
		return seen.HandleEvent(ctx, d)
	}, offline.WithSpool(dir), offline.WithWorkers(1), offline.WithGrace(0))
	require.NoError(t, c.Run(ctx))
	require.Equal(t, []string{"UPDATE 1"}, seen.entries())
	require.Empty(t, f.OfflineRows(), "they are nowhere but in the spool")
	require.EqualValues(t, 2, c.Stats().Abandoned)
	require.Len(t, spoolFiles(t, dir), 2, "a segment and its marks")

	f.change("UPDATE", 4)
	c = f.drain(seen.HandleEvent, offline.WithSpool(dir), offline.WithWorkers(1))
	require.Equal(t, []string{"UPDATE 1", "UPDATE 2", "UPDATE 3", "UPDATE 4"}, seen.entries(), "what was left comes first")
	require.EqualValues(t, 2, c.Stats().Recovered)
	require.Empty(t, spoolFiles(t, dir))
}

func TestSpoolIsWorkedOffOnALargerPlanToo(t *testing.T) {
	t.Parallel()
	f := withoutReservations(t)
	f.change("UPDATE", 1)
	dir := t.TempDir()
	var h refuses
	h.set(true, "1")
	f.drain(h.HandleEvent, offline.WithSpool(dir))
	require.NotEmpty(t, spoolFiles(t, dir))

	require.NoError(t, f.ChangeQuirks(func(m *eventtest.Quirks) { m.NoExtendedOffline = false }))
	h.set(false, "1")
	f.change("UPDATE", 2)
	f.drain(h.HandleEvent, offline.WithSpool(dir))
	require.ElementsMatch(t, []string{"UPDATE 1", "UPDATE 1", "UPDATE 2"}, h.entries())
	require.Empty(t, spoolFiles(t, dir))
}

func TestSpoolKeepsWhatIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := withoutReservations(t)
		f.AddEvent("ON ODD", "")
		f.bindRaw("ON ODD")
		f.change("UPDATE", 1, 2)
		require.NoError(t, f.Raise("ON ODD", nil, 0)) // cannot be read
		dir := t.TempDir()
		var h refuses
		h.set(true, "1")
		ctx, stop := context.WithTimeout(t.Context(), 35*time.Minute)
		defer stop()
		c := newConsumer(t, f.api, h.HandleEvent, offline.WithSpool(dir))
		require.NoError(t, c.Run(ctx))
		s := c.Stats()
		require.EqualValues(t, 2, s.Parked)
		require.EqualValues(t, 6, s.Unparked, "two records, every ten minutes")
		require.Len(t, h.entries(), 2+3)

		h.set(false, "1")
		require.NoError(t, c.Drain(t.Context()))
		require.Len(t, h.entries(), 6)
		require.Len(t, spoolFiles(t, dir), 2, "what cannot be read stays")
		require.EqualValues(t, 2, c.Stats().Parked, "and is not parked twice")
	})
}

func TestSpoolTakesParkedRecordsAlong(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1, 2)
	var h refuses
	h.set(true, "1", "2")
	f.drain(h.HandleEvent)
	f.change("UPDATE", 1) // merges into the parked row
	require.NoError(t, f.ChangeQuirks(func(m *eventtest.Quirks) { m.NoExtendedOffline = true }))
	h.set(false, "1", "2")
	dir := t.TempDir()
	f.drain(h.HandleEvent, offline.WithSpool(dir))
	require.Empty(t, f.OfflineRows())
	require.Empty(t, spoolFiles(t, dir))
	require.Len(t, h.entries(), 4)
}

// PROTOCOL 2.7 and 2.8: list and clear ask for no plan.
func TestWhatWasReservedBeforeThePlanChangedIsFinished(t *testing.T) {
	t.Parallel()
	for _, spool := range []bool{true, false} {
		t.Run(fmt.Sprint("spool ", spool), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.change("UPDATE", 1, 2)
			_, err := f.queue().Reserve(t.Context(), 50)
			require.NoError(t, err)
			f.change("UPDATE", 3)
			require.NoError(t, f.ChangeQuirks(func(m *eventtest.Quirks) { m.NoExtendedOffline = true }))
			var seen journal
			if spool {
				f.drain(seen.HandleEvent, offline.WithSpool(t.TempDir()))
				require.ElementsMatch(t, []string{"UPDATE 1", "UPDATE 2", "UPDATE 3"}, seen.entries())
				require.Empty(t, f.OfflineRows())
				return
			}
			require.ErrorIs(t, newConsumer(t, f.api, seen.HandleEvent).Drain(t.Context()), offline.ErrExtendedModeRequired)
			require.ElementsMatch(t, []string{"UPDATE 1", "UPDATE 2"}, seen.entries())
			require.Equal(t, []string{"waiting"}, f.states())
		})
	}
}

func TestPlanIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := withoutReservations(t)
		var seen journal
		c := newConsumer(t, f.api, seen.HandleEvent, offline.WithSpool(t.TempDir()))
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Hour)
		defer stop()
		time.AfterFunc(90*time.Minute, func() {
			require.NoError(t, f.ChangeQuirks(func(m *eventtest.Quirks) { m.NoExtendedOffline = false }))
		})
		time.AfterFunc(150*time.Minute, func() { f.change("UPDATE", 1) })
		require.NoError(t, c.Run(ctx))
		require.Equal(t, []string{"UPDATE 1"}, seen.entries())
		require.EqualValues(t, 1, c.Stats().Reserved)
		require.Zero(t, c.Stats().Spooled)
	})
}

func TestSpoolIsForOneProcess(t *testing.T) {
	t.Parallel()
	f := withoutReservations(t)
	f.change("UPDATE", 1)
	dir := t.TempDir()
	var second error
	var seen journal
	f.drain(func(ctx context.Context, _ *event.Delivery) error {
		second = newConsumer(t, f.api, seen.HandleEvent, offline.WithSpool(dir)).Run(ctx)
		return nil
	}, offline.WithSpool(dir))
	require.ErrorIs(t, second, offline.ErrSpoolInUse)
	f.change("UPDATE", 2)
	f.drain(seen.HandleEvent, offline.WithSpool(dir))
	require.Equal(t, []string{"UPDATE 2"}, seen.entries(), "the lock ends with its consumer")
}

// Each queue has a folder of its own, so that no record is handed to the wrong portal.
func TestSpoolsOfDifferentQueuesShareADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, g := withoutReservations(t), withoutReservations(t)
	f.change("UPDATE", 1)
	g.bind("erp", "ONCRMDEALUPDATE")
	g.change("UPDATE", 2)
	var h refuses
	h.set(true, "1", "2")
	f.drain(h.HandleEvent, offline.WithSpool(dir))
	g.drain(h.HandleEvent, offline.WithSpool(dir))
	g.drain(h.HandleEvent, offline.WithSpool(dir), offline.WithConnector("erp"))
	h.set(false, "1", "2")
	var seen journal
	f.drain(seen.HandleEvent, offline.WithSpool(dir))
	require.Equal(t, []string{"UPDATE 1"}, seen.entries())
	g.drain(seen.HandleEvent, offline.WithSpool(dir), offline.WithConnector("erp"))
	require.Equal(t, []string{"UPDATE 1", "UPDATE 2"}, seen.entries())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 3)
}

func TestSpoolThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	f := withoutReservations(t)
	f.change("UPDATE", 1)
	err := newConsumer(t, f.api, new(journal).HandleEvent, offline.WithSpool(file)).Run(t.Context())
	require.ErrorIs(t, err, offline.ErrSpool)
	require.Len(t, f.OfflineRows(), 1, "nothing was taken")
}

// obstacle is a folder in the place of a file that cannot be written then. It returns the function
// that makes it; it is gone when the test ends, or after a call of the other function.
func obstacle(t *testing.T, name string) (put, remove func()) {
	t.Helper()
	return func() {
			require.NoError(t, os.MkdirAll(filepath.Join(name, "full"), 0o700))
		}, func() {
			require.NoError(t, os.RemoveAll(name))
		}
}

// A disk that fails in the moment between the response and the file, and for good. The records are
// handled at once. Those that are not finished in the end are reported.
func TestSpoolThatCannotBeWrittenAnyMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := withoutReservations(t)
		f.change("UPDATE", 1, 2, 3)
		dir := t.TempDir()
		fill, _ := obstacle(t, filepath.Join(f.spoolDir(dir), "0000000000000001.new")) // in place of the segment
		gets := 0
		broken := tap{Caller: f.api, before: func(method string, _ map[string]any) error {
			if method == "event.offline.get" {
				if gets++; gets == 2 { // the first one is refused
					fill()
				}
			}
			return nil
		}}
		var log bytes.Buffer
		var seen journal
		c := newConsumer(t, broken, func(ctx context.Context, d *event.Delivery) error {
			if dealID(t, d) != 2 {
				return event.Retry(errHandler, time.Hour)
			}
			return seen.HandleEvent(ctx, d)
		}, offline.WithClientID(f.app.ClientID()), offline.WithMemberID(f.MemberID()), offline.WithSpool(dir), offline.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		ctx, stop := context.WithTimeout(t.Context(), time.Hour/2)
		defer stop()
		err := c.Run(ctx)
		require.ErrorIs(t, err, offline.ErrSpool)
		require.ErrorAs(t, err, new(*fs.PathError))
		require.ErrorContains(t, err, "2 records")
		require.Equal(t, []string{"UPDATE 2"}, seen.entries())
		require.Equal(t, 2, gets, "nothing more is taken")
		require.Equal(t, 1, strings.Count(log.String(), "the spool cannot be written"), "said once")
		require.Contains(t, log.String(), filepath.Base(f.spoolDir(dir)))
		require.Contains(t, log.String(), "is a directory")
		require.Contains(t, log.String(), "are lost")
	})
}

// late is a caller whose responses come after a second, or are lost if its context ends before.
type late struct{ event.Caller }

func (l late) Call(ctx context.Context, method string, params, result any) error {
	var answer json.RawMessage
	err := l.Caller.Call(context.WithoutCancel(ctx), method, params, &answer)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second):
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, result)
}

// To stop while a response is under way that holds records which are on the portal no more must not
// lose them.
func TestStopDuringAReadingThatDeletes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := withoutReservations(t)
		dir := t.TempDir()
		var seen journal
		opts := []offline.ConsumerOption{
			offline.WithSpool(dir),
			offline.WithClientID(f.app.ClientID()),
			offline.WithMemberID(f.MemberID()),
			offline.WithInterval(time.Second, time.Second),
		}
		f.drain(seen.HandleEvent, opts...) // makes the spool
		f.change("UPDATE", 1, 2, 3)
		ctx, stop := context.WithCancel(t.Context())
		c := newConsumer(t, tap{Caller: late{f.api}, before: func(method string, params map[string]any) error {
			if method == "event.offline.get" && params["clear"] == 1 {
				time.AfterFunc(time.Second/2, stop)
			}
			return nil
		}}, seen.HandleEvent, opts...)
		require.NoError(t, c.Run(ctx))
		require.Empty(t, f.states())
		f.drain(seen.HandleEvent, opts...)
		require.ElementsMatch(t, []string{"UPDATE 1", "UPDATE 2", "UPDATE 3"}, seen.entries())
	})
}

func TestStopDoesNotWaitForAResponseForever(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := withoutReservations(t)
		ctx, stop := context.WithCancel(t.Context())
		var stopped time.Time
		c := newConsumer(t, callerOf(func(ctx context.Context, method string, params, result any) error {
			if sent, _ := params.(map[string]any); sent["clear"] == 1 {
				stop()
				stopped = time.Now()
				<-ctx.Done()
				return ctx.Err()
			}
			return f.api.Call(ctx, method, params, result)
		}), new(journal).HandleEvent, offline.WithClientID(f.app.ClientID()), offline.WithMemberID(f.MemberID()), offline.WithSpool(t.TempDir()))
		require.NoError(t, c.Run(ctx))
		require.Equal(t, 10*time.Second, time.Since(stopped))
	})
}

// A disk that cannot take the marks will not take the next segment either, so the records stay on
// the portal, where they are safe.
func TestNothingIsTakenWhileTheSpoolCannotBeWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := withoutReservations(t)
		f.change("UPDATE", 1, 2)
		dir := t.TempDir()
		obstacle := filepath.Join(f.spoolDir(dir), "0000000000000001.marks")
		start := time.Now()
		time.AfterFunc(10*time.Second, func() {
			require.Equal(t, []string{"waiting"}, f.states())
			require.NoError(t, os.Remove(obstacle))
		})
		var seen journal
		c := newConsumer(t, f.api, func(ctx context.Context, d *event.Delivery) error {
			if len(seen.entries()) == 0 {
				require.NoError(t, os.Mkdir(obstacle, 0o700))
				f.change("UPDATE", 3)
			}
			if dealID(t, d) == 2 && time.Since(start) < 15*time.Second {
				return event.Retry(errHandler, 15*time.Second) // the segment stays
			}
			return seen.HandleEvent(ctx, d)
		}, offline.WithSpool(dir), offline.WithWorkers(1), offline.WithInterval(time.Second, time.Second))
		require.NoError(t, c.Drain(t.Context()))
		require.ElementsMatch(t, []string{"UPDATE 1", "UPDATE 2", "UPDATE 3"}, seen.entries())
		require.Empty(t, spoolFiles(t, dir))
	})
}

// A disk that fails for a while. What was taken is handled from memory at once, and nothing more is
// taken until the disk can be written.
func TestSpoolThatCannotBeWrittenForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := withoutReservations(t)
		f.change("UPDATE", 1, 2)
		dir := t.TempDir()
		fill, empty := obstacle(t, filepath.Join(f.spoolDir(dir), "0000000000000001.new"))
		gets := 0
		broken := tap{Caller: f.api, before: func(method string, _ map[string]any) error {
			if method == "event.offline.get" {
				if gets++; gets == 2 {
					fill()
				}
			}
			return nil
		}}
		start := time.Now()
		time.AfterFunc(10*time.Second, func() {
			require.Equal(t, []string{"waiting"}, f.states())
			empty()
		})
		var seen journal
		c := newConsumer(t, broken, func(ctx context.Context, d *event.Delivery) error {
			if len(seen.entries()) == 0 {
				f.change("UPDATE", 3)
			}
			if dealID(t, d) == 3 && time.Since(start) < 10*time.Second {
				return event.Drop(errors.New("taken before it could be written"))
			}
			if dealID(t, d) != 3 && time.Since(start) > time.Second {
				return event.Drop(errors.New("it waited for the disk"))
			}
			return seen.HandleEvent(ctx, d)
		}, offline.WithClientID(f.app.ClientID()), offline.WithMemberID(f.MemberID()), offline.WithSpool(dir), offline.WithWorkers(1))
		require.NoError(t, c.Drain(t.Context()))
		require.Len(t, seen.entries(), 3)
		require.Less(t, time.Since(start), time.Minute)
		require.Empty(t, spoolFiles(t, dir))
		require.Zero(t, c.Stats().Parked)
	})
}

// A response that cannot be read holds records that exist nowhere else.
func TestResponseThatCannotBeReadIsKeptInTheSpool(t *testing.T) {
	t.Parallel()
	f := withoutReservations(t)
	f.change("UPDATE", 1)
	dir := t.TempDir()
	f.Once(
		"event.offline.get",
		eventtest.Fail(403, "WRONG_LICENSE", "This feature is not enabled for the current license: extended offline events handling"),
		eventtest.Raw(200, "application/json", `{"result":{"process_id":null,"events":"7405"}}`),
	)
	c := newConsumer(t, f.api, new(journal).HandleEvent, offline.WithSpool(dir))
	require.ErrorIs(t, c.Run(t.Context()), offline.ErrBadResponse)
	require.EqualValues(t, 1, c.Stats().Damaged)
	files := spoolFiles(t, dir)
	require.Len(t, files, 1)
	kept, err := os.ReadFile(filepath.Join(f.spoolDir(dir), files[0]))
	require.NoError(t, err)
	require.Contains(t, string(kept), "7405")
}

var longTests = flag.Bool("offline.long", false, "run tests that take long")

// A downstream system is out of order during an import, so that the spool fills with parked
// records, up to its bound of 100,000. When the system is back, they are tried, and new records are
// taken.
func TestSpoolFullOfParkedRecordsRecovers(t *testing.T) {
	t.Parallel()
	if !*longTests {
		t.Skip("100,000 records take ten seconds, and a minute with -race; run it with -offline.long")
	}
	const bound = 100_000
	var tried, fresh int64
	synctest.Test(t, func(t *testing.T) {
		f := withoutReservations(t)
		f.change("UPDATE", upTo(bound)...)
		var healthy atomic.Bool
		var old, last atomic.Int64
		c := newConsumer(t, f.api, func(_ context.Context, d *event.Delivery) error {
			switch {
			case !healthy.Load():
				return errHandler
			case dealID(t, d) > bound:
				last.Add(1)
			default:
				old.Add(1)
			}
			return nil
		}, offline.WithSpool(t.TempDir()), offline.WithMaxAttempts(1), offline.WithParkedInterval(time.Hour))
		stop := background(t, c)
		<-time.After(30 * time.Minute)
		require.Empty(t, f.states(), "all are in the spool")
		healthy.Store(true)
		f.change("UPDATE", bound+1)
		<-time.After(2 * time.Hour)
		stop()
		tried, fresh = old.Load(), last.Load()
	})
	expect(t, tried == bound, "%d of %d parked records were handled in two hours", tried, bound)
	expect(t, fresh == 1, "the new record was handled %d times", fresh)
}
