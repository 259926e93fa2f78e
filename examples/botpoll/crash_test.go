package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
)

var crashSeed = flag.Uint64("crash.seed", 1, "of the choices that the crash test makes; its timing is real")

// waitStep is how often a test looks.
const waitStep = 2 * time.Millisecond

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

// kill is kill -9. It fails the test if the process had ended by itself.
func (v *victim) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, v.cmd.Process.Kill())
	<-v.ended
	killed := -1
	if runtime.GOOS == "windows" { // a killed process ends with this code, as a failed one does
		killed = 1
		require.NotContains(t, "\n"+v.stderr.String(), "\nbotpoll: ", "it failed")
	}
	require.Equal(t, killed, v.cmd.ProcessState.ExitCode(), "it ended by itself: %s", v.stderr)
}

// lives waits until the time is over, something comes, or the process ends. The time begins when
// the program is ready, since how long a start takes depends on the machine.
func (v *victim) lives(d time.Duration, until func() bool) {
	tick := time.NewTicker(waitStep)
	defer tick.Stop()
	var began time.Time
	for started := time.Now(); !until() && time.Since(started) < programtest.Patience; {
		if began.IsZero() && strings.Contains(v.stderr.String(), "botpoll is ready") {
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

// The process is killed many times while a user writes to the bot. Every message must reach the
// file, and nothing may stay in the portal's log.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it kills processes")
	}
	kills := 24
	if runtime.GOOS == "windows" { // a process starts slowly
		kills = 6
	}
	p, app, env := portal(t)
	out := filepath.Join(t.TempDir(), "out.jsonl")
	env = env.With("OUT", out)
	_ = once(t, env) // registers the bot
	id := bot(t, app)
	t.Logf("-crash.seed=%d", *crashSeed)
	random := rand.New(rand.NewPCG(*crashSeed, 3)) //nolint:gosec // repeatable
	size := func() int64 {
		info, err := os.Stat(out)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	never := func() bool { return false }
	const get = "imbot.v2.event.get"
	said, grown, last := 0, 0, size()
	for range kills {
		for range random.IntN(40) {
			say(t, p, id, fmt.Sprintf("message %d.", said))
			said++
		}
		var until func() bool
		wait := time.Duration(random.IntN(300)) * time.Millisecond
		switch random.IntN(4) {
		case 0: // at any time
			until = never
		case 1: // in the middle of the lines
			least := last + int64(random.IntN(8000))
			until, wait = func() bool { return size() > least }, time.Second
		case 2: // before a request, which acknowledges
			var called atomic.Bool
			p.Once(get, eventtest.Answer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				called.Store(true)
				<-r.Context().Done() // the caller has died
				panic(http.ErrAbortHandler)
			})))
			until, wait = called.Load, 5*time.Second
		default: // after one, whose response is lost
			before := p.CallCount(get)
			p.Once(get, eventtest.LoseAnswer())
			until, wait = func() bool { return p.CallCount(get) > before }, 5*time.Second
		}
		v := startVictim(t, env)
		v.lives(wait, until)
		v.kill(t)
		p.Heal()
		if now := size(); now > last {
			grown, last = grown+1, now
		}
	}
	require.Greater(t, grown, kills/6, "the processes died before they did anything")
	code, _, stderr := programtest.Run(t, run, env, "-once")
	require.Zero(t, code, stderr)
	require.Empty(t, p.LoggedEvents())
	seen, lines := map[string]bool{}, 0
	s := bufio.NewScanner(strings.NewReader(programtest.Read(t, out)))
	for s.Scan() {
		var l map[string]any
		if json.Unmarshal(s.Bytes(), &l) != nil {
			continue // a kill cut it short
		}
		require.Nil(t, l["error"])
		seen[text(l)] = true
		lines++
	}
	for n := range said {
		require.True(t, seen[fmt.Sprintf("message %d.", n)], "message %d of %d was lost", n, said)
	}
	t.Logf("%d messages, %d lines, %d lives wrote", said, lines, grown)
}
