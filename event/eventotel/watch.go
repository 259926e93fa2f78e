package eventotel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// Sources are the functions that return statistics, the method Stats of each package. Those that
// the program does not have are nil.
type Sources struct {
	Webhook  func() webhook.Stats
	Consumer func() offline.Stats
	Fleet    func() offline.FleetStats
	REST     func() rest.Stats
	OAuth    func() oauth.Stats
}

// source is a number that a metric reads.
type source struct {
	name, unit, help string
	gauge            bool
	attrs            attribute.Set
	value            func(*snapshot) (v float64, ok bool) // ok is false if there is no value yet
}

// snapshot is what the sources returned at one time.
type snapshot struct {
	now      time.Time
	webhook  webhook.Stats
	consumer offline.Stats
	fleet    offline.FleetStats
	rest     rest.Stats
	oauth    oauth.Stats
}

// Watch registers metrics that are read from the statistics of other packages: what was accepted,
// handled, lost and rejected, depths, waits, and how long nothing has come. They are read when the
// meter provider collects. The returned function ends that.
//
// Sources of one kind can be watched once at a time, because of two depths the provider would show
// one. If the program has several handlers or consumers, pass a function that adds up their
// statistics. The error matches [ErrConfig] in that case, or is that of the provider.
func (t *Telemetry) Watch(s Sources) (stop func() error, err error) {
	var all []source
	if s.Webhook != nil {
		all = append(all, webhookSources()...)
	}
	if s.Consumer != nil {
		all = append(all, consumerSources()...)
	}
	if s.Fleet != nil {
		all = append(all, fleetSources()...)
	}
	if s.REST != nil {
		all = append(all, restSources()...)
	}
	if s.OAuth != nil {
		all = append(all, oauthSources()...)
	}
	if len(all) == 0 {
		return func() error { return nil }, nil
	}
	release, err := t.claim(all)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	instruments := make(map[string]metric.Float64Observable)
	list := make([]metric.Observable, 0, len(all))
	var errs error
	for _, one := range all {
		if instruments[one.name] != nil {
			continue // another label
		}
		made, err := t.observable(one)
		instruments[one.name], errs = made, errors.Join(errs, err)
		list = append(list, made)
	}
	if errs != nil {
		return nil, fmt.Errorf("eventotel: make the instruments: %w", errs)
	}
	registration, err := t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		now, err := s.snapshot()
		if err != nil {
			return err
		}
		for _, one := range all {
			if v, ok := one.value(&now); ok {
				o.ObserveFloat64(instruments[one.name], v, metric.WithAttributeSet(one.attrs))
			}
		}
		return nil
	}, list...)
	if err != nil {
		return nil, fmt.Errorf("eventotel: register the metrics: %w", err)
	}
	return func() error {
		defer release()
		return registration.Unregister()
	}, nil
}

// claim notes that metrics are watched. It returns an error if some are already.
func (t *Telemetry) claim(all []source) (release func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, one := range all {
		if one.name != silenceName && t.watched[one.name] {
			return nil, fmt.Errorf("%w: Watch: the sources of %s are watched already", ErrConfig, one.name)
		}
	}
	for _, one := range all {
		t.watched[one.name] = true
	}
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, one := range all {
			delete(t.watched, one.name)
		}
	}), nil
}

// observable makes the instrument of a source.
func (t *Telemetry) observable(s source) (metric.Float64Observable, error) {
	if s.gauge {
		return t.meter.Float64ObservableGauge(s.name, metric.WithDescription(s.help), metric.WithUnit(s.unit))
	}
	return t.meter.Float64ObservableCounter(s.name, metric.WithDescription(s.help), metric.WithUnit(s.unit))
}

// errPanicked is the error of a collection.
var errPanicked = errors.New("eventotel: a function of Sources panicked")

