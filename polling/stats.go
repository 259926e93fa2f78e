package polling

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
)

// Stats is what a [Consumer] did since it was made. Package offline has the same words. When the
// consumer does not run, Received is the sum of Handled, Unhandled, Dropped, Failed, Damaged and
// Abandoned.
type Stats struct {
	Requests  uint64 `json:"requests"`  // to the portal, also failed ones; requests of handlers do not count
	Received  uint64 `json:"received"`  // events, without those that a response repeats
	Handled   uint64 `json:"handled"`   // events whose handler succeeded
	Unhandled uint64 `json:"unhandled"` // events without a handler
	Dropped   uint64 `json:"dropped"`   // events that their handler dropped with event.Drop
	Failed    uint64 `json:"failed"`    // events that were given up: out of attempts, or after a permanent error
	Damaged   uint64 `json:"damaged"`   // events that could not be read
	Abandoned uint64 `json:"abandoned"` // events that were not finished at the end; the next start handles them
	Misfits   uint64 `json:"misfits"`   // values of payloads that did not fit, for each attempt; see event.Delivery.Misfits
	Retried   uint64 `json:"retried"`   // attempts after the first

	InWork       int           `json:"in_work"`                // events that wait for their handler, or that it works on
	Offset       int64         `json:"offset"`                 // that was kept last; 0 for none
	LastResponse time.Time     `json:"last_response,omitzero"` // when a request for events last succeeded; zero before the first time
	LastEvent    time.Time     `json:"last_event,omitzero"`    // when an event last came; zero before the first time
	LastLag      time.Duration `json:"last_lag"`               // of the event that was handled last, as in Hooks.Handled
}

// MarshalJSON writes durations in seconds.
func (s Stats) MarshalJSON() ([]byte, error) {
	type fields Stats
	return json.Marshal(struct {
		fields

		LastLag float64 `json:"last_lag"`
	}{fields(s), s.LastLag.Seconds()})
}

// meter keeps the statistics and bounds the calls.
type meter struct {
	caller event.Caller

	mu    sync.Mutex
	stats Stats
}

func (m *meter) call(ctx context.Context, method string, params, result any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := m.caller.Call(ctx, method, params, result)
	m.count(func(s *Stats) { s.Requests++ })
	if err != nil {
		return explain(method, err)
	}
	return nil
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

// counted converts a number of things for a counter.
func counted(n int) uint64 { return uint64(max(n, 0)) }
