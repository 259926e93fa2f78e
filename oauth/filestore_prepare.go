package oauth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"

	"github.com/b24events/b24events/internal/disk"
	"github.com/b24events/b24events/internal/filelock"
)

// minReserve is the least disk space that Prepare reserves. An installation usually takes 1 KiB or
// 2; for a larger one, twice its size is reserved.
const minReserve = 16 << 10

// Prepare reserves what a Swap of key needs: a synced file of 16 KiB or of twice the installation's
// size, whichever is more, and four open descriptors. Swap then works on a full disk and in a
// process without free descriptors. On a file system that never overwrites in place, such as Btrfs
// or ZFS, the disk space is not certain. See [Preparer].
//
// The file of a reservation stays behind if the process is killed, until [NewFileStore] opens the
// directory again.
func (s *FileStore) Prepare(ctx context.Context, key Key) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := placeToWrite(key)
	if err != nil {
		return nil, err
	}
	slot, err := s.prepare(ctx, p)
	if err != nil {
		return nil, err
	}
	s.reservations.add(key, slot)
	return sync.OnceFunc(func() { s.reservations.release(key) }), nil
}

func (s *FileStore) prepare(ctx context.Context, p place) (*slot, error) {
	unlock, err := s.lock(ctx, p) // until the file is locked, so that nobody removes it as left by a dead process
	if err != nil {
		return nil, err
	}
	slot, err := s.open(p, true)
	if err != nil {
		unlock()
		return nil, err
	}
	slot.reserve, err = newReserveLocked(slot.folder, p.name)
	unlock()
	if err == nil {
		err = slot.reserve.fill()
	}
	if err != nil {
		slot.close()
		return nil, fmt.Errorf("oauth: file store: prepare: %w", err)
	}
	return slot, nil
}

// reserve is what one write needs. A nil reserve means that nothing is reserved.
type reserve struct {
	temp     *os.File // has the reserved size, and is locked
	tempName string
	size     int64    // of the file that is to be replaced
	current  *os.File // that file; nil if there is none, and on Windows, which cannot replace an open file
	dir      *os.File // the folder, to be synced; nil if that needs no descriptor
}

// newReserveLocked opens what a write of the file needs. The caller holds the lock of the place.
func newReserveLocked(folder *os.Root, name string) (r *reserve, err error) {
	r = &reserve{tempName: tempName(name)}
	defer func() {
		if err != nil {
			r.discard(folder)
			r = nil
		}
	}()
	if info, statErr := folder.Lstat(name); statErr == nil && info.Mode().IsRegular() {
		r.size = info.Size()
		if runtime.GOOS != "windows" {
			if r.current, err = folder.Open(name); err != nil {
				r.current = nil
				return r, err
			}
		}
	} else if statErr != nil && !errors.Is(statErr, fs.ErrNotExist) {
		return r, statErr
	}
	if runtime.GOOS != "windows" { // which does not sync folders
		if r.dir, err = folder.Open("."); err != nil {
			r.dir = nil
			return r, err
		}
	}
	if r.temp, err = folder.OpenFile(r.tempName, os.O_RDWR|os.O_CREATE|os.O_EXCL, filePerm); err != nil {
		r.temp = nil
		return r, err
	}
	ok, err := filelock.Try(r.temp)
	if err == nil && !ok {
		err = errors.New("somebody else locked a new file")
	}
	return r, err
}

// fill takes the disk space.
func (r *reserve) fill() error {
	size := max(minReserve, min(2*r.size, maxDocument))
	if _, err := r.temp.Write(make([]byte, size)); err != nil {
		return err
	}
	return r.temp.Sync()
}

// opened returns the open file if it is the one that info describes.
func (r *reserve) opened(info fs.FileInfo) (*os.File, bool) {
	if r == nil || r.current == nil {
		return nil, false
	}
	open, err := r.current.Stat()
	return r.current, err == nil && os.SameFile(open, info)
}

// replace replaces the file as a whole and syncs it. It uses up the reservation, even if it fails.
func (r *reserve) replace(folder *os.Root, name string, data []byte) error {
	defer r.discard(folder)
	_, err := r.temp.WriteAt(data, 0)
	if err == nil {
		err = r.temp.Truncate(int64(len(data)))
	}
	if err == nil {
		err = r.temp.Sync()
	}
	filelock.Release(r.temp)
	if closeErr := r.temp.Close(); err == nil {
		err = closeErr
	}
	r.temp = nil
	if err == nil {
		err = disk.Retry(func() error { return folder.Rename(r.tempName, name) })
	}
	if err != nil {
		_ = folder.Remove(r.tempName)
		return err
	}
	if r.dir == nil {
		return disk.SyncRenamed(folder, name)
	}
	return r.dir.Sync()
}

// discard closes everything, and removes the temporary file if it was not used.
func (r *reserve) discard(folder *os.Root) {
	if r == nil {
		return
	}
	if r.temp != nil {
		_ = folder.Remove(r.tempName) // while it is locked, so that nobody else does
		filelock.Release(r.temp)
	}
	for _, f := range []*os.File{r.temp, r.current, r.dir} {
		if f != nil {
			_ = f.Close()
		}
	}
	*r = reserve{}
}

// reservations are those of a FileStore that are neither used nor released. A Swap does not say
// which caller of Prepare it belongs to. So as many are kept as there are callers that have not
// released theirs.
type reservations struct {
	mu   sync.Mutex
	keys map[Key]*keyReservations
}

type keyReservations struct {
	callers int
	unused  []*slot
}

func (r *reservations) add(key Key, slot *slot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.keys[key]
	if of == nil {
		if r.keys == nil {
			r.keys = make(map[Key]*keyReservations)
		}
		of = &keyReservations{}
		r.keys[key] = of
	}
	of.callers++
	of.unused = append(of.unused, slot)
}

// take returns a reservation, or nil if there is none. The caller gives it back, used or not.
func (r *reservations) take(key Key) *slot {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.keys[key]
	if of == nil || len(of.unused) == 0 {
		return nil
	}
	last := len(of.unused) - 1
	slot := of.unused[last]
	of.unused[last] = nil
	of.unused = of.unused[:last]
	return slot
}

// giveBack keeps an unused reservation for the next Swap, and closes every other slot.
func (r *reservations) giveBack(key Key, slot *slot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.keys[key]
	if slot.reserve == nil || of == nil || of.callers <= len(of.unused) {
		slot.close()
		return
	}
	of.unused = append(of.unused, slot)
}

// close frees what was not used.
func (r *reservations) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, of := range r.keys {
		for _, slot := range of.unused {
			slot.close()
		}
		of.unused = nil
	}
}

// release frees the reservation of one caller.
func (r *reservations) release(key Key) {
	var slot *slot
	r.mu.Lock()
	of := r.keys[key]
	of.callers--
	if last := len(of.unused) - 1; last >= 0 && last >= of.callers {
		slot = of.unused[last]
		of.unused = of.unused[:last]
	}
	if of.callers == 0 {
		delete(r.keys, key)
	}
	r.mu.Unlock()
	if slot != nil {
		slot.close()
	}
}
