package webhook

import (
	"errors"
	"fmt"

	"github.com/b24events/b24events/internal/dispatch"
)

var (
	errStoreExit = errors.New("webhook: the store ended its goroutine with runtime.Goexit")
	errNoText    = errors.New("webhook: the store returned an error whose text panics")
	errNilRecord = errors.New("webhook: the store yielded neither a record nor an error")
)

// protect runs f, which calls a store, in a goroutine of its own. If f panics, calls runtime.Goexit
// or returns an error whose text panics, protect returns an error for that.
func protect(f func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errStoreExit
		defer func() { done <- err }()
		err = textual(dispatch.Guard(f))
	}()
	return <-done
}

// textual returns err, or errNoText if the text of err panics.
func textual(err error) error {
	if err == nil {
		return nil
	}
	if dispatch.Guard(func() error { _ = err.Error(); return nil }) != nil {
		return errNoText
	}
	return err
}

// plainError returns an error with only the text of another one. So a panic of a store does not
// make the dispatcher give up a record, as a panic of a handler does.
func plainError(what string, err error) error {
	return fmt.Errorf("webhook: %s: %s", what, storeText(err))
}