// snapshot calls the functions that there are. They are the program's, and run in a goroutine of
// the meter provider, which a panic would end together with the process.
func (s Sources) snapshot() (all snapshot, err error) {
	defer func() {
		if recover() != nil { // the value may hold anything
			err = errPanicked
		}
	}()
	all.now = time.Now()
	if s.Webhook != nil {
		all.webhook = s.Webhook()
	}
	if s.Consumer != nil {
		all.consumer = s.Consumer()
	}
	if s.Fleet != nil {
		all.fleet = s.Fleet()
	}
	if s.REST != nil {
		all.rest = s.REST()
	}
	if s.OAuth != nil {
		all.oauth = s.OAuth()
	}
	return all, nil
}

// number is a value of statistics.
type number interface{ ~uint64 | ~int | ~int64 }

// count returns a source that counts. unit says of what, as an annotation of UCUM such as
// "{delivery}". Exporters for Prometheus leave annotations out of the names. They append "_ratio"
// to a gauge with the unit "1".
func count[N number](name, unit, help string, read func(*snapshot) N, attrs ...attribute.KeyValue) source {
	return source{name: name, unit: unit, help: help, attrs: attribute.NewSet(attrs...), value: func(s *snapshot) (float64, bool) {
		return float64(read(s)), true
	}}
}

// gauge returns a source of a number that goes up and down.
func gauge[N number](name, unit, help string, read func(*snapshot) N, attrs ...attribute.KeyValue) source {
	s := count(name, unit, help, read, attrs...)
	s.gauge = true
	return s
}

// silenceName is the one metric that several sources have.
const silenceName = "b24events.silence"

// silence returns a source of the time since something last happened. It has no value before the
// first time.
func silence(what string, last func(*snapshot) time.Time) source {
	return source{
		name: silenceName, unit: "s", gauge: true, attrs: attribute.NewSet(labelKind.String(what)),
		help: "Time since the last accepted delivery, response to a call, record or renewal.",
		value: func(s *snapshot) (float64, bool) {
			at := last(s)
			return max(0, s.now.Sub(at)).Seconds(), !at.IsZero()
		},
	}
}

func webhookSources() []source {
	all := []source{
		count("b24events.accepted", "{delivery}", "Deliveries verified, queued and acknowledged.",
			func(s *snapshot) uint64 { return s.webhook.Accepted }),
		count("b24events.handled", "{delivery}", "Deliveries that their handler finished.",
			func(s *snapshot) uint64 { return s.webhook.Handled }),
		count("b24events.coalesced", "{delivery}", "Deliveries merged into another one.",
			func(s *snapshot) uint64 { return s.webhook.Coalesced }),
		count("b24events.unhandled", "{delivery}", "Deliveries without a handler.", func(s *snapshot) uint64 { return s.webhook.Unhandled }),
		count("b24events.failed", "{delivery}", "Deliveries that failed for good.", func(s *snapshot) uint64 { return s.webhook.Failed }),
		count("b24events.removed", "{delivery}", "Deliveries dropped because the portal removed the application.",
			func(s *snapshot) uint64 { return s.webhook.Removed }),
		count("b24events.retried", "{attempt}", "Attempts that failed and were repeated.",
			func(s *snapshot) uint64 { return s.webhook.Retried }),
		count("b24events.lost", "{event}", "Events lost before they were handled.", func(s *snapshot) uint64 { return s.webhook.Lost }),
		count("b24events.misfits", "{value}", "Values of payloads that did not fit their fields.",
			func(s *snapshot) uint64 { return s.webhook.Misfits }),
		gauge("b24events.queue.depth", "{delivery}", "Deliveries of this process that wait.", func(s *snapshot) int { return s.webhook.Queued }),
		gauge("b24events.running", "{delivery}", "Deliveries being handled.", func(s *snapshot) int { return s.webhook.Running }),
		silence("delivery", func(s *snapshot) time.Time { return s.webhook.LastAccepted }),
	}
	for _, reason := range webhook.Reasons() {
		all = append(all, count("b24events.rejected", "{request}", "Requests refused, by reason.",
			func(s *snapshot) uint64 { return s.webhook.Rejected[reason] }, labelReason.String(string(reason))))
	}
	return append(all,
		stored("b24events.commits", "{commit}", "Commits of the durable queue.", func(s *webhook.StoreStats) uint64 { return s.Commits }),
		stored("b24events.commit_failures", "{commit}", "Commits of the durable queue that failed.",
			func(s *webhook.StoreStats) uint64 { return s.Failures }),
		stored("b24events.recovered", "{delivery}", "Deliveries found in the durable queue at the start, or taken over.",
			func(s *webhook.StoreStats) uint64 { return s.Recovered }),
		stored("b24events.parked", "{delivery}", "Deliveries parked by this process.", func(s *webhook.StoreStats) uint64 { return s.Parked }),
	)
}

