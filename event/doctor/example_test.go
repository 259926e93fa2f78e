package doctor_test

import (
	"context"
	"fmt"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/doctor"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
)

// A program asks why no events arrive.
func ExampleExamine() {
	ctx := context.Background()
	// A fake portal with an application that has no binding.
	portal, err := eventtest.New()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = portal.Close() }()
	app, err := portal.AddApp(eventtest.App{Scope: []string{"crm"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err = app.Install(ctx); err != nil {
		fmt.Println(err)
		return
	}
	grant, err := app.Grant(eventtest.AdminID)
	if err != nil {
		fmt.Println(err)
		return
	}

	// What the program has anyway. The options allow the loopback addresses of the fake portal.
	portals, err := oauth.NewPortals(oauth.Config{ClientID: app.ClientID(), ClientSecret: app.ClientSecret()}, oauth.NewMemoryStore(),
		oauth.WithHosts(portal.OAuthHost()), oauth.WithInsecureHTTP())
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = portals.Seed(ctx, oauth.Installation{
		MemberID: grant.MemberID, ClientEndpoint: grant.ClientEndpoint, ServerEndpoint: grant.ServerEndpoint, AccessToken: grant.AccessToken,
		RefreshToken: grant.RefreshToken, ApplicationToken: grant.ApplicationToken,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	api, err := rest.NewClients(portals, rest.WithInsecureHTTP())
	if err != nil {
		fmt.Println(err)
		return
	}
	want := []event.Binding{{Event: "ONCRMDEALADD", Handler: "https://app.example.com/bitrix24"}}
	report, err := doctor.Examine(ctx, api.Portal(grant.MemberID), want, doctor.WithPortals(portals, grant.MemberID))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range report.Findings() {
		fmt.Println(c.Name, c.Status+":", c.Cause)
	}
	// Output:
	// bindings failed: ONCRMDEALADD https://app.example.com/bitrix24 is not bound.
}
