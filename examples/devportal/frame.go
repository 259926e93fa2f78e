package main

import (
	"context"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/program"
)

// Paths of what a browser needs to open an application's page.
const (
	framePath  = "/frame"   // the document around the page
	scriptPath = "/api/v1/" // the library BX24, at the path that it has at api.bitrix24.com
)

// frameForm returns the form that opens an application's page: its address, and fields with tokens
// of a user.
func (pg *page) frameForm(ctx context.Context, id string, in struct {
	User      int64          `json:"user"` // the default is the administrator
	Placement string         `json:"placement"`
	Options   map[string]any `json:"options"`
},
) (openingForm, error) {
	a, err := pg.app(id)
	if err != nil {
		return openingForm{}, err
	}
	if _, err := pg.frameOrigins(a); err != nil {
		return openingForm{}, err
	}
	if in.User == 0 {
		in.User = eventtest.AdminID
	}
	request, err := a.Frame(ctx, in.User, eventtest.Placement{Name: in.Placement, Options: in.Options})
	if err != nil {
		return openingForm{}, err
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return openingForm{}, err
	}
	fields := [][2]string{}
	for pair := range strings.SplitSeq(string(body), "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, nameErr := url.QueryUnescape(name)
		value, valueErr := url.QueryUnescape(value)
		if nameErr == nil && valueErr == nil {
			fields = append(fields, [2]string{name, value})
		}
	}
	return openingForm{request.URL.String(), fields}, nil
}

// openingForm is the form that opens a page.
type openingForm struct {
	Action string      `json:"action"` // the address of the page
	Fields [][2]string `json:"fields"` // names and values, in their order, with tokens
}

// grantView is new tokens of a user.
type grantView struct {
	AccessToken      string `json:"access_token"`
	RefreshToken     string `json:"refresh_token"`
	ExpiresIn        int64  `json:"expires_in"` // seconds
	Domain           string `json:"domain"`
	MemberID         string `json:"member_id"`
	ClientEndpoint   string `json:"client_endpoint"`
	ServerEndpoint   string `json:"server_endpoint"`
	ApplicationToken string `json:"application_token"`
	UserID           int64  `json:"user_id"`
	Scope            string `json:"scope"`  // comma-separated
	Status           string `json:"status"` // of the application, for example L for a local one
}

// grant returns new tokens of a user.
func (pg *page) grant(_ context.Context, id string, in struct {
	User int64 `json:"user"` // the default is the administrator
},
) (grantView, error) {
	a, err := pg.app(id)
	if err != nil {
		return grantView{}, err
	}
	if in.User == 0 {
		in.User = eventtest.AdminID
	}
	g, err := a.Grant(in.User)
	if err != nil {
		return grantView{}, err
	}
	return grantView{
		AccessToken: string(g.AccessToken), RefreshToken: string(g.RefreshToken),
		ExpiresIn: int64(g.Expires.Sub(pg.portal.Now()).Seconds()),
		Domain:    g.Domain, MemberID: g.MemberID, ClientEndpoint: g.ClientEndpoint, ServerEndpoint: g.ServerEndpoint,
		ApplicationToken: string(g.ApplicationToken), UserID: g.UserID, Scope: scopeText(g.Scope), Status: g.Status,
	}, nil
}

// frameOrigins returns the origins of an application's pages: of its installation page, which opens
// first, and of the page that opens in the same frame once the installation is finished.
func (pg *page) frameOrigins(a *eventtest.Application) ([]string, error) {
	if !a.UI() {
		return nil, errNoPage
	}
	pg.mu.Lock()
	at := pg.addresses[a.ClientID()]
	pg.mu.Unlock()
	var origins []string
	for _, address := range []string{at.installPage, at.page} {
		if address == "" {
			continue
		}
		origin, err := pg.frameOrigin(address)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(origins, origin) {
			origins = append(origins, origin)
		}
	}
	return origins, nil
}

// frameOrigin returns the origin of a page. It refuses an address of this program: the page would
// have the origin of the devportal, and could do there all that the user can.
func (pg *page) frameOrigin(address string) (string, error) {
	u, err := program.HTTPURL(address)
	if err != nil {
		return "", badRequest("the address of the page " + err.Error())
	}
	if allowedHost(u.Host, pg.cfg.hosts) && slices.Contains(pg.all.ports(), u.Port()) {
		return "", badRequest("the address of the page is one of devportal itself; give the address of your program")
	}
	if !policyHost.MatchString(u.Host) { // the origin becomes a part of the security policy
		return "", badRequest("the host of the page must be a name or an IPv4 address, which a browser can put into a security policy")
	}
	return u.Scheme + "://" + u.Host, nil
}

// policyHost matches the hosts that a Content-Security-Policy can name.
var policyHost = regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]+)?$`)

// serveFrame serves the document that frames an application's page. The page gets a sandbox and an
// origin of its own, so it cannot touch the document or devportal around it.
func (pg *page) serveFrame(w http.ResponseWriter, r *http.Request, files fs.FS) {
	a, err := pg.app(r.URL.Query().Get("app"))
	if err != nil {
		writeError(w, err)
		return
	}
	origins, err := pg.frameOrigins(a)
	if err != nil {
		writeError(w, err)
		return
	}
	h, theirs := w.Header(), strings.Join(origins, " ")
	h.Set("Content-Security-Policy", "default-src 'self'; frame-src "+theirs+"; form-action "+theirs+
		"; base-uri 'none'; frame-ancestors 'self'; object-src 'none'")
	h.Set("Referrer-Policy", "origin") // so that the form has an Origin, as the platform's has
	http.ServeFileFS(w, r, files, "frame.html")
}

// portOf returns the port of host:port.
func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}
