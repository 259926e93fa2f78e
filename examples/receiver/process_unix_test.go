//go:build unix

package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
)

const fixedToken = "the-token-of-the-tests"

// large is a text of which less than 7 fit into a pipe.
var large = strings.Repeat("x", 10<<10)

// realProcess is a receiver in a process of its own.
type realProcess struct {
	*programtest.Exec

	web *process // its requests
}

func startReal(t *testing.T, c programtest.ExecConfig, env ...string) *realProcess {
	t.Helper()
	c.Env = c.Env.With("LISTEN", "127.0.0.1:0", "LOG_FORMAT", "json", "B24_APPLICATION_TOKEN", fixedToken).With(env...)
	p := &realProcess{Exec: programtest.StartExec(t, c)}
	p.web = &process{Process: &programtest.Process{Stdout: p.Stdout, Stderr: p.Stderr}}
	p.web.ready(t)
	return p
}

// change posts a change of a deal, with so much text in it.
func (p *realProcess) change(t *testing.T, id int, text string) int {
	t.Helper()
	fields := map[string]any{"ID": id}
	if text != "" {
		fields["TEXT"] = text
	}
	return p.web.post(t, event.OnCrmDealUpdate, map[string]any{"FIELDS": fields}, eventtest.WithToken(fixedToken))
}

// end is what the last line of the log says.
type end struct {
	Accepted   int `json:"accepted"`
	Printed    int `json:"printed"`
	NotPrinted int `json:"not_printed"`
}

func (p *realProcess) end(t *testing.T) end {
	t.Helper()
	for line := range strings.Lines(p.Stderr.String()) {
		if strings.Contains(line, "receiver has stopped") {
			var e end
			require.NoError(t, json.Unmarshal([]byte(line), &e))
			return e
		}
	}
	require.Fail(t, "it has not stopped in order", "%s", p.Stderr)
	return end{}
}

// complaints returns the lines on stderr that are not part of the log.
func (p *realProcess) complaints() []string {
	var all []string
	for line := range strings.Lines(p.Stderr.String()) {
		if !strings.HasPrefix(line, "{") {
			all = append(all, strings.TrimSuffix(line, "\n"))
		}
	}
	return all
}

// refuses waits until the receiver takes no more connections.
func (p *realProcess) refuses(t *testing.T) {
	t.Helper()
	p.Await(t, func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.web.url, "http://"))
		if err != nil {
			return true
		}
		return conn.Close() != nil
	})
}

func pipe(t *testing.T) (read, write *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = read.Close()
		_ = write.Close()
	})
	return read, write
}

func TestEndsOnSignals(t *testing.T) {
	t.Parallel()
	programtest.EndsOnSignals(t, 0, func(t *testing.T, c programtest.ExecConfig) *programtest.Exec {
		t.Helper()
		p := startReal(t, c)
		require.Equal(t, 200, p.change(t, 1, ""))
		p.Await(t, func() bool { // closed at the start
			return strings.Contains(t.Name(), "without_stdout") == strings.Contains(p.Stderr.String(), "stdout is the null device")
		})
		return p.Exec
	})
}

// Events that were acknowledged before a signal are printed, no matter which signal it is.
func TestDrainsOnSignals(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			p := startReal(t, programtest.ExecConfig{}, "HANDLER_DELAY", "50ms", "WORKERS", "1")
			for id := range 3 {
				require.Equal(t, 200, p.change(t, id+1, ""))
				p.Signal(t, syscall.SIGPIPE)
			}
			p.Signal(t, s)
			require.Zero(t, p.Wait(t), p.Stderr)
			require.Len(t, programtest.Lines(t, p.Stdout.String()), 3)
			require.Equal(t, end{3, 3, 0}, p.end(t))
			require.Empty(t, p.complaints())
		})
	}
}

// A terminal that is closed while the receiver drains does not hurry it; a second signal to stop
// does.
func TestSignalsDuringADrain(t *testing.T) {
	t.Parallel()
	for name, hurried := range map[string]bool{"hang up": false, "stop": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read, write := pipe(t)
			p := startReal(t, programtest.ExecConfig{Stdout: write}, "WORKERS", "1")
			require.NoError(t, write.Close())
			for id := range 12 {
				require.Equal(t, 200, p.change(t, id+1, large), "the pipe is full, which is no failure")
			}
			p.Signal(t, syscall.SIGTERM)
			p.refuses(t)
			p.Signal(t, syscall.SIGHUP)
			if hurried {
				p.Signal(t, syscall.SIGINT)
				require.Equal(t, 1, p.Wait(t), p.Stderr)
				e := p.end(t)
				require.Equal(t, 12, e.Printed+e.NotPrinted)
				require.Positive(t, e.NotPrinted)
				require.Len(t, p.complaints(), 1)
				require.Regexp(t, `^receiver: \d+ accepted events? (was|were) not printed: webhook: `, p.complaints()[0])
				return
			}
			var text programtest.Output
			_, err := read.WriteTo(&text)
			require.NoError(t, err)
			require.Zero(t, p.Wait(t), p.Stderr)
			require.Len(t, programtest.Lines(t, text.String()), 12)
		})
	}
}

