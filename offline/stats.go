package offline

import (
	"context"
	"encoding/json"
	"sync"
	"time"
)

// Stats is what a [Consumer] did since it was made.
type Stats struct {
	Requests  uint64 `json:"requests"`  // to the portal, also failed ones; a batch is one; requests of handlers do not count
	Reserved  uint64 `json:"reserved"`  // records in new reservations
	Recovered uint64 `json:"recovered"` // records that an earlier run left, reserved or in the spool
	Handled   uint64 `json:"handled"`   // records whose handler succeeded
	Unhandled uint64 `json:"unhandled"` // records without a handler: each is parked, and counted once
	Misfits   uint64 `json:"misfits"`   // values of payloads that did not fit, for each attempt; see event.Delivery.Misfits
	Ignored   uint64 `json:"ignored"`   // records that were cleared unhandled, see WithIgnoredUsers
	Retried   uint64 `json:"retried"`   // attempts after the first
	Cleared   uint64 `json:"cleared"`   // records removed from the queue
	Parked    uint64 `json:"parked"`    // records parked
	Dropped   uint64 `json:"dropped"`   // records that ended for good without success, see Hooks.Dropped
	Unparked  uint64 `json:"unparked"`  // parked records that were read again for another attempt
	Spooled   uint64 `json:"spooled"`   // records written to the spool when they were taken, see WithSpool
	Damaged   uint64 `json:"damaged"`   // files of the spool, or responses for it, that could not be read and were put aside
	Abandoned uint64 `json:"abandoned"` // records left reserved: not finished or cleared at the end, or without a usable ID

	LastResponse time.Time     `json:"last_response,omitzero"` // when a call last succeeded; zero before the first time
	LastRecord   time.Time     `json:"last_record,omitzero"`   // when the queue last held a record; zero before the first time
	LastLag      time.Duration `json:"last_lag"`               // of the record that was handled last, as in Hooks.Handled
	Backlog      Backlog       `json:"backlog"`                // as it was measured last

	// Lag is that of all handled records, as in Hooks.Handled. Handlers has how long handlers ran, for
	// each attempt, by [event.MetricLabel]. A [Fleet] has both in its [FleetStats], and not for each
	// portal.
	Lag      Latency            `json:"lag"`
	Handlers map[string]Latency `json:"handlers,omitempty"`
}

// MarshalJSON writes durations in seconds.
func (s Stats) MarshalJSON() ([]byte, error) { return json.Marshal(s.inSeconds()) }

// inSeconds returns the fields of s as JSON has them.
func (s Stats) inSeconds() statsInSeconds {
	return statsInSeconds{statsFields(s), s.LastLag.Seconds()}
}

// statsFields are those of Stats without its methods.
type statsFields Stats

type statsInSeconds struct {
	statsFields

	LastLag float64 `json:"last_lag"`
}

// Backlog is what a queue holds.
type Backlog struct {
	MemberID string // of the portal

	At      time.Time // when it was measured; zero if it was not yet
	Waiting int       // records that no reservation holds, without parked ones
	Oldest  time.Time // the last change of the one that has waited longest, by the portal's clock; zero if unknown
	Parked  int       // parked records, by the last pass over them and what was done since
}

// RequestsPerEvent returns how many requests the consumer made for each record that it finished. It
// does not count those of the handlers.
func (s Stats) RequestsPerEvent() float64 {
	if n := s.Handled + s.Ignored; n > 0 {
		return float64(s.Requests) / float64(n)
	}
	return 0
}

// measureInterval is how often the backlog is measured, by a call that joins others. No call is
// needed if the last reservation held all there was.
const measureInterval = 30 * time.Second

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
			s.LastResponse = time.Now()
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

// counted converts a number of things for a counter.
func counted(n int) uint64 { return uint64(max(n, 0)) }

// backlogCall returns a call that counts the records that wait in the queue.
func (e *engine) backlogCall(ctx context.Context) call {
	params := map[string]any{"filter": map[string]any{"=ERROR": 0, "=PROCESS_ID": ""}, "order": map[string]any{"TIMESTAMP_X": "ASC"}}
	return call{method: methodList, params: params, done: func(doc json.RawMessage, total int, err error) error {
		var page []Record
		if err == nil {
			page, err = readPage(doc)
		}
		if err != nil {
			return e.listDone(ctx, err)
		}
		var oldest time.Time
		if len(page) > 0 {
			oldest = page[0].time()
		}
		e.noteBacklog(ctx, max(total, len(page)), oldest)
		return nil
	}}
}

// noteBacklog notes how many records wait, and since when the oldest does. It calls Hooks.Measured.
func (e *engine) noteBacklog(ctx context.Context, waiting int, oldest time.Time) {
	now := time.Now()
	var b Backlog
	e.meter.count(func(s *Stats) {
		s.Backlog.MemberID, s.Backlog.At, s.Backlog.Waiting, s.Backlog.Oldest = e.memberID, now, waiting, oldest
		b = s.Backlog
	})
	if now.Before(e.measuredAt.Add(measureInterval)) {
		return
	}
	e.measuredAt = now
	if hook := e.cfg.hooks.Measured; hook != nil {
		e.callHook(ctx, "Measured", func() { hook(ctx, b) })
	}
}

// setParkedCount notes how many parked records there are.
func (e *engine) setParkedCount(n int) {
	e.meter.count(func(s *Stats) { s.Backlog.Parked = n })
}

// addParkedCount notes how many more parked records there are.
func (e *engine) addParkedCount(n int) {
	e.meter.count(func(s *Stats) { s.Backlog.Parked = max(0, s.Backlog.Parked+n) })
}
