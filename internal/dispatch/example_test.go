package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

// printer is the least that a front does.
type printer struct{ handler event.Handler }

func (p printer) Handle(ctx context.Context, it *dispatch.Item) error {
	return p.handler.HandleEvent(ctx, it.Delivery)
}

func (printer) Retrying(it *dispatch.Item, _ error, _ time.Duration) {
	fmt.Println("again:", it.Delivery.Name, "after attempt", it.Attempts)
}

func (printer) Finished(it *dispatch.Item, o dispatch.Outcome, _ error) {
	fmt.Println("finished:", it.Delivery.Name, "done:", o == dispatch.OutcomeDone)
}

// A front brings a delivery in, and gets it back when it is finished.
func ExampleDispatcher() {
	handler := event.HandlerFunc(func(ctx context.Context, _ *event.Delivery) error {
		if event.AttemptOf(ctx).Number == 1 {
			return errors.New("not yet")
		}
		return nil
	})
	d := dispatch.New(dispatch.Config{
		Workers: 4, Limit: 2, SlowShare: 2, Urgent: 1, Size: 100, UrgentSize: 10, Front: printer{handler}, Timeout: time.Minute,
		MaxAttempts: 5, Backoff: func(int) time.Duration { return time.Millisecond }, Grace: time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	delivery, err := event.Parse("", []byte("event=ONCRMDEALUPDATE&data[FIELDS][ID]=42"))
	if err != nil {
		fmt.Println(err)
		return
	}
	it := &dispatch.Item{Delivery: delivery, Lane: delivery.Lane(), Cost: 1, Arrived: time.Now()}
	if err := d.Enqueue(dispatch.Key{MemberID: "m"}, it, time.Second); err != nil {
		fmt.Println(err)
	}
	if err := d.Shutdown(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// again: ONCRMDEALUPDATE after attempt 1
	// finished: ONCRMDEALUPDATE done: true
}
