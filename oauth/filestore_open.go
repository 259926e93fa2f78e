package oauth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

const (
	filePerm = 0o600
	dirPerm  = 0o700
)

type fileConfig struct{ keys keyring }

// FileOption configures [NewFileStore].
type FileOption func(*fileConfig) error

// WithEncryptionKey encrypts files with AES-256-GCM under a key of [EncryptionKeySize] random bytes, which is copied. A file
// is bound to its portal and user: under the name of another it cannot be decrypted. Nothing shows that a whole file
// was exchanged for an older version of itself.
//
// Give it several times to change keys: the first key encrypts, and all decrypt. Files that are not encrypted are still
// read. Either kind is encrypted with the first key when it is next written, as every renewal does.
func WithEncryptionKey(key []byte) FileOption {
	k, err := newEncryptionKey(key)
	return func(cfg *fileConfig) error {
		if err != nil {
			return err
		}
		cfg.keys = append(cfg.keys, k)
		return nil
	}
}

// NewFileStore opens the store in a directory, and makes the directory (0700) where there is none. It removes what writers
// that were killed have left, and makes files private that are not, as those copied back from a backup may be.
//
// It refuses a directory that others can write to: they could put tokens of their own there. One that others can list is
// accepted, as the files themselves are private. Keep nothing else in it.
func NewFileStore(dir string, opts ...FileOption) (*FileStore, error) {
	var cfg fileConfig
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&cfg); err != nil {
			return nil, err
		}
	}
	if dir == "" {
		return nil, errors.New("oauth: NewFileStore: the directory has no name")
	}
	if err := os.MkdirAll(dir, dirPerm); err != nil {
		return nil, fmt.Errorf("oauth: NewFileStore: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("oauth: NewFileStore: %w", err)
	}
	s := &FileStore{root: root, keys: &cfg.keys, busy: make([]chan struct{}, lockFiles)}
	for i := range s.busy {
		s.busy[i] = make(chan struct{}, 1)
	}
	if err := s.tidy(); err != nil {
		_ = root.Close()
		return nil, err
	}
	return s, nil
}

// tidy checks the directory and cleans up in it. Nobody else uses s yet; other processes may be at work.
func (s *FileStore) tidy() error {
	release, ok, err := s.tryLock(0) // before all: whether there are locks at all
	if err != nil {
		return err
	}
	if ok {
		release()
	}
	info, err := s.root.Stat(".")
	if err != nil {
		return fmt.Errorf("oauth: file store: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("oauth: file store: %w: others can write to the directory; take their right away (chmod go-w), or name a "+
			"directory in it that does not exist yet", fs.ErrPermission)
	}
	entries, err := s.entries()
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, temp := strings.CutSuffix(e.Name(), tempSuffix)
		if _, _, ours := parseName(name); !ours || !e.Type().IsRegular() {
			continue
		}
		if temp {
			err = s.removeTemp(name)
		} else if info, infoErr := e.Info(); infoErr == nil && info.Mode().Perm()&0o077 != 0 {
			err = s.root.Chmod(name, filePerm)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("oauth: file store: %w", err)
		}
	}
	return nil
}

// removeTemp removes an unfinished write, unless its writer is alive.
func (s *FileStore) removeTemp(name string) error {
	release, ok, err := s.tryLock(lockOf(name))
	if !ok {
		return err
	}
	defer release()
	return s.root.Remove(name + tempSuffix)
}
