package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// reasonOutput is the reason of requests that are refused because stdout cannot be written.
const reasonOutput = "output"

// figures are what a scrape shows.
type figures struct {
	now     time.Time
	handler webhook.Stats
	output  output
	depth   *webhook.Depth // nil if there is no durable queue, or if it does not respond
	rest    *rest.Stats    // nil without an application
	oauth   *oauth.Stats   // nil without an application
}

// writeMetrics writes the figures in the text format of Prometheus. docs/metrics.md lists the
// names.
func writeMetrics(w io.Writer, f figures) {
	p := page{w}
	p.deliveries(f)
	p.store(f)
	s := f.handler
	p.head("counter", "rejected_total", "Requests refused, by reason.")
	for _, reason := range slices.Sorted(maps.Keys(s.Rejected)) {
		p.sample("rejected_total", s.Rejected[reason], "reason", string(reason))
	}
	p.sample("rejected_total", f.output.refused, "reason", reasonOutput)
	p.summary("ack_seconds", "Time from the arrival of a request to its 200.", s.Ack)
	p.summary("lag_seconds", "Time from the arrival of a request to the start of its handler.", s.Lag)
	p.head("summary", "handler_seconds", "Duration of one attempt of a handler, by event.")
	for _, name := range slices.Sorted(maps.Keys(s.Handlers)) {
		p.quantiles("handler_seconds", s.Handlers[name], "event", name)
	}
	p.head("gauge", "silence_seconds", "Time since something last happened; nothing before the first time.")
	p.silence("delivery", f.now, s.LastAccepted)
	if f.rest != nil {
		p.silence("rest_response", f.now, f.rest.LastResponse)
	}
	if f.oauth != nil {
		p.silence("renewal", f.now, f.oauth.LastRenewed)
	}
	if f.rest != nil {
		p.calls(f.rest)
	}
	if f.oauth != nil {
		p.access(f.oauth)
	}
}

// deliveries writes what became of deliveries, and how many wait.
func (p page) deliveries(f figures) {
	s := f.handler
	p.number("counter", "accepted_total", "Deliveries verified, queued and acknowledged.", s.Accepted)
	p.number("counter", "handled_total", "Deliveries that their handler finished.", s.Handled)
	p.number("counter", "coalesced_total", "Deliveries merged into another one.", s.Coalesced)
	p.number("counter", "unhandled_total", "Deliveries without a handler.", s.Unhandled)
	p.number("counter", "failed_total", "Deliveries that failed for good.", s.Failed)
	p.number("counter", "removed_total", "Deliveries dropped because the portal removed the application.", s.Removed)
	p.number("counter", "retried_total", "Attempts that failed and were repeated.", s.Retried)
	p.number("counter", "lost_total", "Events lost before they were handled.", s.Lost)
	p.number("counter", "misfits_total", "Values of payloads that did not fit their fields.", s.Misfits)
	p.number("counter", "printed_total", "Deliveries printed.", f.output.printed)
	ready := 0
	if f.output.state == outputReady {
		ready = 1
	}
	p.number("gauge", "output_ready", "1 while stdout can be written; at 0, events are refused.", ready)
	p.number("gauge", "running", "Deliveries being handled.", s.Running)
}

// store writes the depth of the queue, and what a durable one did.
func (p page) store(f figures) {
	s := f.handler
	queued, parked := int64(s.Queued), int64(0)
	if f.depth != nil {
		queued, parked = f.depth.Pending, f.depth.Parked
		p.number("gauge", "oldest_seconds", "Age of the oldest delivery that waits.", age(f.now, f.depth.OldestPending))
		p.number("gauge", "oldest_parked_seconds", "Time since the oldest parked delivery was parked.", age(f.now, f.depth.OldestParked))
	}
	if s.Store == nil || f.depth != nil { // otherwise it is unknown
		p.number("gauge", "parked", "Failed deliveries kept for later; a memory queue keeps none.", parked)
		p.number("gauge", "queue_depth", "Deliveries that wait or are handled; with a durable queue those of all receivers.", queued)
	}
	if s.Store == nil {
		return
	}
	p.number("counter", "commits_total", "Commits of the durable queue.", s.Store.Commits)
	p.number("counter", "commit_failures_total", "Commits of the durable queue that failed.", s.Store.Failures)
	p.number("counter", "recovered_total", "Deliveries found in the durable queue at the start, or taken over.", s.Store.Recovered)
	p.number("counter", "parked_total", "Deliveries parked by this receiver.", s.Store.Parked)
	p.number("gauge", "partitions", "Partitions of the durable queue that this receiver works.", s.Store.Partitions)
	p.summary("commit_seconds", "Duration of a commit of the durable queue.", s.Store.CommitTime)
}

