package eventotel

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
)

// The results of calls, renewals and polls.
const (
	resultOK      = "ok"
	resultFailed  = "failed"
	resultRenewed = "renewed"
	resultAdopted = "adopted"
)

// REST returns options for [rest.NewClients] and [rest.NewWebhook]. Each call has a span, which is
// the parent of those of the HTTP client. To have one for each HTTP request, pass a client with an
// instrumented transport to rest.WithHTTPClient. Its spans must not show addresses of incoming
// webhooks, whose path is a secret.
func (t *Telemetry) REST() []rest.Option {
	return []rest.Option{rest.WithContext(t.calling), rest.WithObserver(t.called)}
}

// callKey is the key of the span of a call, so that the observer never ends another one.
type callKey struct{}

func (t *Telemetry) calling(ctx context.Context, method string) context.Context {
	ctx, span := t.tracer.Start(ctx, "bitrix24 call "+t.methods.of(method), trace.WithSpanKind(trace.SpanKindClient))
	return context.WithValue(ctx, callKey{}, span)
}

func (t *Telemetry) called(ctx context.Context, info rest.CallInfo) {
	method, result := t.methods.of(info.Method), resultOf(info.Err)
	record(ctx, t.call, info.Took, labelMethod.String(method), labelResult.String(result))
	span, ok := ctx.Value(callKey{}).(trace.Span)
	if !ok {
		return
	}
	defer func() { span.End() }()
	if !span.IsRecording() {
		return
	}
	span.SetName("bitrix24 call " + method) // a joined request turned out to be one call
	attrs := []attribute.KeyValue{
		keyMethod.String(method), keyRequests.Int(info.Requests), keyRetries.Int(info.Retries), keyRenewed.Bool(info.Renewed),
	}
	attrs = appendText(attrs, keyMemberID, info.MemberID)
	attrs = appendText(attrs, keyHost, info.Host)
	attrs = appendCount(attrs, keyCommands, info.Commands)
	attrs = appendCount(attrs, keyStatus, info.Status)
	attrs = appendTime(attrs, keyLimit, info.LimitWait)
	attrs = appendTime(attrs, keyPause, info.PauseWait)
	attrs = appendTime(attrs, keyBackoff, info.BackoffWait)
	span.SetAttributes(attrs...)
	linkJoined(span, info.Joined) //nolint:contextcheck // they are of other calls
	fail(span, info.Err, info.Code)
}

// maxLinks bounds the links of a joined call.
const maxLinks = 100

// linkJoined links a joined call to the spans of its callers, without the first, whose child it is.
func linkJoined(span trace.Span, joined []context.Context) {
	seen := make(map[trace.SpanID]struct{}, len(joined))
	for i, ctx := range joined {
		caller := trace.SpanContextFromContext(ctx)
		if _, known := seen[caller.SpanID()]; !caller.IsValid() || known || len(seen) > maxLinks {
			continue
		}
		seen[caller.SpanID()] = struct{}{}
		if i > 0 {
			span.AddLink(trace.Link{SpanContext: caller})
		}
	}
}

// OAuth returns options for [oauth.NewPortals]. Each renewal has a span, a child of the call that
// needed it first.
func (t *Telemetry) OAuth() []oauth.Option { return []oauth.Option{oauth.WithObserver(t.renewed)} }

func (t *Telemetry) renewed(ctx context.Context, info oauth.RenewalInfo) {
	result := resultRenewed
	switch {
	case info.Adopted:
		result = resultAdopted
	case info.Err != nil:
		result = resultFailed
	}
	record(ctx, t.renewal, info.Took, labelResult.String(result))
	now := time.Now()
	_, span := t.tracer.Start(ctx, "bitrix24 refresh", trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(now.Add(-info.Took)))
	defer span.End(trace.WithTimestamp(now))
	span.SetAttributes(appendText([]attribute.KeyValue{keyAdopted.Bool(info.Adopted)}, keyMemberID, info.MemberID)...)
	fail(span, info.Err, info.Code)
}

// Consumer returns options for [offline.NewConsumer]. The requests of each turn have a span, to
// which the handlers of the records are linked.
func (t *Telemetry) Consumer() []offline.ConsumerOption {
	return []offline.ConsumerOption{offline.WithContext(t.polling), offline.WithObserver(t.polled)}
}

// Fleet returns what [Telemetry.Consumer] does, for [offline.NewFleet].
func (t *Telemetry) Fleet() []offline.FleetOption {
	return []offline.FleetOption{offline.WithContext(t.polling), offline.WithObserver(t.polled)}
}

// pollKey is the key of the span of a turn.
type pollKey struct{}

func (t *Telemetry) polling(ctx context.Context, memberID string) context.Context {
	ctx, span := t.tracer.Start(ctx, "bitrix24 poll", trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(appendText(nil, keyMemberID, memberID)...))
	return context.WithValue(withOrigin(ctx, span.SpanContext()), pollKey{}, span)
}

func (t *Telemetry) polled(ctx context.Context, info offline.RequestInfo) {
	record(ctx, t.poll, info.Took, labelResult.String(resultOf(info.Err)))
	span, ok := ctx.Value(pollKey{}).(trace.Span)
	if !ok {
		return
	}
	defer func() { span.End() }()
	span.SetAttributes(keyRequests.Int(info.Requests), keyRecords.Int(info.Records))
	fail(span, info.Err, "")
}

func resultOf(err error) string {
	if err != nil {
		return resultFailed
	}
	return resultOK
}

// fail marks a span as failed if there is an error. It shows the code, or the type of the error,
// and never its text.
func fail(span trace.Span, err error, code string) {
	if err == nil {
		return
	}
	if !plainCode(code) {
		code = errorType(err)
	}
	span.SetAttributes(keyError.String(code))
	span.SetStatus(codes.Error, code)
}

const (
	maxCode = 64 // bytes
	// minSecret is the length of the shortest secret of the platform: that of an incoming webhook.
	minSecret = 16
)

// plainCode reports whether a text looks like the code of an error: letters, digits, and _ - and
// dots between them. The portal chooses the text, so a run of letters and digits that could be a
// secret makes it none.
func plainCode(code string) bool {
	run, digits := 0, 0
	for _, c := range []byte(code) {
		switch {
		case c >= '0' && c <= '9':
			run++
			digits++
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z':
			run++
		case c == '_', c == '-', c == '.':
			run, digits = 0, 0
		default:
			return false
		}
		if run >= minSecret && digits > 0 {
			return false
		}
	}
	return code != "" && len(code) <= maxCode
}

func appendText(attrs []attribute.KeyValue, key attribute.Key, text string) []attribute.KeyValue {
	if text == "" {
		return attrs
	}
	return append(attrs, key.String(clip(text)))
}

func appendCount(attrs []attribute.KeyValue, key attribute.Key, n int) []attribute.KeyValue {
	if n == 0 {
		return attrs
	}
	return append(attrs, key.Int(n))
}

func appendTime(attrs []attribute.KeyValue, key attribute.Key, d time.Duration) []attribute.KeyValue {
	if d == 0 {
		return attrs
	}
	return append(attrs, key.Float64(d.Seconds()))
}
