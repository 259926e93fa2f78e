package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/b24events/b24events/internal/redact"
)

// Download is a file that is being read from a portal. Read returns its content, and its errors are
// those of calls. If the content is larger than allowed, it ends with [ErrTooLarge]. The caller
// closes it, also after an error. Only one goroutine may use it.
type Download struct {
	// Name is the file's name as the portal gives it, or empty. It is the last element of a path,
	// without separators, control characters and the characters that Windows forbids, and never "."
	// or "..". It is not a safe choice by itself: the file may replace another one. If it goes to a
	// disk of Windows, check it by filepath.IsLocal.
	Name string
	// ContentType is the media type of the response, without parameters. The person who uploaded
	// the file chose it.
	ContentType string
	// Size is the length of the content in bytes, or -1 if it is not known.
	Size int64

	body    io.ReadCloser
	left    int64 // that may still be read
	tooBig  error
	err     error
	explain func(error) error
	release func()
}

// Download gets a file from an address that a method returned: DOWNLOAD_URL of disk.file.get and
// similar methods, urlMachine of file fields in CRM, downloadUrl of im.v2.File.download. The
// content is not held in memory. maxBytes bounds how much of the content is read, after
// decompression.
//
//	file, err := client.Download(ctx, object.DownloadURL, 100<<20)
//	if err != nil {
//		return err
//	}
//	defer file.Close()
//	_, err = io.Copy(dst, file)
//
// Such an address holds a token, so the request goes only to the portal's own host, by https
// ([WithInsecureHTTP] is for tests). Any other address is refused with [ErrBadCall], and so are
// public links to other hosts, which need no client. An address without a host begins at the root
// of the portal. A redirect is followed up to three times on the same host. Any other redirect is
// refused with [ErrMoved], because the documentation knows none: the portal's own front end gets
// the content from storage. The address does not appear in errors and log lines.
//
// The token in the address is the one with which the method was called, and it signs the address.
// When it expires, so does the address: [ErrExpiredToken]. Call the method again for a new address.
// An error of the portal is an [*Error]. A page of HTML, or JSON, is [ErrBadResponse], unless it
// comes as a file, with the header Content-Disposition. Errors name the method in the address, or
// download.
//
// A download counts as a request for the portal's limits. It is retried as reads are, until the
// response begins. The time limit of the HTTP client bounds the wait for the response to begin, and
// then each wait for more of it, but not the whole. Time in which the caller does not read does not
// count. The context and [Timeout] bound the whole, until Close.
//
// Source: https://apidocs.bitrix24.com/settings/how-to-call-rest-api/general-principles.html
func (c *Client) Download(ctx context.Context, address string, maxBytes int64) (*Download, error) {
	if c.opts.err != nil {
		return nil, &Error{Code: ErrBadCall, Description: c.opts.err.Error()}
	}
	if maxBytes <= 0 {
		return nil, &Error{Method: downloadMethod, Code: ErrBadCall, Description: "the size limit must be positive"}
	}
	ctx, cancel := c.opts.within(ctx)
	call := &call{
		method: downloadMethod, idempotent: true, retries: c.retries(),
		renewed: true, moved: true, // the token is in the address, and the address is for one host
	}
	var file *Download
	call.fetch = func(ctx context.Context, base *url.URL, token string) (got exchanged, err error) {
		file, got, err = c.fetch(ctx, base, token, &fileRequest{call: call, address: address, maxBytes: maxBytes})
		return got, err
	}
	if _, err := c.run(ctx, call); err != nil {
		cancel()
		if failure, ok := err.(*Error); ok && failure.Is(ErrExpiredToken) { //nolint:errorlint // of this package, not wrapped
			failure.Hint = "the token in the address has expired: call the method again for a new address"
		}
		return nil, err
	}
	release := file.release
	file.release = func() { release(); cancel() }
	return file, nil
}

const (
	downloadMethod = "download"
	maxHops        = 3
)

// fileRequest is the download of a file.
type fileRequest struct {
	call     *call
	address  string
	maxBytes int64
}

// fetch requests a file, and follows the portal's redirects on the same host.
func (c *Client) fetch(ctx context.Context, base *url.URL, token string, req *fileRequest,
) (file *Download, got exchanged, err error) {
	call := req.call
	target, err := portalAddress(base, req.address)
	if err != nil {
		return nil, got, &Error{Method: call.method, Code: ErrBadCall, Description: err.Error()}
	}
	call.method = methodIn(base, target)
	var secrets []string // of this address and of those before
	for hop := 0; ; hop++ {
		secrets = append(secrets, c.clients.secretsOf(target, token)...)
		file, got, err = c.fetchOnce(ctx, target, secrets, call, req.maxBytes)
		if !hasCode(err, ErrMoved) || hop == maxHops {
			return file, got, err
		}
		next, foreign := ownAddress(target, got.location)
		if foreign != nil || got.location == "" {
			if moved, ok := err.(*Error); ok { //nolint:errorlint // of this package, not wrapped
				moved.Hint = "it does not lead to the portal's own host, and the token in the address is only for that host"
			}
			return nil, got, err
		}
		target = next
		if err := c.clients.limiter.wait(ctx, &call.turn); err != nil {
			return nil, got, err
		}
	}
}

// methodIn returns the method in an address below an endpoint.
func methodIn(base, target *url.URL) string {
	name, ok := strings.CutPrefix(target.Path, base.Path)
	name = strings.TrimSuffix(strings.TrimSuffix(name, "/"), ".json")
	if !ok || !validMethod(name) {
		return downloadMethod
	}
	return name
}

