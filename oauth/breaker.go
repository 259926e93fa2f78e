package oauth

import (
	"errors"
	"sync"
	"time"
)

const (
	// breakAfter is how many failures in a row make a host be left alone.
	breakAfter = 5
	// firstBreak is for how long. Each further failure doubles it, up to maxBreak.
	firstBreak = time.Second
	maxBreak   = time.Minute
)

// errBroken is what a host gets instead of a request while it is left alone.
var errBroken = errors.New("it failed several times in a row and is left alone for a while")

// breakers keep requests away from OAuth servers that keep failing: they would only wait for their
// time limit. The zero breakers are ready.
type breakers struct {
	mu    sync.Mutex
	hosts map[string]*breaker
}

// breaker is the state of one host. It exists after a failure and until a success.
type breaker struct {
	failures int // in a row
	pause    time.Duration
	until    time.Time
	probing  bool // a request is under way that tells whether the host is well again
}

// outcome is what a request tells of its host.
type outcome int

const (
	outcomeUnknown outcome = iota // the request was given up
	outcomeAnswered
	outcomeFailed
)

// allow returns errBroken, or a function that takes the outcome of the request.
func (b *breakers) allow(host string) (report func(outcome), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.hosts[host]
	if h != nil && h.failures >= breakAfter {
		if h.probing || time.Now().Before(h.until) {
			return nil, errBroken
		}
		h.probing = true
	}
	return func(o outcome) { b.report(host, o) }, nil
}

func (b *breakers) report(host string, o outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.hosts[host]
	if o == outcomeAnswered {
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