// The reader of the output may go away, as head does. The receiver counts the events that it has
// acknowledged and cannot print.
func TestHead(t *testing.T) {
	t.Parallel()
	read, write := pipe(t)
	p := startReal(t, programtest.ExecConfig{Stdout: write}, "WORKERS", "2")
	require.NoError(t, write.Close())
	for id := range 12 {
		require.Equal(t, 200, p.change(t, id+1, large), "the pipe is full, which is no failure")
	}
	head := exec.CommandContext(t.Context(), "head", "-n1")
	head.Stdin = read
	first, err := head.Output()
	require.NoError(t, err)
	require.Len(t, programtest.Lines(t, string(first)), 1)
	require.NoError(t, read.Close())
	require.Equal(t, 1, p.Wait(t), p.Stderr)
	e := p.end(t)
	require.Equal(t, 12, e.Accepted)
	require.Positive(t, e.Printed)
	require.Positive(t, e.NotPrinted)
	require.Equal(t, 12, e.Printed+e.NotPrinted)
	require.Len(t, p.complaints(), 1)
	require.Regexp(t, `^receiver: \d+ accepted events? (was|were) not printed: writing to stdout: write /dev/stdout: broken pipe$`,
		p.complaints()[0])
	require.Equal(t, 1, strings.Count(p.Stderr.String(), "stdout is gone"))
}

// A reader that stops reading delays everything and loses nothing. After a stop signal, the outcome
// depends on the reader: it continues to read, or it goes away.
func TestReaderThatStopsReading(t *testing.T) {
	t.Parallel()
	const events = 12
	for name, readsOn := range map[string]bool{"reads on": true, "goes away": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read, write := pipe(t)
			p := startReal(t, programtest.ExecConfig{Stdout: write})
			require.NoError(t, write.Close())
			for id := range events {
				require.Equal(t, 200, p.change(t, id+1, large))
			}
			status, _ := p.web.get(t, "/healthz")
			require.Equal(t, 200, status)
			p.Signal(t, syscall.SIGTERM)
			if readsOn {
				var text programtest.Output
				_, err := read.WriteTo(&text)
				require.NoError(t, err)
				require.Len(t, programtest.Lines(t, text.String()), events)
				require.Zero(t, p.Wait(t), p.Stderr)
				return
			}
			require.NoError(t, read.Close())
			require.Equal(t, 1, p.Wait(t), p.Stderr)
			e := p.end(t)
			require.Equal(t, events, e.Printed+e.NotPrinted)
			require.Positive(t, e.NotPrinted)
			require.Len(t, p.complaints(), 1)
		})
	}
}

// While the disk is full, events are refused, and accepted events are kept.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("it has no /dev/full")
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = full.Close() })
	p := startReal(t, programtest.ExecConfig{Stdout: full})
	require.Equal(t, 200, p.change(t, 1, ""))
	p.Await(t, func() bool {
		status, body := p.web.get(t, "/healthz")
		return status == 503 && strings.Contains(body, "no space left on device")
	})
	for range 3 {
		require.Equal(t, 503, p.change(t, 2, ""))
	}
	_, metrics := p.web.get(t, "/metrics")
	for _, want := range []string{"b24events_output_ready 0\n", "b24events_rejected_total{reason=\"output\"} 3\n", "b24events_accepted_total 1\n"} {
		require.Contains(t, metrics, want)
	}
	p.Signal(t, syscall.SIGTERM, syscall.SIGINT)
	require.Equal(t, 1, p.Wait(t), p.Stderr)
	require.Equal(t, end{1, 0, 1}, p.end(t))
	require.Equal(t, []string{"receiver: 1 accepted event was not printed: writing to stdout: write /dev/stdout: no space left on device"},
		p.complaints())
	require.Equal(t, 1, strings.Count(p.Stderr.String(), "stdout cannot be written"), "it is logged once")
}

// With few descriptors, idle connections do not keep events out.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	p := startReal(t, programtest.ExecConfig{Command: []string{"/bin/sh", "-c", `ulimit -n 128; exec "$0"`, os.Args[0]}})
	var transports []*http.Transport
	t.Cleanup(func() {
		for _, transport := range transports {
			transport.CloseIdleConnections()
		}
	})
	for range 200 {
		transport := &http.Transport{}
		transports = append(transports, transport)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.web.url+"/healthz", nil)
		require.NoError(t, err)
		answer, err := transport.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, 200, answer.StatusCode)
	}
	require.Equal(t, 200, p.change(t, 1, ""))
	p.Signal(t, syscall.SIGTERM)
	require.Zero(t, p.Wait(t), p.Stderr)
	require.Len(t, programtest.Lines(t, p.Stdout.String()), 1)
	require.Empty(t, p.complaints())
	require.NotContains(t, p.Stderr.String(), "too many open files")
}
