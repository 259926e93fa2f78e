package oauth

import (
	"errors"
	"sync"
	"time"
)

const (
	// breakAfter is the number of failures in a row after which a host gets no requests for a
	// while.
	breakAfter = 5
	// firstBreak is how long that is. Each further failure doubles it, up to maxBreak.
	firstBreak = time.Second
	maxBreak   = time.Minute
)

// errPaused is returned instead of sending a request to a host that keeps failing.
var errPaused = errors.New("it failed several times in a row, so it gets no requests for a while")

// breakers keep requests away from OAuth servers that keep failing, because they would only wait
// for their time limit. The zero breakers are ready.
type breakers struct {
	mu    sync.Mutex
	hosts map[string]*breaker
}

// breaker is the state of one host. It exists after a failure and until a success.
type breaker struct {
	failures int // in a row
	pause    time.Duration
	until    time.Time
	probing  bool // a request is under way that shows whether the host works again
}

// outcome is what a request shows about its host.
type outcome int

const (
	outcomeUnknown outcome = iota // the request was canceled
	outcomeResponded
	outcomeFailed
)

// allow returns errPaused, or a function to report the outcome of the request.
func (b *breakers) allow(host string) (report func(outcome), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.hosts[host]
	if h != nil && h.failures >= breakAfter {
		if h.probing || time.Now().Before(h.until) {
			return nil, errPaused
		}
		h.probing = true
	}
	return func(o outcome) { b.report(host, o) }, nil
}

func (b *breakers) report(host string, o outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.hosts[host]
	if o == outcomeResponded {
		delete(b.hosts, host)
		return
	}
	if o == outcomeUnknown {
		if h != nil {
			h.probing = false
		}
		return
	}
	if h == nil {
		if b.hosts == nil {
			b.hosts = make(map[string]*breaker)
		}
		h = &breaker{}
		b.hosts[host] = h
	}
	h.probing = false
	if h.failures++; h.failures >= breakAfter {
		h.pause = min(max(2*h.pause, firstBreak), maxBreak)
		h.until = time.Now().Add(h.pause)
	}
}
