package oauth

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
)

const (
	// DefaultSessionLifetime is how long a session lives. An access token lives as long.
	DefaultSessionLifetime = time.Hour
	// minSessionKey is the length of the shortest key of WithSessionKeys, in bytes.
	minSessionKey = 32
	// sessionCookie is a name that browsers accept only over https and from this host.
	sessionCookie = "__Host-b24-session"
	// sessionMark begins each session, and is its version.
	sessionMark = "s1."
	// maxSession bounds a session, in bytes. Those of this package have about 200.
	maxSession = 1024
	opSession  = "session"
)

// Session says who uses a page of the application: a user of a portal, for a while.
type Session struct {
	MemberID string    // the portal
	UserID   int64     // whose access [Portals.VerifyPage] confirmed
	Expires  time.Time // UTC, to the second
}

// Sessions makes and checks sessions, for the requests that a page sends after it was opened. A
// session is a signed text (HMAC-SHA256), bound to the application, its portal and its user. It is
// not encrypted, and not stored anywhere, so all replicas accept it. It proves who opened the page,
// and not that the portal still has the application or the user: that shows when a call is made.
//
// A page is in a frame of the portal, and many browsers block cookies there. So there are two ways
// to carry a session, and a request may use either:
//
//   - As a header: put the token of [Sessions.Start] into the page, and let its scripts send
//     Authorization: Bearer with each request. This works in every browser, and no other site can
//     make a browser send it.
//   - As a cookie, for links, forms and images. It has the flags HttpOnly, Secure, SameSite=None
//     and Partitioned, so that it also arrives in a frame if the browser allows that.
//
// Browsers may send the cookie with requests that other sites cause. So a cookie is refused for a
// method that changes something, and for a WebSocket, if the request comes from another origin
// (ErrCrossOrigin), as http.CrossOriginProtection decides. Handlers of GET and HEAD must change
// nothing.
//
// A browser has one cookie for all pages of a host: that of the page that was opened last. If
// somebody works on two portals, or two applications share a host, a form of the first page then
// acts for the second. The header has no such limit, so use it for what changes something.
//
// Sessions is safe for concurrent use. Make it with [Portals.Sessions]; the zero Sessions refuses
// everything.
type Sessions struct {
	keys     [][]byte // the first one signs
	lifetime time.Duration
	origin   *http.CrossOriginProtection
}

// sessionConfig is what the options of Portals.Sessions fill in.
type sessionConfig struct {
	keys     []event.Secret
	lifetime time.Duration
}

// SessionOption configures [Portals.Sessions]. A nil SessionOption is skipped.
type SessionOption func(*sessionConfig) error

// WithSessionKeys sets the secrets of sessions, each of 32 random bytes or more. The first one
// signs and all of them check. To replace a key, put the new one in front, and drop the old one
// after the longest session has ended. With several replicas, first put the new one behind the old
// one on all of them, or sessions of the first replica fail on the others. Without this option, the
// key is derived from the client secret: then all sessions end when the client secret changes.
func WithSessionKeys(keys ...event.Secret) SessionOption {
	return func(cfg *sessionConfig) error {
		if len(keys) == 0 {
			return configError("WithSessionKeys", "there is no key; leave the option out to derive one from the client secret")
		}
		for i, key := range keys {
			if len(key) < minSessionKey {
				return configError("WithSessionKeys", fmt.Sprintf("key %d of %d has fewer than %d bytes", i+1, len(keys), minSessionKey))
			}
		}
		cfg.keys = keys
		return nil
	}
}

// WithSessionLifetime sets how long a session lives, at least a second. The default is
// [DefaultSessionLifetime]. A user who loses access to the portal keeps the session until it ends.
func WithSessionLifetime(d time.Duration) SessionOption {
	return func(cfg *sessionConfig) error {
		if d < time.Second {
			return configError("WithSessionLifetime", "a session must live for a second or longer")
		}
		cfg.lifetime = d
		return nil
	}
}

