package b24events_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// dealWatcher takes the events of one portal's outgoing webhook.
func dealWatcher(token string) (*webhook.Handler, error) {
	mux := event.NewMux()
	event.On(mux, event.OnCrmDealUpdate, func(_ context.Context, d *event.Delivery, e event.CRMEntity) error {
		fmt.Println("deal", e.ID, "changed on", d.MemberID())
		return nil
	})
	return webhook.NewHandler(webhook.Tokens(token), mux)
}

// serve runs until ctx ends and loses nothing that it acknowledged.
func serve(ctx context.Context, addr string, h *webhook.Handler) error {
	routes := http.NewServeMux()
	routes.Handle("/bitrix24", h)
	server := &http.Server{Addr: addr, Handler: routes, ReadHeaderTimeout: 10 * time.Second}
	drained := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err := server.Shutdown(last)                  // first no more requests,
		drained <- errors.Join(err, h.Shutdown(last)) // then process what was acknowledged
	})
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-drained
}

// newApp takes the events of an application that many portals install. url is its public address.
func newApp(cfg oauth.Config, store oauth.Store, url string) (*webhook.Handler, error) {
	portals, err := oauth.NewPortals(cfg, store) // verifies, stores, refreshes
	if err != nil {
		return nil, err
	}
	api, err := rest.NewClients(portals) // a client for each portal
	if err != nil {
		return nil, err
	}
	return webhook.NewHandler(portals, appMux(portals, api, url))
}

func appMux(portals *oauth.Portals, api *rest.Clients, url string) *event.Mux {
	mux := event.NewMux()
	portals.Lifecycle(mux, oauth.Hooks{ // install, update, uninstall, removal, system user
		Installed: func(ctx context.Context, in oauth.Installation, _ event.AppInstall) error {
			return event.NewAPI(api.Portal(in.MemberID)).Reconcile(ctx, mux.Bindings(url))
		},
	})
	event.On(mux, event.OnCrmDealAdd, func(ctx context.Context, d *event.Delivery, _ event.CRMEntity) error {
		// crm.deal.get; what many handlers fetch at the same time leaves as one batch.
		deal, err := event.Fetch[struct{ TITLE string }](ctx, api.Coalescer(d.MemberID()), d)
		switch {
		case errors.Is(err, event.ErrGone):
			return nil // deleted before we came to it
		case err != nil:
			return err
		}
		fmt.Println("new deal:", deal.TITLE)
		return nil
	})
	return mux
}

// winDeal closes a deal as the user whose action caused the event: what they may not do, the portal
// refuses.
func winDeal(ctx context.Context, api *rest.Clients, portals *oauth.Portals, d *event.Delivery, id int64) error {
	client := api.Portal(d.MemberID()).As(portals.Acting(d)) // another token; connections and limits are those of api
	return client.With(rest.Timeout(20*time.Second), rest.Idempotent()).Call(ctx, "crm.deal.update",
		map[string]any{"id": id, "fields": map[string]any{"STAGE_ID": "WON"}}, nil)
}

// work works the offline queue of one portal until ctx ends.
func work(ctx context.Context, api *rest.Clients, memberID string, mux *event.Mux) error {
	portal := api.Portal(memberID)
	if err := event.NewAPI(portal).Reconcile(ctx, mux.OfflineBindings("")); err != nil {
		return err
	}
	consumer, err := offline.NewConsumer(portal, mux, offline.WithMemberID(memberID))
	if err != nil {
		return err
	}
	return consumer.Run(ctx)
}

// workAll works the offline queues of many portals in one process until ctx ends. Hooks of
// oauth.Portals.Lifecycle may add and remove portals.
func workAll(ctx context.Context, api *rest.Clients, mux *event.Mux, members []string) error {
	fleet, err := offline.NewFleet(func(memberID string) event.Caller { return api.Portal(memberID) }, mux)
	if err != nil {
		return err
	}
	for _, memberID := range members { // those of the store; more may come and go while the fleet works
		if err := fleet.Add(memberID); err != nil {
			return err
		}
	}
	return fleet.Run(ctx)
}

// Paid is what our billing module sends: data[ORDER][ID]=7&data[SUM]=12.50&data[FULL]=Y.
type Paid struct {
	OrderID int64   `b24:"ORDER.ID"`
	Sum     float64 `b24:"SUM"`
	Full    bool    `b24:"FULL"`
}

func onPaid(mux *event.Mux) {
	event.On(mux, event.Define[Paid]("ONBILLINGPAID"), func(_ context.Context, _ *event.Delivery, p Paid) error {
		fmt.Println("order", p.OrderID, "paid:", p.Sum, p.Full)
		return nil
	})
}

func TestDealWatcher(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef0123456789abcdef"
	handler, err := dealWatcher(token)
	if err != nil {
		t.Fatal(err)
	}
	request, err := eventtest.NewRequest(t.Context(), event.OnCrmDealUpdate, event.CRMEntity{ID: 42}, eventtest.WithToken(token))
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	if answer.Code != http.StatusOK {
		t.Fatal("answered", answer.Code)
	}
	if err := handler.Shutdown(t.Context()); err != nil { // waits for the handler of the event
		t.Fatal(err)
	}
}
