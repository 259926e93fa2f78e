package eventtest

import (
	"net/http"
	"slices"
	"sync"

	"github.com/b24events/b24events/internal/phpform"
)

// officialOAuth is the host of the OAuth server on a [Network].
const officialOAuth = "oauth.bitrix.info"

// oauthServer is the OAuth server of one or several portals. Its lock is taken before a portal's,
// never after.
type oauthServer struct {
	scheme string
	addr   string // host, or host:port

	mu       sync.Mutex
	portals  []*Portal
	closed   bool           // with its last portal
	listener listener       // zero on a Network
	running  sync.WaitGroup // of server
}

// oauthServer returns the OAuth server that the portals of the network share.
func (n *Network) oauthServer() *oauthServer {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.oauth == nil {
		n.oauth = &oauthServer{scheme: "https", addr: officialOAuth}
		n.hosts[officialOAuth] = &site{n.oauth.handler()}
	}
	return n.oauth
}

// add adds a portal. It returns ErrClosed or, for a member ID that is taken, ErrConfig.
func (s *oauthServer) add(p *Portal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	for _, other := range s.portals {
		if other.cfg.memberID == p.cfg.memberID {
			return misconfigured("two portals of one OAuth server need different member ids; see WithMemberID")
		}
	}
	s.portals = append(s.portals, p)
	return nil
}

// remove removes a portal. The server closes with the last one.
func (s *oauthServer) remove(p *Portal) error {
	s.mu.Lock()
	s.portals = slices.DeleteFunc(s.portals, func(other *Portal) bool { return other == p })
	if len(s.portals) == 0 {
		s.closed = s.listener.http != nil
	}
	closed := s.closed
	s.mu.Unlock()
	if !closed {
		return nil
	}
	err := s.listener.http.Close()
	s.running.Wait()
	return err
}

func (s *oauthServer) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, user, _ := splitPath(r.URL.Path)
		switch {
		case r.URL.Path == "/oauth/token/" || r.URL.Path == "/oauth/token":
			s.serve(w, r, callToken)
		case !below("/rest/", r.URL.Path):
			http.NotFound(w, r)
		case name == "app.info" && user == "":
			s.serve(w, r, callAppInfo)
		default:
			writeBody(w, http.StatusNotFound, fail(404, "ERROR_METHOD_NOT_FOUND", "Method not found!").value())
		}
	})
}

// serve passes a request to the portal that it is about. GET and form POST are equivalent.
func (s *oauthServer) serve(w http.ResponseWriter, r *http.Request, name string) {
	params := readParams(r)
	if name == callAppInfo {
		rest, creds := take(params, "auth", "access_token")
		params = phpform.Map(append(slices.Clone(rest.Entries()), text("auth", bearer(r, creds)))...)
	}
	p := s.portalOf(params)
	if p == nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	p.serveCounted(w, r, func(w http.ResponseWriter, r *http.Request) { p.serveOAuth(w, r, name, params) })
}

// portalOf returns the portal that issued the token or code in the request. If there is none, it
// returns one that has the application, or else the first.
func (s *oauthServer) portalOf(params phpform.Value) *Portal {
	s.mu.Lock()
	defer s.mu.Unlock()
	get := func(name string) string {
		v, _ := params.Get(name)
		return v.Scalar()
	}
	auth, refresh, code, client := get("auth"), get("refresh_token"), get("code"), get("client_id")
	best, rank := (*Portal)(nil), -1
	for _, p := range s.portals {
		p.mu.Lock()
		now := 0
		a := p.appLocked(client)
		switch {
		case p.tokens.access[auth] != nil, p.tokens.refresh[refresh] != nil, p.tokens.codes[code] != nil:
			now = 3
		case a != nil && a.registered:
			now = 2
		case a != nil:
			now = 1
		}
		p.mu.Unlock()
		if now > rank {
			best, rank = p, now
		}
	}
	return best
}
