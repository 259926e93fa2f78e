package oauth_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
)

// An event passes if it has the application token that its portal's installation brought.
func ExamplePortals_Verify() {
	ctx := context.Background()
	store := oauth.NewMemoryStore()
	// In a real program, a verified ONAPPINSTALL stores this.
	_, _ = store.Swap(ctx, oauth.Key{ClientID: "local.1", MemberID: "member"}, "",
		oauth.Installation{MemberID: "member", ApplicationToken: "known"})
	portals, err := oauth.NewPortals(oauth.Config{ClientID: "local.1", ClientSecret: "secret"}, store)
	if err != nil {
		panic(err)
	}

	d := &event.Delivery{Kind: event.KindEvent, Name: "ONCRMDEALADD", Auth: event.Auth{MemberID: "member", ApplicationToken: "known"}}
	proof, err := portals.Verify(ctx, d)
	fmt.Println(proof.By, proof.MemberID, err)
	d.Auth.ApplicationToken = "guessed"
	_, err = portals.Verify(ctx, d)
	fmt.Println(errors.Is(err, event.ErrForbidden))
	// Output:
	// installation member <nil>
	// true
}
