package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

const (
	sourceTimeout  = 20 * time.Second
	maxSourceBytes = 1 << 20
	// minPrefixBits keeps a mistake in the list from opening the filter to whole continents.
	minPrefixBits = 8
)

const (
	errSourceRedirect Error = "webhook: the source list redirects to another host"
	errSourceStatus   Error = "webhook: the server of the source list refused"
	errSourceBody     Error = "webhook: the source list is not a JSON document with addresses under nodes"
)

// sourceList is a list of addresses as it was fetched. It is immutable.
type sourceList struct {
	single    map[netip.Addr]struct{}
	prefixes  []netip.Prefix
	tag       string // ETag
	modified  string // Last-Modified
	confirmed time.Time
}

func (l *sourceList) size() int {
	if l == nil {
		return 0
	}
	return len(l.single) + len(l.prefixes)
}

func (l *sourceList) contains(a netip.Addr) bool {
	if _, ok := l.single[a]; ok {
		return true
	}
	return within(l.prefixes, a)
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// fetchSources gets the list. If the server responds that old is still current, the result has the
// addresses of old.
func fetchSources(ctx context.Context, client *http.Client, address string, old *sourceList) (*sourceList, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", unaddressed(err))
	}
	r.Header.Set("Accept", "application/json")
	if old != nil && old.tag != "" {
		r.Header.Set("If-None-Match", old.tag)
	}
	if old != nil && old.modified != "" {
		r.Header.Set("If-Modified-Since", old.modified)
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("webhook: fetch the source list: %w", unaddressed(err))
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusNotModified && old != nil:
		same := *old
		same.confirmed = time.Now()
		return &same, nil
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%w: status %d", errSourceStatus, resp.StatusCode)
	}
	doc, err := io.ReadAll(io.LimitReader(resp.Body, maxSourceBytes+1))
	if err != nil {
		return nil, fmt.Errorf("webhook: read the source list: %w", unaddressed(err))
	}
	if len(doc) > maxSourceBytes {
		return nil, fmt.Errorf("%w: more than %d bytes", errSourceBody, maxSourceBytes)
	}
	list, err := parseSources(doc)
	if err != nil {
		return nil, err
	}
	list.tag, list.modified, list.confirmed = resp.Header.Get("ETag"), resp.Header.Get("Last-Modified"), time.Now()
	return list, nil
}

// unaddressed removes the address from an error of net/http.
func unaddressed(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// parseSources reads the list. It skips entries that are not addresses. If nothing is left, it
// fails.
func parseSources(doc []byte) (*sourceList, error) {
	var body struct {
		Nodes []json.RawMessage `json:"nodes"`
	}
	if json.Unmarshal(bytes.TrimPrefix(doc, []byte("\xef\xbb\xbf")), &body) != nil {
		return nil, errSourceBody
	}
	list := &sourceList{single: make(map[netip.Addr]struct{}, len(body.Nodes))}
	for _, raw := range body.Nodes {
		var text string
		if json.Unmarshal(raw, &text) != nil {
			continue
		}
		switch p, ok := parseSource(text); {
		case !ok || p.Bits() < minPrefixBits:
		case p.IsSingleIP():
			list.single[p.Addr()] = struct{}{}
		default:
			list.prefixes = append(list.prefixes, p)
		}
	}
	if list.size() == 0 {
		return nil, errSourceBody
	}
	return list, nil
}

// parseSource reads an address or a prefix. An IPv4 address inside IPv6 becomes plain IPv4.
func parseSource(text string) (netip.Prefix, bool) {
	text = strings.TrimSpace(text)
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, false
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	if a := p.Addr(); a.Is4In6() {
		const mapped = 96 // bits before the IPv4 address
		if p.Bits() < mapped {
			return netip.Prefix{}, false
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-mapped)
	}
	return p.Masked(), true
}
