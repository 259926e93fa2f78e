package oauth

import (
	"context"
	"errors"
	"fmt"
)

// resealTries is how often Reseal tries to write an installation that others change meanwhile.
const resealTries = 10

// Reseal writes every installation of an application again, unchanged, so that a store that
// encrypts does so with its first key. Call it once after a change of keys, in one process, with a
// store that has the old key too; see [WithEncryptionKey]. Others may use the store meanwhile.
//
// It returns how many installations it wrote. It skips those that cannot be read, with
// [ErrUnreadable] or [ErrEncryptionKey]. The error is then that of the first of them, and says how
// many there are. Any other error ends it. Calling Reseal again is harmless.
func Reseal(ctx context.Context, store Store, clientID string) (written int, err error) {
	var first error
	unread := 0
	for key, err := range Keys(ctx, store, clientID) {
		if err == nil {
			err = reseal(ctx, store, key)
		}
		switch {
		case err == nil:
			written++
		case errors.Is(err, ErrNotFound): // deleted in the meantime
		case errors.Is(err, ErrUnreadable), errors.Is(err, ErrEncryptionKey):
			unread++
			if first == nil {
				first = err
			}
		default:
			return written, fmt.Errorf("oauth: reseal: %w", err)
		}
	}
	if first != nil {
		return written, fmt.Errorf("oauth: reseal: %d of %d installations could not be read; the first: %w", unread, unread+written, first)
	}
	return written, nil
}

func reseal(ctx context.Context, store Store, key Key) error {
	var err error
	for range resealTries {
		in, version, loadErr := store.Load(ctx, key)
		if loadErr != nil {
			return loadErr
		}
		if _, err = store.Swap(ctx, key, version, in); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return err
}
