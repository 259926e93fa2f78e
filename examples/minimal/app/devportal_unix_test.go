//go:build unix

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/programtest"
)

// startPasted starts the program as somebody does who pastes settings into a shell, in a folder of
// its own. listen is its LISTEN.
func startPasted(t *testing.T, settings, listen string) *programtest.Exec {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	e := programtest.StartExec(t, programtest.ExecConfig{
		Command: []string{"/bin/sh", "-c", settings + "cd \"$1\" && exec \"$0\"\n", self, t.TempDir()},
		Env:     programtest.Env{"PATH": os.Getenv("PATH"), "LISTEN": listen},
	})
	e.Await(t, func() bool {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", listen)
		return err == nil && c.Close() == nil
	})
	return e
}

// TestDevportal starts the program with the settings that devportal has for it, installs it there,
// and lets it handle an event.
func TestDevportal(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds a program, which takes seconds")
	}
	portal := programtest.StartDevportal(t)
	for name, pages := range map[string]bool{"with pages": true, "without pages": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := freeAddr(t)
			app := "local." + strings.ReplaceAll(name, " ", ".")
			form := map[string]any{"client_id": app, "client_secret": "it's a secret", "scope": "crm", "handler": "http://" + addr + "/bitrix24/events"}
			if pages {
				form["install_page"], form["in_browser"] = "http://"+addr+"/bitrix24/install", true
			}
			portal.Post(t, "/api/apps", form, nil)
			var copied struct{ Settings string }
			portal.Post(t, "/api/apps/"+app+"/settings", struct{}{}, &copied)
			require.Contains(t, copied.Settings, "export PUBLIC_URL='"+fmt.Sprint(form["handler"])+"'\n")
			e := startPasted(t, copied.Settings, addr)

			if pages {
				require.Contains(t, openPage(t, portal, app), `<script src="`+portal.Page()+`/api/v1/"></script>`)
				portal.Post(t, "/api/apps/"+app+"/finish", struct{}{}, nil)
			} else {
				// What failed because the program was not running yet is sent again.
				portal.Post(t, "/api/wait", map[string]any{"timeout": "1m"}, nil)
				portal.Post(t, "/api/deliveries/resend", map[string]any{"failed": true, "q": "ONAPPINSTALL"}, nil)
			}
			await(t, "the program binds its events", func() bool {
				var state struct {
					Apps []struct {
						ID, State string
						Bound     int
					}
				}
				portal.Get(t, "/api/state", &state)
				for _, a := range state.Apps {
					if a.ID == app {
						return a.State == "installed" && a.Bound >= 3
					}
				}
				return false
			})
			title := "for " + name
			portal.Post(t, "/api/objects", map[string]any{
				"kind": "deal", "action": "add", "fields": map[string]any{"TITLE": title, "OPPORTUNITY": 12.5},
			}, nil)
			e.AwaitLog(t, `"title":"`+title+`","amount":12.5`)
			e.Signal(t, syscall.SIGTERM)
			require.Zero(t, e.Wait(t), e.Stderr)
			require.NotContains(t, e.Stderr.String(), `"level":"ERROR"`)
		})
	}
}

// openPage opens the page of an application as a browser does, and returns what the browser gets.
func openPage(t *testing.T, portal *programtest.Devportal, app string) string {
	t.Helper()
	var form struct {
		Action string
		Fields [][2]string
	}
	portal.Post(t, "/api/apps/"+app+"/frame", struct{}{}, &form)
	fields := make(url.Values)
	for _, f := range form.Fields {
		fields.Add(f[0], f[1])
	}
	response, err := (&http.Client{Timeout: programtest.Patience}).PostForm(form.Action, fields) //nolint:noctx // it has a timeout
	require.NoError(t, err)
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Contains(t, response.Header.Get("Content-Security-Policy"), "script-src "+portal.Page()+" ")
	return string(text)
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, programtest.Patience, 10*time.Millisecond, what)
}

// TestStoreIsNotMadeForNothing: without settings the program ends before it makes anything.
func TestStoreIsNotMadeForNothing(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	e := programtest.StartExec(t, programtest.ExecConfig{Command: []string{"/bin/sh", "-c", `cd "$1" && exec "$0"`, self, dir}})
	require.Equal(t, 2, e.Wait(t))
	require.NoDirExists(t, filepath.Join(dir, "installations"))
}
