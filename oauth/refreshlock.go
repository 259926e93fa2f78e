package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"strconv"
	"time"

	"github.com/b24events/b24events/internal/timing"
)

// Locker gives named locks to processes that share a [Store], so that they renew the tokens of a
// portal one at a time. It only saves requests to the OAuth server. Without it, or after a lock has
// run out, the compare-and-swap of the store still lets one renewal win.
//
// An offline.Leaser is a Locker. Implementations must be safe for concurrent use. They compare
// names and owners byte by byte.
type Locker interface {
	// Acquire takes the named locks for owner, or extends those that owner holds, to ttl from now by
	// the clock of the locker. It does not wait. It returns the names that owner holds now; other
	// owners hold the rest. If it returns an error, it may have taken locks.
	Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error)
	// Release ends the named locks that owner holds. It leaves the locks of others as they are.
	Release(ctx context.Context, owner string, names ...string) error
}

const (
	// refreshLockTTL is longer than a renewal takes, and short enough for others if the process of
	// the owner dies.
	refreshLockTTL = 20 * time.Second
	// refreshLockWait is how long a renewal waits for another process. Tokens are safe without the
	// lock.
	refreshLockWait = 10 * time.Second
	refreshLockPoll = 100 * time.Millisecond
)

// refreshLock waits until no other process renews the key, if there is a Locker. Its error is the
// context's.
func (p *Portals) refreshLock(ctx context.Context, key Key) (release func(), err error) {
	if p.locker == nil {
		return func() {}, nil
	}
	sum := sha256.Sum256([]byte(key.ClientID + "\x00" + key.MemberID + "\x00" + strconv.FormatInt(key.UserID, 10)))
	name := "b24-refresh-" + hex.EncodeToString(sum[:16])
	deadline := time.Now().Add(refreshLockWait)
	for {
		got, err := p.acquire(ctx, name, deadline)
		switch {
		case ctx.Err() != nil:
			return nil, &Error{Op: opRenew, Kind: ErrTemporary, Err: ctx.Err()}
		case err != nil:
			p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 refresh lock failed; the renewal goes on without it",
				slog.String(keyMemberID, key.MemberID), slog.String(keyError, errorText(err)))
			return func() {}, nil
		case len(got) > 0:
			return func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
				defer cancel()
				_ = p.locker.Release(ctx, p.owner, name) // it runs out by itself
			}, nil
		case !time.Now().Before(deadline):
			return func() {}, nil
		}
		if err := timing.Sleep(ctx, refreshLockPoll); err != nil {
			return nil, &Error{Op: opRenew, Kind: ErrTemporary, Err: err}
		}
	}
}

// acquire tries to take a lock. A locker that hangs has time until the deadline.
func (p *Portals) acquire(ctx context.Context, name string, deadline time.Time) ([]string, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	return p.locker.Acquire(ctx, p.owner, refreshLockTTL, name)
}
