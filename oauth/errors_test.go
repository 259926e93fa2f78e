package oauth_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth"
)

func TestPermanentErrors(t *testing.T) {
	t.Parallel()
	tests := map[oauth.ErrorKind]bool{
		oauth.ErrReauthorize: true, oauth.ErrCredentials: true, oauth.ErrHostNotAllowed: true, oauth.ErrEndpoint: true,
		oauth.ErrNoUserToken: true,
		oauth.ErrPayment:     false, oauth.ErrTemporary: false, oauth.ErrStore: false, oauth.ErrBusy: false, oauth.ErrRedirect: false,
		oauth.ErrNotFound: true, oauth.ErrUnverified: true, oauth.ErrShutdown: true,
	}
	for kind, want := range tests {
		var p interface{ Permanent() bool }
		require.ErrorAs(t, fmt.Errorf("wrapped: %w", &oauth.Error{Op: "renew", Kind: kind}), &p)
		require.Equal(t, want, p.Permanent(), kind)
	}
}

func TestRefusedRenewalIsPermanent(t *testing.T) {
	t.Parallel()
	_, _, err := scripted(t, stored(t), &script{respond: says(401, `{"error":"invalid_client"}`)}).Renew(t.Context(), member, "a1")
	var e *oauth.Error
	require.True(t, errors.As(err, &e) && e.Permanent())
	_, _, err = scripted(t, stored(t), &script{respond: says(500, `oops`)}).Renew(t.Context(), member, "a1")
	require.True(t, errors.As(err, &e) && !e.Permanent())
}
