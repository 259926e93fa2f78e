package offline_test

import (
	"context"
	"flag"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/offline"
)

var longTests = flag.Bool("offline.long", false, "run tests that take long")

// A downstream system is out of order during an import, so that the spool fills with parked
// records, up to its bound of 100,000. When the system is back, they are tried, and new records are
// taken.
func TestSpoolFullOfParkedRecordsRecovers(t *testing.T) {
	t.Parallel()
	if !*longTests {
		t.Skip("100,000 records take ten seconds, and a minute with -race; run it with -offline.long")
	}
	const bound = 100_000
	var tried, fresh int64
	synctest.Test(t, func(t *testing.T) {
		f := withoutReservations(t)
		f.change("UPDATE", upTo(bound)...)
		var healthy atomic.Bool
		var old, last atomic.Int64
		c := newConsumer(t, f.api, func(_ context.Context, d *event.Delivery) error {
			switch {
			case !healthy.Load():
				return errHandler
			case dealID(t, d) > bound:
				last.Add(1)
			default:
				old.Add(1)
			}
			return nil
		}, offline.WithSpool(t.TempDir()), offline.WithMaxAttempts(1), offline.WithParkedInterval(time.Hour))
		stop := background(t, c)
		<-time.After(30 * time.Minute)
		require.Empty(t, f.states(), "all are in the spool")
		healthy.Store(true)
		f.change("UPDATE", bound+1)
		<-time.After(2 * time.Hour)
		stop()
		tried, fresh = old.Load(), last.Load()
	})
	expect(t, tried == bound, "%d of %d parked records were handled in two hours", tried, bound)
	expect(t, fresh == 1, "the new record was handled %d times", fresh)
}
