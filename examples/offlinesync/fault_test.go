package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/programtest"
	"github.com/b24events/b24events/internal/longtest"
	"github.com/b24events/b24events/oauth"
)

// supervisor starts the program again when it ends with an error, as service managers do. Where the
// tokens are void, somebody puts new ones into the settings.
type supervisor struct {
	app     *eventtest.Application
	env     programtest.Env
	network *eventtest.Network
	stderr  programtest.Output
	starts  int
	seeds   int
	errs    []error
}

// run returns when ctx has ended and the program has stopped.
func (s *supervisor) run(ctx context.Context, t *testing.T) {
	t.Helper()
	for ctx.Err() == nil {
		s.starts++
		process := s.env.Program("-log-format=json")
		process.Stderr = &s.stderr
		cfg, err := configure(process)
		if err == nil {
			cfg.client = s.network.Client()
			err = work(ctx, cfg, io.Discard)
		}
		if err != nil {
			s.errs = append(s.errs, err)
		}
		if errors.Is(err, oauth.ErrReauthorize) || oneportal.Code(err) == "INVALID_TOKEN" {
			s.env = s.env.Seeded(t, s.app)
			s.seeds++
		}
		pause(ctx, 10*time.Second)
	}
}

// pause waits on the clock of the bubble.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Everything goes wrong that the platform is known for while objects change: nothing is lost.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1, 2, 3}[:longtest.Times(1, 3)] {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { survive(t, seed) })
		})
	}
}

func survive(t *testing.T, seed uint64) {
	t.Helper()
	const span = time.Hour
	network := eventtest.NewNetwork()
	portal, app, env := programtest.Portal(t, eventtest.WithNetwork(network), eventtest.WithRateLimit(2, 50))
	out := filepath.Join(t.TempDir(), "out.jsonl")
	s := &supervisor{
		network: network, app: app,
		env: env.Seeded(t, app).With("OUT", out, "EVENTS", worldEvents, "POLL", "30s", "RETRIES", "2"),
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.run(ctx, t)
	}()
	defer func() {
		stop()
		<-ended
	}()
	random := rand.New(rand.NewPCG(seed, 5)) //nolint:gosec // repeatable
	w := newWorld(portal, seed, 60)
	for len(portal.Bindings()) == 0 { // changes before the bindings are not in the queue
		pause(t.Context(), time.Second)
	}
	rest := w.turn(t, 5*time.Second)
	time.AfterFunc(span/2, app.RevokeTokens)
	badThenBroken := func(faults []eventtest.Fault) {
		for range 10 {
			pause(t.Context(), time.Duration(random.IntN(20))*time.Second)
			misfortune(portal, random, faults)
		}
		portal.Heal()
		pause(t.Context(), time.Duration(random.IntN(10))*time.Minute)
		portal.Always("crm.deal.get", eventtest.Fail(400, "ERROR_CORE", "SQL query error!"))
		pause(t.Context(), 5*time.Minute) // longer than a record is retried
		portal.Heal()
	}
	for began := time.Now(); time.Since(began) < span; {
		badThenBroken(append(refusals(), losses()...))
	}
	// From now on the portal deletes records on reading. Only an answer that got lost would be a loss.
	require.NoError(t, portal.ChangeQuirks(func(m *eventtest.Quirks) { m.NoExtendedOffline = true }))
	for range 2 {
		badThenBroken(refusals())
	}
	rest()
	// What is parked is tried again each ten minutes.
	for began := time.Now(); time.Since(began) < time.Hour && len(portal.OfflineRows())+len(w.unseen(t, out)) > 0; {
		pause(t.Context(), time.Minute)
	}
	stop()
	<-ended
	lines := w.settled(t, out)
	failed := 0
	for _, l := range lines {
		if l["error"] != nil {
			failed++
		}
	}
	require.Positive(t, failed, "no record was given up for a time")
	t.Logf("%d changes, %d lines, %d of them errors, %d starts, %d seeds, %d requests: %v", w.version, len(lines), failed, s.starts,
		s.seeds, portal.Requests().REST, s.errs)
	require.GreaterOrEqual(t, s.seeds, 1)
	require.Less(t, portal.Requests().REST, 4*int(span/time.Second)/2, "it hammers at the portal")
	require.NotContains(t, s.stderr.String(), string(app.ClientSecret()))
}

