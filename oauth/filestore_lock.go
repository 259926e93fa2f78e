package oauth

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"time"

	"github.com/b24events/b24events/internal/filelock"
	"github.com/b24events/b24events/internal/timing"
)

const (
	lockPrefix = "lock."
	// lockFiles is the number of lock files that installations share.
	lockFiles = 16
	// A wait for another process starts with pauses of lockPause, which grow to maxLockPause, about
	// the time of a write.
	lockPause    = time.Millisecond
	maxLockPause = 16 * time.Millisecond
)

// fileLock is one of the locks of a directory. Its file stays open, so that the lock can be taken
// even if the process has no descriptor left.
type fileLock struct {
	name  string
	mutex chan struct{} // full while a goroutine of this process holds the lock or is next to get it
	file  *os.File      // guarded by mutex; nil at first
}

func newFileLocks() []*fileLock {
	locks := make([]*fileLock, lockFiles)
	for n := range locks {
		locks[n] = &fileLock{name: fmt.Sprintf("%s%02d", lockPrefix, n), mutex: make(chan struct{}, 1)}
	}
	return locks
}

func (s *FileStore) lockOf(p place) *fileLock {
	h := fnv.New32a()
	_, _ = h.Write([]byte(p.path()))
	return s.locks[h.Sum32()%lockFiles]
}

// lock waits until nobody else writes the file of a place, in this process or in another.
func (s *FileStore) lock(ctx context.Context, p place) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l := s.lockOf(p)
	select { // the goroutines of this process queue here
	case l.mutex <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for pause := lockPause; ; pause = min(2*pause, maxLockPause) {
		ok, err := l.tryLocked(s.root)
		if err == nil && !ok {
			err = timing.Sleep(ctx, pause/2+timing.Below(pause))
		}
		switch {
		case err != nil:
			<-l.mutex
			return nil, err
		case ok:
			return l.release, nil
		}
	}
}

// tryLock takes the lock of a place if it is free.
func (s *FileStore) tryLock(p place) (release func(), ok bool, err error) {
	l := s.lockOf(p)
	select {
	case l.mutex <- struct{}{}:
	default:
		return nil, false, nil
	}
	if ok, err = l.tryLocked(s.root); !ok {
		<-l.mutex
		return nil, false, err
	}
	return l.release, true, nil
}

// release ends the lock. The file stays open.
func (l *fileLock) release() {
	filelock.Release(l.file)
	<-l.mutex
}

// tryLocked takes the file lock if no other process holds it. The caller holds l.mutex. The file
// lock counts only if the file still has its name: somebody may have removed it, so that others
// lock a new one.
func (l *fileLock) tryLocked(root *os.Root) (ok bool, err error) {
	if l.file == nil {
		// It is opened for reading, because a file that is open for writing would keep the file system
		// from being remounted read-only.
		if l.file, err = root.OpenFile(l.name, os.O_RDONLY|os.O_CREATE, filePerm); err != nil {
			l.file = nil
			return false, fmt.Errorf("oauth: file store: %w", err)
		}
	}
	if ok, err = filelock.Try(l.file); !ok {
		if err != nil {
			err = fmt.Errorf("oauth: file store: %w", err)
		}
		return false, err
	}
	same, err := isNamed(root, l.name, l.file)
	if !same {
		filelock.Release(l.file)
		_ = l.file.Close()
		l.file = nil
	}
	if err != nil {
		return false, fmt.Errorf("oauth: file store: %w", err)
	}
	return same, nil
}

// close closes the file once no goroutine of this process holds the lock.
func (l *fileLock) close() {
	l.mutex <- struct{}{}
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
	<-l.mutex
}

// isNamed reports whether an open file still has this name. It needs no descriptor.
func isNamed(root *os.Root, name string, f *os.File) (bool, error) {
	there, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	open, err := f.Stat()
	return err == nil && os.SameFile(there, open), err
}