// calls writes the figures of REST calls.
func (p page) calls(s *rest.Stats) {
	p.number("counter", "rest_calls_total", "REST calls that ended.", s.Calls)
	p.number("counter", "rest_failed_total", "REST calls that returned an error.", s.Failed)
	p.number("counter", "rest_requests_total", "Requests sent to portals.", s.Requests)
	p.number("counter", "rest_retried_total", "Requests that retried one that failed.", s.Retried)
	p.number("counter", "rest_refused_total", "Requests refused because they were too many.", s.Refused)
	p.number("counter", "rest_busy_total", "Requests that a front end rejected with 429 or 503.", s.Busy)
	p.number("counter", "rest_paused_total", "Requests refused because a method's time was used up.", s.Paused)
	p.number("counter", "rest_renewed_total", "Tokens renewed because a portal refused them as expired.", s.Renewed)
	p.number("gauge", "rest_waiting", "Calls that wait.", s.Waiting)
	p.head("counter", "rest_wait_seconds_total", "Time that REST calls have waited, by the kind of wait.")
	p.sample("rest_wait_seconds_total", s.LimitWait.Seconds(), "kind", "limit")
	p.sample("rest_wait_seconds_total", s.PauseWait.Seconds(), "kind", "pause")
	p.sample("rest_wait_seconds_total", s.BackoffWait.Seconds(), "kind", "backoff")
	p.summary("rest_call_seconds", "Duration of a REST call with its waits and retries.", s.Took)
}

// access writes the figures of installations and token renewals.
func (p page) access(s *oauth.Stats) {
	p.number("counter", "oauth_installed_total", "Installations verified and stored.", s.Installed)
	p.number("counter", "oauth_refused_total", "Claims of an installation refused.", s.Refused)
	p.number("counter", "oauth_users_total", "Tokens of users verified and stored.", s.Users)
	p.number("counter", "oauth_removed_total", "Installations deleted.", s.Removed)
	p.number("counter", "oauth_renewed_total", "Tokens renewed.", s.Renewed)
	p.number("counter", "oauth_adopted_total", "Renewals that found tokens which another caller or process had renewed.", s.Adopted)
	p.number("counter", "oauth_failed_total", "Renewals that failed.", s.Failed)
	p.number("counter", "oauth_reauthorize_total", "Renewals after which the portal must be authorized again.", s.Reauthorize)
	p.number("gauge", "oauth_unsaved", "Portals and users whose tokens the store did not take.", s.Unsaved)
	p.summary("oauth_renewal_seconds", "Duration of a token renewal.", s.Took)
}

// page writes metrics. An error means that the reader has gone away.
type page struct{ w io.Writer }

// head begins a metric.
func (p page) head(kind, name, help string) {
	help = strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(help)
	_, _ = fmt.Fprintf(p.w, "# HELP b24events_%s %s\n# TYPE b24events_%s %s\n", name, help, name, kind)
}

// sample writes a value of a metric. labels are names and values, one after the other.
func (p page) sample(name string, value any, labels ...string) {
	var b strings.Builder
	for i := 0; i+1 < len(labels); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		value := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(labels[i+1])
		b.WriteString(labels[i] + `="` + value + `"`)
	}
	text := b.String()
	if text != "" {
		text = "{" + text + "}"
	}
	_, _ = fmt.Fprintf(p.w, "b24events_%s%s %v\n", name, text, value)
}

// number writes a metric of one value.
func (p page) number(kind, name, help string, value any) {
	p.head(kind, name, help)
	p.sample(name, value)
}

// latency is how long something took, as each package gives it.
type latency interface {
	Count() uint64
	Sum() time.Duration
	Quantile(q float64) time.Duration
}

// summary writes a metric of durations.
func (p page) summary(name, help string, l latency) {
	p.head("summary", name, help)
	p.quantiles(name, l)
}

// quantiles writes the values of a summary.
func (p page) quantiles(name string, l latency, labels ...string) {
	for _, q := range []float64{0.5, 0.9, 0.99} {
		p.sample(name, l.Quantile(q).Seconds(), append(slices.Clone(labels), "quantile", fmt.Sprint(q))...)
	}
	p.sample(name+"_sum", l.Sum().Seconds(), labels...)
	p.sample(name+"_count", l.Count(), labels...)
}

// silence writes how long ago something was, unless it never was.
func (p page) silence(kind string, now, at time.Time) {
	if !at.IsZero() {
		p.sample("silence_seconds", age(now, at), "kind", kind)
	}
}

// age returns the seconds since a time, 0 for none.
func age(now, t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(0, now.Sub(t).Seconds())
}
