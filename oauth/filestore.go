package oauth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

var (
	_ Store  = (*FileStore)(nil)
	_ Lister = (*FileStore)(nil)
)

// FileStore is a [Store] of files in one directory, one file for each installation. Several processes of one machine may
// share the directory. It is safe for concurrent use and needs no closing.
//
// A file is replaced as a whole, and is on the disk before a write reports success: a crash leaves the old installation or
// the new one, never half of one. Writers wait for each other by flock, which ends with its process; readers never wait. So
// the directory must be on a local file system. On systems without flock, Windows among them, [NewFileStore] returns an
// error.
//
// Files are private to the user of the process (0600). Tokens stand in them as they are, unless [WithEncryptionKey] is given.
// The names of the files show the portals' member ids, which are no secrets. Do not remove files named lock-*.
//
// Beyond the errors of a Store, its methods return the context's error, [ErrUnreadable], [ErrEncryptionKey], or the file
// system's error.
type FileStore struct {
	root *os.Root
	keys *keyring
	busy []chan struct{} // by lock file; full while a goroutine of this process has the lock, or is next
}

// Load returns an installation, or [ErrNotFound].
func (s *FileStore) Load(ctx context.Context, key Key) (Installation, Version, error) {
	if err := ctx.Err(); err != nil {
		return Installation{}, "", err
	}
	name := fileName(key)
	data, err := s.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Installation{}, "", ErrNotFound
	}
	if err != nil {
		return Installation{}, "", err
	}
	in, err := parseFile(data, key, *s.keys)
	if err != nil {
		return Installation{}, "", named(name, err)
	}
	return in, versionOf(data), nil
}

// Swap writes an installation, or returns [ErrConflict]. It refuses one of more than 1 MiB, and text that is not UTF-8.
//
// Where it returns another error the old installation is stored, except that after a failure of the disk it may be the new
// one: Load tells.
func (s *FileStore) Swap(ctx context.Context, key Key, old Version, in Installation) (Version, error) {
	data, err := encodeFile(key, in, *s.keys)
	if err != nil {
		return "", err
	}
	name := fileName(key)
	release, err := s.lock(ctx, name)
	if err != nil {
		return "", err
	}
	defer release()
	switch found, err := s.version(name); {
	case err != nil:
		return "", err
	case found != old:
		return "", ErrConflict
	}
	if err := s.replace(name, data); err != nil {
		return "", fmt.Errorf("oauth: file store: %w", err)
	}
	return versionOf(data), nil
}

// Delete removes an installation, or returns [ErrConflict].
func (s *FileStore) Delete(ctx context.Context, key Key, old Version) error {
	name := fileName(key)
	release, err := s.lock(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	switch found, err := s.version(name); {
	case err != nil:
		return err
	case found == "":
		return nil
	case found != old:
		return ErrConflict
	}
	if err := s.remove(name); err != nil {
		return fmt.Errorf("oauth: file store: %w", err)
	}
	return nil
}

// Format prints no installation and no key, whatever the verb.
func (s *FileStore) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("oauth.FileStore")) }

// named adds the name of a file to an error.
func named(name string, err error) error {
	var e *Error
	if errors.As(err, &e) {
		with := *e
		with.Detail = name + ": " + e.Detail
		return &with
	}
	return err
}
