package oneportal_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/examples/internal/programtest"
	"github.com/b24events/b24events/oauth"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	own := []program.Setting{{Flag: "events", Env: "EVENTS", Usage: "events"}}
	var help strings.Builder
	env := programtest.Env{}.Program("-h")
	env.Stderr = &help
	_, err := oneportal.Parse("program", "about it", own, env)
	require.ErrorIs(t, err, flag.ErrHelp)
	for _, variable := range []string{"[EVENTS]", "[B24_CLIENT_ID]", "[B24_REFRESH_TOKEN]", "[LOG_FORMAT]"} {
		require.Contains(t, help.String(), variable)
	}

	for name, tc := range map[string]struct {
		events   string
		bindings []event.Binding
	}{
		"two": {
			"ONCRMDEALADD, onTaskAdd",
			[]event.Binding{{Event: "ONCRMDEALADD", Offline: true, Connector: "c"}, {Event: "ONTASKADD", Offline: true, Connector: "c"}},
		},
		"none":        {" , ", nil},
		"online only": {"ONCRMDEALADD,ONOFFLINEEVENT", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bindings, err := oneportal.OfflineBindings(program.Values{"events": tc.events}, "c")
			require.Equal(t, tc.bindings, bindings)
			if tc.bindings == nil {
				require.ErrorAs(t, err, new(*program.UsageError))
			}
		})
	}
}

// open opens the portal that an environment describes.
func open(t *testing.T, env programtest.Env) (*oneportal.Portal, error) {
	t.Helper()
	return openThrough(t, env, nil)
}

// openThrough is open with a client for HTTP.
func openThrough(t *testing.T, env programtest.Env, client *http.Client) (*oneportal.Portal, error) {
	t.Helper()
	v, err := oneportal.Parse("program", "", nil, env.Program())
	require.NoError(t, err)
	p, err := oneportal.Open(t.Context(), v, programtest.Silent(), client)
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
	require.ErrorAs(t, err, new(*program.UsageError), "nothing is known")
	_, err = open(t, env.With("B24_MEMBER_ID", eventtest.SampleMemberID))
	require.ErrorAs(t, err, new(*program.UsageError), "the portal is not known")
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

	// Later starts use the stored tokens, even if those of the settings have changed.
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

// Installations are encrypted with the key of the settings. Without it, the error says what to set.
func TestEncrypts(t *testing.T) {
	t.Parallel()
	_, app, env := programtest.Portal(t)
	seeded := env.Seeded(t, app).With("B24_KEY", strings.Repeat("0123456789abcdef", 4))
	p, err := open(t, seeded)
	require.NoError(t, err)
	require.NoError(t, p.Connect(t.Context(), call(p)))
	_, err = open(t, env)
	require.ErrorIs(t, err, oauth.ErrEncryptionKey)
	var stderr strings.Builder
	require.Equal(t, 1, oneportal.Run(t.Context(), "p", program.Env{Stderr: &stderr}, func(context.Context) error { return err }))
	require.Contains(t, stderr.String(), "set B24_KEY")
	_, err = open(t, env.With("B24_KEY", "short"))
	require.ErrorAs(t, err, new(*program.UsageError))
}

// Void tokens are replaced with those of the settings, if they differ.
func TestSeedsAgain(t *testing.T) {
	t.Parallel()
	for name, revoke := range map[string]func(*eventtest.Portal){
		"access expired, refresh refused": func(portal *eventtest.Portal) {
			portal.ExpireAccessTokens()
			portal.Always("oauth/token", eventtest.Fail(400, "invalid_grant", "")) // for minutes, until it is final
		},
		"access unknown": func(portal *eventtest.Portal) {
			portal.Once("profile", eventtest.Fail(401, "invalid_token", ""))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				network := eventtest.NewNetwork()
				portal, app, env := programtest.Portal(t, eventtest.WithNetwork(network))
				open := func(env programtest.Env) *oneportal.Portal {
					p, err := openThrough(t, env, network.Client())
					require.NoError(t, err)
					return p
				}
				seeded := env.Seeded(t, app)
				p := open(seeded)
				require.NoError(t, p.Connect(t.Context(), call(p)))
				revoke(portal)
				p = open(seeded)
				require.Error(t, p.Connect(t.Context(), call(p)), "the settings hold the same tokens")

				portal.Heal("oauth/token")
				fresh := maps.Clone(seeded)
				revoke(portal)
				began := time.Now()
				maps.Copy(fresh, programtest.Seed(t, app))
				delete(fresh, "B24_CLIENT_ENDPOINT") // it is known
				p = open(fresh)
				require.NoError(t, p.Connect(t.Context(), call(p)))
				require.Less(t, time.Since(began), time.Minute, "new tokens need not wait until the refusal is final")
				portal.Heal("oauth/token")
				p = open(env)
				require.NoError(t, p.Connect(t.Context(), call(p)), "they are stored")
			})
		})
	}
}

