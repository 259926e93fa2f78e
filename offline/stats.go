package offline

import (
	"context"
	"sync"
	"time"
)

// Stats counts what a [Consumer] did since it was made.
type Stats struct {
	Requests  int64 // HTTP requests to the portal, failed ones included; a batch is one, what handlers call is not counted
	Reserved  int64 // records in new reservations
	Recovered int64 // records read from reservations that an earlier run left
	Handled   int64 // records that a handler finished
	Unhandled int64 // records that no handler takes: each is parked, and counted once
	Misfits   int64 // values of payloads that did not fit their fields, once for each attempt; see event.Delivery.Misfits
	Ignored   int64 // records that were cleared unhandled, see WithIgnoredUsers
	Retries   int64 // attempts after the first
	Cleared   int64 // records removed from the queue
	Parked    int64 // records parked
	Unparked  int64 // parked records that were read again for another attempt
	Spooled   int64 // records written to the spool, see WithSpool
	Damaged   int64 // files of the spool, or answers for it, that could not be read whole and were put aside in it
	Left      int64 // records left reserved: the run ended before they were finished or cleared, or nothing names them to the portal

	LastAnswer time.Time     // when the portal last answered a call without an error; zero before the first time
	LastRecord time.Time     // when the queue last held a record; zero before the first time
	Lag        time.Duration // from the change of the record that was handled last until it was, as in Hooks
	Backlog    Backlog       // as it was measured last
}

// RequestsPerEvent returns how many requests the consumer made for each record that it finished. It does not count those of the handlers.
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

// callTimeout is above the platform's own limit of a minute for one request. It guards against callers without a time limit.
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
