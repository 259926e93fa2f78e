package sqlitestore

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
	"github.com/ncruces/go-sqlite3/vfs"
	"github.com/stretchr/testify/require"
)

// ncruces is an engine with the other driver: the same statements, by another build of SQLite.
func ncruces(t *testing.T, uri string) engine {
	t.Helper()
	connector, err := (&driver.SQLite{}).OpenConnector(uri)
	require.NoError(t, err)
	return engine{connector, func(err error) int {
		code, _ := errors.AsType[sqlite3.ExtendedErrorCode](err)
		return int(code)
	}}
}

// fakeDisk is a file system in memory that remembers which writes were not synced, so that a test
// can see what a loss of power leaves of it. Its files can also fail and hang.
type fakeDisk struct {
	name string // of the VFS
	dir  string // for the index of the log, which is memory that connections share

	mu    sync.Mutex
	files map[string]*diskFile
	fault func(op, file string) error // may be nil; called with mu held

	ops     int // writes, truncations and syncs so far
	crashAt int // the one at which the power fails; 0 for none
	image   map[string][]byte
	crashed chan struct{}
	onCrash func()
	random  *rand.Rand

	hang atomic.Pointer[chan struct{}] // syncs wait until it is closed
}

type diskFile struct {
	data     []byte
	durable  []byte
	unsynced []diskWrite
	synced   bool // the file itself is on the disk

	shared            int
	reserved, pending *openFile
}

// diskWrite is a write, or a truncation if data is nil.
type diskWrite struct {
	at   int64
	data []byte
}

func (w diskWrite) apply(to []byte) []byte {
	if w.data == nil {
		if w.at <= int64(len(to)) {
			return to[:w.at]
		}
		return append(to, make([]byte, w.at-int64(len(to)))...)
	}
	if end := w.at + int64(len(w.data)); end > int64(len(to)) {
		to = append(to, make([]byte, end-int64(len(to)))...)
	}
	copy(to[w.at:], w.data)
	return to
}

var disks atomic.Int64

// newDisk returns a disk with these files, as a machine finds it when it starts.
func newDisk(t *testing.T, image map[string][]byte, seed uint64) *fakeDisk {
	t.Helper()
	d := &fakeDisk{
		name: fmt.Sprintf("fake%d", disks.Add(1)), dir: t.TempDir(), files: make(map[string]*diskFile), crashed: make(chan struct{}),
		random: rand.New(rand.NewPCG(seed, 1)), //nolint:gosec // the same in each run
	}
	for name, data := range image {
		d.files[name] = &diskFile{data: data, durable: append([]byte(nil), data...), synced: true}
	}
	vfs.Register(d.name, d)
	t.Cleanup(func() { vfs.Unregister(d.name) })
	return d
}

// engine opens the queue on the disk.
func (d *fakeDisk) engine(t *testing.T) engine {
	t.Helper()
	return ncruces(t, "file:queue.db?vfs="+d.name)
}

// opLocked counts a change of the disk, lets it fail, and takes the image at the moment of the
// crash. d.mu must be held.
func (d *fakeDisk) opLocked(kind, name string) error {
	if d.ops++; d.ops == d.crashAt {
		d.crashLocked()
	}
	if d.fault != nil {
		return d.fault(kind, name)
	}
	return nil
}

// crashLocked takes the image that a power failure leaves: everything that was synced, and a random
// part of the rest. d.mu must be held.
func (d *fakeDisk) crashLocked() {
	d.image = make(map[string][]byte)
	for name, f := range d.files {
		if !f.synced && d.random.IntN(2) == 0 {
			continue // its name is not on the disk
		}
		data := append([]byte(nil), f.durable...)
		for _, w := range d.survivors(f.unsynced) {
			data = w.apply(data)
		}
		d.image[name] = data
	}
	if d.onCrash != nil {
		d.onCrash()
	}
	close(d.crashed)
}

// survivors picks what is left of writes that were not synced.
func (d *fakeDisk) survivors(writes []diskWrite) []diskWrite {
	if len(writes) == 0 {
		return nil
	}
	var left []diskWrite
	switch d.random.IntN(4) {
	case 0: // all
		return writes
	case 1: // nothing
	case 2: // the first ones, and of the next one a part
		n := d.random.IntN(len(writes))
		left = append(left, writes[:n]...)
		if w := writes[n]; w.data != nil {
			left = append(left, diskWrite{w.at, w.data[:d.random.IntN(len(w.data)+1)]})
		}
	case 3: // some sectors of each, in any order
		const sector = 512
		for _, w := range writes {
			for at := 0; at < len(w.data); at += sector {
				if d.random.IntN(2) == 0 {
					left = append(left, diskWrite{w.at + int64(at), w.data[at:min(at+sector, len(w.data))]})
				}
			}
			if w.data == nil && d.random.IntN(2) == 0 {
				left = append(left, w)
			}
		}
		d.random.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
	}
	return left
}

// Open implements [vfs.VFS].
func (d *fakeDisk) Open(name string, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[name]
	if f == nil {
		if flags&vfs.OPEN_CREATE == 0 {
			return nil, flags, sqlite3.CANTOPEN
		}
		f = &diskFile{}
		d.files[name] = f
	}
	return &openFile{disk: d, file: f, name: name, shm: vfs.NewSharedMemory(filepath.Join(d.dir, name+"-shm"), flags)}, flags, nil
}

