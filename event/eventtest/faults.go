package eventtest

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// Fault is something that goes wrong once; see [Portal.Once].
type Fault struct {
	answer *apiError
	html   int
	delay  time.Duration
	reset  bool
	lose   bool
	script http.Handler
}

// Fail answers with a status and an error envelope, and the method does not run. In a batch it fails the item.
func Fail(status int, code, description string) Fault {
	return Fault{answer: fail(status, code, description)}
}

// HTML answers with a status and a page of HTML, as proxies and maintenance screens do, and the method does not run.
func HTML(status int) Fault { return Fault{html: status} }

// Reset closes the connection before the method runs, without an answer.
func Reset() Fault { return Fault{reset: true} }

// LoseAnswer runs the method and closes the connection instead of answering.
func LoseAnswer() Fault { return Fault{lose: true} }

// Delay holds the request for a while of real time, before the method runs.
func Delay(d time.Duration) Fault { return Fault{delay: d} }

// Answer lets h answer in the portal's place, for what no portal that behaves says, and for answers that depend on the request, of
// which h finds the whole body. The method does not run. h may panic with [http.ErrAbortHandler] to close the connection.
func Answer(h http.Handler) Fault { return Fault{script: h} }

// AnyMethod stands for every method of the portal's REST in [Portal.Once], [Portal.Always] and [Portal.Heal], but not for the items of a batch.
const AnyMethod = "*"

// Once lets the next call of a method go wrong. Several faults of one method happen one after the other. The method may be an
// item of a batch, where only [Fail] has a meaning and the others wait for a call outside a batch. "oauth/token" and
// "oauth/app.info" are the requests to the OAuth server.
func (p *Portal) Once(method string, f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := lowerMethod(method)
	p.faults[name] = append(p.faults[name], f)
}

// Always lets every call of a method go wrong until [Portal.Heal]. The faults of [Portal.Once] come first. It takes the place of what an
// earlier Always said of the method.
func (p *Portal) Always(method string, f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.standing[lowerMethod(method)] = f
}

// Heal ends what [Portal.Always] and [Portal.Once] said of a method.
func (p *Portal) Heal(method string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := lowerMethod(method)
	delete(p.standing, name)
	delete(p.faults, name)
}

// takeFault returns the fault that is due for a request.
func (p *Portal) takeFault(name string) (Fault, bool) {
	names := []string{name}
	if name != tokenCall && name != appInfoCall {
		names = append(names, AnyMethod)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range names {
		if list := p.faults[n]; len(list) > 0 {
			p.faults[n] = list[1:]
			return list[0], true
		}
	}
	for _, n := range names {
		if f, ok := p.standing[n]; ok {
			return f, true
		}
	}
	return Fault{}, false
}

// itemFault returns the fault that is due for an item of a batch.
func (p *Portal) itemFault(name string) (*apiError, bool) {
	if list := p.faults[name]; len(list) > 0 && list[0].answer != nil {
		p.faults[name] = list[1:]
		return list[0].answer, true
	}
	f, ok := p.standing[name]
	return f.answer, ok && f.answer != nil
}

// before does what happens before the method runs. It reports whether that was the end of the request.
func (f Fault) before(p *Portal, w http.ResponseWriter, r *http.Request, name string) bool {
	if f.delay > 0 {
		p.pause(r.Context(), f.delay)
		return false
	}
	rec := Call{Method: name, Params: dataOf(phpform.Value{}), Time: p.Now()}
	switch {
	case f.answer != nil:
		rec.Status, rec.ErrorCode = f.answer.status, f.answer.code
	case f.html != 0:
		rec.Status = f.html
	case f.reset:
	case f.script != nil:
		watched := &statusWriter{ResponseWriter: w}
		defer func() {
			rec.Status = watched.status
			p.mu.Lock()
			p.keepCall(rec, name == tokenCall || name == appInfoCall)
			p.mu.Unlock()
		}()
		if body, ok := r.Body.(*body); ok {
			_, _ = body.Seek(0, io.SeekStart)
		}
		f.script.ServeHTTP(watched, r)
		return true
	default:
		return false
	}
	p.mu.Lock()
	p.keepCall(rec, name == tokenCall || name == appInfoCall)
	p.mu.Unlock()
	switch {
	case f.answer != nil:
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		writeBody(w, f.answer.status, f.answer.value())
	case f.html != 0:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(f.html)
		_, _ = w.Write([]byte("<html><body><h1>" + http.StatusText(f.html) + "</h1></body></html>"))
	default:
		hangUp(w)
	}
	return true
}

// pause waits for a while of real time, or until the caller or the portal has gone.
func (p *Portal) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-p.done:
	}
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the server's own way to close without an answer
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// statusWriter notes the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
