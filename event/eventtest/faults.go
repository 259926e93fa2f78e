package eventtest

import (
	"cmp"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// AnyMethod stands for every REST request in [Portal.Once], [Portal.Times], [Portal.Always] and
// [Portal.Heal]. It matches no item of a batch and no request to the OAuth server. Faults that name
// the method come first.
const AnyMethod = "*"

// Fault is something that goes wrong with a request; see [Portal.Once].
type Fault struct {
	answer      *apiError                    // replaces the method
	handler     http.Handler                 // replaces the method
	envelope    *phpform.Value               // the response of handler, if an item of a batch can have it
	reset       bool                         // replaces the method by a closed connection
	before      func(*Portal, *http.Request) // runs before the method
	loseAnswer  bool                         // applies after the method ran
	cutAnswer   bool                         // applies after the method ran
	rewrite     func([]byte) []byte          // applies after the method ran
	contentType string                       // applies after the method ran
}

// Fail returns a status and an error envelope, and the method does not run. In a batch it fails the
// item.
func Fail(status int, code, description string) Fault {
	return Fault{answer: fail(status, code, description)}
}

// ExpiredToken fails as if the access token had expired. See also [Portal.ExpireAccessTokens].
func ExpiredToken() Fault { return Fail(401, "expired_token", "The access token provided has expired") }

// RevokedToken fails as if the access token had been revoked. See also
// [Application.RevokeTokens].
func RevokedToken() Fault { return Fail(401, "invalid_token", "Unable to get application by token") }

// RefusedRefresh is for oauth/token: the server rejects the refresh token or the code, but it stays
// valid.
func RefusedRefresh() Fault { return Fail(400, "invalid_grant", "") }

// Raw returns the given status and body, and the method does not run. If the body is a JSON
// envelope with result or error, the fault also applies to items of a batch.
func Raw(status int, contentType, body string) Fault {
	f := Answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		Fault{}.write(w, status, []byte(body))
	}))
	v, err := phpform.DecodeJSON([]byte(body), formLimits())
	_, result := v.Get("result")
	_, failure := v.Get("error")
	if err == nil && (result || failure) {
		f.envelope = &v
	}
	return f
}

// HTML returns a status and an HTML page, as proxies and maintenance screens do, and the method
// does not run.
func HTML(status int) Fault {
	f := Raw(status, "text/html; charset=utf-8", "<html><body><h1>"+http.StatusText(status)+"</h1></body></html>")
	f.envelope = nil
	return f
}

// Answer lets h respond instead of the portal. Use it for responses that no healthy portal sends,
// and for those that depend on the request. h can read the whole body. The method does not run. h
// may panic with [http.ErrAbortHandler] to close the connection.
func Answer(h http.Handler) Fault { return Fault{handler: h} }

// Reset closes the connection before the method runs, without a response.
func Reset() Fault { return Fault{reset: true} }

// LoseAnswer runs the method and closes the connection without a response.
func LoseAnswer() Fault { return Fault{loseAnswer: true} }

// CutAnswer runs the method and closes the connection in the middle of the response body.
func CutAnswer() Fault { return Fault{cutAnswer: true} }

// Rewrite runs the method and changes the body of its response.
func Rewrite(f func(body []byte) []byte) Fault { return Fault{rewrite: f} }

// PlainText runs the method and labels its response text/plain.
func PlainText() Fault { return Fault{contentType: "text/plain; charset=utf-8"} }

// BOM runs the method and puts a byte order mark in front of its response.
func BOM() Fault {
	return Rewrite(func(body []byte) []byte { return append([]byte("\ufeff"), body...) })
}

// Notice runs the method and puts a PHP notice in front of its response, which is then text/html,
// as from a server that shows its errors.
func Notice() Fault {
	f := Rewrite(func(body []byte) []byte {
		return append(
			[]byte("<br />\n<b>Notice</b>:  Undefined index: scope in <b>/srv/www/token.php</b> on line <b>42</b><br />\n"),
			body...)
	})
	f.contentType = "text/html; charset=UTF-8"
	return f
}

// ExpiresIn runs the method and replaces the member expires_in of its response. raw is JSON, for
// example "", "3600" (with the quotes), 3600.0 or false. If raw is empty, the member is left out.
func ExpiresIn(raw string) Fault {
	member := regexp.MustCompile(`"expires_in":[^,}]*,?`)
	return Rewrite(func(body []byte) []byte {
		if raw == "" {
			return member.ReplaceAllLiteral(body, nil)
		}
		return member.ReplaceAllLiteral(body, []byte(`"expires_in":`+raw+`,`)) // more members follow
	})
}

// WrongEncoding runs the method and then fails to encode its response. The status stays: 200 if the
// method succeeded.
func WrongEncoding() Fault {
	return Rewrite(func([]byte) []byte { return appendJSON(nil, wrongEncoding()) })
}

// Delay waits in real time before the method runs.
func Delay(d time.Duration) Fault {
	return Fault{before: func(p *Portal, r *http.Request) { p.pause(r.Context(), d) }}
}

// Before calls f before the method runs, in the goroutine of the request. Use it to make something
// happen in the middle of a request. f may use the portal, but must not close it. The request's
// body has been read; its context ends when the caller goes away or the portal closes.
func Before(f func(r *http.Request)) Fault {
	return Fault{before: func(_ *Portal, r *http.Request) { f(r) }}
}

// methodFaults are the planned faults of one method. Portal.mu guards them.
type methodFaults struct {
	once []Fault // in the order in which they apply

	always *Fault
}

