package eventtest

import (
	"context"
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

// Once lets the next call of a method go wrong. Several faults of one method happen one after the other. The method may be an
// item of a batch, where only [Fail] has a meaning and the others wait for a call outside a batch. "oauth/token" and
// "oauth/app.info" are the requests to the OAuth server.
func (p *Portal) Once(method string, f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := lowerMethod(method)
	p.faults[name] = append(p.faults[name], f)
}

// takeFault returns the fault that is due for a method.
func (p *Portal) takeFault(name string) (Fault, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dueFault(name, func(Fault) bool { return true })
}

func (p *Portal) dueFault(name string, fits func(Fault) bool) (Fault, bool) {
	list := p.faults[name]
	if len(list) == 0 || !fits(list[0]) {
		return Fault{}, false
	}
	p.faults[name] = list[1:]
	return list[0], true
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
