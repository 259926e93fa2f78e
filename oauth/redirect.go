package oauth

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"

	"github.com/b24events/b24events/event"
)

// Bounds of a redirect's query. Codes have about 70 characters.
const (
	maxQuery     = 4096
	maxParameter = 512
)

// RedirectHandler serves the redirect address in the application's settings, to which a portal sends its user back with an
// authorization code. It checks the redirect, trades the code by exchange, which is [Portals.Exchange] for the application's
// own tokens or [Portals.ExchangeUser] for the user's, and lets done answer the browser, with an installation or an error.
//
// state returns the state that was given to [Portals.AuthCodeURL] in this browser's session and forgets it, or is empty where
// there is none; [CookieState] is one, for [Portals.Authorize]. A redirect whose state is another one, or that lacks a
// parameter or has it twice, is an [ErrRedirect]; besides, done gets the errors of exchange. Nothing in the request may be
// shown to the user as it is. Other methods than GET are answered 405, without done.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/index.html
func RedirectHandler(
	exchange func(ctx context.Context, code, serverDomain string) (Installation, error),
	state func(w http.ResponseWriter, r *http.Request) string,
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
		expected := event.Secret(state(w, r)) // also of a malformed redirect: a state works once
		if err == nil && (expected == "" || !sameSecret(expected, back.state)) {
			err = &Error{Op: opExchange, Kind: ErrRedirect, Detail: "its state is not the session's"}
		}
		var in Installation
		if err == nil {
			in, err = exchange(r.Context(), string(back.code), back.serverDomain)
		}
		done(w, r, in, err)
	})
}

// redirect is what a portal adds to the redirect address. What else it says of the portal is not needed: the OAuth server
// names the portal when it gets the code.
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

const (
	// stateCookie is a name that browsers take only over https and from this very host, so that no neighbour can plant one.
	stateCookie = "__Host-b24-state"
	// stateLifetime is how many seconds a user has to log in at the portal.
	stateLifetime = 15 * 60
)

// Authorize sends the browser to a portal where its user allows the application to act for them, by a redirect to
// [Portals.AuthCodeURL]. The state is random and kept in a cookie, for [CookieState]. It returns an error, and has not answered,
// where domain is not a plain host name. Call it for a GET on the host that the redirect address is on, over https; browsers
// take http on localhost as well.
func (p *Portals) Authorize(w http.ResponseWriter, r *http.Request, domain string) error {
	state := rand.Text()
	target, err := p.AuthCodeURL(domain, state)
	if err != nil {
		return err
	}
	setStateCookie(w, state, stateLifetime)
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, target, http.StatusFound)
	return nil
}

// CookieState returns the state that [Portals.Authorize] left in the browser, and removes it there. It is for
// [RedirectHandler].
func CookieState(w http.ResponseWriter, r *http.Request) string {
	cookies := r.CookiesNamed(stateCookie)
	if len(cookies) == 0 {
		return ""
	}
	setStateCookie(w, "", -1)
	if len(cookies) > 1 {
		return "" // one of them is not ours
	}
	return cookies[0].Value
}

// setStateCookie sets the cookie, or removes it where maxAge is negative. It is sent with the portal's redirect, which is a
// navigation from another site, but with no request that other sites make in the background.
func setStateCookie(w http.ResponseWriter, state string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: stateCookie, Value: state, Path: "/", MaxAge: maxAge, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}
