package offline_test

import (
	"context"
	"fmt"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
)

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
