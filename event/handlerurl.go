package event

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxHandlerURL is how many bytes of a URL the portal compares. Two longer URLs may count as one.
const maxHandlerURL = 180

// ValidateHandlerURL returns an error that matches [ErrConfig] if no portal accepts the URL for
// bindings, would confuse it with another one, or would send tokens over the internet in clear. The
// rules are those of [Binding.Validate]. Call it when the program starts, with the URL that it
// takes from its configuration:
//
//	if err := event.ValidateHandlerURL(publicURL); err != nil {
//		return err
//	}
//
// Otherwise a wrong URL shows only when the first customer installs the application. The error does
// not repeat the URL.
func ValidateHandlerURL(handlerURL string) error {
	if err := checkHandlerURL(handlerURL); err != nil {
		return misconfigured("%v", err)
	}
	return nil
}

// checkHandlerURL applies the portal's rules for handler URLs and the rules of this package. The
// portal posts to any http URL, which sends tokens in clear. This package accepts http only if the
// host is a loopback or a private address, or a name below localhost, because then nothing crosses
// the internet.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/event-bind.html
func checkHandlerURL(handler string) error {
	host, err := handlerHost(handler)
	switch {
	case err != nil:
		return err
	case strings.HasPrefix(handler, "http://") && !staysInside(host):
		return errors.New("the handler URL must start with https://, since deliveries carry tokens; " +
			"http:// is for loopback and private addresses, such as http://192.168.0.7:8080/bitrix24, and for names below localhost")
	case len(handler) > maxHandlerURL:
		return fmt.Errorf("the handler URL is longer than %d bytes, so the portal may confuse it with another; shorten it", maxHandlerURL)
	default:
		return nil
	}
}

// handlerHost returns the host of a handler URL. It returns an error if no portal, in any network,
// can post to the URL as it is written.
func handlerHost(handler string) (string, error) {
	if strings.ContainsFunc(handler, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }) || !utf8.ValidString(handler) {
		return "", errors.New("the handler URL holds a space or a character that does not print; percent-encode or remove it")
	}
	u, err := url.Parse(handler)
	switch {
	case err != nil || u.Host == "":
		return "", errors.New("the handler URL must be absolute, such as https://example.com/bitrix24")
	case !strings.HasPrefix(handler, "https://") && !strings.HasPrefix(handler, "http://"):
		return "", errors.New("the handler URL must start with https:// in lower case")
	case u.User != nil:
		return "", errors.New("the handler URL must not hold credentials; remove what is before the @")
	case strings.Contains(handler, "#"):
		return "", errors.New("the handler URL must not hold a fragment, which the portal would not send; remove # and what follows")
	case strings.HasSuffix(u.Host, ":"):
		return "", errors.New("the host of the handler URL ends in a colon; give a port from 1 to 65535, or none")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", errors.New("the handler URL has an impossible port; give one from 1 to 65535, or none")
		}
	}
	host := u.Hostname()
	if strings.Contains(host, ":") || strings.Index(host, ".") < 1 {
		return "", errors.New("the portal accepts no handler host without a dot, such as localhost, and no IPv6 address; " +
			"use a public name or an IPv4 address")
	}
	return host, checkHandlerHost(host)
}

// checkHandlerHost returns an error for a host that reaches no machine, or a different machine from
// each network.
func checkHandlerHost(host string) error {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		if numeric(host) {
			return errors.New("the handler host is a number in an unusual form; write an IPv4 address as four numbers, such as 192.168.0.7")
		}
		return nil
	}
	quad := addr.As4() // an IPv6 address holds colons and was refused before
	const reserved = 240
	if quad[0] == 0 || quad[0] >= reserved || addr.IsMulticast() || addr.IsLinkLocalUnicast() {
		return errors.New("the handler host is an address that a portal cannot post to, such as 0.0.0.0, a link-local one " +
			"(169.254.…) or a multicast one; use the address of the machine")
	}
	return nil
}

// numeric reports whether the last label of a host is a number. Resolvers read 0x7f.1 and 127.1 as
// IPv4 addresses, so such a host is not a name.
func numeric(host string) bool {
	host = strings.TrimSuffix(host, ".")
	label := host[strings.LastIndexByte(host, '.')+1:]
	if len(label) > 2 && label[0] == '0' && label[1]|0x20 == 'x' {
		_, err := strconv.ParseUint(label[2:], 16, 64)
		return err == nil
	}
	return label == "" || strings.Trim(label, "0123456789") == ""
}

// staysInside reports whether traffic to the host stays on this machine or in a private network.
func staysInside(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback() || addr.IsPrivate()
	}
	return strings.HasSuffix(strings.ToLower(strings.TrimSuffix(host, ".")), ".localhost")
}

// shownURL returns a handler URL for people. It leaves out the credentials, the query and the
// fragment, which often hold tenants and secrets.
func shownURL(handler string) string {
	if i := strings.IndexAny(handler, "?#"); i >= 0 && i+1 < len(handler) {
		handler = handler[:i+1] + "…"
	}
	if scheme, rest, ok := strings.Cut(handler, "://"); ok {
		authority, path, slash := strings.Cut(rest, "/")
		if at := strings.LastIndexByte(authority, '@'); at >= 0 {
			handler = scheme + "://…" + authority[at:]
			if slash {
				handler += "/" + path
			}
		}
	}
	return handler
}
