package eventtest

import (
	"errors"
)

// defaultMaxWaiting is the default of [WithMaxWaiting].
const defaultMaxWaiting = 256 << 20

// WithMaxWaiting limits the size of the deliveries that wait for their handlers or are under way,
// in bytes. Without a limit, a handler that hangs and keeps changing objects would fill the memory.
// Deliveries beyond it are not sent: [Portal.Deliveries] shows them as failed. The default is 256
// MiB.
func WithMaxWaiting(bytes int) Option {
	return func(c *config) error {
		if bytes <= 0 {
			return misconfigured("WithMaxWaiting needs a positive number of bytes")
		}
		c.maxWaiting = bytes
		return nil
	}
}

// errTooMuchWaits is the error of an attempt that was not made.
var errTooMuchWaits = errors.New("eventtest: not sent, because too many deliveries wait for their handlers")

// weight is what a delivery takes of the limit: its texts and its place in a queue.
func (d delivery) weight() int { return len(d.body) + len(d.url) + 100 }

// admitLocked counts a delivery as waiting. If too much waits already, it records a failed attempt
// and reports false.
func (p *Portal) admitLocked(d delivery) bool {
	q := &p.deliveries
	if q.bytes+d.weight() <= p.cfg.maxWaiting {
		q.bytes += d.weight()
		return true
	}
	a := d.attempt(p.nowLocked())
	a.Err = errTooMuchWaits
	p.recordAttemptLocked(a)
	return false
}

// WaitingBytes returns the size of the deliveries that wait for their handlers or are under way, in
// bytes. See [WithMaxWaiting].
func (p *Portal) WaitingBytes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.deliveries.bytes
}