// Delete implements [vfs.VFS].
func (d *fakeDisk) Delete(name string, _ bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[name] == nil {
		return sqlite3.IOERR_DELETE_NOENT
	}
	delete(d.files, name)
	return nil
}

// Access implements [vfs.VFS].
func (d *fakeDisk) Access(name string, _ vfs.AccessFlag) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.files[name] != nil, nil
}

// FullPathname implements [vfs.VFS].
func (d *fakeDisk) FullPathname(name string) (string, error) { return name, nil }

// openFile is one open file.
type openFile struct {
	disk *fakeDisk
	file *diskFile
	name string
	lock vfs.LockLevel
	shm  vfs.SharedMemory
}

var _ vfs.FileSharedMemory = (*openFile)(nil)

// SharedMemory implements [vfs.FileSharedMemory].
func (f *openFile) SharedMemory() vfs.SharedMemory { return f.shm }

// Close implements [vfs.File].
func (f *openFile) Close() error {
	var err error
	if f.shm != nil {
		err = f.shm.Close()
	}
	return errors.Join(err, f.Unlock(vfs.LOCK_NONE))
}

// ReadAt implements [vfs.File].
func (f *openFile) ReadAt(b []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if off >= int64(len(f.file.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.file.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements [vfs.File].
func (f *openFile) WriteAt(b []byte, off int64) (int, error) {
	return len(b), f.change("write", diskWrite{off, append([]byte{}, b...)})
}

// Truncate implements [vfs.File].
func (f *openFile) Truncate(size int64) error { return f.change("truncate", diskWrite{at: size}) }

func (f *openFile) change(op string, w diskWrite) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.opLocked(op, f.name); err != nil {
		return err
	}
	f.file.data = w.apply(f.file.data)
	f.file.unsynced = append(f.file.unsynced, w)
	return nil
}

// Sync implements [vfs.File].
func (f *openFile) Sync(vfs.SyncFlag) error {
	if hang := f.disk.hang.Load(); hang != nil {
		<-*hang
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.opLocked("sync", f.name); err != nil {
		return err
	}
	for _, w := range f.file.unsynced {
		f.file.durable = w.apply(f.file.durable)
	}
	f.file.unsynced, f.file.synced = nil, true
	return nil
}

// Size implements [vfs.File].
func (f *openFile) Size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return int64(len(f.file.data)), nil
}

// Lock implements [vfs.File].
func (f *openFile) Lock(lock vfs.LockLevel) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.lock >= lock {
		return nil
	}
	other := func(owner *openFile) bool { return owner != nil && owner != f }
	switch lock { //nolint:exhaustive // the others are not asked for
	case vfs.LOCK_SHARED:
		if other(f.file.pending) {
			return sqlite3.BUSY
		}
		f.file.shared++
	case vfs.LOCK_RESERVED:
		if other(f.file.reserved) {
			return sqlite3.BUSY
		}
		f.file.reserved = f
	case vfs.LOCK_EXCLUSIVE:
		if other(f.file.pending) || other(f.file.reserved) {
			return sqlite3.BUSY
		}
		f.file.pending = f
		if f.file.shared > 1 {
			f.lock = vfs.LOCK_PENDING
			return sqlite3.BUSY
		}
	}
	f.lock = lock
	return nil
}

// Unlock implements [vfs.File].
func (f *openFile) Unlock(lock vfs.LockLevel) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.lock <= lock {
		return nil
	}
	if f.file.reserved == f {
		f.file.reserved = nil
	}
	if f.file.pending == f {
		f.file.pending = nil
	}
	if lock < vfs.LOCK_SHARED {
		f.file.shared--
	}
	f.lock = lock
	return nil
}

// CheckReservedLock implements [vfs.File].
func (f *openFile) CheckReservedLock() (bool, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return f.file.reserved != nil, nil
}

// SectorSize implements [vfs.File].
func (f *openFile) SectorSize() int { return 4096 }

// DeviceCharacteristics implements [vfs.File]. They are those of a common disk: a write that is
// torn leaves what is beside it alone.
func (f *openFile) DeviceCharacteristics() vfs.DeviceCharacteristic {
	return vfs.IOCAP_POWERSAFE_OVERWRITE
}

// TestFakeDisk checks that the disk forgets what was not synced.
func TestFakeDisk(t *testing.T) {
	t.Parallel()
	outcomes := make(map[string]int)
	for seed := range uint64(200) {
		d := newDisk(t, map[string][]byte{"a": []byte("old")}, seed)
		f, _, err := d.Open("a", vfs.OPEN_CREATE)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte("synced"), 0)
		require.NoError(t, err)
		require.NoError(t, f.Sync(0))
		_, err = f.WriteAt([]byte("12"), 6)
		require.NoError(t, err)
		d.mu.Lock()
		d.crashAt = d.ops + 1
		d.mu.Unlock()
		_, err = f.WriteAt([]byte("34"), 8)
		require.NoError(t, err)
		<-d.crashed
		got := string(d.image["a"])
		require.True(t, strings.HasPrefix(got, "synced"), got)
		outcomes[got]++
	}
	require.Subset(t, []string{"synced", "synced1", "synced12"}, keys(outcomes))
	require.Len(t, outcomes, 3)
}

func keys(m map[string]int) []string {
	var list []string
	for key := range maps.Keys(m) {
		list = append(list, key)
	}
	return list
}
