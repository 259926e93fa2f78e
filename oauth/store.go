package oauth

import "context"

// Key finds an installation in a [Store]. Two applications that share a store never share a key.
type Key struct {
	ClientID string // the application
	MemberID string // the portal
	UserID   int64  // 0 for the application's own token
}

// Version is a store's mark of one state of an installation, opaque to everyone else. It changes with every write.
type Version string

// Store keeps installations. Its writes are compare-and-swap, so that of several processes that renew one token at the same
// time all end with the winner's: a refresh token works once, and the tokens of whoever comes second are void.
//
// Implementations must be safe for concurrent use, and by several processes where several share one. What they are given and
// what they return belongs to the receiver: they copy. Any error of theirs other than those named here means that the store
// is out of order.
type Store interface {
	// Load returns an installation and its version, or ErrNotFound.
	Load(ctx context.Context, key Key) (Installation, Version, error)
	// Swap writes an installation in the place of version old and returns the new version. An empty old creates. It returns
	// ErrConflict where the stored version is another one, where there is none any more, and where there is one already.
	Swap(ctx context.Context, key Key, old Version, in Installation) (Version, error)
	// Delete removes version old. It returns ErrConflict where the stored version is another one, and nil where there is none.
	Delete(ctx context.Context, key Key, old Version) error
}
