//go:build unix

package main

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
)

// deals are the IDs of the deals in printed lines, in order.
func deals(t *testing.T, stdout string) []string {
	t.Helper()
	var all []string
	for _, line := range programtest.Lines(t, stdout) {
		entity, ok := line["entity"].(map[string]any)
		require.True(t, ok)
		id, ok := entity["id"].(string)
		require.True(t, ok)
		all = append(all, id)
	}
	return all
}

// TestDurableQueue: what was acknowledged before a crash is printed after it.
func TestDurableQueue(t *testing.T) {
	t.Parallel()
	env := programtest.Env{"QUEUE": "durable", "B24_DATA": t.TempDir()}
	p := startReal(t, programtest.ExecConfig{Env: env.With("HANDLER_DELAY", "1h")})
	const n = 100
	for id := range n {
		require.Equal(t, 200, p.change(t, id+1, ""))
	}
	_, metrics := p.web.get(t, "/metrics")
	require.Contains(t, metrics, "b24events_queue_depth 100\n")
	require.Contains(t, metrics, "b24events_parked 0\n")
	second, _, stderr := programtest.Run(t, run, env.With("B24_APPLICATION_TOKEN", fixedToken, "LISTEN", "127.0.0.1:0"))
	require.Equal(t, 1, second)
	require.Equal(t, 1, strings.Count(stderr, "\n"), "one queue, one receiver: %s", stderr)
	p.Signal(t, syscall.SIGKILL)
	p.Wait(t)

	p = startReal(t, programtest.ExecConfig{Env: env})
	p.Await(t, func() bool { return strings.Count(p.Stdout.String(), "\n") == n })
	got := deals(t, p.Stdout.String())
	for id := range n {
		require.Contains(t, got, strconv.Itoa(id+1))
	}
	_, metrics = p.web.get(t, "/metrics")
	require.Contains(t, metrics, "b24events_recovered_total 100\n")
	p.Signal(t, syscall.SIGTERM)
	require.Zero(t, p.Wait(t))
	require.Zero(t, p.end(t).NotPrinted)
}

// TestDurableQueueKeepsWhatWaits: a receiver that gets a stop signal finishes only the events that
// are being handled.
func TestDurableQueueKeepsWhatWaits(t *testing.T) {
	t.Parallel()
	env := programtest.Env{"QUEUE": "durable", "B24_DATA": t.TempDir(), "WORKERS": "1"}
	p := startReal(t, programtest.ExecConfig{Env: env.With("HANDLER_DELAY", "300ms")})
	for id := range 20 {
		require.Equal(t, 200, p.change(t, id+1, ""))
	}
	p.Signal(t, syscall.SIGTERM)
	require.Zero(t, p.Wait(t))
	before := deals(t, p.Stdout.String())
	require.Less(t, len(before), 10, "it does not print all of the queue before it ends")

	p = startReal(t, programtest.ExecConfig{Env: env})
	p.Await(t, func() bool { return strings.Count(p.Stdout.String(), "\n") == 20-len(before) })
	require.Len(t, append(before, deals(t, p.Stdout.String())...), 20)
	p.Signal(t, syscall.SIGTERM)
	require.Zero(t, p.Wait(t))
}

