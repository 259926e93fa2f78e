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

// protect runs code of a store, or code that calls it, in a goroutine of its own. It returns
// panics, runtime.Goexit and errors that have no text as errors.
func protect(f func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errStoreExit
		defer func() { done <- err }()
		err = textual(dispatch.Guard(f))
	}()
	return <-done
}

// textual returns an error whose text can be read.
func textual(err error) error {
	if err == nil {
		return nil
	}
	if dispatch.Guard(func() error { _ = err.Error(); return nil }) != nil {
		return errNoText
	}
	return err
}

// plainError returns an error with the text of another. A panic of a store is no reason to give up a
// record, as one of a handler is.
func plainError(what string, err error) error {
	return fmt.Errorf("webhook: %s: %s", what, storeText(err))
}
