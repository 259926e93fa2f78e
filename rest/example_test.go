package rest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/b24events/b24events/rest"
)

// oneToken is the smallest Credentials: one portal and a token that is never renewed.
type oneToken struct{ endpoint, token string }

func (c oneToken) Access(context.Context, string) (endpoint, token string, err error) {
	return c.endpoint, c.token, nil
}

func (c oneToken) Renew(context.Context, string, string) (endpoint, token string, err error) {
	return "", "", errors.New("the token cannot be renewed")
}

func ExampleCall() {
	portal := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `{"result":{"ID":"42","TITLE":"Forty-two chairs"}}`)
	}))
	defer portal.Close()

	api, err := rest.NewPortals(oneToken{portal.URL + "/rest/", "token"}, rest.WithInsecureHTTP())
	if err != nil {
		panic(err)
	}
	deal, err := rest.Call[struct{ ID, Title string }](context.Background(), api.Portal("member"), "crm.deal.get", map[string]any{"id": 42})
	fmt.Println(deal.ID, deal.Title, err)
	// Output: 42 Forty-two chairs <nil>
}

func ExampleError() {
	portal := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprint(w, `{"error":"ACCESS_DENIED","error_description":"Access denied!"}`)
	}))
	defer portal.Close()

	api, err := rest.NewPortals(oneToken{portal.URL + "/rest/", "token"}, rest.WithInsecureHTTP())
	if err != nil {
		panic(err)
	}
	err = api.Portal("member").Call(context.Background(), "crm.deal.get", map[string]any{"id": 42}, nil)
	fmt.Println(errors.Is(err, rest.ErrAccessDenied))
	fmt.Println(err)
	// Output:
	// true
	// rest: crm.deal.get: ACCESS_DENIED (status 403): Access denied!
}
