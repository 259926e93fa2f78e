package offline_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/offline"
)

func TestOptionsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	none := unreachable(t)
	h := event.HandlerFunc(func(context.Context, *event.Delivery) error { return nil })
	queue := func(c event.Caller, opts ...offline.QueueOption) error {
		_, err := offline.NewQueue(c, opts...)
		return err
	}
	consumer := func(c event.Caller, h event.Handler, opts ...offline.ConsumerOption) error {
		_, err := offline.NewConsumer(c, h, opts...)
		return err
	}
	for _, tt := range []struct {
		name string
		opt  offline.ConsumerOption
	}{
		{"member", offline.WithMemberID("")},
		{"application", offline.WithClientID("")},
		{"batch", offline.WithBatchSize(0)},
		{"workers", offline.WithWorkers(-1)},
		{"no interval", offline.WithInterval(0, time.Second)},
		{"short interval", offline.WithInterval(offline.MinInterval-1, time.Second)},
		{"interval backwards", offline.WithInterval(time.Minute, time.Second)},
		{"timeout", offline.WithHandlerTimeout(0)},
		{"grace", offline.WithGrace(-time.Second)},
		{"attempts", offline.WithMaxAttempts(0)},
		{"parked interval", offline.WithParkedInterval(0)},
		{"spool", offline.WithSpool("")},
		{"no user", offline.WithIgnoredUsers(7, 0)},
		{"stall", offline.WithStallAlert(-1, 0)},
		{"logger", offline.WithLogger(nil)},
		{"connector", offline.WithConnector(" erp")},
	} {
		require.ErrorIs(t, consumer(none, h, tt.opt), offline.ErrConfig, tt.name)
	}
	for _, opt := range []offline.WorkOption{
		offline.WithBatchSize(1), offline.WithWorkers(1), offline.WithInterval(offline.MinInterval, offline.MinInterval),
		offline.WithHandlerTimeout(1), offline.WithGrace(0), offline.WithMaxAttempts(1), offline.WithParkedInterval(1),
		offline.WithIgnoredUsers(1), offline.WithStallAlert(0, 0), offline.WithHooks(offline.Hooks{}), offline.WithLogger(slog.New(slog.DiscardHandler)),
	} {
		require.NoError(t, consumer(none, h, nil, opt))
	}
	for _, opt := range []offline.PortalOption{nil, offline.WithConnector(""), offline.WithMemberID("m"), offline.WithClientID("app.1")} {
		require.NoError(t, consumer(none, h, opt))
		require.NoError(t, queue(none, opt))
	}
	for name, err := range map[string]error{
		"member of a queue":      queue(none, offline.WithMemberID("")),
		"application of a queue": queue(none, offline.WithClientID("")),
		"connector of a queue":   queue(none, offline.WithConnector(" erp")),
		"queue without a caller": queue(nil),
		"queue of a nil caller":  queue((*requests)(nil)),
		"consumer, no caller":    consumer(nil, h),
		"consumer, no handler":   consumer(none, nil),
		"nil function":           consumer(none, event.HandlerFunc(nil)),
		"nil mux":                consumer(none, (*event.Mux)(nil)),
	} {
		require.ErrorIs(t, err, offline.ErrConfig, name)
	}
	for name, err := range map[string]error{
		"queue":    queue(none, offline.WithMemberID("another")),
		"consumer": consumer(none, h, offline.WithMemberID("another")),
	} {
		require.ErrorIs(t, err, offline.ErrConfig, name)
		require.ErrorIs(t, err, offline.ErrIdentity, name)
	}
}

// Each option is one of exactly those constructors that read it.
func TestWhoseOptions(t *testing.T) {
	t.Parallel()
	const queue, consumer, fleet = "queue", "consumer", "fleet"
	for name, tt := range map[string]struct {
		opt  any
		want []string
	}{
		"common": {offline.WithConnector("erp"), []string{queue, consumer, fleet}},
		"portal": {offline.WithMemberID("m"), []string{queue, consumer}},
		"work":   {offline.WithWorkers(1), []string{consumer, fleet}},
		"fleet":  {offline.WithTurns(8), []string{fleet}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			if _, ok := tt.opt.(offline.QueueOption); ok {
				got = append(got, queue)
			}
			if _, ok := tt.opt.(offline.ConsumerOption); ok {
				got = append(got, consumer)
			}
			if _, ok := tt.opt.(offline.FleetOption); ok {
				got = append(got, fleet)
			}
			require.Equal(t, tt.want, got)
		})
	}
}

func TestLeaseOptions(t *testing.T) {
	t.Parallel()
	var none *offline.MemoryLeaser
	for name, opt := range map[string]offline.WorkOption{
		"nil leaser":      offline.WithLeaser(nil),
		"nil in a leaser": offline.WithLeaser(none),
		"short time":      offline.WithLeaseTTL(offline.MinLeaseTTL - 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ignore := event.HandlerFunc(func(context.Context, *event.Delivery) error { return nil })
			_, err := offline.NewConsumer(unreachable(t), ignore, opt)
			require.ErrorIs(t, err, offline.ErrConfig)
			require.ErrorContains(t, err, "WithLease")
		})
	}
}

func TestFleetOptions(t *testing.T) {
	t.Parallel()
	caller := func(string) event.Caller { return nil }
	for name, build := range map[string]func() error{
		"no callers":   func() error { _, err := offline.NewFleet(nil, new(world)); return err },
		"no handler":   func() error { _, err := offline.NewFleet(caller, nil); return err },
		"few turns":    func() error { _, err := offline.NewFleet(caller, new(world), offline.WithTurns(3)); return err },
		"few handlers": func() error { _, err := offline.NewFleet(caller, new(world), offline.WithHandlers(3)); return err },
		"nil function": func() error { _, err := offline.NewFleet(caller, new(world), offline.WithOnRefused(nil)); return err },
		"spool that others need": func() error {
			_, err := offline.NewFleet(caller, new(world), offline.WithLeaser(offline.NewMemoryLeaser()), offline.WithSpool(t.TempDir()), offline.WithClientID("app.1"))
			return err
		},
		"bad interval": func() error { _, err := offline.NewFleet(caller, new(world), offline.WithInterval(0, 0)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorIs(t, build(), offline.ErrConfig)
		})
	}
	_, err := offline.NewFleet(caller, new(world), nil, offline.WithTurns(4), offline.WithHandlers(4))
	require.NoError(t, err)
}

// An interval of a nanosecond is refused or raised: it is a typing error that would use up the
// portal's limit for everybody.
func TestIntervalsHaveAFloor(t *testing.T) {
	t.Parallel()
	requests := 0
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.ResetRecords()
		c, err := offline.NewConsumer(f.api, new(journal), offline.WithInterval(1, 1), offline.WithParkedInterval(1))
		if err != nil {
			return
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Microsecond)
		defer stop()
		require.NoError(t, c.Run(ctx))
		requests = f.Requests().REST
	})
	expect(t, requests <= 5, "%d requests in 1 µs", requests)
}