// Sessions returns the sessions of the application's pages. An error matches [ErrConfig].
func (p *Portals) Sessions(opts ...SessionOption) (*Sessions, error) {
	cfg := sessionConfig{keys: []event.Secret{p.client.secret}, lifetime: DefaultSessionLifetime}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&cfg); err != nil {
			return nil, err
		}
	}
	s := &Sessions{lifetime: cfg.lifetime, origin: http.NewCrossOriginProtection()}
	for _, secret := range cfg.keys {
		key, err := hkdf.Key(sha256.New, []byte(secret), nil, "b24events page session\x00"+p.client.id, sha256.Size)
		if err != nil {
			return nil, &Error{Op: "Sessions", Kind: ErrConfig, Err: err}
		}
		s.keys = append(s.keys, key)
	}
	return s, nil
}

// Format prints no key, whatever the verb.
func (s *Sessions) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("oauth.Sessions")) }

// sessionPayload is what a session says.
type sessionPayload struct {
	MemberID string `json:"m"`
	UserID   int64  `json:"u"`
	Expires  int64  `json:"e"` // Unix time, seconds
}

// Issue returns a new session as a text. access is what [Portals.VerifyPage], [Portals.KeepUser] or
// [Portals.Install] returned for the page. If access names no portal or no user, Issue returns
// [ErrUnverified]. Keep the text out of addresses and logs: whoever has it acts as the user.
func (s *Sessions) Issue(access Installation) (string, Session, error) {
	switch {
	case len(s.keys) == 0:
		return "", Session{}, &Error{Op: opSession, Kind: ErrConfig, Detail: "make Sessions with Portals.Sessions"}
	case !validMemberID(access.MemberID) || access.UserID <= 0:
		return "", Session{}, &Error{Op: opSession, Kind: ErrUnverified, Detail: "the access of the page names no user or no portal"}
	}
	expires := time.Now().Add(s.lifetime).UTC().Truncate(time.Second)
	doc, err := json.Marshal(sessionPayload{access.MemberID, access.UserID, expires.Unix()})
	if err != nil {
		return "", Session{}, &Error{Op: opSession, Kind: ErrUnverified, Err: err}
	}
	signed := sessionMark + base64.RawURLEncoding.EncodeToString(doc)
	text := signed + "." + base64.RawURLEncoding.EncodeToString(sessionSum(s.keys[0], signed))
	return text, Session{MemberID: access.MemberID, UserID: access.UserID, Expires: expires}, nil
}

// Start is [Sessions.Issue], and sets the cookie. Call it before the body of the page is written.
// It returns the text of the session for the page's scripts.
func (s *Sessions) Start(w http.ResponseWriter, access Installation) (token string, err error) {
	token, _, err = s.Issue(access)
	if err == nil {
		setSessionCookie(w, token, int(s.lifetime/time.Second))
	}
	return token, err
}

// End removes the cookie from the browser. The session itself lives until it expires.
func (*Sessions) End(w http.ResponseWriter) { setSessionCookie(w, "", -1) }

func setSessionCookie(w http.ResponseWriter, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // it must arrive in a frame of another site; see Sessions.Of
		Name: sessionCookie, Value: value, Path: "/", MaxAge: maxAge,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteNoneMode, Partitioned: true,
	})
}

// Check returns the session that a text stands for. It returns [ErrSession] if the text is none, is
// forged, or is another application's, and [ErrSessionExpired] if the session is over.
func (s *Sessions) Check(token string) (Session, error) {
	refused := &Error{Op: opSession, Kind: ErrSession}
	dot := strings.LastIndexByte(token, '.')
	if len(token) > maxSession || dot < len(sessionMark) || !strings.HasPrefix(token, sessionMark) {
		return Session{}, refused
	}
	signed := token[:dot]
	given, err := base64.RawURLEncoding.Strict().DecodeString(token[dot+1:])
	if err != nil {
		return Session{}, refused
	}
	good := false
	for _, key := range s.keys { // all of them, so that the time does not show which one signed
		good = hmac.Equal(given, sessionSum(key, signed)) || good
	}
	if !good {
		return Session{}, refused
	}
	var p sessionPayload
	doc, err := base64.RawURLEncoding.Strict().DecodeString(signed[len(sessionMark):])
	if err != nil || json.Unmarshal(doc, &p) != nil {
		return Session{}, refused
	}
	session := Session{MemberID: p.MemberID, UserID: p.UserID, Expires: time.Unix(p.Expires, 0).UTC()}
	if !time.Now().Before(session.Expires) {
		return Session{}, &Error{Op: opSession, Kind: ErrSessionExpired}
	}
	return session, nil
}