// TestParked: events whose key is missing are parked, listed, replayed and discarded, while a
// receiver runs.
func TestParked(t *testing.T) {
	t.Parallel()
	for _, e := range engines(t) {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			env := e.env.With("B24_DATA", t.TempDir(), "B24_CLIENT_SECRET", "secret", "B24_APPLICATION_TOKEN", fixedToken)
			t.Cleanup(func() {
				if !t.Failed() {
					dropQueue(t, env)
				}
			})
			withKey := env.With("B24_KEY", strings.Repeat("0123456789abcdef", 4))
			p := startReal(t, programtest.ExecConfig{Env: withKey.With("HANDLER_DELAY", "1h")})
			for id := range 3 {
				require.Equal(t, 200, p.change(t, id+1, ""))
			}
			p.Signal(t, syscall.SIGKILL)
			p.Wait(t)

			command := func(env programtest.Env, want int, args ...string) []map[string]any {
				t.Helper()
				code, stdout, stderr := programtest.Run(t, run, env, append([]string{"parked"}, args...)...)
				require.Equal(t, want, code, stderr)
				require.NotContains(t, stdout+stderr, fixedToken)
				return programtest.Lines(t, stdout)
			}
			p = startReal(t, programtest.ExecConfig{Env: env})
			p.Await(t, func() bool { // it had to wait for the leases of the first
				_, metrics := p.web.get(t, "/metrics")
				return strings.Contains(metrics, "b24events_parked 3\n")
			})
			list := command(env, 0)
			require.Len(t, list, 3)
			require.Equal(t, "ONCRMDEALUPDATE", list[0]["event"])
			require.Contains(t, list[0]["error"], "a key that was not given")
			require.Nil(t, list[0]["delivery"])
			require.NotNil(t, command(withKey, 0, "list")[0]["delivery"], "with the key")

			id, ok := list[0]["id"].(string)
			require.True(t, ok)
			require.Equal(t, []map[string]any{{"discarded": 1.0}}, command(env, 0, "discard", id))
			command(env, 1, "replay", id)
			require.Len(t, command(env, 0, "list"), 2)
			p.Signal(t, syscall.SIGTERM)
			require.Zero(t, p.Wait(t))

			p = startReal(t, programtest.ExecConfig{Env: withKey})
			require.Equal(t, []map[string]any{{"replayed": 2.0}}, command(withKey, 0, "replay", "all"))
			p.Await(t, func() bool { return strings.Count(p.Stdout.String(), "\n") == 2 })
			require.Empty(t, command(withKey, 0, "list"))
			p.Signal(t, syscall.SIGTERM)
			require.Zero(t, p.Wait(t))
		})
	}
}

// TestSharedInstallations: one receiver installs the application, and another knows it.
func TestSharedInstallations(t *testing.T) {
	t.Parallel()
	urls := make(map[string]string)
	for _, e := range engines(t) {
		urls[e.name] = e.env["QUEUE_URL"]
	}
	for name, more := range map[string]programtest.Env{
		"PostgreSQL":       {"QUEUE_URL": urls["postgres"]},
		"NATS and MariaDB": {"QUEUE_URL": urls["nats"], "STORE_URL": "mysql://root@127.0.0.1:3306/test"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answers(t, "127.0.0.1:3306", "start-stop-daemon --start --background --exec /usr/sbin/mariadbd")
			portal, app, env, front := portalWithApp(t, t.TempDir())
			env = env.With("B24_KEY", strings.Repeat("0123456789abcdef", 4), "QUEUE_URL", more["QUEUE_URL"], "STORE_URL", more["STORE_URL"])
			t.Cleanup(func() {
				if !t.Failed() {
					dropQueue(t, env)
				}
			})
			first := start(t, env)
			front.Store(first)
			require.NoError(t, app.Install(t.Context()))
			second := start(t, env.With("B24_DATA", t.TempDir()))
			require.Equal(t, 200, second.post(t, event.OnCrmDealAdd, event.CRMEntity{ID: 7},
				eventtest.WithMember(portal.MemberID()), eventtest.WithToken(app.ApplicationToken())))
			require.Eventually(t, func() bool {
				return strings.Count(first.Stdout.String()+second.Stdout.String(), "\n") == 2
			}, programtest.Patience, 10*time.Millisecond, "the installation and the deal, by either")
			require.NoError(t, app.Uninstall(true))
			require.Eventually(t, func() bool {
				return second.post(t, event.OnCrmDealAdd, event.CRMEntity{ID: 8},
					eventtest.WithMember(portal.MemberID()), eventtest.WithToken(app.ApplicationToken())) == 403
			}, programtest.Patience, 10*time.Millisecond, "the other forgets it, too")
			first.Stop(t)
			second.Stop(t)
			for _, o := range []*programtest.Output{first.Stdout, first.Stderr, second.Stdout, second.Stderr} {
				require.NotContains(t, o.String(), string(app.ApplicationToken()))
				require.NotContains(t, o.String(), string(app.ClientSecret()))
			}
		})
	}
}
