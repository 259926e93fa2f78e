package rest_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

// stage makes a portal with three deals of one contact, and clients for it.
func stage() (portal *eventtest.Portal, api *rest.Clients) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	portal, err := eventtest.New()
	must(err)
	_, err = portal.Add(eventtest.Contact, map[string]any{"NAME": "Ann"}, eventtest.AdminID)
	must(err)
	for _, title := range []string{"Chairs", "Tables", "Lamps"} {
		_, err = portal.Add(eventtest.Deal, map[string]any{"TITLE": title, "CONTACT_ID": 1}, eventtest.AdminID)
		must(err)
	}
	for i := range 2 { // task 1 has comment 1, task 2 has comment 2
		task, err := portal.Add(eventtest.Task, map[string]any{"TITLE": "x"}, eventtest.AdminID)
		must(err)
		fields := map[string]any{"TASK_ID": task, "POST_MESSAGE": fmt.Sprint("comment ", i+1)}
		_, err = portal.Add(eventtest.TaskComment, fields, eventtest.AdminID)
		must(err)
	}
	app, err := portal.AddApp(eventtest.App{Scope: []string{"crm", "task"}})
	must(err)
	must(app.Install(context.Background()))
	grant, err := app.Grant(eventtest.AdminID)
	must(err)
	api, err = rest.NewClients(oneToken{grant.ClientEndpoint, string(grant.AccessToken)}, rest.WithInsecureHTTP())
	must(err)
	return portal, api
}

func ExampleClient_Batch() {
	portal, api := stage()
	defer func() { _ = portal.Close() }()

	type Deal struct{ ID, Title string }
	type Contact struct{ Name string }
	b := rest.NewBatch()
	deal := rest.Add[Deal](b, "deal", "crm.deal.get", map[string]any{"id": 2})
	contact := rest.Add[Contact](b, "contact", "crm.contact.get", map[string]any{"id": deal.Ref("CONTACT_ID")})
	missing := rest.Add[Deal](b, "missing", "crm.deal.get", map[string]any{"id": 99})
	if err := api.Portal(portal.MemberID()).Batch(context.Background(), b); err != nil {
		panic(err)
	}
	d, err := deal.Result()
	fmt.Println(d.Title, err)
	c, err := contact.Result()
	fmt.Println(c.Name, err)
	_, err = missing.Result()
	fmt.Println(err)
	fmt.Println(portal.Requests().REST, "request")
	// Output:
	// Tables <nil>
	// Ann <nil>
	// rest: crm.deal.get: an error without a code (status 200): Not found
	// 1 request
}

func ExampleAll() {
	portal, api := stage()
	defer func() { _ = portal.Close() }()

	type Deal struct{ ID, Title string }
	params := map[string]any{"select": []string{"ID", "TITLE"}, "filter": map[string]any{">ID": 1}}
	for deal, err := range rest.All[Deal](context.Background(), api.Portal(portal.MemberID()), "crm.deal.list", params, rest.ByID("ID")) {
		if err != nil {
			panic(err)
		}
		fmt.Println(deal.ID, deal.Title)
	}
	// Output:
	// 2 Tables
	// 3 Lamps
}

func ExampleCoalescer() {
	portal, api := stage()
	defer func() { _ = portal.Close() }()

	c, err := rest.NewCoalescer(api.Portal(portal.MemberID()), rest.WithWindow(200*time.Millisecond)) // or api.Coalescer(memberID)
	if err != nil {
		panic(err)
	}
	type Deal struct{ Title string }
	titles := make([]string, 3)
	var wg sync.WaitGroup
	for i := range titles {
		wg.Go(func() { // such as handlers of three events
			deal, err := rest.Call[Deal](context.Background(), c, "crm.deal.get", map[string]any{"id": i + 1})
			if err != nil {
				panic(err)
			}
			titles[i] = deal.Title
		})
	}
	wg.Wait()
	fmt.Println(titles)
	fmt.Println(portal.Requests().REST, "request")
	// Output:
	// [Chairs Tables Lamps]
	// 1 request
}
