package main

import (
	"flag"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
	"github.com/b24events/b24events/internal/longtest"
)

var crashSeed = flag.Uint64("crash.seed", 1, "of the choices that the crash tests make; their timing is real")

// victim is a process of the program.
type victim struct {
	cmd    *exec.Cmd
	stderr *programtest.Output
	ended  chan struct{}
}

func startVictim(t *testing.T, env programtest.Env) *victim {
	t.Helper()
	v := &victim{cmd: exec.CommandContext(t.Context(), os.Args[0]), stderr: &programtest.Output{}, ended: make(chan struct{})} //nolint:gosec // this binary
	v.cmd.Env, v.cmd.Stderr = env.With(programtest.AsProgram, "1").Strings(), v.stderr
	require.NoError(t, v.cmd.Start())
	go func() {
		_ = v.cmd.Wait()
		close(v.ended)
	}()
	return v
}

// kill is kill -9. It waits until the process is gone, and fails the test if it had ended by
// itself.
func (v *victim) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, v.cmd.Process.Kill())
	<-v.ended
	killed := -1
	if runtime.GOOS == "windows" { // a killed process ends with this code, as a failed one does
		killed = 1
		require.NotContains(t, "\n"+v.stderr.String(), "\nofflinesync: ", "it failed")
	}
	require.Equal(t, killed, v.cmd.ProcessState.ExitCode(), "it ended by itself: %s", v.stderr)
}

// trigger picks the moment of a kill, and returns a function that waits for it.
type trigger func(portal *eventtest.Portal, random *rand.Rand, out string) (wait func(v *victim))

// limit is how long a process works while a trigger is waited for: the moment may not come, as when
// nothing is to be cleared.
const limit = time.Second / 2

// early waits for a random time in which the process starts.
func early(_ *eventtest.Portal, random *rand.Rand, _ string) func(*victim) {
	d := time.Duration(random.IntN(300)) * time.Millisecond
	return func(v *victim) { v.lives(d) }
}

// after waits for a random time in which the process works.
func after(_ *eventtest.Portal, random *rand.Rand, _ string) func(*victim) {
	d := time.Duration(random.IntN(300)) * time.Millisecond
	return func(v *victim) { v.works(d, func() bool { return false }) }
}

// beforeCall waits until the process calls a method, which is not run: one of the first calls, up
// to a number.
func beforeCall(method string, first int) trigger {
	return func(portal *eventtest.Portal, random *rand.Rand, _ string) func(*victim) {
		called := make(chan struct{}, 1)
		for range random.IntN(first) {
			portal.Once(method, eventtest.Delay(0))
		}
		portal.Once(method, eventtest.Answer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			called <- struct{}{}
			<-r.Context().Done() // the caller has died
			panic(http.ErrAbortHandler)
		})))
		return func(v *victim) {
			v.works(limit, func() bool { return len(called) > 0 })
			portal.Heal(method)
		}
	}
}

// afterCall waits until a method was run, whose answer is lost: one of the first calls, up to a
// number.
func afterCall(method string, first int) trigger {
	return func(portal *eventtest.Portal, random *rand.Rand, _ string) func(*victim) {
		n := portal.CallCount(method) + random.IntN(first)
		for range n - portal.CallCount(method) {
			portal.Once(method, eventtest.Delay(0))
		}
		portal.Once(method, eventtest.LoseAnswer())
		return func(v *victim) {
			v.works(limit, func() bool { return portal.CallCount(method) > n })
			portal.Heal(method)
		}
	}
}

// onLine waits until the process has written.
func onLine(_ *eventtest.Portal, random *rand.Rand, out string) func(*victim) {
	size := func() int64 {
		info, err := os.Stat(out)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	least := size() + int64(random.IntN(4000))
	return func(v *victim) { v.works(limit, func() bool { return size() > least }) }
}

// lives lets the process live until the time is over, or it ends.
func (v *victim) lives(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-v.ended:
	}
}

// works lets the process live until the time is over, something comes, or it ends. The time begins
// when the process has written its first line of log, since how long a start takes depends on the
// machine.
func (v *victim) works(d time.Duration, until func() bool) {
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	var began time.Time
	for started := time.Now(); !until() && time.Since(started) < programtest.Patience; {
		if began.IsZero() && v.stderr.String() != "" {
			began = time.Now()
		}
		if !began.IsZero() && time.Since(began) >= d {
			return
		}
		select {
		case <-tick.C:
		case <-v.ended:
			return
		}
	}
}

// The process is killed many times while objects are added, changed and deleted, and some records
// are parked for a while. The last state of every object must reach the file after its last change,
// and nothing may stay in the queue.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it kills processes")
	}
	kills := longtest.Times(10, 50)
	portal, app, env := programtest.Portal(t)
	out := filepath.Join(t.TempDir(), "out.jsonl")
	env = env.Seeded(t, app).With("OUT", out, "EVENTS", worldEvents, "POLL", "100ms", "RETRIES", "0", "RETRY_PARKED", "30ms")
	t.Logf("-crash.seed=%d", *crashSeed)
	random := rand.New(rand.NewPCG(*crashSeed, 2)) //nolint:gosec // repeatable
	triggers := []trigger{early, after, onLine, onLine, beforeCall("event.get", 1)}
	for _, method := range []string{"batch", "event.offline.list", "event.offline.get", "event.offline.clear", "event.offline.error"} {
		triggers = append(triggers, beforeCall(method, 3), afterCall(method, 3))
	}
	w := newWorld(portal, *crashSeed, 60)
	_, _ = once(t, env) // binds
	stop := w.turn(t, 2*time.Millisecond)
	grown, size := 0, 0
	for range kills {
		wait := triggers[random.IntN(len(triggers))](portal, random, out)
		for range random.IntN(3) {
			portal.Once([]string{"crm.deal.get", "crm.contact.get"}[random.IntN(2)], eventtest.Fail(400, "ERROR_CORE", "broken for now"))
		}
		v := startVictim(t, env)
		wait(v)
		v.kill(t)
		if now := len(programtest.Read(t, out)); now > size {
			grown, size = grown+1, now
		}
	}
	stop()
	require.Greater(t, grown, kills/4, "the processes died before they did anything")
	portal.Heal()
	last := programtest.Start(t, run, env) // -once does not wait for what is parked
	require.Eventually(t, func() bool { return len(portal.OfflineRows()) == 0 }, programtest.Patience, time.Millisecond, "%s", last.Stderr)
	last.Stop(t)
	lines := w.settled(t, out)
	parked := 0
	for _, l := range lines {
		if l["error"] != nil {
			parked++
		}
	}
	require.Positive(t, parked)
	t.Logf("%d changes, %d lines, %d of them errors, %d lives wrote", w.version, len(lines), parked, grown)
}
