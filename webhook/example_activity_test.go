package webhook_test

import (
	"context"
	"fmt"
	"net/http/httptest"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// An automation rule of the application, registered with bizproc.robot.add and the URL of the
// Handler. It has a property, sends a message, and returns a result to the workflow.
func ExampleWithActivities() {
	ctx := context.Background()
	portal, err := eventtest.New() // a fake portal with an application
	if err != nil {
		panic(err)
	}
	defer func() { _ = portal.Close() }()
	portal.Always("bizproc.event.send", eventtest.Raw(200, "application/json", `{"result":true}`)) // it has no workflows
	app, err := portal.AddApp(eventtest.App{Scope: []string{"bizproc"}})
	if err != nil {
		panic(err)
	}
	_ = app.Install(ctx)
	granted, _ := app.Grant(eventtest.AdminID)
	portals, err := oauth.NewPortals(oauth.Config{ClientID: app.ClientID(), ClientSecret: app.ClientSecret()}, oauth.NewMemoryStore(),
		oauth.WithHosts(portal.OAuthHost()), oauth.WithInsecureHTTP()) // both for the fake portal
	if err != nil {
		panic(err)
	}
	api, err := rest.NewClients(portals, rest.WithInsecureHTTP())
	if err != nil {
		panic(err)
	}
	_, _ = portals.Seed(ctx, oauth.Installation{ // stored by an earlier installation
		MemberID: granted.MemberID, ClientEndpoint: granted.ClientEndpoint, ServerEndpoint: granted.ServerEndpoint,
		AccessToken: granted.AccessToken, RefreshToken: granted.RefreshToken, Expires: granted.Expires,
		ApplicationToken: granted.ApplicationToken,
	})

	mux := event.NewMux()
	event.OnActivity(mux, "send_sms", func(ctx context.Context, d *event.Delivery, a event.Activity) error {
		var sms struct {
			Phone string `b24:"phone"`
			Text  string `b24:"text"`
		}
		if err := a.Properties.Decode(&sms); err != nil {
			return err
		}
		fmt.Printf("%s: to %s: %s\n", a.Document.ID, sms.Phone, sms.Text)
		if !a.Waits {
			return nil
		}
		return a.Return(ctx, api.Portal(d.MemberID()), event.ActivityResult{Values: map[string]any{"message_id": 17}, Log: "sent"})
	})
	handler, err := webhook.NewHandler(portals, mux, webhook.WithActivities(), webhook.WithSync())
	if err != nil {
		panic(err)
	}

	request, err := eventtest.NewActivityRequest(ctx, eventtest.Activity{
		Code: "send_sms", Waits: true, Properties: map[string]any{"phone": "+10000000000", "text": "Your order is ready"},
	}, eventtest.WithPortal(granted))
	if err != nil {
		panic(err)
	}
	response := httptest.NewRecorder()
	handler.ServeHTTP(response, request)
	fmt.Println(response.Code, portal.CallCount("bizproc.event.send"))
	// Output:
	// DEAL_42: to +10000000000: Your order is ready
	// 200 1
}
