package oauth

import (
	"context"
	"net/http"
	"net/url"

	"github.com/b24events/b24events/event"
)

// Bounds of a redirect's query. Codes have about 70 characters.
const (
	maxQuery     = 4096
	maxParameter = 512
)

// Code is an authorization code, which a portal gives the browser of a user who allows the
// application to act for them. It lives for 30 seconds and works once.
type Code struct {
	Code event.Secret
	// ServerDomain is the redirect's parameter server_domain. It must be on the allow list; empty
	// means oauth.bitrix.info.
	ServerDomain string
	// Domain is the host of the portal that was asked. A code of another portal is refused. Empty
	// admits every portal, which is only right when no browser was involved.
	Domain string
}

// RedirectHandler serves the redirect address in the application's settings, to which a portal
// sends its user back with an authorization code. It checks the redirect against what
// [States.Authorize] kept in the browser's session, trades the code by exchange, which is
// [Portals.Exchange] for the application's own tokens or [Portals.ExchangeUser] for the user's, and
// lets done answer the browser, with an installation or an error.
//
// A redirect that was not begun in this session, that comes from another portal than the one asked,
// or that lacks a parameter or has it twice, is an [ErrRedirect]. Besides, done gets the errors of
// exchange. Nothing in the request may be shown to the user as it is. Other methods than GET are
// answered 405, without done.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/index.html
func RedirectHandler(
	exchange func(ctx context.Context, code Code) (Installation, error),
	states *States,
	done func(w http.ResponseWriter, r *http.Request, in Installation, err error),
) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			plainStatus(w, http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer") // the address has the code
		back, err := parseRedirect(r.URL.RawQuery)
		asked, begun := states.take(w, r) // also of a malformed redirect: a state works once
		if err == nil && (!begun || !sameSecret(event.Secret(asked.State), back.state)) {
			err = &Error{Op: opExchange, Kind: ErrRedirect, Detail: "its state is not the session's"}
		}
		var in Installation
		if err == nil {
			in, err = exchange(r.Context(), Code{Code: back.code, ServerDomain: back.serverDomain, Domain: asked.Domain})
		}
		done(w, r, in, err)
	})
}

// redirect is what a portal adds to the redirect address. What else it says of the portal is not
// needed: the OAuth server names the portal when it gets the code.
type redirect struct {
	code, state  event.Secret
	serverDomain string
}

func parseRedirect(query string) (redirect, error) {
	refuse := func(detail string) (redirect, error) {
		return redirect{}, &Error{Op: opExchange, Kind: ErrRedirect, Detail: detail}
	}
	if len(query) > maxQuery {
		return refuse("its query is too long")
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return refuse("its query is malformed")
	}
	for _, name := range []string{"code", "state", "server_domain"} {
		if len(values[name]) > 1 {
			return refuse(name + " stands there twice")
		}
		if len(values.Get(name)) > maxParameter {
			return refuse(name + " is too long")
		}
	}
	switch {
	case values.Get("code") == "":
		return refuse("code is missing")
	case values.Get("state") == "":
		return refuse("state is missing")
	}
	return redirect{
		code: event.Secret(values.Get("code")), state: event.Secret(values.Get("state")), serverDomain: values.Get("server_domain"),
	}, nil
}
