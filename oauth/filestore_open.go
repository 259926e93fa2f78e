package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/b24events/b24events/internal/disk"
)

const (
	opFile   = "file store"
	filePerm = 0o600
	dirPerm  = 0o700 // of the folders in the directory
	// formatFile says what the directory is. It is written first.
	formatFile = "format.json"
	// storeFormat changes when older versions can no longer use the directory. Format 1 had no
	// formatFile.
	storeFormat = 2
	storeName   = "b24events/oauth.FileStore"
)

// FileOption configures [NewFileStore]. Each [CodecOption] is one too.
type FileOption interface {
	applyFile(cfg *fileConfig) error
}

type fileConfig struct {
	codec          codecConfig
	trustedParents bool
}

type fileOption func(*fileConfig) error

func (o fileOption) applyFile(cfg *fileConfig) error { return o(cfg) }

// WithTrustedParents skips the check of the directories above that of the store. It is for a
// machine or a container that nobody else uses, for example with a volume that everybody may write
// to.
func WithTrustedParents() FileOption {
	return fileOption(func(cfg *fileConfig) error {
		cfg.trustedParents = true
		return nil
	})
}

// NewFileStore opens the store in a directory, and makes the directory (0700) if there is none. It
// removes what killed writers have left. It makes files private that are not, such as files that
// were copied back from a backup.
//
// It refuses a directory that others can write to or that another user owns, because they could put
// tokens of their own there. It also refuses a directory that others could replace: the directories
// above must belong to this user or to root, and must not be writable by others unless they are
// sticky, as /tmp is. A group whose ID is that of this user does not count as others. A directory
// that others can list is accepted, because the files themselves are private.
//
// On Windows the user of the process, the system and the administrators have access to a directory
// that NewFileStore made. It refuses a directory to which a group may write that has every user of
// the machine, of its domain or of the network, such as Users and Authenticated Users. Folders made
// by hand outside of a user's profile are often like that. Whoever may read the directory may read
// the files. Owners and the directories above are not checked.
//
// If another version of this package or something else has filled the directory, NewFileStore
// returns [ErrUnreadable] and leaves the directory as it is. It returns [ErrConfig] if the
// directory has no name or an option makes no sense.
func NewFileStore(dir string, opts ...FileOption) (*FileStore, error) {
	var cfg fileConfig
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt.applyFile(&cfg); err != nil {
			return nil, err
		}
	}
	codec, err := cfg.codec.codec()
	if err != nil {
		return nil, err
	}
	if dir == "" {
		return nil, configError("NewFileStore", "the directory has no name")
	}
	if err := disk.MakePrivate(dir); err != nil {
		return nil, fmt.Errorf("oauth: NewFileStore: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("oauth: NewFileStore: %w", err)
	}
	s := &FileStore{root: root, codec: codec, locks: newFileLocks(), reservations: new(reservations)}
	err = s.checkPrivate(s.root)
	if err == nil && !cfg.trustedParents {
		err = checkParents(dir)
	}
	if err == nil {
		err = s.checkFormat()
	}
	if err == nil {
		err = s.tidy()
	}
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	return s, nil
}

// checkPrivate refuses a folder that others can write to.
func (s *FileStore) checkPrivate(folder *os.Root) error {
	info, err := folder.Stat(".")
	if err != nil {
		return fmt.Errorf("oauth: file store: %w", err)
	}
	if !ownedByUs(info) {
		return fmt.Errorf("oauth: file store: %w: another user owns %q; change the owner (chown), or name a directory that does not exist yet",
			fs.ErrPermission, folder.Name())
	}
	open, err := disk.OthersMayWrite(folder)
	switch {
	case err != nil:
		return fmt.Errorf("oauth: file store: %w", err)
	case open:
		return fmt.Errorf("oauth: file store: %w: others can write to %q; take their right away (chmod go-w, on Windows icacls), or name a "+
			"directory in it that does not exist yet", fs.ErrPermission, folder.Name())
	}
	return nil
}

// format is the content of formatFile.
type format struct {
	Store  string `json:"store"`
	Format int    `json:"format"`
}

