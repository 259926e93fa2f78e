package eventtest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

func ExampleNew() {
	ctx := context.Background()
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		d, err := event.ParseRequest(r)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(d.Name, d.Entity().ID)
	}))
	defer srv.Close()

	p, err := eventtest.New()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close() //nolint:errcheck // the example ends here
	token, err := p.AddOutgoingWebhook(srv.URL, "ONCRMDEALADD", "ONCRMDEALDELETE")
	if err != nil {
		fmt.Println(err)
		return
	}
	id, _ := p.Add(eventtest.Deal, map[string]any{"TITLE": "Rocket"}, eventtest.AdminID)
	_ = p.Delete(eventtest.Deal, id, eventtest.AdminID)
	_ = p.Wait(ctx)
	fmt.Println("the token is", token)

	// Output:
	// ONCRMDEALADD 1
	// ONCRMDEALDELETE 1
	// the token is [redacted]
}

func ExampleNewRequest() {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := event.ParseRequest(r)
		if err != nil || string(d.Auth.ApplicationToken) != "secret" {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	for _, token := range []event.Secret{"secret", "guess"} {
		r, err := eventtest.NewRequest(context.Background(), event.OnCrmDealAdd, event.CRMEntity{ID: 7}, eventtest.WithToken(token))
		if err != nil {
			fmt.Println(err)
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	// Output:
	// 200
	// 403
}
