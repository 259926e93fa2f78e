package eventotel

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/b24events/b24events/event"
)

// The outcomes of an attempt.
const (
	outcomeDone      = "done"
	outcomeGone      = "gone"      // the object is gone, so there is nothing to do
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

// handlingKey is the key of the name of the event whose handler runs. A mux within a mux measures
// nothing for it.
type handlingKey struct{}

// handle runs a handler within a span.
func (t *Telemetry) handle(ctx context.Context, d *event.Delivery, next event.Handler) error {
	label, attempt, began := event.MetricLabel(d.Name), event.AttemptOf(ctx), time.Now()
	source := sourceOf(d)
	attrs := []attribute.KeyValue{
		keyEvent.String(label), keyMemberID.String(clip(d.MemberID())), keySource.String(source),
		keyAttempt.Int(attempt.Number), keyMerged.Int(attempt.Merged), keyParked.Bool(attempt.Parked),
	}
	opts := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(began)}
	first := attempt.Number == 1 && !attempt.Received.IsZero()
	received := attempt.Received
	if received.After(began) {
		received = began // the clock of another machine
	}
	switch origin := originOf(ctx); {
	case origin.IsValid():
		if first {
			origin = t.queued(ctx, origin, received, began, label)
		}
		opts = append(opts, trace.WithNewRoot(), trace.WithLinks(trace.Link{SpanContext: origin}))
	case trace.SpanContextFromContext(ctx).IsValid(): // a span of the program
	default:
		attrs = append(attrs, keyUnlinked.Bool(true))
	}
	ctx, span := t.tracer.Start(ctx, "bitrix24 handle "+label, append(opts, trace.WithAttributes(attrs...))...)
	defer func() { span.End() }()              // called by defer itself, it would record the text of a panic
	ctx = withOrigin(ctx, trace.SpanContext{}) // what the handler passes on has this span
	outer, _ := ctx.Value(handlingKey{}).(string)
	measured := outer != d.Name
	if measured {
		ctx = context.WithValue(ctx, handlingKey{}, d.Name)
	}
	if measured && first && source == string(event.SourceOnline) {
		record(ctx, t.lag, began.Sub(received), labelEvent.String(label))
	}
	outcome, kind := outcomePanic, outcomePanic // unless the handler returns
	defer func() {
		if measured {
			t.measure(ctx, d, time.Since(began), label, outcome, source)
		}
		if !span.IsRecording() {
			return
		}
		span.SetAttributes(keyOutcome.String(outcome))
		if outcome != outcomeDone && outcome != outcomeUnhandled && outcome != outcomeGone {
			span.SetAttributes(keyError.String(kind))
			span.SetStatus(codes.Error, outcome)
		}
	}()
	err := next.HandleEvent(ctx, d)
	outcome, kind = describe(err)
	return err
}

// measure records an attempt that has ended.
func (t *Telemetry) measure(ctx context.Context, d *event.Delivery, took time.Duration, label, outcome, source string) {
	record(ctx, t.handler, took, labelEvent.String(label), labelOutcome.String(outcome), labelSource.String(source))
	handled := outcome == outcomeDone || outcome == outcomeGone
	if handled && source == string(event.SourceOffline) && !d.Time.IsZero() {
		record(ctx, t.offlineLag, max(0, time.Since(d.Time)), labelEvent.String(label))
	}
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
	case event.SourceOnline, event.SourceOffline, event.SourcePolled:
		return string(d.Source)
	default:
		return other
	}
}

// describe returns the outcome that the error of a handler asks for, and the type of the error. The
// methods of an error may panic, for example those of a nil pointer. The queue deals with that.
// Here such an error is one of its own type that failed.
func describe(err error) (outcome, kind string) {
	defer func() {
		if recover() != nil {
			outcome, kind = outcomeFailed, fmt.Sprintf("%T", err)
		}
	}()
	return outcomeOf(err), errorType(err)
}

// outcomeOf returns the outcome that the error of a handler asks for.
func outcomeOf(err error) string {
	if err == nil {
		return outcomeDone
	}
	if isOnly(err, event.ErrUnhandled) {
		return outcomeUnhandled
	}
	switch outcome, _ := event.OutcomeOf(err); outcome {
	case event.OutcomeDropped:
		if isOnly(err, event.ErrGone) {
			return outcomeGone
		}
		return outcomeDropped
	case event.OutcomeRetried:
		return outcomeRetried
	default:
		return outcomeFailed
	}
}

// isOnly reports whether an error says nothing but the sentinel, in each of the errors that it
// joins.
func isOnly(err error, sentinel event.Error) bool {
	for err != nil {
		if err == sentinel { //nolint:errorlint // joined errors say more
			return true
		}
		if is, ok := err.(interface{ Is(target error) bool }); ok && is.Is(sentinel) {
			return true
		}
		switch e := err.(type) { //nolint:errorlint // this is what unwraps
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			parts := e.Unwrap()
			return len(parts) > 0 && !slices.ContainsFunc(parts, func(part error) bool { return !isOnly(part, sentinel) })
		default:
			return false
		}
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
