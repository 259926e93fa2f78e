package rest

import (
	"errors"
	"net/url"
	"slices"
	"strings"
)

// hostOf returns the host of an address, an IPv6 address in brackets.
func hostOf(u *url.URL) string {
	if host := u.Hostname(); strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return u.Hostname()
}

// parseEndpoint checks a portal's endpoint and adds a slash to its end.
func (cs *Clients) parseEndpoint(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("the portal's endpoint must be an address such as https://example.bitrix24.com/rest/")
	case strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), "/rest/api"):
		return nil, errors.New("the portal's endpoint ends in /rest/; methods of REST 3.0 are called there by Call3")
	case u.Scheme != "https" && (u.Scheme != "http" || !cs.plain(hostOf(u), u.Port())):
		return nil, errors.New("the portal's endpoint must be https; for development there is WithInsecureHTTP")
	}
	if !strings.HasSuffix(u.Path, "/") {
		u = u.JoinPath("/")
	}
	return u, nil
}

// portalAddress checks an address that a method returned. One without a host begins at the root of
// the portal: below the endpoint of a webhook it would be a call with the webhook's secret.
func portalAddress(base *url.URL, address string) (*url.URL, error) {
	if address == "" {
		return nil, errors.New("the address is empty")
	}
	return ownAddress(&url.URL{Scheme: base.Scheme, Host: base.Host, Path: "/"}, address)
}

// ownAddress checks an address that a portal returned. It must lead to the host of the base, and be
// no less secure.
func ownAddress(base *url.URL, address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || len(address) > maxPlace {
		return nil, errForeignAddress
	}
	u = base.ResolveReference(u)
	if u.Scheme != base.Scheme || !strings.EqualFold(hostOf(u), hostOf(base)) || portOf(u) != portOf(base) || u.User != nil || u.Opaque != "" {
		return nil, errForeignAddress
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

var errForeignAddress = errors.New("the address does not lead to the portal's own host by https")

// portOf returns the port of an address, or the default port of its scheme.
func portOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return port
}

// secretsOf returns the parts of a request to an address of the portal that errors must not show.
func (cs *Clients) secretsOf(u *url.URL, token string) []string {
	secrets := []string{token}
	if cs.hook != nil {
		secrets[0] = cs.hook.secret
	}
	const minToken = 16 // shorter values are numbers and words
	for _, values := range u.Query() {
		secrets = append(secrets, slices.DeleteFunc(values, func(v string) bool { return len(v) < minToken })...)
	}
	return secrets
}