// checkFormat refuses a directory that is not of a FileStore, before anything in it is changed. It
// writes the formatFile into an empty one.
func (s *FileStore) checkFormat() error {
	var data []byte
	err := disk.Retry(func() (err error) {
		data, err = s.root.ReadFile(formatFile)
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := s.checkEmpty(); err != nil {
			return err
		}
		if err := s.writeFormat(); err != nil {
			return fmt.Errorf("oauth: file store: %w", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("oauth: file store: %w", err)
	}
	var found format
	switch {
	case json.Unmarshal(data, &found) != nil || found.Store != storeName:
		return refuseDirectory(formatFile + " is not that of this package; name another directory")
	case found.Format > storeFormat:
		return refuseDirectory("a newer version of this package wrote the directory; use that version, or name another directory")
	case found.Format != storeFormat:
		return refuseDirectory(formatFile + " names a format that does not exist; name another directory")
	}
	return nil
}

// checkEmpty refuses a directory without a formatFile, unless it only holds what its file system
// puts there, or another process that is opening it.
func (s *FileStore) checkEmpty() error {
	entries, err := s.entries(s.root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case strings.HasPrefix(name, "portal-"), strings.HasPrefix(name, "hashed-"), strings.HasPrefix(name, "lock-"):
			return refuseDirectory("an earlier version of this package wrote the directory, and its files do not say which application " +
				"they belong to; name another directory, and install the application on each portal again")
		case name == "lost+found", name == formatFile, strings.HasPrefix(name, "."), strings.HasPrefix(name, lockPrefix):
		default:
			return refuseDirectory("the directory has no " + formatFile + " and is not empty; name an empty one, or restore that file")
		}
	}
	return nil
}

// writeFormat writes the formatFile. Several processes may do so at once; they write the same.
func (s *FileStore) writeFormat() error {
	data, err := json.Marshal(format{Store: storeName, Format: storeFormat})
	if err != nil {
		return err
	}
	temp := "." + tempName(formatFile)
	f, err := s.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return err
	}
	err = disk.Fill(f, append(bytes.TrimSpace(data), '\n'))
	if err == nil {
		err = disk.Rename(s.root, temp, formatFile)
	}
	if err != nil {
		_ = s.root.Remove(temp) // there is none if the rename succeeded
	}
	return err
}

func refuseDirectory(why string) error { return &Error{Op: opFile, Kind: ErrUnreadable, Detail: why} }

// tidy cleans up the directory. Other processes may be using it.
func (s *FileStore) tidy() error {
	unlock, ok, err := s.tryLock(place{}) // fails if the file system has no locks
	if err != nil {
		return err
	}
	if ok {
		unlock()
	}
	return s.eachFolder(s.root, func(application *os.Root, clientID string) error {
		return s.eachFolder(application, func(folder *os.Root, shard string) error {
			return s.tidyShard(folder, clientID, shard)
		})
	})
}

// eachFolder calls f with each folder that has the name of an ID.
func (s *FileStore) eachFolder(parent *os.Root, f func(folder *os.Root, id string) error) error {
	entries, err := s.entries(parent)
	if err != nil {
		return err
	}
	for _, e := range entries {
		id, ok := unescape(e.Name())
		if !ok || !e.IsDir() {
			continue
		}
		folder, err := openFolder(parent, e.Name(), false)
		if err == nil {
			err = s.checkPrivate(folder)
			if err == nil {
				err = f(folder, id)
			}
			_ = folder.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (s *FileStore) tidyShard(folder *os.Root, clientID, shard string) error {
	entries, err := s.entries(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		name, temp := tempTarget(e.Name())
		if !temp {
			name = e.Name()
		}
		key, ours := keyIn(clientID, shard, name)
		if !ours {
			continue
		}
		if temp {
			p, _ := placeOf(key)
			err = s.removeTemp(folder, p, e.Name())
		} else if info, infoErr := e.Info(); infoErr == nil && info.Mode().Perm()&0o077 != 0 {
			err = folder.Chmod(name, filePerm) // Windows replaces no file that is read-only
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("oauth: file store: %w", err)
		}
		err = nil
	}
	return nil
}
