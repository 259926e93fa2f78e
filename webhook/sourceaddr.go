package webhook

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

const (
	headerForwardedFor = "X-Forwarded-For"
	headerForwarded    = "Forwarded"
)

// source returns the address that a request comes from: the peer, or the address that the trusted
// proxies report. It returns false if the address is unknown.
func (f *SourceFilter) source(r *http.Request) (netip.Addr, bool) {
	at, ok := hostAddr(r.RemoteAddr)
	if !ok || f.cfg.header == "" || !within(f.cfg.proxies, at) {
		return at, ok
	}
	for _, line := range slices.Backward(r.Header.Values(f.cfg.header)) {
		hops, wellFormed := hopsOf(f.cfg.header, line)
		if !wellFormed {
			return netip.Addr{}, false
		}
		for _, hop := range slices.Backward(hops) {
			if at, ok = hostAddr(hop); !ok || !within(f.cfg.proxies, at) {
				return at, ok
			}
		}
	}
	return at, true // all addresses are proxies
}

// hopsOf returns the addresses in one line of the header, from the client to the last proxy.
func hopsOf(header, line string) (hops []string, ok bool) {
	if header == headerForwardedFor {
		hops = strings.Split(line, ",")
		for i := range hops {
			hops[i] = strings.Trim(hops[i], " \t")
		}
		return hops, true
	}
	return forwardedFor(line)
}

// forwardedFor returns the for parameter of each element of a Forwarded header (RFC 7239), empty
// for an element without one. It returns false if the header is not well-formed, because an open
// quote from a client must not hide what a proxy adds.
func forwardedFor(line string) (hops []string, ok bool) {
	p := forwardedParser{rest: line}
	for {
		hop := ""
		for more := true; more; {
			p.space()
			name := p.token()
			if name == "" || !p.next('=') {
				return nil, false
			}
			value, ok := p.value()
			if !ok {
				return nil, false
			}
			if strings.EqualFold(name, "for") {
				if hop != "" {
					return nil, false // twice
				}
				hop = value
			}
			p.space()
			more = p.next(';')
		}
		hops = append(hops, hop)
		if p.rest == "" {
			return hops, true
		}
		if !p.next(',') {
			return nil, false
		}
	}
}

// forwardedParser reads a Forwarded header from the left.
type forwardedParser struct{ rest string }

func (p *forwardedParser) space() { p.rest = strings.TrimLeft(p.rest, " \t") }

func (p *forwardedParser) next(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// token reads a token, empty if there is none. It accepts colons and brackets, because many proxies
// forget the quotes around IPv6 addresses.
func (p *forwardedParser) token() string {
	end := strings.IndexAny(p.rest, " \t\",;=")
	if end < 0 {
		end = len(p.rest)
	}
	token := p.rest[:end]
	p.rest = p.rest[end:]
	return token
}

// value reads a token or a quoted string.
func (p *forwardedParser) value() (string, bool) {
	if !p.next('"') {
		token := p.token()
		return token, token != ""
	}
	var b strings.Builder
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			p.rest = p.rest[i+1:]
			return b.String(), true
		case c == '\\' && i+1 < len(p.rest):
			i++
			b.WriteByte(p.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// hostAddr reads an address with or without a port, such as 192.0.2.1, 192.0.2.1:443, 2001:db8::1
// and [2001:db8::1]:443.
func hostAddr(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
			a, err = netip.ParseAddr(strings.TrimSuffix(inner, "]"))
			if err == nil && a.Is4() {
				return netip.Addr{}, false
			}
		} else {
			var ap netip.AddrPort
			ap, err = netip.ParseAddrPort(text)
			a = ap.Addr()
		}
	}
	if err != nil {
		return netip.Addr{}, false
	}
	return a.Unmap().WithZone(""), true
}
