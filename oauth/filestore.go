package oauth

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

var (
	_ Store    = (*FileStore)(nil)
	_ Preparer = (*FileStore)(nil)
)

// FileStore is a [Store] of files in one directory, one file for each installation. Several
// processes of one machine may share the directory. So may several applications, each of which has
// a folder of its own. A FileStore is safe for concurrent use. [FileStore.Close] releases the
// directory; a store that lives as long as its process need not be closed.
//
// Swap replaces a file as a whole and syncs it before it returns. A crash leaves the old
// installation or the new one, never a part of one. Writers exclude each other by file locks, which
// end with their process; readers never wait. So the directory must be on a local file system that
// has locks. The locks are flock on Unix and LockFileEx on Windows; elsewhere [NewFileStore]
// returns an error. [FileStore.Prepare] reserves disk space for a write.
//
// Files are private to the user of the process (0600). On Windows, which has no such modes, they
// have the access rights of the directory. They hold tokens in clear unless [WithEncryptionKey] is
// given. Their names show client IDs and member IDs, which are no secrets. Keep nothing else in the
// directory, and do not remove its files named lock.*.
//
// On Windows another program that has a file open, such as a virus scanner, can block the store.
// The methods retry for up to a second before they return an error. A deleted installation may be
// back after a power failure, because Windows cannot flush a directory.
//
// A file store holds client IDs and member IDs of up to 64 bytes. Swap refuses longer ones; those
// of Bitrix24 have about 32.
//
// Besides the errors of a Store, its methods return the context's error, [ErrUnreadable],
// [ErrEncryptionKey] and the file system's error.
type FileStore struct {
	root         *os.Root
	codec        *Codec
	locks        []*fileLock
	reservations *reservations
	listed       func(entries int) // if not nil, called with the number of entries of each folder that List reads
}

const errLongKey storeError = "oauth: file store: the client ID or the member ID has more than 64 bytes, and nothing was written"

// Load returns an installation, or [ErrNotFound].
func (s *FileStore) Load(ctx context.Context, key Key) (Installation, Version, error) {
	if err := ctx.Err(); err != nil {
		return Installation{}, "", err
	}
	p, ok := placeOf(key)
	if !ok {
		return Installation{}, "", ErrNotFound
	}
	slot, err := s.open(p, false)
	var data []byte
	if err == nil {
		data, err = slot.content()
		slot.close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return Installation{}, "", ErrNotFound
	}
	if err != nil {
		return Installation{}, "", err
	}
	in, err := s.codec.Open(key, data)
	if err != nil {
		return Installation{}, "", withFileName(p.path(), err)
	}
	return in, versionOf(data), nil
}

// Swap writes an installation, or returns [ErrConflict]. It refuses one of more than 1 MiB, and
// text that is not UTF-8.
//
// If it returns another error, the old installation is still stored. After a failure of the disk it
// may be the new one; Load shows which.
func (s *FileStore) Swap(ctx context.Context, key Key, old Version, in Installation) (Version, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	p, err := placeToWrite(key)
	if err != nil {
		return "", err
	}
	data, err := s.codec.seal(key, in, newMark())
	if err != nil {
		return "", err
	}
	unlock, err := s.lock(ctx, p)
	if err != nil {
		return "", err
	}
	defer unlock()
	slot := s.reservations.take(key)
	if slot == nil {
		if slot, err = s.open(p, old == ""); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return "", ErrConflict
			}
			return "", err
		}
	}
	defer s.reservations.giveBack(key, slot)
	switch found, err := slot.version(); {
	case err != nil:
		return "", err
	case found != old:
		return "", ErrConflict
	}
	if err := slot.replaceLocked(data); err != nil {
		return "", fmt.Errorf("oauth: file store: %w", err)
	}
	return versionOf(data), nil
}

// Delete removes an installation, or returns [ErrConflict].
func (s *FileStore) Delete(ctx context.Context, key Key, old Version) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p, ok := placeOf(key)
	if !ok {
		return nil
	}
	unlock, err := s.lock(ctx, p)
	if err != nil {
		return err
	}
	defer unlock()
	slot, err := s.open(p, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer slot.close()
	switch found, err := slot.version(); {
	case err != nil:
		return err
	case found == "":
		return nil
	case found != old:
		return ErrConflict
	}
	if err := slot.removeLocked(); err != nil {
		return fmt.Errorf("oauth: file store: %w", err)
	}
	return nil
}

// Close frees what [FileStore.Prepare] reserved, releases the directory, and returns nil. Later
// calls of the other methods return [fs.ErrClosed]. Close the store before you remove or rename its
// directory: Windows refuses that while it is open.
func (s *FileStore) Close() error {
	s.reservations.close()
	err := s.root.Close()
	for _, l := range s.locks {
		l.close()
	}
	return err
}

// Format prints no installation and no key, whatever the verb.
func (s *FileStore) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("oauth.FileStore")) }

// newMark returns a text that no other write of an installation has.
func newMark() string {
	var mark [16]byte
	_, _ = rand.Read(mark[:]) // never fails
	return hex.EncodeToString(mark[:])
}

// withFileName adds the name of a file to an error of the codec.
func withFileName(name string, err error) error {
	var e *Error
	if errors.As(err, &e) {
		located := *e
		located.Op, located.Detail = opFile, name+": "+e.Detail
		return &located
	}
	return err
}
