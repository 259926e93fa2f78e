package webhook

import (
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/internal/histogram"
)

// StoreStats is what a [Handler] with a [Store] has done since it was made, in this process.
type StoreStats struct {
	Commits    uint64  `json:"commits"`    // calls of Commit
	Failures   uint64  `json:"failures"`   // of them, those that returned an error
	Records    uint64  `json:"records"`    // deliveries in calls that succeeded
	Marks      uint64  `json:"marks"`      // outcomes in calls that succeeded
	CommitTime Latency `json:"commit"`     // of one call
	Recovered  uint64  `json:"recovered"`  // deliveries that were there before a feed began
	Parked     uint64  `json:"parked"`     // deliveries that were given up
	Partitions int     `json:"partitions"` // partitions that this process works now
	InMemory   int     `json:"in_memory"`  // records in memory now, those put aside included
	Places     int64   `json:"places"`     // places of WithQueueSize in use now
}

// storeCounters are the live numbers behind [StoreStats].
type storeCounters struct {
	stored, commits, failures, records, marks, recovered, parked atomic.Uint64
	failed, removed, gone                                        atomic.Uint64 // in addition to the dispatcher's counts
	commitTime                                                   histogram.Histogram
}

func newStoreCounters() *storeCounters { return new(storeCounters) }

// committed counts a Commit.
func (c *storeCounters) committed(records, marks int, took time.Duration, err error) {
	c.commits.Add(1)
	c.commitTime.Record(took)
	if err != nil {
		c.failures.Add(1)
		return
	}
	c.records.Add(uint64(records)) //nolint:gosec // not negative
	c.marks.Add(uint64(marks))     //nolint:gosec // not negative
}

// stats returns the current StoreStats.
func (w *durable) stats() *StoreStats {
	c := w.storeCount
	s := &StoreStats{
		Commits: c.commits.Load(), Failures: c.failures.Load(), Records: c.records.Load(), Marks: c.marks.Load(),
		CommitTime: Latency{c.commitTime.Snapshot()}, Recovered: c.recovered.Load(), Parked: c.parked.Load(),
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.partitions {
		if w.partitions[i].tenure != nil {
			s.Partitions++
		}
	}
	s.InMemory, s.Places = w.entries, w.used
	return s
}
