package oauth

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/b24events/b24events/internal/disk"
	"github.com/b24events/b24events/internal/filelock"
)

// slot is the place of an installation, with its folder open. The caller closes it.
type slot struct {
	place

	folder  *os.Root
	reserve *reserve // nil if nothing is reserved
}

// open opens the folder of a place. If there is none, it makes one if create is set, or returns
// fs.ErrNotExist.
func (s *FileStore) open(p place, create bool) (*slot, error) {
	parent := s.root
	for _, name := range []string{p.application, p.shard} {
		folder, err := openFolder(parent, name, create)
		if parent != s.root {
			_ = parent.Close()
		}
		if err != nil {
			return nil, err
		}
		parent = folder
	}
	return &slot{place: p, folder: parent}, nil
}

// openFolder opens a folder. It follows no symbolic link, which may lead to another application's
// folder.
func openFolder(parent *os.Root, name string, create bool) (*os.Root, error) {
	info, err := parent.Lstat(name)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err = parent.Mkdir(name, dirPerm); err == nil {
			err = disk.SyncFolder(parent)
		}
		if err == nil || errors.Is(err, fs.ErrExist) {
			info, err = parent.Lstat(name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("oauth: file store: %w", err)
	}
	if !info.IsDir() {
		return nil, &Error{Op: opFile, Kind: ErrUnreadable, Detail: name + ": it is not a folder"}
	}
	folder, err := parent.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("oauth: file store: %w", err)
	}
	return folder, nil
}

// close closes the folder, and frees what was reserved and not used.
func (x *slot) close() {
	x.reserve.discard(x.folder)
	x.reserve = nil
	_ = x.folder.Close()
}

// version returns the version of the file, or nothing if there is no file.
func (x *slot) version() (Version, error) {
	data, err := x.content()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	}
	return versionOf(data), nil
}

// versionOf returns the version of a file. Any change of the file changes it, even one by hand.
func versionOf(data []byte) Version {
	sum := sha256.Sum256(data)
	return Version(hex.EncodeToString(sum[:16]))
}

// content returns the content of the file, unless the file cannot be one of the store's. If it is
// the file that Prepare opened, this needs no descriptor.
func (x *slot) content() (data []byte, err error) {
	err = disk.Retry(func() error {
		data, err = x.contentOnce()
		return err
	})
	return data, err
}

func (x *slot) contentOnce() ([]byte, error) {
	info, err := x.folder.Lstat(x.name)
	if err != nil {
		return nil, fmt.Errorf("oauth: file store: %w", err)
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for its writer
		return nil, withFileName(x.path(), unreadable("it is not a regular file"))
	}
	f, kept := x.reserve.opened(info)
	if !kept {
		if f, err = x.folder.Open(x.name); err != nil {
			return nil, fmt.Errorf("oauth: file store: %w", err)
		}
		defer func() { _ = f.Close() }()
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("oauth: file store: %w", err)
	}
	if len(data) > maxDocument {
		return nil, withFileName(x.path(), unreadable("it has more than 1 MiB"))
	}
	return data, nil
}

// replaceLocked replaces the file as a whole, syncs it, and uses up the reservation. The caller
// holds the lock of the place.
func (x *slot) replaceLocked(data []byte) error {
	if r := x.reserve; r != nil {
		x.reserve = nil
		return r.replace(x.folder, x.name, data)
	}
	temp := tempName(x.name)
	f, err := x.folder.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return err
	}
	err = disk.Fill(f, data)
	if err == nil {
		err = disk.Rename(x.folder, temp, x.name)
	}
	if err != nil {
		_ = x.folder.Remove(temp) // there is none if the rename succeeded
	}
	return err
}

// removeLocked removes the file. The caller holds the lock of the place.
func (x *slot) removeLocked() error {
	if err := disk.Remove(x.folder, x.name); err != nil {
		return err
	}
	return disk.SyncFolder(x.folder)
}

// removeTemp removes a temporary file unless it is still in use. A writer holds the lock of the
// place, and a reservation holds a lock on the file itself.
func (s *FileStore) removeTemp(folder *os.Root, p place, temp string) error {
	unlock, ok, err := s.tryLock(p)
	if !ok {
		return err
	}
	defer unlock()
	f, err := folder.OpenFile(temp, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if ok, err = filelock.Try(f); !ok {
		return err
	}
	defer filelock.Release(f)
	return folder.Remove(temp)
}
