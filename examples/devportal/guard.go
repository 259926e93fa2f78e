package main

import (
	"mime"
	"net"
	"net/http"
	"slices"
	"strings"
)

// guard protects the page and its API from the websites that the developer visits. They cannot
// change the portal, because Origin and Sec-Fetch-Site are checked and only JSON is accepted. They
// cannot read from it, because there is no CORS, and the check of Host rejects foreign names that
// point here.
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
		if r.URL.Path == scriptPath { // pages of applications include it
			h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		}
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		switch {
		case !allowedHost(r.Host, hosts):
			writeProblem(w, http.StatusMisdirectedRequest,
				"the page is not served under this host name; open it by its IP address or localhost, or add the host to -hosts")
		case strings.HasPrefix(r.URL.Path, "/api/") && r.URL.Path != scriptPath && crossSite(r):
			writeProblem(w, http.StatusForbidden, "another website asked for this; open the page itself and use that")
		default:
			protected.ServeHTTP(w, r)
		}
	})
}

// allowedHost accepts IP addresses and localhost, which no website controls, and the names in
// hosts.
func allowedHost(hostport string, hosts []string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	return host == "localhost" || net.ParseIP(host) != nil || slices.ContainsFunc(hosts,
		func(h string) bool { return strings.EqualFold(h, host) })
}

// crossSite reports whether the browser sent the request for a page of another origin.
func crossSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
		return true
	}
	return false
}
