package webhook_test

import (
	"context"
	"errors"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// panickyError panics in the method that it names.
type panickyError struct{ in string }

func (e panickyError) panic(method string) {
	if e.in == method {
		panic(method)
	}
}

func (e panickyError) Error() string {
	e.panic("Error")
	return "odd"
}

func (e panickyError) Unwrap() error {
	e.panic("Unwrap")
	return nil
}

func (e panickyError) Is(error) bool {
	e.panic("Is")
	return false
}

func (e panickyError) Permanent() bool {
	e.panic("Permanent")
	return false
}

// TestErrorsThatPanicAreFailures: a handler that returns a nil *url.Error as an error is a common
// mistake. It must not stop the queue.
func TestErrorsThatPanicAreFailures(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"nil pointer":    (*url.Error)(nil),
		"joined":         errors.Join(event.ErrUnhandled, (*url.Error)(nil)),
		"in Error":       panickyError{"Error"},
		"in Unwrap":      panickyError{"Unwrap"},
		"in Is":          panickyError{"Is"},
		"in Permanent":   panickyError{"Permanent"},
		"wrapped in one": event.Retry(panickyError{"Error"}, 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, opts := range [][]webhook.Option{nil, {webhook.WithSync()}} {
				h := newHandler(t, event.HandlerFunc(func(_ context.Context, d *event.Delivery) error {
					if d.Entity().ID == "1" {
						return err
					}
					return nil
				}), opts...)
				post(h, dealUpdate(1))
				require.Equal(t, 200, post(h, dealUpdate(2)))
				require.NoError(t, h.Shutdown(t.Context()))
				require.EqualValues(t, 1, h.Stats().Failed)
				require.EqualValues(t, 1, h.Stats().Handled)
			}
		})
	}
}