func sessionSum(key []byte, signed string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(signed))
	return mac.Sum(nil)
}

// Of returns the session of a request: that of its Authorization header if it has a bearer token,
// and else that of its cookie. It returns [ErrNoSession] if there is none, [ErrCrossOrigin] if a
// request with the cookie comes from another origin and its method is not safe, or it opens a
// WebSocket, and the errors of [Sessions.Check].
func (s *Sessions) Of(r *http.Request) (Session, error) {
	if token, ok := bearerToken(r); ok {
		return s.Check(token)
	}
	cookies := r.CookiesNamed(sessionCookie)
	if len(cookies) == 0 {
		return Session{}, &Error{Op: opSession, Kind: ErrNoSession}
	}
	if s.origin == nil || s.checkOrigin(r) != nil {
		return Session{}, &Error{Op: opSession, Kind: ErrCrossOrigin}
	}
	// A browser that learned about partitions may send an older cookie, too. Nobody but this host
	// can set one of that name.
	var newest Session
	failure := error(&Error{Op: opSession, Kind: ErrSession})
	for _, c := range cookies[:min(len(cookies), maxSessionCookies)] {
		session, err := s.Check(c.Value)
		switch {
		case err != nil && newest == Session{}:
			failure = err
		case err == nil && session.Expires.After(newest.Expires):
			newest, failure = session, nil
		}
	}
	return newest, failure
}

// checkOrigin returns an error if another site may have caused a request that is to change
// something. A WebSocket begins with a GET, and may then do anything.
func (s *Sessions) checkOrigin(r *http.Request) error {
	if r.Header.Get("Upgrade") != "" {
		upgrade := *r
		upgrade.Method = http.MethodPost
		r = &upgrade
	}
	return s.origin.Check(r)
}

// maxSessionCookies is how many cookies of a request are looked at.
const maxSessionCookies = 4

// bearerToken returns the token of the Authorization header. A request with two of them has an
// empty token, which is no session.
func bearerToken(r *http.Request) (token string, ok bool) {
	for _, value := range r.Header.Values("Authorization") {
		scheme, rest, _ := strings.Cut(value, " ")
		switch {
		case !strings.EqualFold(scheme, "Bearer"):
		case ok:
			return "", true
		default:
			token, ok = strings.TrimSpace(rest), true
		}
	}
	return token, ok
}

// Require lets next serve only requests with a session, which [SessionOf] returns from the
// request's context. The response to others is 401, or 403 to requests that come from another
// origin. It has the code of the failure as text: no_session, invalid_session, session_expired or
// cross_origin. After session_expired, the page can be opened again on the portal.
func (s *Sessions) Require(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		session, err := s.Of(r)
		if err != nil {
			status, code := sessionFailure(err)
			if status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", "Bearer")
			}
			http.Error(w, code, status)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), sessionKey{}, session)))
	})
}

func sessionFailure(err error) (status int, code string) {
	switch {
	case errors.Is(err, ErrCrossOrigin):
		return http.StatusForbidden, "cross_origin"
	case errors.Is(err, ErrSessionExpired):
		return http.StatusUnauthorized, "session_expired"
	case errors.Is(err, ErrNoSession):
		return http.StatusUnauthorized, "no_session"
	default:
		return http.StatusUnauthorized, "invalid_session"
	}
}

// sessionKey is the key of a Session in a context.
type sessionKey struct{}

// SessionOf returns the session of a request that [Sessions.Require] let through.
func SessionOf(ctx context.Context) (Session, bool) {
	session, ok := ctx.Value(sessionKey{}).(Session)
	return session, ok
}
