package offline_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
)

// demoPortal is a portal of package eventtest with an application on it.
type demoPortal struct{ *eventtest.Portal }

// close ends the portal.
func (p demoPortal) close() {
	if err := p.Close(); err != nil {
		fmt.Println(err)
	}
}

// connect starts a portal and returns a client with the administrator's token.
func connect(ctx context.Context) (demoPortal, *rest.Client, error) {
	portal, err := eventtest.New() //nolint:contextcheck // the portal lives until it is closed
	if err != nil {
		return demoPortal{}, nil, err
	}
	app, err := portal.AddApp(eventtest.App{Scope: []string{"crm"}})
	if err != nil {
		return demoPortal{}, nil, err
	}
	if err := app.Install(ctx); err != nil {
		return demoPortal{}, nil, err
	}
	g, err := app.Grant(eventtest.AdminID)
	if err != nil {
		return demoPortal{}, nil, err
	}
	portals, err := rest.NewClients(
		credentials{endpoint: g.ClientEndpoint, token: string(g.AccessToken), client: app.ClientID()},
		rest.WithInsecureHTTP(),
		rest.WithoutRateLimit(),
	)
	if err != nil {
		return demoPortal{}, nil, err
	}
	return demoPortal{portal}, portals.Portal(portal.MemberID()), nil
}

func ExampleConsumer() {
	ctx := context.Background()
	portal, api, err := connect(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer portal.close()

	mux := event.NewMux()
	event.On(mux, event.OnCrmDealUpdate, func(_ context.Context, d *event.Delivery, e event.CRMEntity) error {
		fmt.Printf("deal %d changed, by user %d\n", e.ID, d.Auth.UserID)
		return nil
	})
	if err := event.NewAPI(api).Reconcile(ctx, mux.OfflineBindings("")); err != nil {
		fmt.Println(err)
		return
	}

	// While the application is down, people work on the portal.
	id, _ := portal.Add(eventtest.Deal, map[string]any{"TITLE": "Boats"}, eventtest.AdminID)
	for range 10 {
		_ = portal.Update(eventtest.Deal, id, map[string]any{"OPPORTUNITY": 100}, eventtest.AdminID)
	}

	consumer, err := offline.NewConsumer(api, mux)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := consumer.Drain(ctx); err != nil { // a service calls Run
		fmt.Println(err)
		return
	}
	fmt.Println("left in the queue:", len(portal.OfflineRows()))
	// Output:
	// deal 1 changed, by user 1
	// left in the queue: 0
}

func ExampleConsumer_WakeFor() {
	portal, api, err := connect(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer portal.close()

	mux := event.NewMux()
	consumer, err := offline.NewConsumer(api, mux)
	if err != nil {
		fmt.Println(err)
		return
	}
	// Bound online: the portal posts ONOFFLINEEVENT when records came in, at most once a second.
	event.On(mux, event.OnOfflineEvent, func(_ context.Context, d *event.Delivery, _ event.OfflineNotice) error {
		consumer.WakeFor(d) // does nothing for a delivery that is not proven to be this application's
		return nil
	})
	for _, b := range mux.Bindings("https://example.com/bitrix24") {
		fmt.Println(b)
	}
	// Output: ONOFFLINEEVENT https://example.com/bitrix24
}

func ExampleWithSpool() {
	ctx := context.Background()
	portal, api, err := connect(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer portal.close()
	_ = portal.ChangeQuirks(func(m *eventtest.Quirks) { m.NoExtendedOffline = true }) // a small plan
	if err := event.NewAPI(api).Bind(ctx, event.Binding{Event: "ONCRMDEALADD", Offline: true}); err != nil {
		fmt.Println(err)
		return
	}
	_, _ = portal.Add(eventtest.Deal, nil, eventtest.AdminID)
	dir, err := os.MkdirTemp("", "spool")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir) //nolint:errcheck // an example's

	show := event.HandlerFunc(func(_ context.Context, d *event.Delivery) error {
		fmt.Println(d.Name, d.Entity())
		return nil
	})
	careless, _ := offline.NewConsumer(api, show)
	fmt.Println(errors.Is(careless.Drain(ctx), offline.ErrExtendedModeRequired))
	consumer, _ := offline.NewConsumer(api, show, offline.WithSpool(dir))
	fmt.Println(consumer.Drain(ctx))
	// Output:
	// true
	// ONCRMDEALADD {crm.deal 1}
	// <nil>
}

func ExampleWithHooks() {
	portal, api, err := connect(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer portal.close()
	consumer, err := offline.NewConsumer(api, event.NewMux(),
		offline.WithStallAlert(5*time.Minute, 72*time.Hour), // a weekend without a change is no alarm
		offline.WithHooks(offline.Hooks{
			Handled:  func(_ context.Context, d *event.Delivery, lag time.Duration) { fmt.Println(d.Name, "after", lag) },
			Parked:   func(_ context.Context, r offline.Record, err error) { fmt.Println("parked", r.ID, err) },
			Measured: func(_ context.Context, b offline.Backlog) { fmt.Println(b.Waiting, "records wait") },
			Stalled:  func(_ context.Context, s offline.Stall) { fmt.Println(s.Kind, "since", s.Since) },
		}))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(consumer.Drain(context.Background()))
	// Output:
	// 0 records wait
	// <nil>
}

func ExampleQueue() {
	ctx := context.Background()
	portal, api, err := connect(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer portal.close()
	if err := event.NewAPI(api).Bind(ctx, event.Binding{Event: "ONCRMDEALADD", Offline: true}); err != nil {
		fmt.Println(err)
		return
	}
	_, _ = portal.Add(eventtest.Deal, nil, eventtest.AdminID)

	queue, err := offline.NewQueue(api)
	if err != nil {
		fmt.Println(err)
		return
	}
	batch, err := queue.Reserve(ctx, 50)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range batch.Records {
		if r.Err != nil {
			continue
		}
		fmt.Println(r.Delivery.Name, r.Delivery.Entity())
		if err := queue.Clear(ctx, batch.ProcessID, r.MessageID); err != nil {
			fmt.Println(err)
		}
	}
	// Output: ONCRMDEALADD {crm.deal 1}
}

func ExampleFleet() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	portal, api, err := connect(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer portal.close()

	handled := make(chan struct{})
	mux := event.NewMux()
	event.On(mux, event.OnCrmDealUpdate, func(_ context.Context, _ *event.Delivery, e event.CRMEntity) error {
		fmt.Printf("deal %d changed\n", e.ID)
		close(handled)
		return nil
	})
	if err := event.NewAPI(api).Reconcile(ctx, mux.OfflineBindings("")); err != nil {
		fmt.Println(err)
		return
	}

	callers := func(string) event.Caller { return api } // a service: func(memberID string) event.Caller { return portals.Coalescer(memberID) }
	fleet, err := offline.NewFleet(callers, mux)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := fleet.Add(portal.MemberID()); err != nil { // each portal of the store, and each that installs the application later
		fmt.Println(err)
		return
	}
	ended := make(chan error)
	go func() { ended <- fleet.Run(ctx) }()

	id, _ := portal.Add(eventtest.Deal, map[string]any{"TITLE": "Boats"}, eventtest.AdminID)
	_ = portal.Update(eventtest.Deal, id, map[string]any{"OPPORTUNITY": 100}, eventtest.AdminID)
	fleet.Wake(portal.MemberID()) // a handler of event.OnOfflineEvent calls fleet.WakeFor(d)

	<-handled
	stop()
	fmt.Println(<-ended)
	// Output:
	// deal 1 changed
	// <nil>
}
