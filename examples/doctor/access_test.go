package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/doctor"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/programtest"
)

var (
	rightKey = strings.Repeat("0123456789abcdef", 4)
	wrongKey = strings.Repeat("fedcba9876543210", 4)
)

// TestFinds: doctor finds the installation of the application, or names the folder that it looked
// in and what to do. It never makes a folder.
func TestFinds(t *testing.T) {
	t.Parallel()
	other := func(t *testing.T, env programtest.Env) {
		t.Helper()
		stored(t, env.With("B24_CLIENT_ID", "local.other", "B24_CLIENT_SECRET", "secret"))
	}
	for name, tc := range map[string]struct {
		key     string // of the application
		absent  bool   // the application has stored nothing
		prepare func(t *testing.T, env programtest.Env)
		change  []string // of the environment, for doctor
		says    []string // in the error; none: nothing is found
	}{
		"in clear":          {},
		"encrypted":         {key: rightKey, change: []string{"B24_KEY", rightKey}},
		"in clear, and key": {change: []string{"B24_KEY", rightKey}},
		"no key":            {key: rightKey, says: []string{"(B24_DATA)", "is encrypted; set B24_KEY", "64 hexadecimal digits"}},
		"wrong key":         {key: rightKey, change: []string{"B24_KEY", wrongKey}, says: []string{"(B24_DATA)", "another key than that in B24_KEY"}},
		"no state":          {absent: true, says: []string{"(B24_DATA)", "no installation of the application is stored", "same user", "B24_ACCESS_TOKEN"}},
		"another application": {
			absent: true, prepare: other, says: []string{"(B24_DATA)", "other applications (app-local.other)", "check B24_CLIENT_ID"},
		},
		"another portal": {
			change: []string{"B24_MEMBER_ID", eventtest.SampleMemberID}, says: []string{"(B24_DATA)", "no installation of the portal B24_MEMBER_ID"},
		},
		"several portals": {
			prepare: func(t *testing.T, env programtest.Env) {
				t.Helper()
				stored(t, env.With("B24_MEMBER_ID", eventtest.SampleMemberID))
			},
			says: []string{"(B24_DATA)", "several portals", "set B24_MEMBER_ID to one of them", eventtest.SampleMemberID},
		},
		"damaged": {
			prepare: func(t *testing.T, env programtest.Env) {
				t.Helper()
				files, err := filepath.Glob(filepath.Join(env["B24_DATA"], "app-*", "installations", "*", "*", "*.json"))
				require.NoError(t, err)
				require.Len(t, files, 1)
				require.NoError(t, os.WriteFile(files[0], []byte("{"), 0o600))
			},
			says: []string{"(B24_DATA) cannot be used"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			portal, app, env := programtest.Portal(t)
			seeded := env.Seeded(t, app).With("B24_DATA", filepath.Join(t.TempDir(), "state"), "B24_KEY", tc.key)
			if tc.prepare != nil && tc.absent {
				tc.prepare(t, seeded)
			}
			if !tc.absent {
				stored(t, seeded)
			}
			if tc.prepare != nil && !tc.absent {
				tc.prepare(t, seeded)
			}
			url := serve(t, 400)
			bind(t, portal, app, event.Binding{Event: "ONCRMDEALADD", Handler: url})
			env = env.With("B24_DATA", seeded["B24_DATA"], "EVENTS", "ONCRMDEALADD", "PUBLIC_URL", url).With(tc.change...)
			before := tree(t, env["B24_DATA"])
			portal.ExpireAccessTokens() // so that doctor renews them
			code, stdout, stderr := programtest.Run(t, run, env)
			requireNoSecret(t, env.With("B24_KEY", rightKey), app, stdout, stderr)
			require.NotContains(t, stdout+stderr, wrongKey)
			require.Equal(t, before, tree(t, env["B24_DATA"]))
			if tc.says == nil {
				require.Zero(t, code, "%s%s", stdout, stderr)
				require.Contains(t, stdout, "\nnothing found\n")
				// The application reads what doctor has renewed.
				_, err := openAs(t, seeded)
				require.NoError(t, err)
				return
			}
			require.NotZero(t, code)
			require.Empty(t, stdout)
			require.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
			for _, text := range append(tc.says, filepath.Base(env["B24_DATA"])) {
				require.Contains(t, stderr, text)
			}
		})
	}
}

// openAs opens the store as the application does, and calls the portal.
func openAs(t *testing.T, env programtest.Env) (*oneportal.Portal, error) {
	t.Helper()
	v, err := oneportal.Parse("application", "", nil, env.Program())
	require.NoError(t, err)
	p, err := oneportal.Open(t.Context(), v, programtest.Silent(), nil)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { assert.NoError(t, p.Close(context.WithoutCancel(t.Context()))) })
	return p, p.Client().Call(t.Context(), "profile", nil, nil)
}

// tree returns the paths of the folders and installations below a folder.
func tree(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && !strings.HasPrefix(d.Name(), "lock.") {
			all = append(all, path)
		}
		return nil
	})
	return all
}

// TestAccessToken: with an access token only, doctor stores nothing and spends no refresh token,
// even if the environment has one.
func TestAccessToken(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t)
	seeded := env.Seeded(t, app).With("B24_DATA", filepath.Join(t.TempDir(), "state"))
	url := serve(t, 400)
	bind(t, portal, app, event.Binding{Event: "ONCRMDEALADD", Handler: url})
	args := []string{"-events=ONCRMDEALADD", "-handler=" + url}
	code, stdout, stderr := programtest.Run(t, run, seeded, append(args, "-log-format=json")...)
	require.Zero(t, code, "%s%s", stdout, stderr)
	require.Contains(t, stdout, "\nnothing found\n")
	require.Len(t, programtest.Lines(t, stderr), 1)
	require.Contains(t, stderr, "no installation is stored")
	requireNoSecret(t, seeded, app, stdout, stderr)

	portal.ExpireAccessTokens()
	code, stdout, stderr = programtest.Run(t, run, seeded, append(args, "-json")...)
	require.Equal(t, 1, code)
	require.Contains(t, stdout, string(doctor.TokenExpired))
	requireNoSecret(t, seeded, app, stdout, stderr)
	require.NoDirExists(t, seeded["B24_DATA"])

	_, err := openAs(t, seeded)
	require.NoError(t, err, "the application can still use the refresh token")
}

// TestBesideTheApplication: doctor and the application renew the same tokens, again and again.
// Neither voids those of the other.
func TestBesideTheApplication(t *testing.T) {
	t.Parallel()
	portal, app, env := programtest.Portal(t)
	seeded := env.Seeded(t, app)
	env = stored(t, seeded)
	url := serve(t, 400)
	bind(t, portal, app, event.Binding{Event: "ONCRMDEALADD", Handler: url})
	env = env.With("EVENTS", "ONCRMDEALADD", "PUBLIC_URL", url)
	application, err := openAs(t, seeded)
	require.NoError(t, err)
	for range 5 {
		portal.ExpireAccessTokens()
		var both errgroup.Group
		for range 2 {
			both.Go(func() error {
				code, stdout, stderr := programtest.Run(t, run, env)
				assert.Zero(t, code, "%s%s", stdout, stderr)
				assert.Contains(t, stdout, "\nnothing found\n")
				return nil
			})
		}
		both.Go(func() error { return application.Client().Call(t.Context(), "profile", nil, nil) })
		require.NoError(t, both.Wait())
	}
}
