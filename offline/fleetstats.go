package offline

import (
	"encoding/json"
	"time"

	"github.com/b24events/b24events/internal/histogram"
)

// FleetStats is what a [Fleet] does now, and what it did since it was made.
type FleetStats struct {
	Portals int `json:"portals"` // that the fleet knows
	Shards  int `json:"shards"`  // of 256 that it holds: without a Leaser all, while it runs
	Owned   int `json:"owned"`   // portals in these, which it works

	Busy    int           `json:"busy"`    // turns under way
	Stuck   int           `json:"stuck"`   // handlers and turns that go on although their contexts have ended; their number is not bounded
	Due     int           `json:"due"`     // portals that are due and wait for a turn
	Overdue time.Duration `json:"overdue"` // for how long the first of them has waited
	Slow    int           `json:"slow"`    // portals whose last turn took more than five seconds
	Failing int           `json:"failing"` // portals whose last turn failed
	Refused int           `json:"refused"` // of these, those whose error is permanent
	Running int           `json:"running"` // handlers

	Turns    uint64  `json:"turns"`    // that ended
	Failures uint64  `json:"failures"` // turns that failed
	Requests uint64  `json:"requests"` // to portals, without those of handlers; a batch is one
	Handled  uint64  `json:"handled"`  // records whose handler succeeded, or found the object gone
	Lag      Latency `json:"lag"`      // of these, from the last change of the object to the end of its handler

	// Handlers has how long handlers ran, for each attempt, by [event.MetricLabel].
	Handlers     map[string]Latency `json:"handlers"`
	LastResponse time.Time          `json:"last_response,omitzero"` // when a call to any portal last succeeded; zero before the first
	LastHandled  time.Time          `json:"last_handled,omitzero"`  // when a record of any portal was last handled; zero before the first
}

// MarshalJSON writes durations in seconds.
func (s FleetStats) MarshalJSON() ([]byte, error) {
	type fields FleetStats
	return json.Marshal(struct {
		fields

		Overdue float64 `json:"overdue"`
	}{fields(s), s.Overdue.Seconds()})
}

// latencies returns what was recorded, by event.
func latencies(took *histogram.ByName) map[string]Latency {
	all := make(map[string]Latency)
	for name, snapshot := range took.Snapshots() {
		all[name] = Latency{snapshot}
	}
	return all
}

// PortalStats is what is known of one portal of a [Fleet].
type PortalStats struct {
	Stats // since this fleet has worked the portal without a break

	Busy     bool      `json:"busy"`          // a turn is under way
	Next     time.Time `json:"next,omitzero"` // when the next is due; zero during a turn, and while this process does not work the portal
	Failures int       `json:"failures"`      // turns in a row that failed
	Refused  bool      `json:"refused"`       // the last one failed with an error that waiting does not help
	Err      error     `json:"-"`             // of the last turn, if it failed
}

// MarshalJSON writes durations in seconds.
func (s PortalStats) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		statsInSeconds

		Busy     bool      `json:"busy"`
		Next     time.Time `json:"next,omitzero"`
		Failures int       `json:"failures"`
		Refused  bool      `json:"refused"`
	}{s.inSeconds(), s.Busy, s.Next, s.Failures, s.Refused})
}

// Stats returns what the fleet does and did. It looks at each portal, which takes a few
// milliseconds if there are very many.
func (f *Fleet) Stats() FleetStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.stats
	now := time.Now()
	s.Portals = len(f.portals)
	for i := range f.shards {
		if f.shards[i].held {
			s.Shards++
		}
	}
	for _, p := range f.portals {
		if p.removed {
			s.Portals--
			continue
		}
		if f.shards[p.shard].held {
			s.Owned++
		}
		if p.queued() && !p.due.After(now) {
			s.Due++
			s.Overdue = max(s.Overdue, now.Sub(p.due))
		}
		switch p.kind {
		case kindSlow:
			s.Slow++
		case kindFailing:
			s.Failing++
		case kindStuck:
			if p.turn != nil && !p.turn.stopping { // otherwise it waits for handlers that are counted
				s.Stuck++
			}
		default:
		}
		if p.refused {
			s.Refused++
		}
	}
	for k := range f.lines {
		s.Busy += f.lines[k].taken
	}
	work := f.cfg.dispatcher.Depth()
	s.Running = work.Running
	s.Stuck += work.Stuck
	s.Requests = f.requests.Load()
	s.Lag, s.Handlers = Latency{f.lag.Snapshot()}, latencies(f.cfg.took)
	if at := f.responded.Load(); at != 0 {
		s.LastResponse = time.Unix(0, at)
	}
	return s
}

// Portal returns what is known of one portal. It returns false if the fleet does not know the
// portal.
func (f *Fleet) Portal(memberID string) (PortalStats, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.portals[memberID]
	if p == nil || p.removed {
		return PortalStats{}, false
	}
	s := PortalStats{Busy: p.turn != nil, Failures: int(p.failures), Refused: p.refused, Err: p.err}
	if p.queued() {
		s.Next = p.due
	}
	if p.engine != nil {
		s.Stats = p.engine.meter.read()
	}
	return s, true
}

// MemberIDs returns the portals that the fleet knows, in no order.
func (f *Fleet) MemberIDs() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	ids := make([]string, 0, len(f.portals))
	for id, p := range f.portals {
		if !p.removed {
			ids = append(ids, id)
		}
	}
	return ids
}

// Latency is a snapshot of how long something took since the Consumer or the Fleet was made. It is
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

// MarshalJSON gives the count, the sum and the usual quantiles, in seconds.
func (l Latency) MarshalJSON() ([]byte, error) { return l.snapshot.MarshalJSON() }
