package main

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/doctor"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/programtest"
	"github.com/b24events/b24events/oauth"
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
		"no state":          {absent: true, says: []string{"(B24_DATA)", "no installation of the application is stored", "same user", "has its own oauth.FileStore, name its folder: -installations", "B24_ACCESS_TOKEN"}},
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

// TestInstallations: doctor opens the folder that a program passes to oauth.NewFileStore, as it
// finds it. It writes nothing but renewed tokens, in the form of the old ones.
func TestInstallations(t *testing.T) {
	t.Parallel()
	key, err := hex.DecodeString(rightKey)
	require.NoError(t, err)
	encrypted := []oauth.FileOption{oauth.WithEncryptionKey(key)}
	at := func(path ...string) func(string) string {
		return func(folder string) string { return filepath.Join(append([]string{folder}, path...)...) }
	}
	for name, tc := range map[string]struct {
		opts   []oauth.FileOption // of the application's store
		other  bool               // the store belongs to another application
		change []string           // of the environment, for doctor
		folder func(stored string) string
		says   []string // in the error; none: nothing is found
	}{
		"in clear":          {},
		"encrypted":         {opts: encrypted, change: []string{"B24_KEY", rightKey}},
		"in clear, and key": {change: []string{"B24_KEY", rightKey}},
		"no key":            {opts: encrypted, says: []string{"is encrypted; set B24_KEY"}},
		"wrong key":         {opts: encrypted, change: []string{"B24_KEY", wrongKey}, says: []string{"another key than that in B24_KEY"}},
		"no folder": {
			folder: at("..", "nothing"), says: []string{"does not exist", "passes to oauth.NewFileStore", "relative"},
		},
		"folder above": {folder: at(".."), says: []string{"is not a folder of oauth.NewFileStore", "passes to oauth.NewFileStore"}},
		"empty folder": {folder: at("..", "empty"), says: []string{"is not a folder of oauth.NewFileStore"}},
		"file":         {folder: at("format.json"), says: []string{"is not a folder of oauth.NewFileStore"}},
		"another application": {
			other: true, says: []string{"no installation of the application is stored", "another application", "check B24_CLIENT_ID"},
		},
		"another portal": {
			change: []string{"B24_MEMBER_ID", eventtest.SampleMemberID},
			says:   []string{"no installation of the portal B24_MEMBER_ID is stored", "other portals", "check B24_MEMBER_ID and B24_CLIENT_ID"},
		},
		// The access token of the settings is not used instead, because the flag names the store.
		"another portal, and access token": {
			change: []string{"B24_MEMBER_ID", eventtest.SampleMemberID, "B24_ACCESS_TOKEN", "secret", "B24_CLIENT_ENDPOINT", "https://a.bitrix24.com/rest/"},
			says:   []string{"no installation of the portal B24_MEMBER_ID is stored"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			portal, app, env := programtest.Portal(t)
			root := t.TempDir()
			require.NoError(t, os.Mkdir(filepath.Join(root, "empty"), 0o700))
			folder := filepath.Join(root, "installations")
			id := app.ClientID()
			if tc.other {
				id = "local.other"
			}
			store := keep(t, portal, app, id, folder, tc.opts...)
			url := serve(t, 400)
			bind(t, portal, app, event.Binding{Event: "ONCRMDEALADD", Handler: url})
			named := folder
			if tc.folder != nil {
				named = tc.folder(folder)
			}
			data := filepath.Join(t.TempDir(), "state")
			env = env.With("B24_DATA", data, "EVENTS", "ONCRMDEALADD", "PUBLIC_URL", url, "DOCTOR_INSTALLATIONS", named).With(tc.change...)
			before := tree(t, root)
			portal.ExpireAccessTokens() // so that doctor renews them
			code, stdout, stderr := programtest.Run(t, run, env)
			requireNoSecret(t, env.With("B24_KEY", rightKey), app, stdout, stderr)
			require.Equal(t, before, tree(t, root))
			require.NoDirExists(t, data)
			if tc.says == nil {
				require.Zero(t, code, "%s%s", stdout, stderr)
				require.Contains(t, stdout, "\nnothing found\n")
				// The application reads what doctor has renewed, with the options that it always had.
				in, _, err := store.Load(t.Context(), oauth.Key{ClientID: id, MemberID: portal.MemberID()})
				require.NoError(t, err)
				require.True(t, in.Expires.After(time.Now()), "renewed")
				_, _, err = plain(t, folder).Load(t.Context(), oauth.Key{ClientID: id, MemberID: portal.MemberID()})
				if tc.opts == nil {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, oauth.ErrEncryptionKey, "it stays encrypted")
				}
				return
			}
			require.Equal(t, 2, code, stderr)
			require.Empty(t, stdout)
			require.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
			for _, text := range append(tc.says, filepath.Base(filepath.Clean(named)), "(-installations, DOCTOR_INSTALLATIONS)") {
				require.Contains(t, stderr, text)
			}
		})
	}
}

// keep stores an installation as an application does that has its own store.
func keep(
	t *testing.T, portal *eventtest.Portal, app *eventtest.Application, clientID, folder string, opts ...oauth.FileOption,
) *oauth.FileStore {
	t.Helper()
	store, err := oauth.NewFileStore(folder, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	g, err := app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	_, err = store.Swap(t.Context(), oauth.Key{ClientID: clientID, MemberID: portal.MemberID()}, "", oauth.Installation{
		MemberID: g.MemberID, ClientEndpoint: g.ClientEndpoint, ServerEndpoint: g.ServerEndpoint, AccessToken: g.AccessToken,
		RefreshToken: g.RefreshToken, UserID: g.UserID, ApplicationToken: g.ApplicationToken,
	})
	require.NoError(t, err)
	return store
}

// plain opens a store without a key.
func plain(t *testing.T, folder string) *oauth.FileStore {
	t.Helper()
	store, err := oauth.NewFileStore(folder)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	return store
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
