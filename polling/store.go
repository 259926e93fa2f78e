package polling

import (
	"context"
	"sync"
)

// Key names what a consumer polls: a bot, a bot with the events of a user, or a user.
type Key struct {
	ClientID string // the application; empty for an incoming webhook
	MemberID string // the portal
	BotID    int64  // 0 if no bot is polled
	UserID   int64  // 0 if events of a user are not polled
}

// Store keeps offsets. An offset acknowledges every event below it: the portal deletes them. A
// consumer therefore keeps an offset after the handlers of all events below it are done, and asks
// the portal with it after that. [FileStore] and [MemoryStore] are stores; a program can implement
// its own over its database.
//
// An offset that is lost, or an older one that comes back, loses no events: the portal returns
// those that it still has, and some are handled again. Implementations must be safe for concurrent
// use and return when their context ends. They keep one offset for each key; the last write wins.
type Store interface {
	// Load returns the offset that was kept last, and 0 if there is none.
	Load(ctx context.Context, key Key) (offset int64, err error)
	// Keep keeps an offset. When it returns nil, the offset must survive a crash.
	Keep(ctx context.Context, key Key, offset int64) error
}

// MemoryStore is a [Store] that forgets everything when the process ends, for tests. Make one with
// [NewMemoryStore].
type MemoryStore struct {
	mu      sync.Mutex
	offsets map[Key]int64
}

// NewMemoryStore returns an empty store.
func NewMemoryStore() *MemoryStore { return &MemoryStore{offsets: make(map[Key]int64)} }

// Load implements [Store]. Its only error is that of ctx.
func (s *MemoryStore) Load(ctx context.Context, key Key) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.offsets[key], ctx.Err()
}

// Keep implements [Store]. Its only error is that of ctx.
func (s *MemoryStore) Keep(ctx context.Context, key Key, offset int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offsets[key] = offset
	return nil
}
