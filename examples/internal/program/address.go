package program

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// HTTPURL parses an absolute http or https URL to post to. It refuses parts that a request cannot
// send as written: fragments, characters that do not print, impossible ports. The error quotes
// nothing of the URL, which may hold secrets.
func HTTPURL(raw string) (*url.URL, error) {
	if strings.ContainsFunc(raw, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }) || !utf8.ValidString(raw) {
		return nil, errors.New("holds a space or a character that does not print")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return nil, errors.New("must be an absolute http or https URL")
	case strings.Contains(raw, "#"):
		return nil, errors.New("has a fragment, which is never sent; remove # and what follows")
	case strings.HasSuffix(u.Host, ":"):
		return nil, errors.New("ends its host in a colon; give a port from 1 to 65535, or none")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, errors.New("has an impossible port; give one from 1 to 65535, or none")
		}
	}
	return u, nil
}