// refusals are faults by which a method does not run.
func refusals() []eventtest.Fault {
	return []eventtest.Fault{
		eventtest.Fail(503, "QUERY_LIMIT_EXCEEDED", "Too many requests"),
		eventtest.Fail(429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit."),
		eventtest.Fail(500, "INTERNAL_SERVER_ERROR", "Internal server error"),
		eventtest.Fail(400, "ERROR_CORE", "SQL query error!"),
		eventtest.Fail(401, "CONNECTION_ERROR", "Error connecting to authorization server"),
		eventtest.HTML(503), eventtest.HTML(429), eventtest.HTML(502), eventtest.HTML(200), eventtest.Reset(), eventtest.ExpiredToken(),
		eventtest.Delay(5 * time.Second),
	}
}

// losses are faults by which a method may run and its answer does not arrive.
func losses() []eventtest.Fault {
	return []eventtest.Fault{eventtest.LoseAnswer(), eventtest.CutAnswer(), eventtest.Delay(2 * time.Minute)}
}

// misfortune lets something go wrong.
func misfortune(portal *eventtest.Portal, random *rand.Rand, faults []eventtest.Fault) {
	methods := []string{
		eventtest.AnyMethod, "batch", "event.offline.get", "event.offline.list", "event.offline.clear", "crm.contact.get", "oauth/token",
	}
	switch random.IntN(10) {
	case 0:
		portal.ExpireAccessTokens()
	case 1: // more often than the client tries by itself
		portal.Times(6, methods[random.IntN(len(methods))], faults[random.IntN(3)])
	default:
		portal.Once(methods[random.IntN(len(methods))], faults[random.IntN(len(faults))])
	}
}

// A portal that does not answer ends -once, before the first call and in the middle of the work;
// what was not done is done by the next one.
func TestOnceDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	for name, silent := range map[string]func(*eventtest.Portal){
		"at the start": func(portal *eventtest.Portal) { portal.Always(eventtest.AnyMethod, eventtest.HTML(502)) },
		"at work": func(portal *eventtest.Portal) {
			portal.Always("event.offline.get", eventtest.Fail(500, "INTERNAL_SERVER_ERROR", ""))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				network := eventtest.NewNetwork()
				portal, app, env := programtest.Portal(t, eventtest.WithNetwork(network))
				out := filepath.Join(t.TempDir(), "out")
				env = env.Seeded(t, app).With("OUT", out, "ONCE", "1")
				once := func() error {
					cfg, err := configure(env.Program())
					require.NoError(t, err)
					cfg.client = network.Client()
					return work(t.Context(), cfg, io.Discard)
				}
				require.NoError(t, once(), "binds")
				_, err := portal.Add(eventtest.Deal, nil, eventtest.AdminID)
				require.NoError(t, err)
				silent(portal)
				start := time.Now()
				require.ErrorIs(t, once(), errNoAnswer)
				require.InDelta(t, patience.Minutes(), time.Since(start).Minutes(), 2)
				portal.Heal()
				require.NoError(t, once())
				require.Len(t, programtest.Lines(t, programtest.Read(t, out)), 1)
				require.Empty(t, portal.OfflineRows())
			})
		})
	}
}

// TestFrontEndRefusesTwice: two pages of a front end that asks to come later, in the place of any
// answer, cost one run seconds and nothing else. Without a Retry-After a client waits one second,
// then two.
func TestFrontEndRefusesTwice(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		method string
		fresh  bool // the events are bound in the run that meets the pages
	}{
		"bindings are read": {method: "event.get", fresh: true},
		"events are bound":  {method: "batch", fresh: true},
		"records are taken": {method: "batch"},
		"object is fetched": {method: "crm.deal.get"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				network := eventtest.NewNetwork()
				portal, app, env := programtest.Portal(t, eventtest.WithNetwork(network))
				env = env.Seeded(t, app).With("OUT", filepath.Join(t.TempDir(), "out.jsonl"), "EVENTS", "ONCRMDEALADD")
				var refused atomic.Int32
				if !tt.fresh {
					runOnce(t, network, env)
					_, err := portal.Add(eventtest.Deal, map[string]any{"TITLE": "one"}, eventtest.AdminID)
					require.NoError(t, err)
				}
				page := eventtest.Answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					refused.Add(1)
					w.Header().Set("Content-Type", "text/html")
					w.WriteHeader(http.StatusTooManyRequests)
					_, _ = io.WriteString(w, "<html><title>429 Too Many Requests</title></html>")
				}))
				portal.Times(2, tt.method, page)
				start := time.Now()
				runOnce(t, network, env)
				require.Less(t, time.Since(start), 5*time.Second)
				require.Empty(t, portal.OfflineRows())
				require.EqualValues(t, 2, refused.Load())
				require.Len(t, portal.Bindings(), 1)
			})
		})
	}
}

// runOnce runs the program until the queue is empty.
func runOnce(t *testing.T, network *eventtest.Network, env programtest.Env) {
	t.Helper()
	var stderr programtest.Output
	process := env.Program("-once", "-log-format=json")
	process.Stderr = &stderr
	cfg, err := configure(process)
	require.NoError(t, err)
	cfg.client = network.Client()
	require.NoError(t, work(t.Context(), cfg, io.Discard), stderr.String())
}
