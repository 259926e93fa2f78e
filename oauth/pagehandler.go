package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/defaultlog"
	"github.com/b24events/b24events/internal/redact"
)

// maxPage is far more than a page's POST takes; placements may add options of their own.
const maxPage = 256 << 10

// Page is a page of the application, which the portal opens by a POST from the user's browser. It
// is an http.Handler, safe for concurrent use. Make one with [PageHandler].
type Page struct {
	verify  func(context.Context, event.Auth) (Installation, error)
	serve   func(w http.ResponseWriter, r *http.Request, page *event.Delivery, access Installation)
	log     *slog.Logger
	served  atomic.Uint64
	refused map[PageReason]*atomic.Uint64 // fixed once made
}

// PageReason says why a [Page] refused a request.
type PageReason string

// The reasons of a refusal, with the status of the response.
const (
	PageMethod      PageReason = "method"       // 405: not a POST
	PageContentType PageReason = "content_type" // 415: neither a form nor JSON
	PageTooLarge    PageReason = "too_large"    // 413: too many bytes, too many keys or too deep
	PageMalformed   PageReason = "malformed"    // 400: not a well-formed body
	PageNotPage     PageReason = "not_page"     // 400: well-formed, but an event, an automation rule or something else
	PageForbidden   PageReason = "forbidden"    // 403: not confirmed, or of an unknown portal
	PageUnavailable PageReason = "unavailable"  // 503: verify could not find out, or a hook failed
)

// PageStats is a snapshot of what a [Page] has done since it was made.
type PageStats struct {
	Served  uint64                `json:"served"`  // verified, and passed to serve
	Refused map[PageReason]uint64 `json:"refused"` // every PageReason is present
}

// Keys of the log attributes of a [Page].
const (
	keyReason     = "reason"
	keyStatus     = "status"
	keyRemoteAddr = "remote_addr"
)

// PageOption configures [PageHandler]. A nil PageOption is skipped.
type PageOption func(*Page) error

// WithPageLogger sets the logger for refusals: WARN for those that the sender caused or did not
// wait for, ERROR if a page could not be verified. The attributes are reason (a [PageReason]),
// status, remote_addr and error; nothing of the request is logged. Package oauth logs unconfirmed
// tokens itself, with the logger of [WithLogger]. Without this option, the lines go to slog.Default
// as it is when [PageHandler] is called.
func WithPageLogger(l *slog.Logger) PageOption {
	return func(p *Page) error {
		if l == nil {
			return configError("WithPageLogger", "the logger is nil")
		}
		p.log = l
		return nil
	}
}

// PageHandler returns a page of the application. It lets verify confirm the tokens that the page
// carries. Then it calls serve, which responds, with the confirmed access and with the request as
// it was posted: its Data has PLACEMENT and PLACEMENT_OPTIONS. There are three functions for
// verify:
//
//	oauth.PageHandler(portals.VerifyPage, serve) // an ordinary page: who is it?
//	oauth.PageHandler(portals.KeepUser, serve)   // the same, and that user's tokens are stored
//	oauth.PageHandler(portals.Install, portals.FinishInstall(nil)) // the installation page
//
// If serve is not called, the response is 405 for methods other than POST, 413, 415 or 400 for a
// body that no page has, 403 if verify refuses the page and 503 if verify could not find out. It
// repeats nothing of the request. Each refusal is logged and counted; see [WithPageLogger] and
// [Page.Stats]. Caches must not keep pages, because each is made for one user.
//
// The POST comes from the portal, which is another site. So exempt the address of a page from a
// middleware against cross-site requests, such as http.CrossOriginProtection: the page proves its
// sender by its tokens, and uses no cookie. [Sessions] protects the calls that the page makes
// later.
//
// PageHandler returns [ErrConfig] if a function is nil.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/simple-way.html
func PageHandler(
	verify func(context.Context, event.Auth) (Installation, error),
	serve func(w http.ResponseWriter, r *http.Request, page *event.Delivery, access Installation),
	opts ...PageOption,
) (*Page, error) {
	if verify == nil || serve == nil {
		return nil, configError("PageHandler", "a function is nil; verify is Portals.VerifyPage, KeepUser or Install")
	}
	p := &Page{verify: verify, serve: serve, refused: make(map[PageReason]*atomic.Uint64)}
	for _, reason := range []PageReason{
		PageMethod, PageContentType, PageTooLarge, PageMalformed, PageNotPage, PageForbidden, PageUnavailable,
	} {
		p.refused[reason] = new(atomic.Uint64)
	}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(p); err != nil {
			return nil, err
		}
	}
	if p.log == nil {
		p.log = defaultlog.New()
	}
	return p, nil
}