// stored returns a source of the statistics of a webhook.Store, without a value if there is none.
func stored(name, unit, help string, read func(*webhook.StoreStats) uint64) source {
	return source{name: name, unit: unit, help: help, value: func(s *snapshot) (float64, bool) {
		if s.webhook.Store == nil {
			return 0, false
		}
		return float64(read(s.webhook.Store)), true
	}}
}

func consumerSources() []source {
	return []source{
		count("b24events.offline.requests", "{request}", "Requests for offline queues.",
			func(s *snapshot) uint64 { return s.consumer.Requests }),
		count("b24events.offline.reserved", "{record}", "Records reserved.", func(s *snapshot) uint64 { return s.consumer.Reserved }),
		count("b24events.offline.handled", "{record}", "Records whose handler succeeded.",
			func(s *snapshot) uint64 { return s.consumer.Handled }),
		count("b24events.offline.unhandled", "{record}", "Records without a handler.", func(s *snapshot) uint64 { return s.consumer.Unhandled }),
		count("b24events.offline.retried", "{attempt}", "Attempts after the first.", func(s *snapshot) uint64 { return s.consumer.Retried }),
		count("b24events.offline.dropped", "{record}", "Records that ended for good without success.",
			func(s *snapshot) uint64 { return s.consumer.Dropped }),
		count("b24events.offline.parked", "{record}", "Records parked.", func(s *snapshot) uint64 { return s.consumer.Parked }),
		gauge("b24events.offline.queue.depth", "{record}", "Records that wait on the portal, as measured last.",
			func(s *snapshot) int { return s.consumer.Backlog.Waiting }),
		silence("offline_response", func(s *snapshot) time.Time { return s.consumer.LastResponse }),
		silence("offline_record", func(s *snapshot) time.Time { return s.consumer.LastRecord }),
	}
}

func fleetSources() []source {
	return []source{
		count("b24events.fleet.turns", "{turn}", "Turns that ended.", func(s *snapshot) uint64 { return s.fleet.Turns }),
		count("b24events.fleet.turn_failures", "{turn}", "Turns that failed.", func(s *snapshot) uint64 { return s.fleet.Failures }),
		count("b24events.fleet.requests", "{request}", "Requests for offline queues.", func(s *snapshot) uint64 { return s.fleet.Requests }),
		count("b24events.fleet.handled", "{record}", "Records whose handler succeeded.", func(s *snapshot) uint64 { return s.fleet.Handled }),
		gauge("b24events.fleet.portals", "{portal}", "Portals that this process works.", func(s *snapshot) int { return s.fleet.Owned }),
		gauge("b24events.fleet.running", "{handler}", "Handlers that run.", func(s *snapshot) int { return s.fleet.Running }),
		gauge("b24events.fleet.due", "{portal}", "Portals that wait for a turn.", func(s *snapshot) int { return s.fleet.Due }),
		gauge("b24events.fleet.failing", "{portal}", "Portals whose last turn failed.", func(s *snapshot) int { return s.fleet.Failing }),
		gauge("b24events.fleet.refused", "{portal}", "Portals that refuse for good.", func(s *snapshot) int { return s.fleet.Refused }),
		silence("fleet_response", func(s *snapshot) time.Time { return s.fleet.LastResponse }),
		silence("fleet_record", func(s *snapshot) time.Time { return s.fleet.LastHandled }),
	}
}

