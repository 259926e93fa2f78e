package oauth

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/b24events/b24events/internal/disk"
)

// entries returns the entries of the directory.
func (s *FileStore) entries() ([]fs.DirEntry, error) {
	dir, err := s.root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("oauth: file store: %w", err)
	}
	defer func() { _ = dir.Close() }()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, fmt.Errorf("oauth: file store: %w", err)
	}
	return entries, nil
}

// version returns the version of a file, or nothing where there is no file.
func (s *FileStore) version(name string) (Version, error) {
	data, err := s.read(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	}
	return versionOf(data), nil
}

// read returns the content of a file, as long as it may be one of ours.
func (s *FileStore) read(name string) ([]byte, error) {
	info, err := s.root.Lstat(name)
	if err != nil {
		return nil, fmt.Errorf("oauth: file store: %w", err)
	}
	if !info.Mode().IsRegular() { // to open a pipe would wait for its writer
		return nil, named(name, unreadable("it is not a regular file"))
	}
	f, err := s.root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("oauth: file store: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("oauth: file store: %w", err)
	}
	if len(data) > maxFile {
		return nil, named(name, unreadable("it has more than 1 MiB"))
	}
	return data, nil
}

// replace puts a file in its place, whole and on the disk. The caller has the lock.
func (s *FileStore) replace(name string, data []byte) error {
	temp := name + tempSuffix
	if err := s.root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a writer that was killed
		return err
	}
	f, err := s.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return err
	}
	err = disk.Fill(f, data)
	if err == nil {
		err = s.root.Rename(temp, name)
	}
	if err != nil {
		_ = s.root.Remove(temp)
		return err
	}
	return disk.SyncFolder(s.root)
}

// remove removes a file, and what a writer of it has left. The caller has the lock.
func (s *FileStore) remove(name string) error {
	if err := s.root.Remove(name + tempSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.root.Remove(name); err != nil {
		return err
	}
	return disk.SyncFolder(s.root)
}
