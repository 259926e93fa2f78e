package oauth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	// stateCookie is a name that browsers take only over https and from this very host, so that no
	// neighbour can plant one.
	stateCookie = "__Host-b24-state"
	// stateLifetime is how long a user has to log in at the portal.
	stateLifetime = 15 * time.Minute
	maxState      = 2048
)

// States keeps, in the session of a browser, which authorization it has begun and at which portal.
// Nobody else can fill it: what is kept is sealed with a key derived from the client secret, and it
// is not what the redirect carries. Make one with [Portals.CookieStates] or
// [Portals.SessionStates]; the zero States is not usable. It is safe for concurrent use.
type States struct {
	portals *Portals
	save    func(w http.ResponseWriter, r *http.Request, value string) error
	restore func(w http.ResponseWriter, r *http.Request) string
}

// begun is an authorization under way.
type begun struct {
	State   string `json:"s"`
	Domain  string `json:"d"` // host and port of the portal that was asked
	Expires int64  `json:"e"` // Unix time, seconds
}

// CookieStates keeps an authorization in a cookie of its own, for 15 minutes. The pages that begin
// and end it must be on one host, over https; browsers take http on localhost as well.
func (p *Portals) CookieStates() *States {
	return &States{portals: p, save: saveCookie, restore: restoreCookie}
}

// SessionStates keeps an authorization in the application's own sessions: save keeps a text of up
// to 500 bytes in the session of the browser, and restore returns it and forgets it, or returns an
// empty text when there is none.
func (p *Portals) SessionStates(
	save func(w http.ResponseWriter, r *http.Request, value string) error,
	restore func(w http.ResponseWriter, r *http.Request) string,
) (*States, error) {
	if save == nil || restore == nil {
		return nil, errors.New("oauth: SessionStates: a function is nil; CookieStates needs none")
	}
	return &States{portals: p, save: save, restore: restore}, nil
}

// Authorize sends the browser to a portal, whose user there allows the application to act for them.
// The portal then sends the browser to the redirect address in the application's settings; see
// [RedirectHandler]. Call it for a GET. It returns an error, and has not answered, when domain is
// no plain host name or when the session could not be saved.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/index.html
func (s *States) Authorize(w http.ResponseWriter, r *http.Request, domain string) error {
	at, err := s.portals.server.hosts.portal(s.portals.server.hosts.atHost(strings.ToLower(domain)))
	if err != nil {
		return err
	}
	b := begun{State: rand.Text(), Domain: at.authority(), Expires: time.Now().Add(stateLifetime).Unix()}
	if err := s.save(w, r, s.seal(b)); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, s.portals.authCodeURL(at, b.State), http.StatusFound)
	return nil
}

// Format prints no state, whatever the verb.
func (s *States) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("oauth.States")) }

// take returns the authorization that the browser has begun, and forgets it.
func (s *States) take(w http.ResponseWriter, r *http.Request) (begun, bool) {
	b, ok := s.open(s.restore(w, r))
	return b, ok && time.Now().Unix() < b.Expires
}

func (s *States) mac(payload string) []byte {
	key := sha256.Sum256([]byte("b24events oauth state\x00" + string(s.portals.server.secret)))
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(payload))
	return mac.Sum(nil)
}

// seal makes a text that only this application can make.
func (s *States) seal(b begun) string {
	doc, _ := json.Marshal(b) //nolint:errchkjson // strings and a number
	payload := base64.RawURLEncoding.EncodeToString(doc)
	return payload + "." + base64.RawURLEncoding.EncodeToString(s.mac(payload))
}

func (s *States) open(value string) (begun, bool) {
	payload, sum, ok := strings.Cut(value, ".")
	if !ok || len(value) > maxState {
		return begun{}, false
	}
	given, err := base64.RawURLEncoding.DecodeString(sum)
	if err != nil || !hmac.Equal(given, s.mac(payload)) {
		return begun{}, false
	}
	doc, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return begun{}, false
	}
	var b begun
	if json.Unmarshal(doc, &b) != nil || b.State == "" || b.Domain == "" {
		return begun{}, false
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

// setStateCookie sets the cookie, or removes it when maxAge is negative. The browser sends it with
// the portal's redirect, which is a navigation from another site, and with no request that other
// sites make in the background.
func setStateCookie(w http.ResponseWriter, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: stateCookie, Value: value, Path: "/", MaxAge: maxAge, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}
