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

// AnyMethod stands for every request to REST in [Portal.Once], [Portal.Times], [Portal.Always] and
// [Portal.Heal], whatever its method, but for no item of a batch and no request to the OAuth
// server. Faults of a method by its name come first.
const AnyMethod = "*"

// Fault is something that goes wrong with a request; see [Portal.Once].
type Fault struct {
	answer      *apiError                    // instead of running the method
	handler     http.Handler                 // the same
	envelope    *phpform.Value               // what handler answers, where an item of a batch can say it too
	reset       bool                         // the same, without an answer
	before      func(*Portal, *http.Request) // and then the method runs
	loseAnswer  bool                         // after the method ran
	cutAnswer   bool                         // the same
	rewrite     func([]byte) []byte          // the same
	contentType string                       // the same: another Content-Type
}

// Fail answers with a status and an error envelope, and the method does not run. In a batch it
// fails the item.
func Fail(status int, code, description string) Fault {
	return Fault{answer: fail(status, code, description)}
}

// ExpiredToken answers as if the access token had expired. See also [Portal.ExpireAccessTokens].
func ExpiredToken() Fault { return Fail(401, "expired_token", "The access token provided has expired") }

// RevokedToken answers as if the access token had been revoked. See also
// [Application.RevokeTokens].
func RevokedToken() Fault { return Fail(401, "invalid_token", "Unable to get application by token") }

// RefusedRefresh is for oauth/token: the refresh token or the code is refused, though it stays
// good.
func RefusedRefresh() Fault { return Fail(400, "invalid_grant", "") }

// Raw answers with a status and a body of the caller's, and the method does not run. Where the body
// is an envelope in JSON, with result or error, it may befall an item of a batch too.
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

// HTML answers with a status and a page of HTML, as proxies and maintenance screens do, and the
// method does not run.
func HTML(status int) Fault {
	f := Raw(status, "text/html; charset=utf-8", "<html><body><h1>"+http.StatusText(status)+"</h1></body></html>")
	f.envelope = nil
	return f
}

// Answer lets h answer in the portal's place, for what no portal that behaves says, and for answers
// that depend on the request, of which h finds the whole body. The method does not run. h may panic
// with [http.ErrAbortHandler] to close the connection.
func Answer(h http.Handler) Fault { return Fault{handler: h} }

// Reset closes the connection before the method runs, without an answer.
func Reset() Fault { return Fault{reset: true} }

// LoseAnswer runs the method and closes the connection instead of answering.
func LoseAnswer() Fault { return Fault{loseAnswer: true} }

// CutAnswer runs the method and closes the connection in the middle of the answer's body.
func CutAnswer() Fault { return Fault{cutAnswer: true} }

// Rewrite runs the method and changes the body of its answer.
func Rewrite(f func(body []byte) []byte) Fault { return Fault{rewrite: f} }

// PlainText runs the method and calls its answer text/plain.
func PlainText() Fault { return Fault{contentType: "text/plain; charset=utf-8"} }

// BOM runs the method and puts a byte order mark in front of its answer.
func BOM() Fault {
	return Rewrite(func(body []byte) []byte { return append([]byte("\ufeff"), body...) })
}

// Notice runs the method and puts a notice of PHP in front of its answer, which is text/html then,
// as from a server that shows its errors.
func Notice() Fault {
	f := Rewrite(func(body []byte) []byte {
		return append([]byte("<br />\n<b>Notice</b>:  Undefined index: scope in <b>/srv/www/token.php</b> on line <b>42</b><br />\n"), body...)
	})
	f.contentType = "text/html; charset=UTF-8"
	return f
}

// ExpiresIn runs the method and writes another value to the member expires_in of its answer: raw is
// its JSON, such as "", "3600" (with the quotes), 3600.0 or false. If raw is empty, the member is
// left out.
func ExpiresIn(raw string) Fault {
	member := regexp.MustCompile(`"expires_in":[^,}]*,?`)
	return Rewrite(func(body []byte) []byte {
		if raw == "" {
			return member.ReplaceAllLiteral(body, nil)
		}
		return member.ReplaceAllLiteral(body, []byte(`"expires_in":`+raw+`,`)) // more members follow
	})
}

// WrongEncoding runs the method and then fails to write its answer, with the status that it had:
// 200 where it succeeded.
func WrongEncoding() Fault {
	return Rewrite(func([]byte) []byte { return appendJSON(nil, wrongEncoding()) })
}

// Delay holds the request for a while of real time, before the method runs.
func Delay(d time.Duration) Fault {
	return Fault{before: func(p *Portal, r *http.Request) { p.pause(r.Context(), d) }}
}

// Before calls f before the method runs, in the goroutine of the request, so that something happens
// in the middle of it. f may use the portal, but not close it. The request's body was read before;
// its context ends when the caller goes away or the portal is closed.
func Before(f func(r *http.Request)) Fault {
	return Fault{before: func(_ *Portal, r *http.Request) { f(r) }}
}

// methodFaults is what befalls one method.
type methodFaults struct {
	once   []Fault
	always *Fault
}

// Once lets the next call of a method go wrong, and with several faults the calls after it, one
// after the other. The method may be an item of a batch, where only [Fail] and its kin have a
// meaning, and [Raw] with an envelope; other faults wait for a call outside a batch. "oauth/token"
// and "oauth/app.info" are the requests to the OAuth server.
func (p *Portal) Once(method string, faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.methodFaultsLocked(method)
	f.once = append(f.once, faults...)
}

// Times lets the next n calls of a method go wrong as [Portal.Once] does.
func (p *Portal) Times(n int, method string, fault Fault) {
	for range n {
		p.Once(method, fault)
	}
}

// Always lets every call of a method go wrong until [Portal.Heal], after what [Portal.Once]
// planned. It takes the place of what an earlier Always said of the method.
func (p *Portal) Always(method string, fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.methodFaultsLocked(method).always = &fault
}

// Heal takes back every fault of the methods named, of all where none is named.
func (p *Portal) Heal(methods ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(methods) == 0 {
		clear(p.faults)
	}
	for _, m := range methods {
		delete(p.faults, lowerMethod(m))
	}
}

func (p *Portal) methodFaultsLocked(method string) *methodFaults {
	name := lowerMethod(method)
	if p.faults[name] == nil {
		p.faults[name] = &methodFaults{}
	}
	return p.faults[name]
}

// takeFault returns the fault that is due for a request.
func (p *Portal) takeFault(name string) (Fault, bool) {
	names := []string{name}
	if name != callToken && name != callAppInfo {
		names = append(names, AnyMethod)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dueFaultLocked(func(Fault) bool { return true }, names...)
}

// dueFaultLocked returns the first fault of the methods that is due and fits: those that happen once come
// before those that stay.
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

// fitsBatch reports whether the fault may befall an item of a batch.
func (f Fault) fitsBatch() bool { return f.answer != nil || f.envelope != nil }

// batchReply is what the fault makes of an item of a batch.
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

// replace does what happens before the method runs. It reports whether that was the end of the
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
		keep()
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		writeBody(w, f.answer.status, f.answer.value())
	case f.handler != nil:
		seen := &statusWriter{ResponseWriter: w}
		defer func() { // also where the handler breaks the connection
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

// write answers, unless the answer is to be lost, cut or changed.
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
		_, _ = w.Write(body) // a caller that went away misses it
		return
	}
	_, _ = w.Write(body[:len(body)/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler) // the server's own way to break a connection
}

// statusWriter remembers the status of an answer.
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

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// closeConnection closes the connection without an answer.
func closeConnection(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the server's own way to close without an answer
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
