package oauth

import (
	"cmp"
	"context"
)

// Key finds an installation in a [Store]. Two applications that share a store never share a key.
type Key struct {
	ClientID string // the application
	MemberID string // the portal; never empty
	UserID   int64  // 0 for the application's own token, or the ID of a user, which is positive
}

// compare orders keys as [Store] lists them, the applications by client ID.
func (k Key) compare(other Key) int {
	return cmp.Or(
		cmp.Compare(k.ClientID, other.ClientID),
		cmp.Compare(k.MemberID, other.MemberID),
		cmp.Compare(k.UserID, other.UserID),
	)
}

// writable returns an error for a key that List could not return. Package oauth makes no such keys.
func (k Key) writable() error {
	switch {
	case k.MemberID == "":
		return errNoMember
	case k.UserID < 0:
		return errNegativeUser
	default:
		return nil
	}
}

const (
	errNoMember     storeError = "oauth: the key has no member ID, and nothing is stored for it"
	errNegativeUser storeError = "oauth: the key has a negative user ID, and nothing is stored for it"
	errLimit        storeError = "oauth: List needs a limit of 1 or more"
)

// storeError is an error of a store that needs no details.
type storeError string

func (e storeError) Error() string { return string(e) }

// Version is a store's mark of one state of an installation, opaque to everyone else. Every write
// makes a new one. None ever comes back, not even after the installation was deleted and created
// again.
type Version string

// Store keeps the installations of one application or of several. A write is a compare-and-swap,
// because a refresh token works once: of several processes that renew the same token, one wins, and
// the others adopt what it stored.
//
// Implementations must be safe for concurrent use, by several processes if these share a store.
// Load must see every Swap and Delete that has returned, in any process: no cache, no read replica
// that lags behind. A process that loads a used refresh token would conclude that the portal is
// lost.
//
// The caller owns what a method returns, and keeps what it passes: implementations copy. Any error
// other than [ErrNotFound], [ErrConflict] and the context's means that the store is unavailable. A
// store refuses a key with an empty MemberID or a negative UserID. It may refuse a key that it
// cannot hold, such as a very long one, with an error of its own; Load then returns ErrNotFound.
//
// Package oauthtest has a suite that checks a Store. Use [Codec] to turn an installation into
// bytes. A Store may also be a [Preparer]. It may be a [Locker], which is then used like that of
// [WithRefreshLock].
type Store interface {
	// Load returns an installation and its version, or ErrNotFound.
	Load(ctx context.Context, key Key) (Installation, Version, error)
	// Swap replaces version old of an installation and returns the new version. An empty old
	// creates the installation. Swap returns ErrConflict if the stored version is another one, if
	// nothing is stored any more, or if old is empty and something is stored.
	Swap(ctx context.Context, key Key, old Version, in Installation) (Version, error)
	// Delete removes version old. It returns ErrConflict if the stored version is another one, and
	// nil if there is none.
	Delete(ctx context.Context, key Key, old Version) error
	// List returns up to limit keys of the application after.ClientID, in the order of MemberID,
	// compared byte by byte, and then of UserID. It returns the keys that follow after, which need
	// not be stored. So an empty MemberID starts at the beginning, and the last key of one page
	// returns the next page. Fewer keys than limit mean that there are no more. A limit below 1 is
	// an error.
	//
	// To list the users of one portal, start after the portal's key with UserID 0, and stop at the
	// first key of another portal.
	//
	// A key is listed even if its installation cannot be read. Nothing stays open between two
	// pages. A key that is created or deleted meanwhile may be listed or not; every other key is
	// listed once.
	List(ctx context.Context, after Key, limit int) ([]Key, error)
}

// Preparer is a [Store] that can reserve space for a write. Package oauth calls Prepare before it
// uses up a refresh token or an authorization code, which work once. If the store cannot keep the
// new tokens, nothing is used up. A type that wraps a Store must have a Prepare too, or that of the
// Store is not called.
type Preparer interface {
	// Prepare reserves what one Swap of key needs, so that Swap succeeds even if the disk fills up
	// in the meantime. It returns an error if it cannot. A Swap of key by the same store uses the
	// reservation; if Swap returns ErrConflict, the reservation stays. Each of several callers,
	// in this process or in others, gets a reservation of its own. Prepare does not lock the key.
	//
	// The caller must call release when it is done. release frees what was not used. Calling it
	// again does nothing.
	Prepare(ctx context.Context, key Key) (release func(), err error)
}