func (c *Client) fetchOnce(ctx context.Context, target *url.URL, secrets []string, call *call, maxBytes int64,
) (file *Download, got exchanged, err error) {
	client, fetching, guard := c.clients.guarded(ctx, true)
	defer func() {
		if file == nil {
			guard.end()
		}
	}()
	body := &trackedBody{} // no body, but it records connections
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(fetching, body.trace()), http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return nil, got, &Error{Method: call.method, Code: ErrBadCall, Description: "the address is not the address of a request"}
	}
	// Front ends are known to refuse files to clients without these.
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept", "*/*")
	req.Header.Set("Accept-Language", "en;q=0.9,*;q=0.5")
	req.Header.Set("Referer", (&url.URL{Scheme: target.Scheme, Host: target.Host, Path: "/"}).String())
	call.inFlight = true
	resp, err := client.Do(req)
	call.inFlight = false
	if got.progress = body.progress(); err != nil {
		return nil, got, transportError(ctx, call.method, guardFailed(fetching, err), got.progress)
	}
	got.progress = progressSent
	got.status, got.location, got.retryAfter = resp.StatusCode, resp.Header.Get("Location"), retryAfter(resp.Header)
	resp.Body = guard.body(fetching, resp.Body, true)
	file, err = received(ctx, resp, redact.New(secrets...), call.method, maxBytes)
	if err != nil {
		_ = resp.Body.Close()
		return nil, got, err
	}
	guard.pause()
	file.release = guard.end
	got.response = &Response{}
	return file, got, nil
}

const userAgent = "b24events/1 (+https://github.com/b24events/b24events)"

// received returns the file in a response, or an error if the response is one of the portal or a
// page of a front end.
func received(ctx context.Context, resp *http.Response, secrets *redact.Set, method string, maxBytes int64) (*Download, error) {
	kind := mediaType(resp.Header.Get("Content-Type"))
	disposition := resp.Header.Get("Content-Disposition")
	fail := &Error{Method: method, Status: resp.StatusCode, Code: ErrBadResponse, Hint: "the response is not a file"}
	switch isJSON := strings.HasSuffix(kind, "json"); {
	case resp.StatusCode != http.StatusOK || isJSON && disposition == "":
		// If it is a file after all, it may be long.
		resp.Body = &limitedBody{Reader: io.LimitReader(resp.Body, maxErrorBytes), Closer: resp.Body}
		text, err := readResponse(ctx, method, resp)
		if err != nil {
			return nil, err
		}
		if _, err = parseResponse(method, resp.StatusCode, text, secrets); err != nil {
			return nil, err
		}
		return nil, fail
	case strings.Contains(kind, "html") && disposition == "":
		return nil, fail
	}
	if _, _, err := mime.ParseMediaType(kind); err != nil {
		kind = ""
	}
	f := &Download{
		Name: fileName(disposition), ContentType: kind, Size: resp.ContentLength,
		body: resp.Body, left: maxBytes,
		tooBig:  &Error{Method: method, Status: resp.StatusCode, Code: ErrTooLarge, Description: tooBig(resp.ContentLength, maxBytes)},
		explain: func(err error) error { return transportError(ctx, method, err, progressSent) },
	}
	if f.Size > maxBytes {
		return nil, f.tooBig
	}
	return f, nil
}

type limitedBody struct {
	io.Reader
	io.Closer
}

// mediaType returns the type in a Content-Type, without its parameters, which may be malformed: a
// page is still a page.
func mediaType(header string) string {
	if i := strings.IndexAny(header, ";,"); i >= 0 {
		header = header[:i]
	}
	return strings.ToLower(strings.TrimSpace(header))
}

func tooBig(size, allowed int64) string {
	limit := "the caller allows " + strconv.FormatInt(allowed, 10) + " bytes"
	if size > allowed {
		return limit + ", and the file has " + strconv.FormatInt(size, 10)
	}
	return limit
}

// Read reads the next part of the content.
func (d *Download) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if int64(len(p))-1 > d.left { // one more byte shows that there is more
		p = p[:d.left+1]
	}
	n, err := d.body.Read(p)
	switch {
	case int64(n) > d.left:
		n, d.err = int(d.left), d.tooBig
	case errors.Is(err, io.EOF):
		d.err = io.EOF
	case err != nil:
		d.err = d.explain(err)
	}
	d.left -= int64(n)
	return n, d.err
}

// Close ends the download, even before its end. It may be called more than once.
func (d *Download) Close() error {
	if !errors.Is(d.err, errClosed) {
		d.err = errClosed
		_ = d.body.Close() // nothing can be lost
		d.release()
	}
	return nil
}

var errClosed = errors.New("rest: the download is closed")

// Format prints the name, type and size, and nothing of the request.
func (d *Download) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "rest.Download(%q, %q, %d)", d.Name, d.ContentType, d.Size)
}

// maxFileName is the longest name that file systems take, in bytes.
const maxFileName = 255

// fileName returns the name in a Content-Disposition as a file name without a path.
func fileName(disposition string) string {
	_, args, err := mime.ParseMediaType(disposition)
	if err != nil {
		return ""
	}
	name := strings.ToValidUTF8(args["filename"], "_")
	name = strings.Map(func(r rune) rune {
		switch {
		case redact.IsControl(r):
			return -1
		case r == '\\':
			return '/'
		case strings.ContainsRune(`<>:"|?*`, r):
			return '_'
		default:
			return r
		}
	}, name)
	name = path.Base(strings.TrimRight(name, "/ ."))
	if len(name) > maxFileName {
		ext := path.Ext(name)
		if len(ext) > maxFileName/4 {
			ext = ""
		}
		stem := name[:maxFileName-len(ext)]
		for !utf8.ValidString(stem) {
			stem = stem[:len(stem)-1]
		}
		name = stem + ext
	}
	if name = strings.TrimSpace(name); name == "." || name == ".." || name == "/" {
		return ""
	}
	return name
}
