package polling

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/b24events/b24events/internal/disk"
)

const (
	fileVersion = 1
	filePerm    = 0o600
	maxFile     = 4096   // bytes; what is larger is not a kept offset
	temporary   = ".new" // ends the names of files that are being written
)

// FileStore is a [Store] in a folder: a small file for each bot or user. A write replaces the file
// as a whole and is synced, so a crash leaves the old offset or the new one. Several processes may
// share the folder if each bot and user is polled by one of them. It is safe for concurrent use.
// Make one with [NewFileStore].
type FileStore struct {
	dir string
	mu  sync.Mutex
}

// NewFileStore returns a store in dir. It makes the folder if it is missing, so that no other user
// has access. It returns [ErrConfig] if dir is empty, or the system's error.
func NewFileStore(dir string) (*FileStore, error) {
	if dir == "" {
		return nil, misconfigured("NewFileStore without a folder")
	}
	if err := disk.MakePrivate(dir); err != nil {
		return nil, fmt.Errorf("polling: the folder of the offsets: %w", err)
	}
	return &FileStore{dir: dir}, nil
}

// offsetFile is what a file holds. It names its owner, so that a file that was moved or renamed
// never acknowledges the events of another bot.
type offsetFile struct {
	Version  int    `json:"version"`
	ClientID string `json:"client_id"`
	MemberID string `json:"member_id"`
	BotID    int64  `json:"bot_id"`
	UserID   int64  `json:"user_id"`
	Offset   int64  `json:"offset"`
}

func fileOf(key Key, offset int64) offsetFile {
	return offsetFile{fileVersion, key.ClientID, key.MemberID, key.BotID, key.UserID, offset}
}

// Load implements [Store]. It returns [ErrStore] if the file is damaged or another's. To remove the
// file is safe: the portal then returns every event that it still has.
func (s *FileStore) Load(ctx context.Context, key Key) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return 0, fmt.Errorf("polling: the folder of the offsets: %w", err)
	}
	defer func() { _ = root.Close() }()
	name := key.fileName()
	removeTemporary(root, name)
	info, err := root.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("polling: the kept offset: %w", err)
	case !info.Mode().IsRegular() || info.Size() > maxFile:
		return 0, fmt.Errorf("%w: %s is not a file of this package", ErrStore, name)
	}
	doc, err := root.ReadFile(name)
	if err != nil {
		return 0, fmt.Errorf("polling: the kept offset: %w", err)
	}
	var f offsetFile
	if json.Unmarshal(doc, &f) != nil || f != fileOf(key, f.Offset) || f.Offset < 0 {
		return 0, fmt.Errorf("%w: %s is damaged, or belongs to another bot, user, portal or version; "+
			"remove it to begin with every event that the portal still has", ErrStore, name)
	}
	return f.Offset, nil
}

// removeTemporary removes what a crash left of a write.
func removeTemporary(root *os.Root, name string) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), name+".") && strings.HasSuffix(e.Name(), temporary) {
			_ = disk.Remove(root, e.Name())
		}
	}
}

// Keep implements [Store]. It writes a new file, syncs it, and renames it. Its errors are those of
// ctx and of the system.
func (s *FileStore) Keep(ctx context.Context, key Key, offset int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.write(key.fileName(), fileOf(key, offset)); err != nil {
		return fmt.Errorf("polling: the offset cannot be kept: %w", err)
	}
	return nil
}

func (s *FileStore) write(name string, content offsetFile) error {
	doc, err := json.Marshal(content)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	temp := name + "." + strings.ToLower(rand.Text()[:8]) + temporary
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return err
	}
	if err = disk.Fill(f, append(doc, '\n')); err == nil {
		err = disk.Rename(root, temp, name)
	}
	if err != nil {
		_ = disk.Remove(root, temp)
	}
	return err
}

// fileName returns a name that no other key has, on every file system.
func (k Key) fileName() string {
	name := safeName(k.ClientID) + "_" + safeName(k.MemberID)
	if k.BotID != 0 {
		name += "_bot-" + strconv.FormatInt(k.BotID, 10)
	}
	if k.UserID != 0 {
		name += "_user-" + strconv.FormatInt(k.UserID, 10)
	}
	return name + ".json"
}

// maxSafeName keeps file names short enough for every file system.
const maxSafeName = 64

// safeName returns id if it is a harmless part of a file name, as the IDs of Bitrix24 are, and
// otherwise a name that no harmless ID has.
func safeName(id string) string {
	harmless := id != "" && len(id) <= maxSafeName && id[0] != '.' && !strings.ContainsFunc(id, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.'
	})
	if harmless {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "x-" + hex.EncodeToString(sum[:16])
}
