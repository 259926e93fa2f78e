package eventotel

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/b24events/b24events/webhook"
)

// receiving is the state of a request within Receive.
type receiving struct{ observed bool }

type receivingKey struct{}

// originKey is the key of the trace.SpanContext of the span that brought a delivery or a record. It
// is apart from the key of OpenTelemetry, because a handler's span is no child of it.
type originKey struct{}

func withOrigin(ctx context.Context, sc trace.SpanContext) context.Context {
	return context.WithValue(ctx, originKey{}, sc)
}

func originOf(ctx context.Context) trace.SpanContext {
	sc, _ := ctx.Value(originKey{}).(trace.SpanContext)
	return sc
}

// Receive wraps a [webhook.Handler], so that each request has a span. The handler needs the options
// of [Telemetry.Webhook], which describe the request in the span. If the context of the request has
// a span, for example that of a router's middleware, the new one is its child.
func (t *Telemetry) Receive(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			next.ServeHTTP(w, r) // a check of the address
			return
		}
		kind := trace.SpanKindServer
		if trace.SpanContextFromContext(r.Context()).IsValid() {
			kind = trace.SpanKindInternal
		}
		ctx, span := t.tracer.Start(r.Context(), "bitrix24 receive", trace.WithSpanKind(kind))
		returned := false
		defer func() { // called by defer itself, End would record the text of a panic
			if !returned {
				span.SetAttributes(keyError.String(outcomePanic))
				span.SetStatus(codes.Error, outcomePanic)
			}
			span.End()
		}()
		ctx = context.WithValue(ctx, receivingKey{}, new(receiving))
		next.ServeHTTP(w, r.WithContext(ctx))
		returned = true
	})
}

// Webhook returns options for [webhook.NewHandler]. They describe each request, and carry its trace
// to the handlers of its delivery, through any queue.
func (t *Telemetry) Webhook() []webhook.Option {
	return []webhook.Option{
		webhook.WithObserver(t.received),
		webhook.WithSavedContext("otel", saveTrace, restoreTrace),
	}
}

// received describes a request.
func (t *Telemetry) received(ctx context.Context, info webhook.RequestInfo) {
	if info.Status == http.StatusOK {
		record(ctx, t.ack, info.Took, labelEvent.String(info.Event))
	}
	state, _ := ctx.Value(receivingKey{}).(*receiving)
	if state == nil || state.observed {
		return // the span is not ours
	}
	state.observed = true
	span := trace.SpanFromContext(ctx)
	attrs := []attribute.KeyValue{keyStatus.Int(info.Status)}
	if info.Event != "" {
		attrs = append(attrs, keyEvent.String(info.Event))
	}
	if info.MemberID != "" {
		attrs = append(attrs, keyMemberID.String(clip(info.MemberID)))
	}
	if info.Reason != "" {
		attrs = append(attrs, keyReason.String(string(info.Reason)))
	}
	span.SetAttributes(attrs...)
	if info.Status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, string(info.Reason))
	}
}

// traceParent is the key of the trace context in its W3C form.
const traceParent = "traceparent"

// saveTrace returns the span of a request as a text.
func saveTrace(ctx context.Context, _ *http.Request) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[traceParent]
}

// restoreTrace puts the span of a request into the context of its handler.
func restoreTrace(ctx context.Context, saved string) context.Context {
	sc := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{traceParent: saved}))
	if !sc.IsValid() {
		return ctx
	}
	return withOrigin(ctx, sc)
}
