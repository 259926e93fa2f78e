package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/programtest"
)

// run1 runs the program to its end.
func run1(t *testing.T, env programtest.Env, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := programtest.Start(t, run, env, args...)
	p.Signals <- syscall.SIGTERM // in case it starts
	code = p.Wait(t)
	return code, p.Stdout.String(), p.Stderr.String()
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env  programtest.Env
		args []string
		code int
		says string
	}{
		"help":                  {nil, []string{"-h"}, 0, "DEVPORTAL_LISTEN"},
		"unknown flag":          {nil, []string{"-what"}, 2, "see -h"},
		"a secret in the wrong": {nil, []string{"-client-secrt=hush-hush"}, 2, "see -h"},
		"a malformed flag":      {nil, []string{"-=hush-hush"}, 2, "see -h"},
		"no number of portals":  {programtest.Env{"DEVPORTAL_PORTALS": "hush-hush"}, nil, 2, "-portals"},
		"too many portals":      {nil, []string{"-portals", "17"}, 2, "1 to 16"},
		"too few ports":         {nil, []string{"-portals", "3", "-listen", "127.0.0.1:65533"}, 2, "not enough ports"},
		"no script":             {nil, []string{"-script", "/does/not/exist"}, 2, "-script cannot be opened"},
		"an argument":           {nil, []string{"start"}, 2, "flags only"},
		"no port":               {nil, []string{"-listen", "127.0.0.1"}, 2, "host:port"},
		"a port by name":        {nil, []string{"-listen", "127.0.0.1:http"}, 2, "host:port"},
		"the last port":         {nil, []string{"-listen", "127.0.0.1:65535"}, 2, "-oauth-listen"},
		"an odd member id":      {programtest.Env{"B24_MEMBER_ID": "me"}, nil, 2, "32 hexadecimal"},
		"half of a credential":  {programtest.Env{"B24_CLIENT_SECRET": "hush-hush"}, nil, 2, "belong together"},
		"handler with fragment": {programtest.Env{"PUBLIC_URL": "http://127.0.0.1:1/#x"}, nil, 2, "-handler"},
		"handler at port 0":     {programtest.Env{"PUBLIC_URL": "http://127.0.0.1:0/"}, nil, 2, "-handler"},
		"a relative page":       {programtest.Env{"PAGE_URL": "/page"}, nil, 2, "-page"},
		"a relative installer":  {programtest.Env{"INSTALL_PAGE_URL": "/install"}, nil, 2, "-install-page"},
		"a relative handler":    {nil, []string{"-handler", "/events"}, 2, "absolute"},
		"an unknown log format": {nil, []string{"-log-format", "xml"}, 2, "text or json"},
		"an impossible address": {nil, []string{"-listen", "192.0.2.1:0"}, 1, "-listen"},
		"started and stopped":   {nil, []string{"-listen", "127.0.0.1:0", "-log-format", "json"}, 0, `"msg":"devportal is ready"`},
		"for all to see":        {nil, []string{"-listen", "0.0.0.0:0"}, 0, "controls the portal"},
		"tokens for all":        {nil, []string{"-listen", "127.0.0.1:0", "-oauth-listen", "0.0.0.0:0"}, 0, "everyone who reaches -oauth-listen"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := run1(t, c.env, c.args...)
			require.Equal(t, c.code, code, stderr)
			require.Contains(t, stderr, c.says)
			require.NotContains(t, stderr, "hush-hush")
			if code != 0 {
				require.Equal(t, 1, strings.Count(stderr, "\n"), "one line")
				require.Empty(t, stdout)
			}
		})
	}
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	addr := taken.Addr().String()
	for _, args := range [][]string{{"-listen", addr, "-oauth-listen", "127.0.0.1:0"}, {"-listen", "127.0.0.1:0", "-oauth-listen", addr}} {
		code, _, stderr := run1(t, nil, args...)
		require.Equal(t, 1, code)
		require.True(t, strings.HasPrefix(stderr, "devportal: "+addr+" is in use"), stderr)
		require.Contains(t, stderr, "-oauth-listen")
	}
}