// Stats returns what the page has done so far.
func (p *Page) Stats() PageStats {
	s := PageStats{Served: p.served.Load(), Refused: make(map[PageReason]uint64, len(p.refused))}
	for reason, n := range p.refused {
		s.Refused[reason] = n.Load()
	}
	return s
}

// ServeHTTP verifies a page and serves it.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		p.refuse(w, r, PageMethod, nil)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxPage)
	page, err := event.ParseRequest(r)
	if err != nil {
		p.refuse(w, r, unparsedReason(err), nil)
		return
	}
	if page.Kind != event.KindFrame {
		p.refuse(w, r, PageNotPage, notPage(page.Kind))
		return
	}
	in, err := p.verify(r.Context(), page.Auth)
	if err != nil {
		p.refuse(w, r, unverifiedReason(err), err)
		return
	}
	p.served.Add(1)
	w.Header().Set("Cache-Control", "no-store")
	p.serve(w, r, page, in)
}

// notPage says where a body belongs that is no page, or returns nil.
func notPage(kind event.Kind) error {
	switch kind {
	case event.KindEvent:
		return routeError("the request is an event, and this address is a page's; " +
			"bind events to the address of a webhook.Handler, and give that address to the settings of an application without pages")
	case event.KindHandler:
		return routeError("the request is a call of an automation rule or activity, and this address is a page's; " +
			"register the rule with the address of a webhook.Handler; see webhook.WithActivities")
	default:
		return nil
	}
}

// routeError means that the routes of the program are wrong.
type routeError string

func (e routeError) Error() string { return "oauth: " + string(e) }

// unparsedReason returns the reason for an error of reading or parsing a body.
func unparsedReason(err error) PageReason {
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong), errors.Is(err, event.ErrTooLarge):
		return PageTooLarge
	case errors.Is(err, event.ErrContentType):
		return PageContentType
	default:
		return PageMalformed
	}
}

// unverifiedReason returns the reason for an error of the function that verifies pages.
func unverifiedReason(err error) PageReason {
	switch {
	case errors.Is(err, ErrHook): // whatever the hook returned
		return PageUnavailable
	case errors.Is(err, event.ErrForbidden), errors.Is(err, ErrNotFound):
		return PageForbidden
	default:
		return PageUnavailable
	}
}

func (reason PageReason) status() int {
	switch reason {
	case PageMethod:
		return http.StatusMethodNotAllowed
	case PageContentType:
		return http.StatusUnsupportedMediaType
	case PageTooLarge:
		return http.StatusRequestEntityTooLarge
	case PageMalformed, PageNotPage:
		return http.StatusBadRequest
	case PageForbidden:
		return http.StatusForbidden
	default:
		return http.StatusServiceUnavailable
	}
}

// maxAddr bounds the address of a peer in the log, in characters.
const maxAddr = 64

// refuse counts, logs and responds to a request that is not served. err is for the log, and may be
// nil.
func (p *Page) refuse(w http.ResponseWriter, r *http.Request, reason PageReason, err error) {
	p.refused[reason].Add(1)
	plainStatus(w, reason.status())
	if reason == PageForbidden && errors.Is(err, ErrUnverified) {
		return // Portals has logged it
	}
	level := slog.LevelWarn
	if reason == PageUnavailable && r.Context().Err() == nil { // a browser that does not wait is no failure
		level = slog.LevelError
	}
	attrs := []slog.Attr{
		slog.String(keyReason, string(reason)), slog.Int(keyStatus, reason.status()),
		slog.String(keyRemoteAddr, redact.Clean(r.RemoteAddr, maxAddr)),
	}
	if err != nil {
		attrs = append(attrs, slog.String(keyError, errorText(err)))
	}
	p.log.LogAttrs(r.Context(), level, "bitrix24 page not served", attrs...)
}

// plainStatus responds with a status and the text of the status.
func plainStatus(w http.ResponseWriter, status int) {
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, http.StatusText(status), status)
}
