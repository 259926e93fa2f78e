// Package plainhttp decides which hosts a program may reach by http instead of https, in
// development.
package plainhttp

import (
	"errors"
	"net"
	"strconv"
	"strings"
)

// Hosts is a list of hosts that a program may reach by http. The zero Hosts allows none.
type Hosts struct {
	loopback bool
	named    map[string]bool // host for every port, or host:port
}

// New returns a list that allows loopback addresses, localhost, and the named hosts. A name is a
// host, for every port, or host:port. Its case does not matter.
func New(names ...string) (Hosts, error) {
	h := Hosts{loopback: true, named: make(map[string]bool)}
	for _, name := range names {
		host, port := split(name)
		if !plain(host) {
			return Hosts{}, errors.New("a host must be host or host:port")
		}
		if port != "" {
			if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
				return Hosts{}, errors.New("a port must be a number between 1 and 65535")
			}
		}
		h.named[strings.ToLower(name)] = true
	}
	return h, nil
}

// Allows reports whether a program may reach host by http on port. host may be an IPv6 address in
// brackets. An empty port means 80.
func (h Hosts) Allows(host, port string) bool {
	host = strings.ToLower(host)
	if h.loopback {
		ip := net.ParseIP(strings.Trim(host, "[]"))
		if host == "localhost" || (ip != nil && ip.IsLoopback()) {
			return true
		}
	}
	if port == "" {
		port = "80"
	}
	return h.named[host] || h.named[host+":"+port]
}

// split splits host:port. host may be an IPv6 address in brackets.
func split(name string) (host, port string) {
	if i := strings.LastIndexByte(name, ':'); i >= 0 && !strings.HasSuffix(name, "]") {
		return name[:i], name[i+1:]
	}
	return name, ""
}

// plain reports whether a text can be a host.
func plain(host string) bool {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && net.ParseIP(inner) != nil
	}
	return host != "" && !strings.ContainsAny(host, " /\\@?#[]:%\t\r\n")
}
