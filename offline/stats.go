package offline

import (
	"context"
	"sync"
	"time"
)

// Stats is what a [Consumer] did since it was made.
type Stats struct {
	Requests  int64 // to the portal, failed ones included, those of handlers not; a batch is one
	Reserved  int64 // records in new reservations
	Recovered int64 // records that an earlier run left, reserved or in the spool
	Handled   int64 // records whose handler succeeded
	Unhandled int64 // records that no handler takes: each is parked, and counted once
	Misfits   int64 // values of payloads that did not fit, for each attempt; see event.Delivery.Misfits
	Ignored   int64 // records that were cleared unhandled, see WithIgnoredUsers
	Retries   int64 // attempts after the first
	Cleared   int64 // records removed from the queue
	Parked    int64 // records parked
	Dropped   int64 // records that ended for good without success, see Hooks.Dropped
	Unparked  int64 // parked records that were read again for another attempt
	Spooled   int64 // records written to the spool when they were taken, see WithSpool
	Damaged   int64 // files of the spool, or responses for it, that could not be read and were put aside
	Left      int64 // records left reserved: not finished or cleared at the end, or without a usable ID

	LastAnswer time.Time     // when a call last succeeded; zero before the first time
	LastRecord time.Time     // when the queue last held a record; zero before the first time
	Lag        time.Duration // of the record that was handled last, as in Hooks.Handled
	Backlog    Backlog       // as it was measured last
}

// RequestsPerEvent returns how many requests the consumer made for each record that it finished. It
// does not count those of the handlers.
func (s Stats) RequestsPerEvent() float64 {
	if n := s.Handled + s.Ignored; n > 0 {
		return float64(s.Requests) / float64(n)
	}
	return 0
}

// meter keeps the statistics and bounds the calls.
type meter struct {
	call callFunc

	mu    sync.Mutex
	stats Stats
}

// callTimeout is above the platform's own limit of a minute for one request. It guards against
// callers without a time limit.
const callTimeout = 90 * time.Second

// Call is the method of an [event.Caller].
func (m *meter) Call(ctx context.Context, method string, params, result any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := m.call(ctx, method, params, result)
	m.count(func(s *Stats) {
		s.Requests++
		if err == nil {
			s.LastAnswer = time.Now()
		}
	})
	return err
}

func (m *meter) count(change func(*Stats)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.stats)
}

func (m *meter) read() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}
