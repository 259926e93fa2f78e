package eventotel

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/b24events/b24events/event"
)

// The outcomes of an attempt.
const (
	outcomeDone      = "done"
	outcomeUnhandled = "unhandled" // no handler takes the event
	outcomeFailed    = "failed"    // tried again if there are attempts left
	outcomeRetried   = "retried"   // the handler asked for another attempt
	outcomeDropped   = "dropped"   // no other attempt can help
	outcomePanic     = "panic"
)

// Middleware returns a middleware for [event.Mux.Use] that gives each attempt of a handler a span,
// and measures it. Use it first, so that it is outside of the others.
func (t *Telemetry) Middleware() event.Middleware {
	return func(next event.Handler) event.Handler {
		return event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error { return t.handle(ctx, d, next) })
	}
}

// handle runs a handler within a span.
func (t *Telemetry) handle(ctx context.Context, d *event.Delivery, next event.Handler) error {
	label, attempt, began := event.MetricLabel(d.Name), event.AttemptOf(ctx), time.Now()
	source := sourceOf(d)
	attrs := []attribute.KeyValue{
		keyEvent.String(label), keyMemberID.String(d.MemberID()), keySource.String(source),
		keyAttempt.Int(attempt.Number), keyMerged.Int(attempt.Merged), keyParked.Bool(attempt.Parked),
	}
	opts := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(began)}
	first := attempt.Number == 1 && !attempt.Received.IsZero()
	switch origin := originOf(ctx); {
	case origin.IsValid():
		if first {
			origin = t.queued(ctx, origin, attempt.Received, began, label)
		}
		opts = append(opts, trace.WithNewRoot(), trace.WithLinks(trace.Link{SpanContext: origin}))
	case trace.SpanContextFromContext(ctx).IsValid(): // a span of the program
	default:
		attrs = append(attrs, keyUnlinked.Bool(true))
	}
	ctx, span := t.tracer.Start(ctx, "bitrix24 handle "+label, append(opts, trace.WithAttributes(attrs...))...)
	defer func() { span.End() }()              // called by defer itself, it would record the text of a panic
	ctx = withOrigin(ctx, trace.SpanContext{}) // what the handler passes on has this span
	if first && source == string(event.SourceOnline) {
		t.lag.Record(ctx, began.Sub(attempt.Received).Seconds(), metric.WithAttributes(labelEvent.String(label)))
	}
	outcome, kind := outcomePanic, outcomePanic // unless the handler returns
	defer func() {
		t.handler.Record(ctx, time.Since(began).Seconds(), metric.WithAttributes(
			labelEvent.String(label), labelOutcome.String(outcome), labelSource.String(source)))
		if outcome == outcomeDone && source == string(event.SourceOffline) && !d.Time.IsZero() {
			t.offlineLag.Record(ctx, max(0, time.Since(d.Time)).Seconds(), metric.WithAttributes(labelEvent.String(label)))
		}
		span.SetAttributes(keyOutcome.String(outcome))
		if outcome != outcomeDone && outcome != outcomeUnhandled {
			span.SetAttributes(keyError.String(kind))
			span.SetStatus(codes.Error, outcome)
		}
	}()
	err := next.HandleEvent(ctx, d)
	outcome, kind = outcomeOf(err), errorType(err)
	return err
}

// queued makes the span of the time in the queue, a child of the span that brought the delivery.
func (t *Telemetry) queued(ctx context.Context, origin trace.SpanContext, from, to time.Time, label string) trace.SpanContext {
	_, span := t.tracer.Start(trace.ContextWithRemoteSpanContext(ctx, origin), "bitrix24 queue",
		trace.WithTimestamp(from), trace.WithAttributes(keyEvent.String(label)))
	span.End(trace.WithTimestamp(to))
	return span.SpanContext()
}

// sourceOf returns the source of a delivery, as one of a few texts.
func sourceOf(d *event.Delivery) string {
	switch d.Source {
	case event.SourceOnline, event.SourceOffline:
		return string(d.Source)
	default:
		return other
	}
}

// outcomeOf returns the outcome that the error of a handler asks for.
func outcomeOf(err error) string {
	if err == nil {
		return outcomeDone
	}
	if isUnhandled(err) {
		return outcomeUnhandled
	}
	switch outcome, _ := event.OutcomeOf(err); outcome {
	case event.OutcomeDropped:
		return outcomeDropped
	case event.OutcomeRetried:
		return outcomeRetried
	default:
		return outcomeFailed
	}
}

// isUnhandled reports whether an error says nothing but that no handler takes the event.
func isUnhandled(err error) bool {
	for err != nil {
		if err == event.ErrUnhandled { //nolint:errorlint // joined errors say more
			return true
		}
		one, ok := err.(interface{ Unwrap() error })
		if !ok {
			return false
		}
		err = one.Unwrap()
	}
	return false
}

// errorType returns the type of an error as a bounded text that holds nothing of a payload: the Go
// type of the error at the bottom.
func errorType(err error) string {
	for {
		one, ok := err.(interface{ Unwrap() error })
		if !ok || one.Unwrap() == nil {
			return fmt.Sprintf("%T", err)
		}
		err = one.Unwrap()
	}
}
