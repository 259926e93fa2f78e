package oauth

import (
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/b24events/b24events/internal/plainhttp"
)

// The OAuth servers of Bitrix24. The second serves Russia, Belarus, the Caucasus and Central Asia.
const (
	officialHost = "oauth.bitrix.info"
	easternHost  = "oauth.bitrix24.tech"

	officialEndpoint = "https://" + officialHost + "/rest/"
)

// hosts decides which addresses the client secret and the tokens may go to.
type hosts struct {
	allowed map[string]bool // "host:" for the default port, "host:port" for any other
	plain   plainhttp.Hosts // may be reached by http
}

func newHosts(plain plainhttp.Hosts, extra []string) (hosts, error) {
	h := hosts{allowed: map[string]bool{officialHost + ":": true, easternHost + ":": true}, plain: plain}
	for _, entry := range extra {
		host, port, err := splitHost(entry)
		if err != nil {
			return hosts{}, configError("WithHosts", "an entry is not a host or host:port in lower case: "+err.Error())
		}
		h.allowed[host+":"+port] = true
	}
	return h, nil
}

// address is a parsed endpoint. Endpoints arrive in bodies that anyone can send, so the rules are
// much narrower than those for URLs: no user, query, fragment, escape or other byte on which two
// parsers could disagree.
type address struct {
	scheme, host, port, path string
}

func (a address) authority() string {
	if a.port == "" {
		return a.host
	}
	return a.host + ":" + a.port
}

func (a address) String() string { return a.scheme + "://" + a.authority() + a.path }

// maxEndpoint is twice the longest host name.
const maxEndpoint = 512

// parseEndpoint reads an address that ends in /rest/.
func parseEndpoint(raw string) (address, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || len(raw) > maxEndpoint || (scheme != "https" && scheme != "http") {
		return address{}, errors.New("it is not an https address")
	}
	authority, path, _ := strings.Cut(rest, "/")
	host, port, err := splitHost(authority)
	if err != nil {
		return address{}, err
	}
	path = "/" + strings.TrimSuffix(path, "/") + "/"
	if !strings.HasSuffix(path, "/rest/") {
		return address{}, errors.New("it does not end in /rest/")
	}
	for segment := range strings.SplitSeq(path[1:len(path)-1], "/") {
		if segment == "" || segment == "." || segment == ".." || strings.Trim(segment, pathBytes) != "" {
			return address{}, errors.New("its path is not plain")
		}
	}
	a := address{scheme: scheme, host: host, port: port, path: path}
	if a.port == a.defaultPort() {
		a.port = ""
	}
	return a, nil
}

const (
	hostBytes = "abcdefghijklmnopqrstuvwxyz0123456789-_"
	pathBytes = hostBytes + "ABCDEFGHIJKLMNOPQRSTUVWXYZ.~"
)

func (a address) defaultPort() string {
	if a.scheme == "http" {
		return "80"
	}
	return "443"
}

// splitHost reads host or host:port. International names must come in their ASCII form, as they do
// on the wire.
func splitHost(s string) (host, port string, err error) {
	host = s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host, port = s[:i], s[i+1:]
		n, err := strconv.Atoi(port)
		if err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port {
			return "", "", errors.New("its port is not a number")
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if ip := net.ParseIP(inner); !ok || ip == nil || !strings.Contains(inner, ":") || strings.ToLower(inner) != inner {
			return "", "", errors.New("its host is not an IPv6 address")
		}
		return host, port, nil
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || strings.Trim(label, hostBytes) != "" {
			return "", "", errors.New("its host is not plain")
		}
	}
	return host, port, nil
}

// listed reports whether an address is on the allow list.
func (h hosts) listed(a address) bool {
	if a.port == "" {
		return h.allowed[a.host+":"] || h.allowed[a.host+":"+a.defaultPort()]
	}
	return h.allowed[a.host+":"+a.port]
}

// httpAllowed reports whether an address may be used over http.
func (h hosts) httpAllowed(a address) bool {
	return h.plain.Allows(a.host, a.port) && a.host != officialHost && a.host != easternHost
}

// checkServer checks the REST address of an OAuth server.
func (h hosts) checkServer(raw string) (address, error) {
	a, err := parseEndpoint(raw)
	switch {
	case err != nil:
		return address{}, &Error{Op: "server_endpoint", Kind: ErrEndpoint, Detail: err.Error()}
	case !h.listed(a):
		return address{}, &Error{Op: "server_endpoint", Kind: ErrHostNotAllowed}
	case a.scheme != "https" && !h.httpAllowed(a):
		return address{}, &Error{Op: "server_endpoint", Kind: ErrEndpoint, Detail: "it is not https"}
	case (a.host == officialHost || a.host == easternHost) && a.path != "/rest/":
		return address{}, &Error{Op: "server_endpoint", Kind: ErrEndpoint, Detail: "Bitrix24's own servers do not have this path"}
	}
	return a, nil
}

// checkPortal checks the REST address of a portal.
func (h hosts) checkPortal(raw string) (address, error) {
	a, err := parseEndpoint(lowerHost(raw))
	switch {
	case err != nil:
		return address{}, &Error{Op: "client_endpoint", Kind: ErrEndpoint, Detail: err.Error()}
	case a.scheme != "https" && !h.httpAllowed(a):
		return address{}, &Error{Op: "client_endpoint", Kind: ErrEndpoint, Detail: "it is not https; see WithInsecureHTTP"}
	}
	return a, nil
}

// restURL returns the REST address of a host that is named without a scheme. It is https, or http
// in development if that is allowed. If the name is not a plain host, the result is not an address.
func (h hosts) restURL(name string) string {
	host, port, err := splitHost(name)
	switch {
	case err != nil:
		return "not a host"
	case h.httpAllowed(address{scheme: "http", host: host, port: port}):
		return "http://" + name + "/rest/"
	default:
		return "https://" + name + "/rest/"
	}
}

// lowerHost writes the host of an address in lower case, because people type the names of portals.
func lowerHost(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return raw
	}
	authority, path, _ := strings.Cut(rest, "/")
	return scheme + "://" + strings.ToLower(authority) + "/" + path
}
