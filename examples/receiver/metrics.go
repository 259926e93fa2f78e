package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/b24events/b24events/webhook"
)

// reasonOutput is the reason of requests that are refused because stdout cannot be written.
const reasonOutput = "output"

// writeMetrics prints the counters of the handler, the output and the durable queue in the text
// format of Prometheus. depth is nil if there is no durable queue, or if it does not respond.
func writeMetrics(w io.Writer, s webhook.Stats, out output, depth *webhook.Depth) {
	number := func(kind, name, help string, value any) {
		_, _ = fmt.Fprintf(w, "# HELP b24events_%s %s\n# TYPE b24events_%s %s\nb24events_%s %v\n", name, help, name, kind, name, value)
	}
	number("counter", "accepted_total", "Deliveries verified, queued and acknowledged.", s.Accepted)
	number("counter", "processed_total", "Deliveries that their handler finished.", s.Handled)
	number("counter", "unhandled_total", "Deliveries without a handler.", s.Unhandled)
	number("counter", "failed_total", "Deliveries that failed for good.", s.Failed)
	number("counter", "removed_total", "Deliveries dropped because the portal removed the application.", s.Removed)
	number("counter", "retried_total", "Attempts that failed and were repeated.", s.Retried)
	number("counter", "dropped_total", "Events lost before they were processed.", s.Lost)
	number("counter", "printed_total", "Deliveries printed.", out.printed)
	ready := 0
	if out.state == outputReady {
		ready = 1
	}
	number("gauge", "output_ready", "1 while stdout can be written; at 0, events are refused.", ready)
	queued, parked := int64(s.Queued), int64(0)
	if depth != nil {
		queued, parked = depth.Pending, depth.Parked
		number("gauge", "oldest_seconds", "Age of the oldest delivery that waits.", age(depth.OldestPending))
		number("gauge", "oldest_parked_seconds", "Time since the oldest parked delivery was parked.", age(depth.OldestParked))
	}
	if s.Store == nil || depth != nil { // otherwise it is unknown
		number("gauge", "parked", "Failed deliveries kept for later; a memory queue keeps none.", parked)
		number("gauge", "queue_depth", "Deliveries that wait or are handled; with a durable queue those of all receivers.", queued)
	}
	if s.Store != nil {
		number("counter", "commits_total", "Commits of the durable queue.", s.Store.Commits)
		number("counter", "commit_failures_total", "Commits of the durable queue that failed.", s.Store.Failures)
		number("counter", "recovered_total", "Deliveries found in the durable queue at the start, or taken over.", s.Store.Recovered)
		number("counter", "parked_total", "Deliveries parked by this receiver.", s.Store.Parked)
		number("gauge", "partitions", "Partitions of the durable queue that this receiver works.", s.Store.Partitions)
		summary(w, "commit_seconds", "Duration of a commit of the durable queue.", s.Store.CommitTime)
	}
	number("gauge", "running", "Deliveries being handled.", s.Running)
	_, _ = io.WriteString(w, "# HELP b24events_rejected_total Requests refused, by reason.\n# TYPE b24events_rejected_total counter\n")
	for _, reason := range slices.Sorted(maps.Keys(s.Rejected)) {
		_, _ = fmt.Fprintf(w, "b24events_rejected_total{reason=%q} %d\n", string(reason), s.Rejected[reason])
	}
	_, _ = fmt.Fprintf(w, "b24events_rejected_total{reason=%q} %d\n", reasonOutput, out.refused)
	summary(w, "ack_seconds", "Time from the arrival of a request to its 200.", s.Ack)
	summary(w, "lag_seconds", "Time from the arrival of a request to the start of its handler.", s.Lag)
}

func summary(w io.Writer, name, help string, l webhook.Latency) {
	_, _ = fmt.Fprintf(w, "# HELP b24events_%s %s\n# TYPE b24events_%s summary\n", name, help, name)
	for _, q := range []float64{0.5, 0.9, 0.99} {
		_, _ = fmt.Fprintf(w, "b24events_%s{quantile=\"%g\"} %g\n", name, q, l.Quantile(q).Seconds())
	}
	_, _ = fmt.Fprintf(w, "b24events_%s_count %d\n", name, l.Count())
}

// age returns the seconds since a time, 0 for none.
func age(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(0, time.Since(t).Seconds())
}
