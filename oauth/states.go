package oauth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

const (
	// stateCookie is a name that browsers accept only over https and from this host, so that no
	// other host of the domain can set it.
	stateCookie = "__Host-b24-state"
	// stateLifetime is how long a user has to log in at the portal.
	stateLifetime = 15 * time.Minute
	maxState      = 2048
)

// States remembers, in the session of a browser, which authorization the browser has begun and at
// which portal. Nobody else can make such a state: it is sealed with a key derived from the client
// secret, and it is not what the redirect carries. Make one with [Portals.CookieStates] or
// [Portals.SessionStates]; the zero States is not usable. It is safe for concurrent use.
type States struct {
	portals *Portals
	save    func(w http.ResponseWriter, r *http.Request, value string) error
	restore func(w http.ResponseWriter, r *http.Request) string
}

// authorization is one that a browser has begun.
type authorization struct {
	State   string `json:"s"`
	Domain  string `json:"d"` // host and port of the portal that was asked
	Expires int64  `json:"e"` // Unix time, seconds
}

// CookieStates keeps an authorization in a cookie of its own, for 15 minutes. The pages that begin
// and end it must be on one host, over https. Browsers accept http on localhost as well.
func (p *Portals) CookieStates() *States {
	return &States{portals: p, save: saveCookie, restore: restoreCookie}
}

// SessionStates keeps an authorization in the application's own sessions. save keeps a text of up
// to 500 bytes in the session of the browser. restore returns it and forgets it, or returns an
// empty text if there is none. SessionStates returns [ErrConfig] if a function is nil.
func (p *Portals) SessionStates(
	save func(w http.ResponseWriter, r *http.Request, value string) error,
	restore func(w http.ResponseWriter, r *http.Request) string,
) (*States, error) {
	if save == nil || restore == nil {
		return nil, configError("SessionStates", "a function is nil; CookieStates needs none")
	}
	return &States{portals: p, save: save, restore: restore}, nil
}

// Authorize sends the browser to a portal, where the user allows the application to act for them.
// The portal then sends the browser to the redirect address in the application's settings; see
// [RedirectHandler]. Call it for a GET. If domain is not a plain host name, or if the session could
// not be saved, it returns an error and has not responded.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/index.html
func (s *States) Authorize(w http.ResponseWriter, r *http.Request, domain string) error {
	at, err := s.portals.client.hosts.checkPortal(s.portals.client.hosts.restURL(strings.ToLower(domain)))
	if err != nil {
		return err
	}
	b := authorization{State: rand.Text(), Domain: at.authority(), Expires: time.Now().Add(stateLifetime).Unix()}
	if err := s.save(w, r, s.seal(b)); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, s.portals.authCodeURL(at, b.State), http.StatusFound)
	return nil
}

// Format prints no state, whatever the verb.
func (s *States) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("oauth.States")) }

// authCodeURL returns the address on a portal where its user allows the application to act for
// them.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/index.html
func (p *Portals) authCodeURL(portal address, state string) string {
	portal.path = "/oauth/authorize/"
	cfg := oauth2.Config{ClientID: p.client.id, Endpoint: oauth2.Endpoint{AuthURL: portal.String()}}
	return cfg.AuthCodeURL(state)
}

// take returns the authorization that the browser has begun, and forgets it.
func (s *States) take(w http.ResponseWriter, r *http.Request) (authorization, bool) {
	b, ok := s.open(s.restore(w, r))
	return b, ok && time.Now().Unix() < b.Expires
}

func (s *States) mac(payload string) []byte {
	key := sha256.Sum256([]byte("b24events oauth state\x00" + string(s.portals.client.secret)))
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(payload))
	return mac.Sum(nil)
}

// seal makes a text that only this application can make.
func (s *States) seal(b authorization) string {
	doc, _ := json.Marshal(b) //nolint:errchkjson // strings and a number
	payload := base64.RawURLEncoding.EncodeToString(doc)
	return payload + "." + base64.RawURLEncoding.EncodeToString(s.mac(payload))
}

func (s *States) open(value string) (authorization, bool) {
	payload, sum, ok := strings.Cut(value, ".")
	if !ok || len(value) > maxState {
		return authorization{}, false
	}
	given, err := base64.RawURLEncoding.DecodeString(sum)
	if err != nil || !hmac.Equal(given, s.mac(payload)) {
		return authorization{}, false
	}
	doc, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return authorization{}, false
	}
	var b authorization
	if json.Unmarshal(doc, &b) != nil || b.State == "" || b.Domain == "" {
		return authorization{}, false
	}
	return b, true
}

func saveCookie(w http.ResponseWriter, _ *http.Request, value string) error {
	setStateCookie(w, value, int(stateLifetime/time.Second))
	return nil
}

func restoreCookie(w http.ResponseWriter, r *http.Request) string {
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

// setStateCookie sets the cookie, or removes it if maxAge is negative. The browser sends it with
// the portal's redirect, which is a navigation from another site. It does not send it with requests
// that other sites make in the background.
func setStateCookie(w http.ResponseWriter, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: stateCookie, Value: value, Path: "/", MaxAge: maxAge, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}