func restSources() []source {
	return []source{
		count("b24events.rest.calls", "{call}", "REST calls that ended.", func(s *snapshot) uint64 { return s.rest.Calls }),
		count("b24events.rest.failed", "{call}", "REST calls that returned an error.", func(s *snapshot) uint64 { return s.rest.Failed }),
		count("b24events.rest.requests", "{request}", "Requests sent to portals.", func(s *snapshot) uint64 { return s.rest.Requests }),
		count("b24events.rest.retried", "{request}", "Requests that retried one that failed.",
			func(s *snapshot) uint64 { return s.rest.Retried }),
		count("b24events.rest.refused", "{request}", "Requests refused because they were too many.",
			func(s *snapshot) uint64 { return s.rest.Refused }),
		count("b24events.rest.busy", "{request}", "Requests that a front end rejected with 429 or 503.",
			func(s *snapshot) uint64 { return s.rest.Busy }),
		count("b24events.rest.paused", "{request}", "Requests refused because a method's time was used up.",
			func(s *snapshot) uint64 { return s.rest.Paused }),
		count("b24events.rest.renewed", "{renewal}", "Tokens renewed because a portal refused them as expired.",
			func(s *snapshot) uint64 { return s.rest.Renewed }),
		gauge("b24events.rest.waiting", "{call}", "Calls that wait.", func(s *snapshot) int { return s.rest.Waiting }),
		waits("limit", func(s *snapshot) time.Duration { return s.rest.LimitWait }),
		waits("pause", func(s *snapshot) time.Duration { return s.rest.PauseWait }),
		waits("backoff", func(s *snapshot) time.Duration { return s.rest.BackoffWait }),
		silence("rest_response", func(s *snapshot) time.Time { return s.rest.LastResponse }),
	}
}

// waits returns a source of the time that calls have waited.
func waits(kind string, read func(*snapshot) time.Duration) source {
	return source{
		name: "b24events.rest.wait", unit: "s", help: "Time that REST calls have waited, by the kind of wait.",
		attrs: attribute.NewSet(labelKind.String(kind)),
		value: func(s *snapshot) (float64, bool) { return read(s).Seconds(), true },
	}
}

func oauthSources() []source {
	return []source{
		count("b24events.oauth.installed", "{installation}", "Installations verified and stored.",
			func(s *snapshot) uint64 { return s.oauth.Installed }),
		count("b24events.oauth.refused", "{claim}", "Claims of an installation refused.", func(s *snapshot) uint64 { return s.oauth.Refused }),
		count("b24events.oauth.users", "{user}", "Tokens of users verified and stored.", func(s *snapshot) uint64 { return s.oauth.Users }),
		count("b24events.oauth.removed", "{installation}", "Installations deleted.", func(s *snapshot) uint64 { return s.oauth.Removed }),
		count("b24events.oauth.renewed", "{renewal}", "Tokens renewed.", func(s *snapshot) uint64 { return s.oauth.Renewed }),
		count("b24events.oauth.adopted", "{renewal}", "Renewals that found tokens which another caller or process had renewed.",
			func(s *snapshot) uint64 { return s.oauth.Adopted }),
		count("b24events.oauth.failed", "{renewal}", "Renewals that failed.", func(s *snapshot) uint64 { return s.oauth.Failed }),
		count("b24events.oauth.reauthorize", "{renewal}", "Renewals after which the portal must be authorized again.",
			func(s *snapshot) uint64 { return s.oauth.Reauthorize }),
		gauge("b24events.oauth.unsaved", "{installation}", "Portals and users whose tokens the store did not take.",
			func(s *snapshot) int { return s.oauth.Unsaved }),
		silence("renewal", func(s *snapshot) time.Time { return s.oauth.LastRenewed }),
	}
}
