package eventotel_test

import (
	"context"
	"net/http"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventotel"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// An application with traces and metrics. The providers are those that the program has set with
// otel.SetTracerProvider and otel.SetMeterProvider.
func Example() {
	tel, err := eventotel.New()
	if err != nil {
		return
	}
	app := oauth.Config{ClientID: "local.…", ClientSecret: "…"}
	portals, err := oauth.NewPortals(app, oauth.NewMemoryStore(), tel.OAuth()...)
	if err != nil {
		return
	}
	clients, err := rest.NewClients(portals, tel.REST()...)
	if err != nil {
		return
	}
	mux := event.NewMux()
	mux.Use(tel.Middleware()) // first, so that it is outside of the others
	event.On(mux, event.OnCrmDealAdd, func(ctx context.Context, d *event.Delivery, _ event.CRMEntity) error {
		_, err := event.Fetch[struct{ TITLE string }](ctx, clients.Portal(d.MemberID()), d) // ctx links the call
		return err
	})
	hook, err := webhook.NewHandler(portals, mux, append(tel.Webhook(), webhook.WithWorkers(16))...)
	if err != nil {
		return
	}
	http.Handle("/bitrix24", tel.Receive(hook))
	stop, err := tel.Watch(eventotel.Sources{Webhook: hook.Stats, REST: clients.Stats, OAuth: portals.Stats})
	if err != nil {
		return
	}
	defer func() { _ = stop() }()
}
