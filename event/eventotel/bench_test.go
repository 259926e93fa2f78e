package eventotel_test

import (
	"context"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventotel"
	"github.com/b24events/b24events/rest"
)

// BenchmarkMiddleware reports what telemetry adds to a typed handler that does nothing, as a
// multiple of that handler without it.
func BenchmarkMiddleware(b *testing.B) {
	handler := func(use ...event.Middleware) event.Handler {
		mux := event.NewMux()
		mux.Use(use...)
		event.On(mux, event.OnCrmDealUpdate, func(context.Context, *event.Delivery, event.CRMEntity) error { return nil })
		return mux
	}
	d, err := event.Parse("application/x-www-form-urlencoded", []byte("event=ONCRMDEALUPDATE&data[FIELDS][ID]=7&ts=1739049397"))
	if err != nil {
		b.Fatal(err)
	}
	d.Source = event.SourceOnline
	ctx := event.WithAttempt(context.Background(), event.Attempt{Number: 1, Received: time.Now()})
	plain := handler()
	const rounds = 20_000
	began := time.Now()
	for range rounds {
		_ = plain.HandleEvent(ctx, d)
	}
	without := float64(time.Since(began).Nanoseconds()) / rounds
	for name, opts := range map[string][]eventotel.Option{
		"no SDK":      nil,
		"not sampled": {eventotel.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())))},
		"SDK": {
			eventotel.WithTracerProvider(sdktrace.NewTracerProvider()),
			eventotel.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(metric.NewManualReader()))),
		},
	} {
		b.Run(name, func(b *testing.B) {
			tel, err := eventotel.New(opts...)
			if err != nil {
				b.Fatal(err)
			}
			h := handler(tel.Middleware())
			b.ReportAllocs()
			for b.Loop() {
				_ = h.HandleEvent(ctx, d)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/without, "x-without")
		})
	}
}

// BenchmarkCall is what telemetry does for a call that has ended.
func BenchmarkCall(b *testing.B) {
	tel, err := eventotel.New()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		ctx := tel.Calling(context.Background(), "crm.deal.get")
		tel.Called(ctx, rest.CallInfo{Method: "crm.deal.get", MemberID: "m", Host: "p.bitrix24.com", Status: 200, Requests: 1, Took: time.Millisecond})
	}
}
