package offline

import (
	"github.com/b24events/b24events/internal/dispatch"
)

const (
	// consumerMemory and fleetMemory bound the memory of records that are in work, in bytes, those
	// that wait for another attempt included. Records of usual events take one or two kilobytes.
	consumerMemory = 64 << 20
	fleetMemory    = 256 << 20
	// minOverflow is how many handlers may hang at a time before they hold up other portals, at least.
	minOverflow = 256
)

// connect gives the configuration its dispatcher: workers handlers at a time, of which slow portals
// may have a share.
func (c *config) connect(workers, slowShare int, memory int64) {
	c.budget = &budget{size: memory}
	c.dispatcher = dispatch.New(dispatch.Config{
		Workers:     workers,
		Limit:       c.workers,
		SlowShare:   slowShare,
		Overflow:    max(2*workers, minOverflow),
		Urgent:      1,
		Timeout:     c.handlerTimeout,
		Closed:      ErrStopped,
		MaxAttempts: c.maxAttempts,
		Backoff:     retryWait,
		Grace:       c.grace,
		Logger:      c.logger,
	})
}
