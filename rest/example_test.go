package rest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/b24events/b24events/event/eventtest"
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
	portal, api := stage() // a portal with three deals
	defer func() { _ = portal.Close() }()

	client := api.Portal(portal.MemberID())
	deal, err := rest.Call[struct{ ID, Title string }](context.Background(), client, "crm.deal.get", map[string]any{"id": 1})
	fmt.Println(deal.ID, deal.Title, err)
	// Output: 1 Chairs <nil>
}

func ExampleError() {
	portal, api := stage()
	defer func() { _ = portal.Close() }()
	portal.Once("crm.deal.get", eventtest.Fail(http.StatusForbidden, "ACCESS_DENIED", "Access denied!"))

	err := api.Portal(portal.MemberID()).Call(context.Background(), "crm.deal.get", map[string]any{"id": 1}, nil)
	fmt.Println(errors.Is(err, rest.ErrAccessDenied))
	fmt.Println(err)
	// Output:
	// true
	// rest: crm.deal.get: ACCESS_DENIED (status 403): Access denied!
}

func ExampleOrdered() {
	portal, api := stage()
	defer func() { _ = portal.Close() }()

	type Comment struct {
		Message string `b24:"POST_MESSAGE"`
	}
	client := api.Portal(portal.MemberID())
	comment, err := rest.Call[Comment](context.Background(), client, "task.commentitem.get", rest.Ordered{
		rest.Arg("TASKID", 2), rest.Arg("ITEMID", 2),
	})
	fmt.Println(comment.Message, err)
	// Output:
	// comment 2 <nil>
}

func Example_notFound() {
	portal, api := stage()
	defer func() { _ = portal.Close() }()

	err := api.Portal(portal.MemberID()).Call(context.Background(), "crm.deal.get", map[string]any{"id": 404}, nil)
	fmt.Println(errors.Is(err, rest.ErrNotFound))
	// Output:
	// true
}