// Once applies a fault to the next call of a method, and further faults to the calls after it, one
// each. Items of a batch only get the faults that return an error envelope, such as [Fail], and
// [Raw] with an envelope. Other faults wait for a call outside a batch. "oauth/token" and
// "oauth/app.info" are the requests to the OAuth server.
func (p *Portal) Once(method string, faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.methodFaultsLocked(method)
	f.once = append(f.once, faults...)
	p.signalChangeLocked()
}

// Times applies a fault to the next n calls of a method, as [Portal.Once] does.
func (p *Portal) Times(n int, method string, fault Fault) {
	for range n {
		p.Once(method, fault)
	}
}

// Always applies a fault to every call of a method until [Portal.Heal]. Faults of [Portal.Once]
// come first. A later Always for the same method replaces the earlier one.
func (p *Portal) Always(method string, fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.methodFaultsLocked(method).always = &fault
	p.signalChangeLocked()
}

// Heal removes all faults of the given methods, or of all methods if none is given.
func (p *Portal) Heal(methods ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(methods) == 0 {
		clear(p.faults)
	}
	p.signalChangeLocked()
	for _, m := range methods {
		delete(p.faults, lowerMethod(m))
	}
}

// methodFaultsLocked returns the faults of a method, for changes.
func (p *Portal) methodFaultsLocked(method string) *methodFaults {
	name := lowerMethod(method)
	if p.faults[name] == nil {
		p.faults[name] = &methodFaults{}
	}
	return p.faults[name]
}

// takeFault returns the fault that applies to a request, if any.
func (p *Portal) takeFault(name string) (Fault, bool) {
	names := []string{name}
	if name != callToken && name != callAppInfo {
		names = append(names, AnyMethod)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dueFaultLocked(func(Fault) bool { return true }, names...)
}

// dueFaultLocked returns the first fault of the methods that fits. Faults of Once come before those
// of Always.
func (p *Portal) dueFaultLocked(fits func(Fault) bool, methods ...string) (Fault, bool) {
	for _, m := range methods {
		if f := p.faults[m]; f != nil && len(f.once) > 0 && fits(f.once[0]) {
			first := f.once[0]
			f.once = f.once[1:]
			return first, true
		}
	}
	for _, m := range methods {
		if f := p.faults[m]; f != nil && f.always != nil && fits(*f.always) {
			return *f.always, true
		}
	}
	return Fault{}, false
}

// fitsBatch reports whether the fault can apply to an item of a batch.
func (f Fault) fitsBatch() bool { return f.answer != nil || f.envelope != nil }

// batchReply returns the result of an item of a batch that the fault applies to.
func (f Fault) batchReply() (reply, *apiError) {
	if f.answer != nil {
		return reply{}, f.answer
	}
	get := func(name string) phpform.Value {
		v, _ := f.envelope.Get(name)
		return v
	}
	if code, failed := f.envelope.Get("error"); failed {
		return reply{}, &apiError{
			status: http.StatusBadRequest, code: code.Scalar(),
			description: get("error_description").Scalar(), argument: get("argument").Scalar(),
		}
	}
	rep := reply{result: get("result")}
	for name, n := range map[string]**int64{"total": &rep.total, "next": &rep.next} {
		if v, ok := f.envelope.Get(name); ok {
			count := intOf(v)
			*n = &count
		}
	}
	return rep, nil
}

// replace applies what the fault does before the method runs. It reports whether that ended the
// request.
func (f Fault) replace(p *Portal, w http.ResponseWriter, r *http.Request, name string, params phpform.Value) bool {
	if f.before != nil {
		f.before(p, r)
		return false
	}
	rec := Call{Method: name, Params: dataOf(recordedParams(name, params)), Time: p.Now()}
	keep := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.recordCallLocked(rec, name == callToken || name == callAppInfo)
	}
	switch {
	case f.answer != nil:
		if rec.Status, rec.ErrorCode = f.answer.status, f.answer.code; rec.ErrorCode == "" {
			rec.ErrorCode = EmptyCode
		}
		p.keepAnswer(&rec, null(), f.answer)
		keep()
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		writeBody(w, f.answer.status, f.answer.value())
	case f.handler != nil:
		seen := &statusWriter{ResponseWriter: w}
		defer func() { // also if the handler breaks the connection
			rec.Status = seen.status
			keep()
		}()
		if b, ok := r.Body.(*body); ok {
			_, _ = b.Seek(0, io.SeekStart)
		}
		f.handler.ServeHTTP(seen, r)
		seen.status = cmp.Or(seen.status, http.StatusOK)
	case f.reset:
		keep()
		closeConnection(w)
	default:
		return false
	}
	return true
}

// write sends a response as the fault changes it: complete, cut, changed or not at all.
func (f Fault) write(w http.ResponseWriter, status int, body []byte) {
	if f.loseAnswer {
		closeConnection(w)
		return
	}
	if f.rewrite != nil {
		body = f.rewrite(body)
	}
	if f.contentType != "" {
		w.Header().Set("Content-Type", f.contentType)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if !f.cutAnswer {
		_, _ = w.Write(body) // the caller may have gone away
		return
	}
	_, _ = w.Write(body[:len(body)/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler) // makes the server break the connection
}

// statusWriter remembers the status of a response.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap returns the wrapped writer for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// closeConnection closes the connection without a response.
func closeConnection(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // makes the server close without a response
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
