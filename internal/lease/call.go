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
	// and returns those that owner holds now. After an error it may have taken leases all the same.
	Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error)
	// Release ends those of the named leases that owner holds.
	Release(ctx context.Context, owner string, names ...string) error
	// Held returns the leases in force whose names begin with prefix, with their owners.
	Held(ctx context.Context, prefix string) (map[string]string, error)
}

// Errors of calls that return none of the store's.
var (
	errHanging = errors.New("lease: an earlier call of the leaser has not returned")
	errTimeout = errors.New("lease: the leaser did not return in time")
	errDied    = errors.New("lease: the leaser ended its goroutine with runtime.Goexit")
	errStopped = errors.New("lease: the keeper was stopped")
)

const (
	keyMethod = "method"
	keyError  = "error"
	keyWait   = "wait"

	maxErrorText = 500
)

// call calls the store and waits for a step at most. It reports lost leases meanwhile. It logs the
// first error of a series. If a renewal is due, it renews first. It makes no call after Stop.
func call[T any](ctx context.Context, k *Keeper, method string, f func(context.Context) (T, error)) (T, error) {
	k.mu.Lock()
	stopped := k.stopped
	k.mu.Unlock()
	if stopped {
		var none T
		return none, errStopped
	}
	k.renewIfDue(ctx)
	return callAlways(ctx, k, method, f)
}

// callAlways is call, but works after Stop too, and renews nothing.
func callAlways[T any](ctx context.Context, k *Keeper, method string, f func(context.Context) (T, error)) (T, error) {
	r := attempt(ctx, k, f)
	k.mu.Lock()
	first := r.err != nil && !k.failing
	if r.err == nil || ctx.Err() == nil { // the end of the caller's context is no failure of the store
		k.failing = r.err != nil
	}
	k.mu.Unlock()
	if first && ctx.Err() == nil {
		k.log.LogAttrs(ctx, slog.LevelWarn, "lease: the store of the leases failed, trying again", slog.String(keyMethod, method),
			slog.String(keyError, errorText(r.err)), slog.String(keyWait, (k.step()/2).String()))
	}
	return r.value, r.err
}

// errorText returns the text of an error for the log, without the URL of a request, which may hold
// a secret.
func errorText(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return redact.Line(redact.New(), err.Error(), maxErrorText)
}

// callResult is what a call of the leaser returned.
type callResult[T any] struct {
	value T
	err   error
}

// attempt makes a call in a goroutine of its own and waits for its result, a step at most.
func attempt[T any](ctx context.Context, k *Keeper, f func(context.Context) (T, error)) callResult[T] {
	ctx, cancel := context.WithTimeoutCause(ctx, k.step(), errTimeout)
	defer cancel()
	if !k.takeSlot(ctx) {
		return callResult[T]{err: errors.Join(errHanging, context.Cause(ctx))}
	}
	results := make(chan callResult[T], 1) // a late result needs no reader
	go func() {
		r := callResult[T]{err: errDied}
		defer func() {
			if v := recover(); v != nil {
				r = callResult[T]{err: fmt.Errorf("lease: the leaser panicked with a %T", v)}
			}
			<-k.slot
			results <- r
		}()
		r.value, r.err = f(ctx)
	}()
	for {
		select {
		case r := <-results:
			return r
		case <-k.ended:
			k.onEnded()
		case <-ctx.Done():
			select {
			case r := <-results:
				return r
			default:
				return callResult[T]{err: context.Cause(ctx)}
			}
		}
	}
}

// takeSlot waits until no other call is under way. It reports false if ctx ends first.
func (k *Keeper) takeSlot(ctx context.Context) bool {
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
