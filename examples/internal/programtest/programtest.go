// Package programtest runs the example programs inside a test, against a portal of package
// eventtest.
package programtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/program"
)

// Patience is how long something may take on a busy machine.
const Patience = 2 * time.Minute

// Env holds the environment variables of a program.
type Env map[string]string

// With returns a copy with more in it: names and values in turn.
func (e Env) With(pairs ...string) Env {
	more := Env{}
	maps.Copy(more, e)
	for i := 0; i+1 < len(pairs); i += 2 {
		more[pairs[i]] = pairs[i+1]
	}
	return more
}

// Lookup is os.LookupEnv.
func (e Env) Lookup(name string) (string, bool) {
	v, ok := e[name]
	return v, ok
}

// Program returns what a program gets from its process: these variables and args. It prints nothing
// and gets no signals; set the other fields if it should.
func (e Env) Program(args ...string) program.Env {
	return program.Env{Args: args, Getenv: e.Lookup, Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard}
}

// Strings returns the variables in the form that package os/exec takes.
func (e Env) Strings() []string {
	var all []string
	for name, value := range e {
		all = append(all, name+"="+value)
	}
	return all
}

// Portal starts a portal with an installed application. It returns the variables of a program for
// both, without the tokens; see [Seed].
func Portal(tb testing.TB, opts ...eventtest.Option) (*eventtest.Portal, *eventtest.Application, Env) {
	tb.Helper()
	portal := eventtest.NewPortal(tb, opts...)
	app, err := portal.AddApp(eventtest.App{Scope: []string{"crm", "task"}})
	if err == nil {
		err = app.Install(context.Background())
	}
	if err != nil {
		tb.Fatal(err)
	}
	return portal, app, Env{
		"B24_CLIENT_ID": app.ClientID(), "B24_CLIENT_SECRET": string(app.ClientSecret()), "B24_OAUTH_HOSTS": portal.OAuthHost(),
		"B24_INSECURE_HTTP": "1", "B24_DATA": tb.TempDir(), "POLL": "100ms",
	}
}

// Seed returns the variables with fresh tokens of the administrator.
func Seed(tb testing.TB, app *eventtest.Application) Env {
	tb.Helper()
	g, err := app.Grant(eventtest.AdminID)
	if err != nil {
		tb.Fatal(err)
	}
	return Env{
		"B24_MEMBER_ID": g.MemberID, "B24_CLIENT_ENDPOINT": g.ClientEndpoint, "B24_SERVER_ENDPOINT": g.ServerEndpoint,
		"B24_ACCESS_TOKEN": string(g.AccessToken), "B24_REFRESH_TOKEN": string(g.RefreshToken),
	}
}

// Seeded joins the environment with the variables of [Seed].
func (e Env) Seeded(tb testing.TB, app *eventtest.Application) Env {
	tb.Helper()
	more := e.With()
	maps.Copy(more, Seed(tb, app))
	return more
}

// Output collects what is written, safe for concurrent use.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends to the output.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// String returns what was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Lines decodes a text of JSON objects, one a line. The text must end with a line break.
func Lines(tb testing.TB, text string) []map[string]any {
	tb.Helper()
	if text != "" && !strings.HasSuffix(text, "\n") {
		tb.Fatal("the last line is not whole")
	}
	var all []map[string]any
	s := bufio.NewScanner(strings.NewReader(text))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var object map[string]any
		if err := json.Unmarshal(s.Bytes(), &object); err != nil {
			tb.Fatalf("line %d is no JSON object: %v: %.200s", len(all)+1, err, s.Text())
		}
		all = append(all, object)
	}
	return all
}

// Process is a program that runs inside the test.
type Process struct {
	Signals        chan os.Signal
	Stdout, Stderr *Output

	exited chan int
}

// Start starts a program. It is stopped at the end of the test if it still runs.
func Start(tb testing.TB, run program.Func, env Env, args ...string) *Process {
	tb.Helper()
	p := &Process{Signals: make(chan os.Signal, 2), Stdout: &Output{}, Stderr: &Output{}, exited: make(chan int, 1)}
	process := env.Program(args...)
	process.Stdout, process.Stderr, process.Signals = p.Stdout, p.Stderr, p.Signals
	go func() { p.exited <- run(context.Background(), process) }()
	tb.Cleanup(func() {
		if p.exited != nil {
			p.Stop(tb)
		}
	})
	return p
}

// Stop sends SIGTERM and expects the exit code 0.
func (p *Process) Stop(tb testing.TB) {
	tb.Helper()
	p.Signals <- syscall.SIGTERM
	if code := p.Wait(tb); code != 0 {
		tb.Errorf("exit code %d: %s", code, p.Stderr)
	}
}

// Wait returns the exit code.
func (p *Process) Wait(tb testing.TB) int {
	tb.Helper()
	defer func() { p.exited = nil }()
	select {
	case code := <-p.exited:
		return code
	case <-time.After(2 * Patience):
		tb.Fatalf("it does not end: %s", p.Stderr)
		return 0
	}
}

// Run runs a program to its end and returns the exit code.
func Run(tb testing.TB, run program.Func, env Env, args ...string) (code int, stdout, stderr string) {
	tb.Helper()
	p := Start(tb, run, env, args...)
	code = p.Wait(tb)
	return code, p.Stdout.String(), p.Stderr.String()
}

// Silent is a logger that logs nothing.
func Silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Read returns what a file holds.
func Read(tb testing.TB, path string) string {
	tb.Helper()
	text, err := os.ReadFile(path) //nolint:gosec // the test names the file
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}
