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
) (any, error) {
	a, err := pg.app(id)
	if err != nil {
		return nil, err
	}
	if _, err := pg.frameOrigin(a); err != nil {
		return nil, err
	}
	if in.User == 0 {
		in.User = eventtest.AdminID
	}
	request, err := a.Frame(ctx, in.User, eventtest.Placement{Name: in.Placement, Options: in.Options})
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
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
	return map[string]any{"action": request.URL.String(), "fields": fields}, nil
}

// grant returns new tokens of a user.
func (pg *page) grant(_ context.Context, id string, in struct {
	User int64 `json:"user"` // the default is the administrator
},
) (any, error) {
	a, err := pg.app(id)
	if err != nil {
		return nil, err
	}
	if in.User == 0 {
		in.User = eventtest.AdminID
	}
	g, err := a.Grant(in.User)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"access_token": string(g.AccessToken), "refresh_token": string(g.RefreshToken),
		"expires_in": int64(g.Expires.Sub(pg.portal.Now()).Seconds()),
		"domain":     g.Domain, "member_id": g.MemberID, "client_endpoint": g.ClientEndpoint, "server_endpoint": g.ServerEndpoint,
		"application_token": string(g.ApplicationToken), "user_id": g.UserID, "scope": scopeText(g.Scope), "status": g.Status,
	}, nil
}

// frameOrigin returns the origin of an application's page. It refuses an address of this program:
// the page would have the origin of the devportal, and could do there whatever the user can.
func (pg *page) frameOrigin(a *eventtest.Application) (string, error) {
	if !a.UI() {
		return "", badRequest("the application has no page; install one with the address of a page")
	}
	u, err := program.HTTPURL(a.HandlerURL())
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
	origin, err := pg.frameOrigin(a)
	if err != nil {
		writeError(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'self'; frame-src "+origin+"; form-action "+origin+
		"; base-uri 'none'; frame-ancestors 'self'; object-src 'none'")
	h.Set("Referrer-Policy", "origin") // so that the form has an Origin, as the platform's has
	http.ServeFileFS(w, r, files, "frame.html")
}

// portOf returns the port of host:port.
func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}
