package oauth

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"github.com/b24events/b24events/internal/filelock"
)

const (
	// lockFiles is the number of lock files, among which installations are spread. They stay: to remove a lock file that
	// someone waits for lets two in.
	lockFiles = 16
	// Waiting for another process starts with lockPause and ends with maxLockPause, about the time of a write.
	lockPause    = time.Millisecond
	maxLockPause = 16 * time.Millisecond
)

func lockOf(name string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return int(h.Sum32() % lockFiles)
}

// lock waits until nobody else writes the file of this name, in this process or another.
func (s *FileStore) lock(ctx context.Context, name string) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n := lockOf(name)
	select { // the goroutines of this process queue here
	case s.busy[n] <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for pause := lockPause; ; pause = min(2*pause, maxLockPause) {
		unlock, ok, err := s.tryLock(n)
		if err == nil && !ok {
			err = wait(ctx, pause/2+rand.N(pause)) //nolint:gosec // no secret
		}
		switch {
		case err != nil:
			<-s.busy[n]
			return nil, err
		case ok:
			return func() {
				unlock()
				<-s.busy[n]
			}, nil
		}
	}
}

// tryLock takes a lock where no other process has it.
func (s *FileStore) tryLock(n int) (release func(), ok bool, err error) {
	f, err := s.root.OpenFile(lockPrefix+strconv.Itoa(n), os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, false, fmt.Errorf("oauth: file store: %w", err)
	}
	ok, err = filelock.Try(f)
	if !ok {
		_ = f.Close()
		if err != nil {
			err = fmt.Errorf("oauth: file store: %w", err)
		}
		return nil, false, err
	}
	return func() {
		filelock.Release(f)
		_ = f.Close()
	}, true, nil
}
