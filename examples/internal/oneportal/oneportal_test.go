package oneportal_test

import (
	"context"
	"errors"
	"flag"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/programtest"
	"github.com/b24events/b24events/oauth"
)

var own = []oneportal.Setting{
	{Flag: "retries", Env: "RETRIES", Fallback: "5", Usage: "a number"},
	{Flag: "once", Env: "ONCE", Switch: true, Usage: "a switch"},
	{Flag: "events", Env: "EVENTS", Usage: "events"},
}

func parse(env programtest.Env, args ...string) (oneportal.Values, string, error) {
	var help strings.Builder
	v, err := oneportal.Parse("program", "about it", own, args, env.Lookup, &help)
	return v, help.String(), err
}

func TestSettings(t *testing.T) {
	t.Parallel()
	v, _, err := parse(programtest.Env{"RETRIES": "3", "ONCE": "1", "B24_DATA": "", "EVENTS": " a, b ,c"}, "-retries=7", "-data", "/somewhere")
	require.NoError(t, err)
	require.Equal(t, "7", v["retries"], "a flag wins")
	require.True(t, v.On("once"))
	require.False(t, v.On("insecure-http"))
	require.Equal(t, []string{"a", "b", "c"}, v.List("events"))
	data, err := v.Data()
	require.NoError(t, err)
	require.Equal(t, "/somewhere", data)

	v, _, err = parse(programtest.Env{"RETRIES": "", "ONCE": "1"}, "-once=false")
	require.NoError(t, err)
	require.Equal(t, "5", v["retries"], "an empty variable is none")
	require.False(t, v.On("once"))

	_, help, err := parse(nil, "-h")
	require.ErrorIs(t, err, flag.ErrHelp)
	for _, s := range []string{"about it", "-retries", "[RETRIES] (default 5)", "-once", "[B24_REFRESH_TOKEN]", "[LOG_FORMAT]"} {
		require.Contains(t, help, s)
	}

	for name, tc := range map[string]struct {
		env  programtest.Env
		args []string
	}{
		"unknown flag":     {nil, []string{"-nope"}},
		"argument":         {nil, []string{"nope"}},
		"switch":           {programtest.Env{"ONCE": "maybe"}, nil},
		"switch by flag":   {nil, []string{"-once=maybe"}},
		"flag with nought": {nil, []string{"-retries"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := parse(tc.env, tc.args...)
			require.ErrorAs(t, err, new(*oneportal.UsageError))
		})
	}
}

// open opens the portal that an environment describes.
func open(t *testing.T, env programtest.Env) (*oneportal.Portal, error) {
	t.Helper()
	v, _, err := parse(env)
	require.NoError(t, err)
	p, err := oneportal.Open(t.Context(), v, programtest.Silent(), nil)
	if err == nil {
		t.Cleanup(func() { require.NoError(t, p.Close(context.Background())) })
	}
	return p, err
}

func call(p *oneportal.Portal) func(context.Context) error {
	return func(ctx context.Context) error { return p.Client().Call(ctx, "profile", nil, nil) }
}

func TestSeeds(t *testing.T) {
	t.Parallel()
	_, app, env := programtest.Portal(t)
	_, err := open(t, env)
	require.ErrorAs(t, err, new(*oneportal.UsageError), "nothing is known")
	_, err = open(t, env.With("B24_MEMBER_ID", eventtest.SampleMemberID))
	require.ErrorAs(t, err, new(*oneportal.UsageError), "the portal is not known")
	seeded := env.Seeded(t, app)
	_, err = open(t, seeded.With("B24_CLIENT_ENDPOINT", "ftp://x/"))
	require.ErrorIs(t, err, oauth.ErrEndpoint)
	p, err := open(t, seeded)
	require.NoError(t, err)
	require.NoError(t, p.Connect(t.Context(), call(p)))

	// A wrong address can be put right as long as the tokens are the same.
	wrong, err := open(t, seeded.With("B24_CLIENT_ENDPOINT", "http://127.0.0.1:1/rest/"))
	require.NoError(t, err)
	in, err := wrong.Tokens.Installation(t.Context(), wrong.MemberID)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:1", in.Domain())
	p, err = open(t, seeded)
	require.NoError(t, err)
	require.NoError(t, p.Connect(t.Context(), call(p)))

	// Later starts use what is stored, whatever the tokens of the settings have become.
	for _, later := range []programtest.Env{env, seeded, seeded.With("B24_ACCESS_TOKEN", "used up", "B24_REFRESH_TOKEN", "used up")} {
		p, err := open(t, later)
		require.NoError(t, err)
		require.NoError(t, p.Connect(t.Context(), call(p)))
	}

	other := eventtest.SampleMemberID
	_, err = open(t, seeded.With("B24_MEMBER_ID", other))
	require.NoError(t, err)
	_, err = open(t, env)
	require.ErrorContains(t, err, "several portals")
}

