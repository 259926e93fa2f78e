package offline

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func spoolRow(n string) json.RawMessage {
	return json.RawMessage(`{"ID": ` + n + `, "EVENT_NAME":"ONCRMDEALUPDATE", "EVENT_DATA":{"FIELDS":{"ID":` + n + `}},` + "\n" + `"MESSAGE_ID":"m` + n + `"}`)
}

// ours is the identity of the spools in these tests.
var ours = identity{clientID: "app.1", memberID: "m"}

func open(t *testing.T, dir string) *spool {
	t.Helper()
	s, err := openSpool(t.Context(), dir, ours, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(s.close)
	return s
}

// numbers returns the numbers of the records of a spool that are in a state.
func numbers(t *testing.T, s *spool, state rowState) []int64 {
	t.Helper()
	var list []int64
	for _, p := range s.packets {
		records, err := s.load(p, state)
		require.NoError(t, err)
		for _, r := range records {
			require.NoError(t, r.Err)
			list = append(list, r.ID)
		}
	}
	return list
}

// left makes a spool of two packets, with one record done and one parked, and returns its folder.
func leftSpool(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s, err := openSpool(t.Context(), dir, ours, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer s.close()
	p, err := s.add([]json.RawMessage{spoolRow("1"), spoolRow("2"), spoolRow("3")}, false)
	require.NoError(t, err)
	_, err = s.add([]json.RawMessage{spoolRow("4")}, false)
	require.NoError(t, err)
	s.mark(&spot{p, 0}, rowDone)
	require.NoError(t, s.flush())
	s.mark(&spot{p, 1}, rowParked)
	require.NoError(t, s.flush())
	return dir
}

func TestSpoolRemembers(t *testing.T) {
	t.Parallel()
	dir := leftSpool(t)
	s := open(t, dir)
	require.Equal(t, 3, s.open)
	require.Zero(t, s.damaged)
	require.Equal(t, []int64{3, 4}, numbers(t, s, rowPending))
	require.Equal(t, []int64{2}, numbers(t, s, rowParked))
	for _, at := range append(s.states(rowPending), s.states(rowParked)...) {
		s.mark(at, rowDone)
		s.mark(at, rowParked) // too late
	}
	require.NoError(t, s.flush())
	require.Zero(t, s.open)
	require.Empty(t, s.packets)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "the lock and the owner")
}

func TestSpoolOfAProcessThatDied(t *testing.T) {
	t.Parallel()
	const packet, marks = "0000000000000001.packet", "0000000000000001.marks"
	whole := encodePacket([]json.RawMessage{spoolRow("7"), spoolRow("8")}, false)
	tests := []struct {
		name          string
		spoil         func(t *testing.T, path func(name string) string)
		pending       []int64
		parked        []int64
		damaged, keep int // files put aside
	}{
		{name: "nothing", spoil: func(*testing.T, func(string) string) {}, pending: []int64{3, 4}, parked: []int64{2}},
		{name: "a packet whole but for its name", pending: []int64{3, 4, 7, 8}, parked: []int64{2}, spoil: func(t *testing.T, path func(string) string) {
			t.Helper()
			write(t, path("0000000000000003.new"), whole)
		}},
		{name: "a packet just begun", pending: []int64{3, 4}, parked: []int64{2}, spoil: func(t *testing.T, path func(string) string) {
			t.Helper()
			write(t, path("0000000000000003.new"), nil)
		}},
		{
			name: "half a packet", pending: []int64{3, 4, 7}, parked: []int64{2}, damaged: 1,
			spoil: func(t *testing.T, path func(string) string) {
				t.Helper()
				write(t, path("0000000000000003.new"), whole[:len(whole)-20])
			},
		},
		{
			name: "noise under the name of a packet", pending: []int64{3, 4}, parked: []int64{2}, damaged: 1,
			spoil: func(t *testing.T, path func(string) string) {
				t.Helper()
				write(t, path("0000000000000009.packet"), []byte("\x00\xff\n\n8a8a8a8a {}\n"))
			},
		},
		{
			name: "a flipped bit", pending: []int64{4}, parked: []int64{2}, damaged: 1,
			spoil: func(t *testing.T, path func(string) string) {
				t.Helper()
				doc, err := os.ReadFile(path(packet))
				require.NoError(t, err)
				doc[bytes.LastIndexByte(doc, 'm')]++ // in row 3
				write(t, path(packet), doc)
			},
		},
		{
			name: "a head that is gone", pending: []int64{3, 4}, parked: []int64{2}, damaged: 1,
			spoil: func(t *testing.T, path func(string) string) {
				t.Helper()
				doc, err := os.ReadFile(path(packet))
				require.NoError(t, err)
				write(t, path(packet), doc[bytes.IndexByte(doc, '\n')+1:])
			},
		},
		{name: "torn marks", pending: []int64{2, 3, 4}, spoil: func(t *testing.T, path func(string) string) {
			t.Helper()
			require.NoError(t, os.Truncate(path(marks), int64(len("d 0;\np 1"))))
		}},
		{name: "no marks", pending: []int64{1, 2, 3, 4}, spoil: func(t *testing.T, path func(string) string) {
			t.Helper()
			require.NoError(t, os.Remove(path(marks)))
		}},
		{name: "marks of rows that are not there", pending: []int64{3, 4}, parked: []int64{2}, spoil: func(t *testing.T, path func(string) string) {
			t.Helper()
			doc, err := os.ReadFile(path(marks))
			require.NoError(t, err)
			write(t, path(marks), append(doc, "d 99;\nd -1;\nx 2;\nd 2\nd ;\n\n"...))
		}},
		{name: "marks without a packet", pending: []int64{4}, spoil: func(t *testing.T, path func(string) string) {
			t.Helper()
			require.NoError(t, os.Remove(path(packet)))
		}},
		{name: "files of somebody else", pending: []int64{3, 4}, parked: []int64{2}, spoil: func(t *testing.T, path func(string) string) {
			t.Helper()
			for _, name := range []string{"README", "1.packet", "-000000000000001.packet", "0000000000000001.packet.bak", "x.new"} {
				write(t, path(name), []byte("mine"))
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := leftSpool(t)
			tt.spoil(t, func(name string) string { return filepath.Join(dir, name) })
			s, err := openSpool(t.Context(), dir, ours, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			require.Equal(t, tt.pending, numbers(t, s, rowPending))
			require.Equal(t, tt.parked, numbers(t, s, rowParked))
			require.Equal(t, len(tt.pending)+len(tt.parked), s.open)
			require.Equal(t, tt.damaged, s.damaged)
			aside, err := filepath.Glob(filepath.Join(dir, "*"+damagedSuffix))
			require.NoError(t, err)
			require.Len(t, aside, tt.damaged)
			s.mark(s.states(rowPending)[0], rowDone)
			require.NoError(t, s.flush())
			s.close()

			again := open(t, dir)
			require.Equal(t, tt.pending[1:], append([]int64{}, numbers(t, again, rowPending)...), "it is whole now, and goes on from there")
			require.Equal(t, tt.parked, numbers(t, again, rowParked))
			require.Zero(t, again.damaged, "said once")
		})
	}
}

func write(t *testing.T, path string, doc []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, doc, spoolPerm)) //nolint:gosec // a path of the test
}

// What was written whole holds records that exist nowhere else: to write it once more, over itself, would lose them where that fails.
func TestSpoolDoesNotWriteOverWhatIsWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty, err := openSpool(t.Context(), dir, ours, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	empty.close()
	written := filepath.Join(dir, "0000000000000003.new")
	write(t, written, encodePacket([]json.RawMessage{spoolRow("7")}, false))
	long := time.Unix(1_000_000_000, 0)
	require.NoError(t, os.Chtimes(written, long, long))
	s := open(t, dir)
	require.Equal(t, []int64{7}, numbers(t, s, rowPending))
	info, err := os.Stat(filepath.Join(dir, "0000000000000003.packet"))
	require.NoError(t, err)
	require.True(t, long.Equal(info.ModTime()), "it was renamed")
	require.NoFileExists(t, written)
}

func TestSpoolFolderThatCannotBeRead(t *testing.T) {
	t.Parallel()
	dir := leftSpool(t)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "0000000000000005.packet"), 0o700))
	_, err := openSpool(t.Context(), dir, ours, slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, ErrSpool)
	require.ErrorContains(t, err, "0000000000000005.packet is not a regular file")
	require.NoError(t, os.Remove(filepath.Join(dir, "0000000000000005.packet")))
	open(t, dir) // the lock was given back
}