// Folders of queues record their owner, so a folder that was moved to another place is refused.
func TestQueueDirs(t *testing.T) {
	t.Parallel()
	_, app, env := programtest.Portal(t)
	seeded := env.Seeded(t, app)
	p, err := open(t, seeded)
	require.NoError(t, err)
	seen := make(map[string]bool)
	for _, connector := range []string{"", "default", "..", "a/b", "a%2Fb", "erp", "ERP"} {
		dir, release, err := p.QueueDir(connector)
		require.NoError(t, err, connector)
		require.False(t, seen[dir], connector)
		seen[dir] = true
		require.Equal(t, filepath.Join(p.Data, "queues", "portal-"+p.MemberID), filepath.Dir(dir), connector)
		_, _, err = p.QueueDir(connector)
		require.ErrorIs(t, err, oneportal.ErrInUse)
		release()
		_, release, err = p.QueueDir(connector)
		require.NoError(t, err)
		release()
	}

	queues := filepath.Join(p.Data, "queues", "portal-"+p.MemberID)
	require.NoError(t, os.RemoveAll(filepath.Join(queues, "connector-erp")))
	require.NoError(t, os.Rename(filepath.Join(queues, "connector-ERP"), filepath.Join(queues, "connector-erp")))
	_, _, err = p.QueueDir("erp")
	require.ErrorAs(t, err, new(*program.UsageError))
	require.ErrorContains(t, err, `connector "ERP"`)

	other, err := open(t, seeded.With("B24_MEMBER_ID", eventtest.SampleMemberID))
	require.NoError(t, err)
	require.NoError(t, os.Rename(queues, filepath.Join(p.Data, "queues", "portal-"+other.MemberID)))
	_, _, err = other.QueueDir("")
	require.ErrorAs(t, err, new(*program.UsageError))
	require.ErrorContains(t, err, p.MemberID)
}

func TestMemberIDsThatAreNone(t *testing.T) {
	t.Parallel()
	_, app, env := programtest.Portal(t)
	seeded := env.Seeded(t, app)
	for _, id := range []string{".", "..", "../x", "a/b", "a\\b", "a b", strings.Repeat("a", 129)} {
		_, err := open(t, seeded.With("B24_MEMBER_ID", id))
		require.ErrorAs(t, err, new(*program.UsageError), id)
		require.ErrorContains(t, err, "B24_MEMBER_ID", id)
	}
}

func TestConnectWaitsOutWhatPasses(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
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
	require.NoError(t, program.Stopped(ctx, err))
}

// The log and the last words say what failed.
func TestNamesWhatFailed(t *testing.T) {
	t.Parallel()
	store := &oauth.Error{Op: "load", Kind: oauth.ErrStore, Err: errors.New("disk error")}
	for name, tc := range map[string]struct {
		err  error
		says string
	}{
		"portal":          {errors.New("connection reset"), "the portal failed"},
		"store":           {fmt.Errorf("rest: %w", store), "the store of the tokens in B24_DATA failed"},
		"files of store":  {&oauth.Error{Op: "load", Kind: oauth.ErrStore, Err: syscall.EMFILE}, "may not open more files"},
		"files of system": {fmt.Errorf("dial: %w", syscall.ENFILE), "may not open more files"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log programtest.Output
				p := &oneportal.Portal{Log: slog.New(slog.NewTextHandler(&log, nil))}
				failed := false
				require.NoError(t, p.Connect(t.Context(), func(context.Context) error {
					if failed {
						return nil
					}
					failed = true
					return tc.err
				}))
				require.Contains(t, log.String(), tc.says)
				require.Equal(t, 1, strings.Count(log.String(), "\n"))
			})
		})
	}
	var stderr strings.Builder
	require.Equal(t, 1,
		oneportal.Run(t.Context(), "p", program.Env{Stderr: &stderr}, func(context.Context) error { return syscall.EMFILE }))
	require.Contains(t, stderr.String(), "ulimit -n")
}

func TestRun(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		signals, code int
		err           error
		stderr        string
	}{
		"one signal": {signals: 1},
		"two signals": {
			signals: 2, code: 1,
			stderr: "p: stopped at once; what was not finished stays in the portal's queue for the next start\n",
		},
		"failure": {err: errors.New("broken"), code: 1, stderr: "p: broken\n"},
		"failure and cure": {
			err: fmt.Errorf("x: %w", oauth.ErrHostNotAllowed), code: 1,
			stderr: "; add the host to B24_OAUTH_HOSTS if it is yours\n",
		},
		"void tokens": {
			err: fmt.Errorf("x: %w", oauth.ErrReauthorize), code: 1,
			stderr: "; put a new pair of tokens into B24_ACCESS_TOKEN and B24_REFRESH_TOKEN and start again: they replace the void ones\n",
		},
		"usage and cure": {
			err: &program.UsageError{Err: oauth.ErrEndpoint}, code: 2,
			stderr: "; for a portal on this machine set B24_INSECURE_HTTP=1\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			signals := make(chan os.Signal, 2)
			for range tc.signals {
				signals <- os.Interrupt
			}
			release := make(chan struct{})
			defer close(release)
			var stderr strings.Builder
			code := oneportal.Run(t.Context(), "p", program.Env{Signals: signals, Stderr: &stderr}, func(ctx context.Context) error {
				switch tc.signals {
				case 1:
					<-ctx.Done()
				case 2:
					<-release
				}
				return tc.err
			})
			require.Equal(t, tc.code, code)
			require.Regexp(t, "^(p: .*)?"+regexp.QuoteMeta(tc.stderr)+"$", stderr.String())
		})
	}
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