// closedPipe is an output that fails with EPIPE after some lines.
type closedPipe struct{ lines atomic.Int64 }

func (c *closedPipe) Write(p []byte) (int, error) {
	if c.lines.Add(-1) < 0 {
		return 0, syscall.EPIPE
	}
	return len(p), nil
}

// A devportal that cannot write its output shuts down cleanly and says why.
func TestStopsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string]int64{"from the start": 0, "after the first line": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := &closedPipe{}
			out.lines.Store(lines)
			hook := newSink(t)
			env := programtest.Env{
				"DEVPORTAL_LISTEN": "127.0.0.1:0", "B24_CLIENT_ID": "app.1", "B24_CLIENT_SECRET": "secret",
				"PUBLIC_URL": hook.URL,
			}
			var stderr programtest.Output
			process := env.Program()
			process.Stdout, process.Stderr = out, &stderr
			require.Equal(t, 1, run(t.Context(), process))
			require.Contains(t, stderr.String(), "devportal: writing to stdout: broken pipe\n")
		})
	}
}

// TestInstallAtStart waits for a handler that is started later, installs the application, and
// reports the delivery.
func TestInstallAtStart(t *testing.T) {
	t.Parallel()
	reserved := newSink(t) // for an address at which nothing listens yet
	reserved.Close()
	p := start(t, programtest.Env{
		"B24_CLIENT_ID": "local.at.start", "B24_CLIENT_SECRET": "hush-hush", "PUBLIC_URL": reserved.URL + "/events?key=hush-hush",
		"B24_SCOPE": "crm",
	})
	require.Eventually(t, func() bool { return strings.Contains(p.Stderr.String(), "waiting for the handler") }, patience, pollEvery)
	require.Empty(t, p.state("").Apps)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", strings.TrimPrefix(reserved.URL, "http://"))
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})} //nolint:gosec // for a test
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() {
		require.NoError(t, server.Close())
		<-served
	}()

	require.Eventually(t, func() bool { return len(p.printed("delivery")) == 1 }, patience, pollEvery)
	require.Len(t, p.printed("installed"), 1)
	delivery := p.printed("delivery")[0]
	require.Equal(t, "ONAPPINSTALL", delivery["event"])
	require.Equal(t, reserved.URL+"/events", delivery["handler"], "without what may be a secret")
	require.Equal(t, true, delivery["acknowledged"])
	require.Equal(t, "installed", p.state("").Apps[0].State)
	require.NotContains(t, p.Stdout.String()+p.Stderr.String(), "hush-hush")
}

// TestDrain stops the program while deliveries are queued. It delivers them and exits with 0. After
// a second signal it does not wait and exits with 1.
func TestDrain(t *testing.T) {
	t.Parallel()
	for name, signals := range map[string]int{"patient": 1, "in a hurry": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, nil)
			begun, release := make(chan struct{}, 10), make(chan struct{})
			slow := newSink(t)
			slow.Config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // to notice the end of the connection
				begun <- struct{}{}
				select {
				case <-release:
				case <-r.Context().Done():
				}
			})
			p.post("/api/webhooks", `{"url":"`+slow.URL+`","events":"ONX"}`)
			p.post("/api/raise", `{"event":"ONX","times":3}`)
			<-begun
			require.Equal(t, 2, p.state("").Lanes[0].Waiting)
			for range signals {
				p.Signals <- syscall.SIGTERM
			}
			if signals == 1 {
				close(release)
			}
			code := p.Wait(t)
			if signals == 1 {
				require.Zero(t, code)
				require.Len(t, p.printed("delivery"), 3)
			} else {
				require.Equal(t, 1, code, "something was not delivered")
				require.Contains(t, p.Stderr.String(), "devportal: "+errUndelivered.Error()+"\n")
			}
		})
	}
}
