package eventtest

import (
	"math"
	"net"
	"slices"
	"time"
)

// bucket is a leaky bucket.
type bucket struct {
	level float64
	at    time.Time
}

// spent is one run of a method that counts towards its operating time.
type spent struct {
	at       time.Time
	duration time.Duration
}

// allow lets a request through the bucket of its source address.
func (p *Portal) allow(remote string) bool {
	if p.cfg.burst == 0 {
		return true
	}
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	now := p.now()
	b := p.limits[host]
	if b == nil {
		b = &bucket{at: now}
		p.limits[host] = b
	}
	b.level = math.Max(0, b.level-now.Sub(b.at).Seconds()*p.cfg.rate)
	b.at = now
	if b.level+1 > float64(p.cfg.burst) {
		return false
	}
	b.level++
	return true
}

// operating sums the time that the caller's runs of the method took in the last ten minutes. Runs of a tenth of a second or less
// are not counted.
func (p *Portal) operating(c *call, now time.Time, last time.Duration) (resetAt int64, total float64) {
	const window = 10 * time.Minute
	key := c.id.clientID() + "|" + userKey(c.id.user.id) + "|" + c.name
	if c.id.app != nil {
		key = c.id.clientID() + "|" + c.name
	}
	runs := slices.DeleteFunc(p.usage[key], func(s spent) bool { return now.Sub(s.at) > window })
	if last > 100*time.Millisecond {
		runs = append(runs, spent{at: now, duration: last})
	}
	if len(runs) == 0 {
		delete(p.usage, key)
		return now.Add(window).Unix(), 0
	}
	p.usage[key] = runs
	for _, s := range runs {
		total += s.duration.Seconds()
	}
	return runs[0].at.Add(window).Unix(), total
}