// Tokens that are void are replaced by those of the settings, where these are others.
func TestSeedsAgain(t *testing.T) {
	t.Parallel()
	for name, revoke := range map[string]func(*eventtest.Portal){
		"access expired, refresh refused": func(portal *eventtest.Portal) {
			portal.ExpireAccessTokens()
			portal.Once("oauth/token", eventtest.Fail(400, "invalid_grant", ""))
		},
		"access unknown": func(portal *eventtest.Portal) {
			portal.Once("profile", eventtest.Fail(401, "invalid_token", ""))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			portal, app, env := programtest.Portal(t)
			seeded := env.Seeded(t, app)
			p, err := open(t, seeded)
			require.NoError(t, err)
			require.NoError(t, p.Connect(t.Context(), call(p)))
			revoke(portal)
			p, err = open(t, seeded)
			require.NoError(t, err)
			require.Error(t, p.Connect(t.Context(), call(p)), "the settings hold the same tokens")

			fresh := maps.Clone(seeded)
			maps.Copy(fresh, programtest.Seed(t, app))
			revoke(portal)
			delete(fresh, "B24_CLIENT_ENDPOINT") // it is known
			p, err = open(t, fresh)
			require.NoError(t, err)
			require.NoError(t, p.Connect(t.Context(), call(p)))
			p, err = open(t, env)
			require.NoError(t, err)
			require.NoError(t, p.Connect(t.Context(), call(p)), "they are stored")
		})
	}
}

func TestConnectWaitsOutWhatPasses(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t)
	p, err := open(t, env.Seeded(t, app))
	require.NoError(t, err)
	for range 5 { // one more than the client tries by itself
		portal.Once("profile", eventtest.HTML(502))
	}
	require.NoError(t, p.Connect(t.Context(), call(p)))
	portal.Once("profile", eventtest.Fail(403, "ACCESS_DENIED", "Access denied!"))
	require.Error(t, p.Connect(t.Context(), call(p)))

	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	portal.Always("profile", eventtest.HTML(502))
	context.AfterFunc(ctx, func() { portal.Heal("profile") })
	time.AfterFunc(10*time.Millisecond, func() { cancel(cause) })
	err = p.Connect(ctx, call(p))
	require.ErrorIs(t, err, cause)
	require.NoError(t, oneportal.Stopped(ctx, err))
}

func TestRun(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		code int
		text string
	}{
		"success": {nil, 0, ""},
		"help":    {flag.ErrHelp, 0, ""},
		"usage":   {oneportal.Usage("set %s", "X"), 2, "p: set X\n"},
		"failure": {errors.New("broken"), 1, "p: broken\n"},
		"several": {errors.Join(errors.New("broken"), errors.New("twice")), 1, "p: broken; twice\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stderr strings.Builder
			code := oneportal.Run(t.Context(), "p", nil, &stderr, func(context.Context) error { return tc.err })
			require.Equal(t, tc.code, code)
			require.Equal(t, tc.text, stderr.String())
		})
	}
	t.Run("signals", func(t *testing.T) {
		t.Parallel()
		signals := make(chan os.Signal, 2)
		signals <- os.Interrupt
		require.Zero(t, oneportal.Run(t.Context(), "p", signals, io.Discard, func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		}))
		signals <- os.Interrupt
		signals <- os.Interrupt
		release := make(chan struct{})
		defer close(release)
		require.Equal(t, 1, oneportal.Run(t.Context(), "p", signals, io.Discard, func(context.Context) error {
			<-release
			return nil
		}))
	})
}

func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	f, err := oneportal.Lock(path, os.O_RDWR)
	require.NoError(t, err)
	_, err = oneportal.Lock(path, os.O_RDWR)
	require.ErrorIs(t, err, oneportal.ErrInUse)
	require.NoError(t, oneportal.Unlock(f))
	f, err = oneportal.Lock(path, os.O_RDWR)
	require.NoError(t, err)
	require.NoError(t, oneportal.Unlock(f))
	f, err = oneportal.Lock(os.DevNull, os.O_RDWR)
	require.NoError(t, err, "a device is nobody's")
	require.NoError(t, oneportal.Unlock(f))
}
