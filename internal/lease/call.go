package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/b24events/b24events/internal/redact"
)

// Leaser is the store of leases. Its methods may be called from several goroutines, but a Keeper
// calls one at a time. Names and owners are printable ASCII without spaces.
type Leaser interface {
	// Acquire takes the named leases for owner, or renews those that it holds, to ttl from now,
	// and returns those that owner holds now. After an error leases may have been taken anyway.
	Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error)
	// Release ends those of the named leases that owner holds.
	Release(ctx context.Context, owner string, names ...string) error
	// Held returns the leases in force whose names begin with prefix, with their owners.
	Held(ctx context.Context, prefix string) (map[string]string, error)
}

// Errors of calls that have no error of the store.
var (
	errHanging = errors.New("lease: an earlier call of the leaser has not returned")
	errTimeout = errors.New("lease: the leaser did not answer in time")
	errDied    = errors.New("lease: the leaser ended its goroutine")
	errStopped = errors.New("lease: the keeper was stopped")
)

const (
	keyMethod = "method"
	keyError  = "error"
	keyWait   = "wait"

	maxErrorText = 500
)

// call calls the store and waits for a step at most. Losses are reported meanwhile. The first error
// of a streak is logged. If a renewal is due, it comes first. A Keeper that was stopped makes no
// calls but the last.
func call[T any](ctx context.Context, k *Keeper, method string, f func(context.Context) (T, error)) (T, error) {
	k.mu.Lock()
	stopped := k.stopped
	k.mu.Unlock()
	if stopped {
		var none T
		return none, errStopped
	}
	k.renewDue(ctx)
	return lastCall(ctx, k, method, f)
}

// lastCall is call, also for a Keeper that was stopped.
func lastCall[T any](ctx context.Context, k *Keeper, method string, f func(context.Context) (T, error)) (T, error) {
	a := attempt(ctx, k, f)
	k.mu.Lock()
	first := a.err != nil && !k.failing
	if a.err == nil || ctx.Err() == nil { // the end of the caller's context says nothing of the store
		k.failing = a.err != nil
	}
	k.mu.Unlock()
	if first && ctx.Err() == nil {
		k.log.LogAttrs(ctx, slog.LevelWarn, "lease: the store of the leases failed, trying again", slog.String(keyMethod, method),
			slog.String(keyError, errorText(a.err)), slog.String(keyWait, (k.step()/2).String()))
	}
	return a.value, a.err
}

// errorText is an error for the log, without the URL of a request, which may hold a secret.
func errorText(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return redact.Line(redact.New(), err.Error(), maxErrorText)
}

type answer[T any] struct {
	value T
	err   error
}

func attempt[T any](ctx context.Context, k *Keeper, f func(context.Context) (T, error)) answer[T] {
	ctx, cancel := context.WithTimeoutCause(ctx, k.step(), errTimeout)
	defer cancel()
	if !k.enter(ctx) {
		return answer[T]{err: errors.Join(errHanging, context.Cause(ctx))}
	}
	answers := make(chan answer[T], 1) // has room, so that nobody need wait for a late answer
	go func() {
		a := answer[T]{err: errDied}
		defer func() {
			if v := recover(); v != nil {
				a = answer[T]{err: fmt.Errorf("lease: the leaser panicked with a %T", v)}
			}
			<-k.slot
			answers <- a
		}()
		a.value, a.err = f(ctx)
	}()
	for {
		select {
		case a := <-answers:
			return a
		case <-k.ended:
			k.onEnded()
		case <-ctx.Done():
			select {
			case a := <-answers:
				return a
			default:
				return answer[T]{err: context.Cause(ctx)}
			}
		}
	}
}

// enter waits until no other call is under way, and reports whether that came before the end of
// ctx.
func (k *Keeper) enter(ctx context.Context) bool {
	for {
		select {
		case k.slot <- struct{}{}:
			return true
		case <-k.ended:
			k.onEnded()
		case <-ctx.Done():
			return false
		}
	}
}
