package webhook

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/histogram"
	"github.com/b24events/b24events/internal/misfits"
)

// Stats is a snapshot of what a [Handler] has done since it was made. Each number is exact. They
// are read one after the other, so sums may be off by what happens meanwhile. If a Handler with a
// memory queue is idle, every accepted delivery is in one of the other numbers:
//
//	Accepted = Coalesced + Handled + Unhandled + Failed + Removed + what Shutdown cut off
type Stats struct {
	Accepted  uint64 `json:"accepted"`  // verified deliveries that were queued or (with WithSync) given to the handler
	Coalesced uint64 `json:"coalesced"` // accepted deliveries that were merged into another one
	Handled   uint64 `json:"handled"`   // handler returned nil
	Failed    uint64 `json:"failed"`    // given up: dropped by the handler, a payload of the wrong shape, a panic, or out of attempts
	Removed   uint64 `json:"removed"`   // accepted deliveries that were dropped because the portal removed the application
	Retried   uint64 `json:"retried"`   // failed attempts that were followed, or will be, by another one
	// Lost counts events that were lost before they were handled: the response was 503, the sender
	// broke off, or Shutdown cut them off.
	Lost uint64 `json:"lost"`
	// Unhandled counts accepted deliveries for which the handler returned event.ErrUnhandled. An
	// [event.Mux] returns it if no handler is registered for the event. They are acknowledged, and
	// neither retried nor counted as Failed. A program with [WithQueue] counts its own.
	Unhandled uint64 `json:"unhandled"`
	// Misfits counts values of payloads that did not fit their fields, which were left zero, once for
	// each attempt; see [event.Delivery.Misfits]. The log names each place once.
	Misfits  uint64            `json:"misfits"`
	Rejected map[Reason]uint64 `json:"rejected"`  // every Reason is present
	Queued   int               `json:"queued"`    // waiting now, for a worker or for the next attempt
	Running  int               `json:"running"`   // being handled now
	InFlight int64             `json:"in_flight"` // bytes of memory charged now for requests being read and verified
	Ack      Latency           `json:"ack"`       // from the arrival of the request to its 200
	Lag      Latency           `json:"lag"`       // from the arrival of the request to the start of its handler
	// Handlers has how long handlers ran, for each attempt, by [event.MetricLabel]. Events that no
	// handler takes are among them. It is empty with [WithQueue].
	Handlers map[string]Latency `json:"handlers"`
	// LastAccepted is when a delivery was last accepted, zero before the first. A long silence means
	// that portals have lost the binding, or cannot reach the Handler.
	LastAccepted time.Time `json:"last_accepted,omitzero"`
	// Store is nil without [WithStore]. With a store, Accepted counts the deliveries that this process
	// stored, and the outcomes count those that it handled. Other processes, or an earlier one, may
	// have stored those.
	Store *StoreStats `json:"store,omitempty"`
}

// counters are the live numbers behind [Stats] that the dispatcher does not count.
type counters struct {
	lost     atomic.Uint64
	misfits  *misfits.Log
	rejected map[Reason]*atomic.Uint64 // fixed once made
	ack, lag histogram.Histogram
	handlers histogram.ByName
	accepted atomic.Int64 // when a delivery was last accepted, in Unix nanoseconds; 0 before the first
}

// run calls a handler, and records how long it took.
func (c *counters) run(ctx context.Context, h event.Handler, d *event.Delivery) error {
	began := time.Now()
	defer func() { c.handlers.Record(event.MetricLabel(d.Name), time.Since(began)) }()
	return h.HandleEvent(ctx, d)
}

func newCounters(logger *slog.Logger) *counters {
	c := &counters{misfits: misfits.New(logger), rejected: make(map[Reason]*atomic.Uint64)}
	for _, r := range Reasons() {
		c.rejected[r] = new(atomic.Uint64)
	}
	return c
}

// Stats returns what the Handler has done so far. It is cheap enough for each scrape of a metrics
// endpoint.
func (h *Handler) Stats() Stats {
	done, depth := h.dispatcher.Counts(), h.dispatcher.Depth()
	s := Stats{
		Accepted: done.Accepted,
		Lost:     h.count.lost.Load(),
		Misfits:  h.count.misfits.Count(),
		Rejected: make(map[Reason]uint64, len(h.count.rejected)),
		Handlers: make(map[string]Latency),
		Queued:   depth.Queued,
		Running:  depth.Running,
		InFlight: h.inFlight.used.Load(),
		Ack:      Latency{h.count.ack.Snapshot()},
		Lag:      Latency{h.count.lag.Snapshot()},
	}
	for name, took := range h.count.handlers.Snapshots() {
		s.Handlers[name] = Latency{took}
	}
	if at := h.count.accepted.Load(); at != 0 {
		s.LastAccepted = time.Unix(0, at)
	}
	for r, n := range h.count.rejected {
		s.Rejected[r] = n.Load()
	}
	if h.cfg.queue != nil { // what the workers of that queue do is not known here
		s.Accepted = done.Outcomes[dispatch.OutcomeDone]
		return s
	}
	s.Retried = done.Retried
	s.Coalesced = done.Outcomes[dispatch.OutcomeMerged]
	s.Handled = done.Outcomes[dispatch.OutcomeDone]
	s.Unhandled = done.Outcomes[dispatch.OutcomeUnhandled]
	s.Failed = done.Outcomes[dispatch.OutcomeFailed]
	s.Removed = done.Outcomes[dispatch.OutcomeRemoved]
	if h.durable != nil {
		n := h.durable.storeCount
		s.Accepted, s.Store = n.stored.Load(), h.durable.stats()
		s.Failed += n.failed.Load()
		s.Removed += n.removed.Load()
		s.Handled -= min(n.gone.Load(), s.Handled)
	}
	return s
}

// Latency is a snapshot of how long something has taken since the Handler was made. It is
// immutable. The zero Latency has no observations.
type Latency struct{ snapshot histogram.Snapshot }

// Count returns the number of observations.
func (l Latency) Count() uint64 { return l.snapshot.Count() }

// Sum returns the total of all observations, to the nanosecond.
func (l Latency) Sum() time.Duration { return l.snapshot.Sum() }

// Quantile returns a duration that the share q of the observations did not exceed, for example 0.99
// for the 99th percentile. It is at most an eighth (or a microsecond) too high and never too low,
// up to 78 hours. It is 0 without observations. q is clamped to 0…1.
func (l Latency) Quantile(q float64) time.Duration { return l.snapshot.Quantile(q) }

// MarshalJSON writes the count, the sum and the usual quantiles, in seconds.
func (l Latency) MarshalJSON() ([]byte, error) { return l.snapshot.MarshalJSON() }
