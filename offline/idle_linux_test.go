package offline_test

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
)

// openFiles returns the files below a folder that this process has open.
func openFiles(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	var names []string
	for _, entry := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil && strings.HasPrefix(target, dir) {
			names = append(names, target)
		}
	}
	return names
}

// A fleet asks each portal all the time, and keeps no file open for those without records.
func TestIdlePortalsHaveNoOpenFiles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 30, eventtest.WithQuirks(func(m *eventtest.Quirks) { m.NoExtendedOffline = true }))
		dir := t.TempDir()
		f := w.fleet(offline.WithSpool(dir))
		w.add(f, w.ids...)
		stop := running(t, f)
		defer stop()
		pass(t, 10*time.Minute)
		require.Empty(t, openFiles(t, dir))
		for i, id := range w.ids {
			w.change(id, i+1)
			f.Wake(id)
		}
		pass(t, time.Minute)
		for i, id := range w.ids {
			require.NotEmpty(t, w.deals(id), i)
		}
		require.Empty(t, openFiles(t, dir))
	})
}
