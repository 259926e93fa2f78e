package oauth

import (
	"context"
	"net/http"
	"net/url"

	"github.com/b24events/b24events/event"
)

// Limits of a redirect's query. Codes have about 70 characters.
const (
	maxQuery     = 4096
	maxParameter = 512
)

// RedirectHandler serves the redirect address in the application's settings. A portal sends its
// user back to that address with an authorization code. The handler compares the redirect with what
// [States.Authorize] put into the browser's session. It trades the code by exchange, which is
// [Portals.Exchange] for the application's own tokens or [Portals.ExchangeUser] for the user's.
// Then it calls done, which responds to the browser, with an installation or an error.
//
// A redirect that was not begun in this session, that comes from another portal than the one asked,
// or that lacks a parameter or has one twice, is an [ErrRedirect]. done also gets the errors of
// exchange. It must not show anything in the request to the user as it is. The response to methods
// other than GET is 405, without a call of done.
//
// RedirectHandler returns [ErrConfig] if an argument is nil.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/index.html
func RedirectHandler(
	exchange func(ctx context.Context, code Code) (Installation, error),
	states *States,
	done func(w http.ResponseWriter, r *http.Request, in Installation, err error),
) (http.Handler, error) {
	if exchange == nil || states == nil || done == nil {
		return nil, configError("RedirectHandler",
			"an argument is nil; it needs two functions and the States of Portals.CookieStates or SessionStates")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			plainStatus(w, http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer") // the address has the code
		back, err := parseRedirect(r.URL.RawQuery)
		asked, begun := states.take(w, r) // even if the redirect is malformed, because a state works once
		if err == nil && (!begun || !sameSecret(event.Secret(asked.State), back.state)) {
			err = &Error{Op: opExchange, Kind: ErrRedirect, Detail: "its state is not the session's"}
		}
		var in Installation
		if err == nil {
			in, err = exchange(r.Context(), Code{Code: back.code, ServerDomain: back.serverDomain, Domain: asked.Domain})
		}
		done(w, r, in, err)
	}), nil
}

// redirect is what a portal adds to the redirect address. Its other parameters about the portal are
// not needed: the OAuth server names the portal when it gets the code.
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
			return refuse("it has " + name + " twice")
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
