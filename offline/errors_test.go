package offline_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
)

// lost is what a portal's calls come to once there is no access to it any more, or for the moment.
type lost struct{ err error }

func (l lost) Access(context.Context, string) (endpoint, token string, err error) {
	return "", "", l.err
}

func (l lost) Renew(context.Context, string, string) (endpoint, token string, err error) {
	return "", "", l.err
}

// permanentError is an error of credentials that are not package oauth's.
type permanentError bool

func (permanentError) Error() string     { return "no access" }
func (e permanentError) Permanent() bool { return bool(e) }

func TestAccessThatIsLostForGoodEndsTheConsumer(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err  error
		ends bool
	}{
		"void tokens":         {&oauth.Error{Op: "renew", Kind: oauth.ErrReauthorize}, true},
		"refused application": {&oauth.Error{Op: "renew", Kind: oauth.ErrCredentials}, true},
		"other credentials":   {permanentError(true), true},
		"ended subscription":  {&oauth.Error{Op: "renew", Kind: oauth.ErrPayment}, false},
		"OAuth server down":   {&oauth.Error{Op: "renew", Kind: oauth.ErrTemporary}, false},
		"store down":          {&oauth.Error{Op: "load", Kind: oauth.ErrStore}, false},
		"says it will pass":   {permanentError(false), false},
		"says nothing":        {errors.New("no access"), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				portals, err := rest.NewClients(lost{test.err})
				require.NoError(t, err)
				c := newConsumer(t, portals.Portal("a223c6b3710f85df22e9377d6c4f7553"),
					func(context.Context, *event.Delivery) error { return nil })
				ctx, stop := context.WithTimeout(t.Context(), time.Hour)
				defer stop()

				err = c.Run(ctx)

				if test.ends {
					require.ErrorIs(t, err, test.err)
					require.NoError(t, ctx.Err(), "it ended at once")
					return
				}
				require.NoError(t, err)
				require.Error(t, ctx.Err(), "it waited it out")
			})
		})
	}
}
