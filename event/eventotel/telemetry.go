package eventotel

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// ErrConfig is matched by the errors of [New].
var ErrConfig = errors.New("eventotel: misconfigured")

// scope is the instrumentation scope of all spans and metrics.
const scope = "github.com/b24events/b24events/event/eventotel"

// maxMethods bounds the values of the label method.
const maxMethods = 200

// other is the label of what does not fit a bounded set.
const other = "other"

// Telemetry makes spans and metrics. It is safe for concurrent use. Make one with [New], for the
// life of the process.
type Telemetry struct {
	tracer  trace.Tracer
	meter   metric.Meter
	methods labels

	ack, lag, offlineLag, handler, call, renewal, poll metric.Float64Histogram

	mu      sync.Mutex
	watched map[string]bool // the metrics of each Watch that has not ended
}

// Option configures [New]. A nil Option is skipped.
type Option func(*config) error

type config struct {
	tracers trace.TracerProvider
	meters  metric.MeterProvider
}

// WithTracerProvider sets the provider of tracers. The default is the global one.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(c *config) error {
		if p == nil {
			return fmt.Errorf("%w: WithTracerProvider: the provider is nil", ErrConfig)
		}
		c.tracers = p
		return nil
	}
}

// WithMeterProvider sets the provider of meters. The default is the global one.
func WithMeterProvider(p metric.MeterProvider) Option {
	return func(c *config) error {
		if p == nil {
			return fmt.Errorf("%w: WithMeterProvider: the provider is nil", ErrConfig)
		}
		c.meters = p
		return nil
	}
}

// New returns telemetry for the options of the other packages. An error matches [ErrConfig], or is
// that of the meter provider.
func New(opts ...Option) (*Telemetry, error) {
	c := config{tracers: otel.GetTracerProvider(), meters: otel.GetMeterProvider()}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&c); err != nil {
			return nil, err
		}
	}
	t := &Telemetry{
		tracer: c.tracers.Tracer(scope), meter: c.meters.Meter(scope),
		methods: labels{limit: maxMethods}, watched: make(map[string]bool),
	}
	var errs error
	for _, h := range []struct {
		to         *metric.Float64Histogram
		name, help string
		bounds     []float64
	}{
		{&t.ack, "b24events.ack", "Time from the arrival of a request to its 200.", short()},
		{&t.lag, "b24events.lag", "Time from the arrival of a request to the start of its handler.", long()},
		{&t.offlineLag, "b24events.offline.lag", "Time from a change on the portal to the end of its handler.", long()},
		{&t.handler, "b24events.handler", "Duration of one attempt of a handler.", short()},
		{&t.call, "b24events.rest.call", "Duration of a REST call with its waits and retries.", short()},
		{&t.renewal, "b24events.oauth.renewal", "Duration of a token renewal.", short()},
		{&t.poll, "b24events.offline.poll", "Duration of the requests of one turn for an offline queue.", short()},
	} {
		made, err := t.meter.Float64Histogram(h.name, metric.WithDescription(h.help), metric.WithUnit("s"),
			metric.WithExplicitBucketBoundaries(h.bounds...))
		*h.to, errs = made, errors.Join(errs, err)
	}
	if errs != nil {
		return nil, fmt.Errorf("eventotel: make the instruments: %w", errs)
	}
	return t, nil
}

// short returns buckets for what takes milliseconds to minutes, in seconds.
func short() []float64 {
	return []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}
}

// long returns buckets for waits that take up to days, in seconds.
func long() []float64 {
	return []float64{0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600}
}

// The keys of attributes. Those without a prefix are labels of metrics.
const (
	labelEvent   = attribute.Key("event")
	labelKind    = attribute.Key("kind")
	labelMethod  = attribute.Key("method")
	labelOutcome = attribute.Key("outcome")
	labelReason  = attribute.Key("reason")
	labelResult  = attribute.Key("result")
	labelSource  = attribute.Key("source")

	keyEvent    = attribute.Key("bitrix24.event")
	keyMemberID = attribute.Key("bitrix24.member_id")
	keyReason   = attribute.Key("bitrix24.reason")
	keySource   = attribute.Key("bitrix24.source")
	keyAttempt  = attribute.Key("bitrix24.attempt")
	keyMerged   = attribute.Key("bitrix24.merged")
	keyParked   = attribute.Key("bitrix24.parked")
	keyOutcome  = attribute.Key("bitrix24.outcome")
	keyUnlinked = attribute.Key("bitrix24.unlinked")
	keyMethod   = attribute.Key("bitrix24.method")
	keyCommands = attribute.Key("bitrix24.commands")
	keyRequests = attribute.Key("bitrix24.requests")
	keyRetries  = attribute.Key("bitrix24.retries")
	keyRenewed  = attribute.Key("bitrix24.renewed")
	keyAdopted  = attribute.Key("bitrix24.adopted")
	keyRecords  = attribute.Key("bitrix24.records")
	keyLimit    = attribute.Key("bitrix24.wait.limit")   // seconds
	keyPause    = attribute.Key("bitrix24.wait.pause")   // seconds
	keyBackoff  = attribute.Key("bitrix24.wait.backoff") // seconds
	keyHost     = attribute.Key("server.address")
	keyStatus   = attribute.Key("http.response.status_code")
	keyError    = attribute.Key("error.type")
)

// record adds a time to a histogram. Without an SDK, or if a view drops the histogram, it makes no
// set of labels.
func record(ctx context.Context, h metric.Float64Histogram, took time.Duration, labels ...attribute.KeyValue) {
	if h.Enabled(ctx) {
		h.Record(ctx, took.Seconds(), metric.WithAttributes(labels...))
	}
}

// maxText bounds texts of the portal in a span, in bytes.
const maxText = 128

// clip cuts a text of the portal.
func clip(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "")
}

// labels is a bounded set of texts: those that came first.
type labels struct {
	limit int

	mu   sync.RWMutex
	seen map[string]struct{}
}

// of returns the text, or other if the set is full without it.
func (l *labels) of(text string) string {
	l.mu.RLock()
	_, ok := l.seen[text]
	l.mu.RUnlock()
	if ok {
		return text
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.seen[text]; ok {
		return text
	}
	if len(l.seen) >= l.limit {
		return other
	}
	if l.seen == nil {
		l.seen = make(map[string]struct{})
	}
	l.seen[text] = struct{}{}
	return text
}
