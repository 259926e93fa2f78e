package main

import (
	"mime"
	"net"
	"net/http"
	"slices"
	"strings"
)

// guard keeps the websites that the developer visits away from the page and its API: they can
// neither command the portal (Origin and Sec-Fetch-Site are checked, and only JSON is taken) nor
// read from it (no CORS; and no foreign name that was made to point here, since the Host is
// checked).
func guard(next http.Handler, hosts []string) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, http.StatusForbidden, "another website sent this; open the page itself and use that")
	}))
	protected := crossOrigin.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
				writeProblem(w, http.StatusUnsupportedMediaType, "send JSON, with Content-Type: application/json")
				return
			}
		}
		next.ServeHTTP(w, r)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		switch {
		case !ownHost(r.Host, hosts):
			writeProblem(w, http.StatusMisdirectedRequest,
				"the page does not know itself by this host name; open it by its IP address or localhost, or name the host in -hosts")
		case strings.HasPrefix(r.URL.Path, "/api/") && foreign(r):
			writeProblem(w, http.StatusForbidden, "another website asked for this; open the page itself and use that")
		default:
			protected.ServeHTTP(w, r)
		}
	})
}

// ownHost accepts IP addresses and localhost, which no website can make point elsewhere, and the
// names that the user gave.
func ownHost(hostport string, hosts []string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	return host == "localhost" || net.ParseIP(host) != nil || slices.ContainsFunc(hosts,
		func(h string) bool { return strings.EqualFold(h, host) })
}

// foreign reports whether a browser says that a page of another origin made the request.
func foreign(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
		return true
	}
	return false
}
