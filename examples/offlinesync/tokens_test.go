package main

import (
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
	"github.com/b24events/b24events/oauth"
)

// No matter when a first start is killed, the next one has tokens: those that were stored, or still
// those of the settings.
func TestKilledWhileSeeding(t *testing.T) {
	t.Parallel()
	_, app, env := programtest.Portal(t)
	t.Logf("-crash.seed=%d", *crashSeed)
	random := rand.New(rand.NewPCG(*crashSeed, 3)) //nolint:gosec // repeatable
	for range 8 {
		env := env.With("B24_DATA", t.TempDir()).Seeded(t, app)
		v := startVictim(t, env)
		v.lives(time.Duration(random.IntN(40)) * time.Millisecond)
		v.kill(t)
		_, _ = once(t, env)
	}
}

// A process that dies before the OAuth server has renewed its tokens keeps them, and no change is
// lost.
func TestKilledWhileRenewing(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t)
	out := filepath.Join(t.TempDir(), "out.jsonl")
	env = env.With("OUT", out, "EVENTS", worldEvents)
	random := rand.New(rand.NewPCG(*crashSeed, 4)) //nolint:gosec // repeatable
	_, _ = once(t, env.Seeded(t, app))
	w := newWorld(portal, *crashSeed, 10)
	for range 3 {
		require.NoError(t, w.step())
		portal.ExpireAccessTokens()
		wait := beforeCall("oauth/token", 1)(portal, random, out)
		v := startVictim(t, env)
		wait(v)
		v.kill(t)
		_, _ = once(t, env)
	}
	w.settled(t, out)
}

// If the response to a renewal is lost, the pair of tokens is lost too. The program says so once
// that is certain, which takes minutes. Then it needs only new tokens in the settings, and no
// change is lost.
func TestRenewalWhoseResponseIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := eventtest.NewNetwork()
		portal, app, env := programtest.Portal(t, eventtest.WithNetwork(network))
		out := filepath.Join(t.TempDir(), "out.jsonl")
		env = env.With("OUT", out, "EVENTS", worldEvents, "ONCE", "1")
		once := func(env programtest.Env) error {
			cfg, err := configure(env.Program())
			require.NoError(t, err)
			cfg.client = network.Client()
			return work(t.Context(), cfg, io.Discard)
		}
		require.NoError(t, once(env.Seeded(t, app)))
		w := newWorld(portal, *crashSeed, 10)
		require.NoError(t, w.step())
		portal.ExpireAccessTokens()
		portal.Once("oauth/token", eventtest.LoseAnswer())
		start := time.Now()
		require.ErrorIs(t, once(env), oauth.ErrReauthorize)
		require.Less(t, time.Since(start), patience)
		require.NoError(t, once(env.Seeded(t, app)))
		w.settled(t, out)
	})
}

// What cannot be written stays in the queue.
func TestOutIsFull(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it waits for a program that gives up")
	}
	const full = "/dev/full"
	f, err := openJournal(t.Context(), full, nil, programtest.Silent())
	if err != nil {
		t.Skip("there is no " + full + " here")
	}
	require.NoError(t, f.close())
	portal, app, env := programtest.Portal(t)
	env = env.Seeded(t, app)
	_, _ = once(t, env)
	for range 3 {
		_, err := portal.Add(eventtest.Deal, nil, eventtest.AdminID)
		require.NoError(t, err)
	}
	code, _, stderr := programtest.Run(t, run, env.With("OUT", full, "RETRIES", "0"))
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "offlinesync: OUT: ")
	require.Len(t, portal.OfflineRows(), 3)
	for _, r := range portal.OfflineRows() {
		require.False(t, r.Error, "no record is to blame")
	}
	lines, _ := once(t, env)
	require.Len(t, lines, 3)
	require.Empty(t, portal.OfflineRows())
}
