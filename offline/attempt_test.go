package offline_test

import (
	"context"
	"errors"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

// TestErrorsThatPanicAreFailures: a handler that returns a nil *url.Error as an error is a common
// mistake. Its record is parked, and the consumer goes on.
func TestErrorsThatPanicAreFailures(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"nil pointer": (*url.Error)(nil),
		"joined":      errors.Join(event.ErrUnhandled, (*url.Error)(nil)),
		"retried":     event.Retry((*url.Error)(nil), 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.change("ADD", 1, 2)
			c := f.drain(func(_ context.Context, d *event.Delivery) error {
				if d.Entity().ID == "1" {
					return err
				}
				return nil
			})
			require.EqualValues(t, 1, c.Stats().Handled)
			require.Len(t, f.OfflineRows(), 1)
		})
	}
}
