package spool

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/b24events/b24events/internal/disk"
	"github.com/b24events/b24events/internal/filelock"
)

const (
	filePerm = 0o600 // of files, which hold payloads
	lockName = "lock"
)

// folder is a journal's folder while it is open. One goroutine at a time uses it.
type folder interface {
	lock() (bool, error)     // false when another process has it
	list() ([]string, error) // the names in it
	read(name string) ([]byte, error)
	// write writes data to a file, which it makes if there is none, and syncs the file. It replaces
	// the content of the file, or appends to it.
	write(name string, how writing, data []byte) error
	rename(from, to string) error // and syncs the folder
	remove(name string) error
	sync() error // the names in it
	close()
}

// writing says what write does with the content that a file has.
type writing int

const (
	writingNew    = writing(os.O_TRUNC)
	writingAppend = writing(os.O_APPEND)
)

// opener opens a folder, which it makes if there is none.
type opener func(dir string) (folder, error)

// osFolder is a folder of the operating system.
type osFolder struct {
	root *os.Root
	file *os.File // that is locked; nil without the lock
}

func openFolder(dir string) (folder, error) {
	if !Exists(dir) {
		if err := disk.MakePrivate(dir); err != nil {
			return nil, err
		}
		syncAbove(dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &osFolder{root: root}, nil
}

// syncAbove syncs the folder that a new folder is in, and the one above it. If these may not be
// opened, the system syncs them in its own time.
func syncAbove(dir string) {
	for range 2 {
		dir = filepath.Dir(dir)
		if f, err := os.Open(dir); err == nil { //nolint:gosec // the user names it
			_ = f.Sync()
			_ = f.Close()
		}
	}
}

func (f *osFolder) lock() (bool, error) {
	file, err := f.root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return false, err
	}
	ok, err := filelock.Try(file)
	if !ok {
		_ = file.Close()
		return false, err
	}
	f.file = file
	return true, nil
}

func (f *osFolder) close() {
	if f.file != nil {
		filelock.Release(f.file)
		_ = f.file.Close()
	}
	_ = f.root.Close()
}

func (f *osFolder) list() ([]string, error) {
	dir, err := f.root.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	_ = dir.Close()
	return names, err
}

func (f *osFolder) read(name string) (data []byte, err error) {
	err = disk.Retry(func() error {
		data, err = f.readOnce(name)
		return err
	})
	return data, err
}

func (f *osFolder) readOnce(name string) ([]byte, error) {
	info, err := f.root.Lstat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular(): // to open a pipe would wait for its writer
		return nil, fmt.Errorf("%s is not a regular file", name)
	default:
		return f.root.ReadFile(name)
	}
}

func (f *osFolder) write(name string, how writing, data []byte) error {
	var file *os.File
	err := disk.Retry(func() (err error) {
		file, err = f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|int(how), filePerm)
		return err
	})
	if err != nil {
		return err
	}
	return disk.Fill(file, data)
}

func (f *osFolder) rename(from, to string) error { return disk.Rename(f.root, from, to) }

func (f *osFolder) remove(name string) error { return disk.Remove(f.root, name) }

func (f *osFolder) sync() error { return disk.SyncFolder(f.root) }
