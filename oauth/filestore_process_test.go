package oauth_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
)

// Tests of several processes start this test binary again, with a job in the environment.
const (
	processEnv = "OAUTH_TEST_PROCESS"
	processes  = 8
)

// job is the work of one process.
type job struct {
	Work         string `json:"work"` // count, write, renew, prepare or descriptors
	Dir          string `json:"dir"`
	Times        int    `json:"times"`
	Encrypted    bool   `json:"encrypted"`
	OAuthHost    string `json:"oauth_host"` // this and the following to renew
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

func (j job) store(tb testing.TB) *oauth.FileStore {
	tb.Helper()
	if j.Encrypted {
		return fileStore(tb, j.Dir, oauth.WithEncryptionKey(encryptionKey(1)))
	}
	return fileStore(tb, j.Dir)
}

// TestProcess does the job of a process that another test has started.
func TestProcess(t *testing.T) {
	t.Parallel()
	text := os.Getenv(processEnv)
	if text == "" {
		t.Skip("for the tests that start it")
	}
	var j job
	require.NoError(t, json.Unmarshal([]byte(text), &j))
	switch j.Work {
	case "count":
		countJob(t, j)
	case "write":
		writeJob(t, j)
	case "renew":
		renewJob(t, j)
	case "prepare":
		prepareJob(t, j)
	case "descriptors":
		descriptorsJob(t, j)
	default:
		t.Fatalf("unknown work %q", j.Work)
	}
}

// process is a process that runs TestProcess.
type process struct {
	*exec.Cmd

	in  io.Writer
	out *bufio.Reader
	err *strings.Builder
}

// start starts a process and waits until it is ready.
func start(tb testing.TB, j job) *process {
	tb.Helper()
	text, err := json.Marshal(j) //nolint:gosec // a secret of a fake portal
	require.NoError(tb, err)
	self, err := os.Executable()
	require.NoError(tb, err)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	cmd := exec.CommandContext(ctx, self, "-test.run=^TestProcess$", "-test.timeout=2m") //nolint:gosec // this very program
	p := &process{Cmd: cmd, err: &strings.Builder{}}
	p.Env = append(os.Environ(), processEnv+"="+string(text))
	p.Stderr = p.err
	in, err := p.StdinPipe()
	require.NoError(tb, err)
	out, err := p.StdoutPipe()
	require.NoError(tb, err)
	p.in, p.out = in, bufio.NewReader(out)
	require.NoError(tb, p.Start())
	tb.Cleanup(func() {
		cancel()
		_ = p.Wait()
	})
	require.Equal(tb, "ready", p.line(tb))
	return p
}

// say writes a line to the process.
func (p *process) say(tb testing.TB, line string) {
	tb.Helper()
	_, err := io.WriteString(p.in, line+"\n")
	require.NoError(tb, err)
}

// line reads a line from the process.
func (p *process) line(tb testing.TB) string {
	tb.Helper()
	line, err := p.out.ReadString('\n')
	require.NoError(tb, err, "the process said %q, and %q", line, p.err)
	return strings.TrimSuffix(line, "\n")
}

// report writes a line to the process that started this one.
func report(t *testing.T, args ...any) {
	t.Helper()
	_, err := fmt.Fprintln(os.Stdout, args...)
	require.NoError(t, err)
}

// order waits for the next line of the process that started this one. ok is false if there are no
// more lines.
func order(in *bufio.Scanner) (line string, ok bool) {
	ok = in.Scan()
	return in.Text(), ok
}

// countJob adds to a counter by compare-and-swap, in two goroutines, and reports the conflicts.
func countJob(t *testing.T, j job) {
	t.Helper()
	s := j.store(t)
	report(t, "ready")
	if _, ok := order(bufio.NewScanner(os.Stdin)); !ok {
		return
	}
	var (
		wg        sync.WaitGroup
		mu        sync.Mutex
		conflicts int
	)
	for range 2 {
		wg.Go(func() {
			for done := 0; done < j.Times; {
				in, version, err := s.Load(t.Context(), fileKey)
				if errors.Is(err, oauth.ErrNotFound) {
					err = nil
				}
				if err == nil {
					in.UserID++
					in.AccessToken = event.Secret(fmt.Sprint("token ", in.UserID))
					_, err = s.Swap(t.Context(), fileKey, version, in)
				}
				switch {
				case err == nil:
					done++
				case errors.Is(err, oauth.ErrConflict):
					mu.Lock()
					conflicts++
					mu.Unlock()
				default:
					t.Errorf("unexpected error: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	report(t, conflicts)
}

func TestFileStoreProcessesLoseNoUpdate(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprint("encrypted ", encrypted), func(t *testing.T) {
			t.Parallel()
			j := job{Work: "count", Dir: t.TempDir(), Times: 15, Encrypted: encrypted}
			var list []*process
			for range processes {
				list = append(list, start(t, j))
			}
			for _, p := range list {
				p.say(t, "go")
			}
			conflicts := 0
			for _, p := range list {
				n, err := strconv.Atoi(p.line(t))
				require.NoError(t, err)
				require.Equal(t, "PASS", p.line(t))
				conflicts += n
			}
			in, _, err := j.store(t).Load(t.Context(), fileKey)
			require.NoError(t, err)
			require.Equal(t, int64(processes*2*j.Times), in.UserID)
			require.Equal(t, fmt.Sprint("token ", in.UserID), string(in.AccessToken))
			require.Positive(t, conflicts, "they did not get in each other's way, so nothing was tested")
			require.Len(t, names(t, j.Dir), 1)
		})
	}
}

// numbered returns an installation whose parts all have the number n, so that a mix of two is
// noticed. It is large, so that writing takes a while.
func numbered(n int64) oauth.Installation {
	text := fmt.Sprint("token ", n, " ")
	return oauth.Installation{UserID: n, AccessToken: event.Secret(strings.Repeat(text, 8<<10)), RefreshToken: event.Secret(text)}
}

// writeJob writes numbered installations until it is killed. It reports each.
func writeJob(t *testing.T, j job) {
	t.Helper()
	s := j.store(t)
	in, version, err := s.Load(t.Context(), fileKey)
	if !errors.Is(err, oauth.ErrNotFound) {
		require.NoError(t, err)
	}
	report(t, "ready")
	for n := in.UserID + 1; ; n++ {
		version, err = s.Swap(t.Context(), fileKey, version, numbered(n))
		require.NoError(t, err)
		report(t, n)
	}
}

// TestFileStoreSurvivesKilledWriters kills writers at random moments. The last write that they
// reported is there, or the one after it. The next writer does not have to wait.
func TestFileStoreSurvivesKilledWriters(t *testing.T) {
	t.Parallel()
	rounds := 30
	if testing.Short() {
		rounds = 5
	}
	j := job{Work: "write", Dir: t.TempDir()}
	last, leftovers, seen := int64(0), 0, int64(0)
	for round := range rounds {
		p := start(t, j)
		killed := make(chan error, 1)
		working := make(chan struct{}) // closed when the moment of the kill may come
		var once sync.Once
		if round%3 != 0 { // every third finishes its first write, so that a slow machine tests something too
			once.Do(func() { close(working) })
		}
		go func() {
			<-working
			<-time.After(time.Duration(rand.Int64N(int64(20 * time.Millisecond)))) //nolint:gosec // no secret
			killed <- p.Process.Kill()
		}()
		for { // the pipe ends with the process
			line, err := p.out.ReadString('\n')
			if err != nil {
				break
			}
			last, err = strconv.ParseInt(strings.TrimSuffix(line, "\n"), 10, 64)
			require.NoError(t, err)
			once.Do(func() { close(working) })
		}
		once.Do(func() { close(working) })
		require.NoError(t, <-killed)
		require.Error(t, p.Wait())

		for _, name := range names(t, j.Dir) {
			if strings.HasSuffix(name, ".tmp") {
				leftovers++
			}
		}
		s := j.store(t)
		in, version, err := s.Load(t.Context(), fileKey)
		if last == 0 && errors.Is(err, oauth.ErrNotFound) {
			continue
		}
		require.NoError(t, err)
		require.Contains(t, []int64{last, last + 1}, in.UserID)
		require.Equal(t, numbered(in.UserID), in)
		for _, name := range names(t, j.Dir) {
			require.NotContains(t, name, ".tmp")
		}

		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		last = in.UserID + 1
		_, err = s.Swap(ctx, fileKey, version, numbered(last))
		cancel()
		require.NoError(t, err)
		seen = last
	}
	require.Positive(t, seen, "nothing was written")
	t.Logf("%d writes, %d of %d kills left a temporary file", seen, leftovers, rounds)
}
