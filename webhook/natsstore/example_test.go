package natsstore_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/natsstore"
)

// A receiver that runs as several replicas. Each of them accepts events and works its share of
// them.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := receive(ctx, os.Getenv("NATS_URL"), os.Getenv("B24_TOKEN")); err != nil {
		fmt.Println(err)
	}
}

func receive(ctx context.Context, url, token string) error {
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(250*time.Millisecond),
		nats.PingInterval(5*time.Second), nats.MaxPingsOutstanding(2), nats.FlusherTimeout(5*time.Second))
	if err != nil {
		return err
	}
	defer nc.Close()
	store, err := natsstore.New(ctx, nc, natsstore.WithMaxPending(500_000), natsstore.WithKeep(24*time.Hour))
	if err != nil {
		return err
	}
	mux := event.NewMux()
	event.On(mux, event.OnCrmDealUpdate, func(_ context.Context, d *event.Delivery, e event.CRMEntity) error {
		fmt.Println("deal", e.ID, "of", d.MemberID())
		return nil
	})
	h, err := webhook.NewHandler(webhook.Tokens(token), mux, webhook.WithStore(store))
	if err != nil {
		return errors.Join(err, store.Close())
	}
	server := &http.Server{Addr: ":8080", Handler: h, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return errors.Join(err, server.Shutdown(ctx), h.Shutdown(ctx), store.Close()) // in this order
}

// What a Handler does with a store.
func ExampleNew() {
	storeOne := func(ctx context.Context, nc *nats.Conn) error {
		store, err := natsstore.New(ctx, nc)
		if err != nil {
			return err
		}
		defer func() { _ = store.Close() }()
		add := []*webhook.Record{{Name: "ONCRMDEALADD", Received: time.Now(), Data: []byte("the delivery")}}
		if err := store.Commit(ctx, add, nil); err != nil { // durable when it returns
			return err
		}
		for r, err := range store.Feed(ctx, 0) {
			if err != nil {
				return err
			}
			done := webhook.Mark{Part: r.Part, ID: r.ID, State: webhook.StateDone}
			return store.Commit(ctx, nil, []webhook.Mark{done})
		}
		return ctx.Err()
	}
	_ = storeOne
}

func ExampleWithName() {
	_, err := natsstore.New(context.Background(), nil, natsstore.WithName("two.words"))
	fmt.Println(errors.Is(err, natsstore.ErrConfig))
	fmt.Println(err)
	// Output:
	// true
	// natsstore: invalid configuration: the name "two.words": want 1 to 64 letters, digits, - and _
}

// One of several processes makes the reports. What it writes carries its fence, so that a process
// that was frozen, and lost its lease meanwhile, cannot overwrite what its successor wrote.
func ExampleStore_Fence() {
	report := func(ctx context.Context, store *natsstore.Store, process string, save func(fence uint64) error) error {
		held, err := store.Acquire(ctx, process, 30*time.Second, "reports")
		if err != nil || len(held) == 0 {
			return err
		}
		fence, err := store.Fence(ctx, process, "reports")
		if err != nil {
			return err
		}
		return save(fence) // UPDATE reports SET …, fence = $1 WHERE fence <= $1
	}
	_ = report
}

// TestQuickStart runs what the documentation shows.
func TestQuickStart(t *testing.T) {
	t.Parallel()
	for name, server := range sharedServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			space := newSpace(t, url)
			store := space.open(t, natsstore.WithMaxPending(500_000), natsstore.WithKeep(24*time.Hour))
			handled := make(chan int, 1)
			mux := event.NewMux()
			event.On(mux, event.OnCrmDealUpdate, func(_ context.Context, _ *event.Delivery, e event.CRMEntity) error {
				handled <- int(e.ID)
				return nil
			})
			h, err := webhook.NewHandler(trusting{}, mux, webhook.WithStore(store))
			require.NoError(t, err)
			require.True(t, (&replica{Handler: h}).post(t, "portal", 7, 1))
			select {
			case id := <-handled:
				require.Equal(t, 7, id)
			case <-time.After(patience):
				require.Fail(t, "the event is not handled")
			}
			require.NoError(t, h.Shutdown(within(t)))
			depth, err := store.Depth(within(t))
			require.NoError(t, err)
			require.Zero(t, depth.Pending)
			require.Equal(t, int64(1), depth.Kept)
			require.NoError(t, store.Close())
		})
	}
}