func TestSpoolNumbersGoOn(t *testing.T) {
	t.Parallel()
	dir := leftSpool(t)
	s := open(t, dir)
	p, err := s.add([]json.RawMessage{spoolRow("5")}, false)
	require.NoError(t, err)
	require.EqualValues(t, 3, p.number)
}

func TestNamesOfQueues(t *testing.T) {
	t.Parallel()
	id := identity{clientID: "local.5f0a1b2c3d4e5f.12345678", memberID: "a223c6b3710f85df22e9377d6c4f7553"}
	require.Equal(t, "local.5f0a1b2c3d4e5f.12345678_a223c6b3710f85df22e9377d6c4f7553", id.folder())
	require.Equal(t, "offline/consumer/local.5f0a1b2c3d4e5f.12345678/a223c6b3710f85df22e9377d6c4f7553/", id.leaseName())
	require.Equal(t, "offline/fleet/local.5f0a1b2c3d4e5f.12345678//", id.fleetPrefix())

	seen := make(map[string]identity)
	unique := func(id identity, names ...string) {
		for _, name := range names {
			other, taken := seen[name]
			require.False(t, taken, "%+v and %+v are both called %q", id, other, name)
			seen[name] = id
		}
	}
	odd := []string{
		"portal", "..", ".", "../../etc", "a/b", "a%2Fb", "a_b", "A", "a", strings.Repeat("a", 65), "a-b", "a\x00", "consumer", "fleet", "x",
		"x-" + digest(".."), "nul", "a b", "\u00e4",
	}
	for _, client := range odd {
		for _, member := range odd {
			for _, connector := range []string{"", "erp", "ERP", "../x", "a/b"} {
				id := identity{clientID: client, memberID: member, connector: connector}
				unique(id, id.folder(), id.leaseName())
				require.Regexp(t, `^[a-z0-9][a-z0-9.-]{0,63}_[a-z0-9][a-z0-9.-]{0,63}(_[a-f0-9]{32})?$`, id.folder())
				require.Regexp(t, `^[!-~]+$`, id.leaseName())
				require.NotEqual(t, id.oldFolder(), id.folder())
			}
		}
		for _, connector := range []string{"", "erp", "ERP", "../x", "a/b"} {
			id := identity{clientID: client, connector: connector}
			unique(id, id.fleetPrefix())
			require.Regexp(t, `^[!-~]+$`, id.fleetPrefix())
		}
	}
	for prefix := range seen {
		if !strings.HasPrefix(prefix, "offline/fleet/") {
			continue
		}
		for name := range seen {
			require.False(t, name != prefix && strings.HasPrefix(name, prefix), "%q is among the leases of %q", name, prefix)
		}
	}
}

// Whatever is cut off or flipped: what is read was written, and a packet is called whole only where it is.
func TestPacketsThatWereSpoiled(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // repeatable
	rows := []json.RawMessage{spoolRow("1"), spoolRow("22"), spoolRow("333")}
	good := encodePacket(rows, false)
	lines, whole := decodePacket(good)
	require.True(t, whole)
	require.Len(t, lines.rows, 3)
	for range 5000 {
		doc := bytes.Clone(good)
		switch random.IntN(3) {
		case 0:
			doc = doc[:random.IntN(len(doc))]
		case 1:
			doc[random.IntN(len(doc))] ^= byte(1 << random.IntN(8))
		case 2:
			at := random.IntN(len(doc))
			doc = append(doc[:at], doc[min(len(doc), at+1+random.IntN(40)):]...)
		}
		got, whole := decodePacket(doc)
		require.Equal(t, bytes.Equal(doc, good), whole)
		for _, r := range got.rows {
			require.Contains(t, lines.rows, r)
		}
	}
}
