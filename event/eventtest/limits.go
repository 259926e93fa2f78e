package eventtest

import (
	"maps"
	"math"
	"net"
	"slices"
	"time"
)

// requestLimits holds the counts for the limits on requests and on operating time. Portal.mu guards
// it.
type requestLimits struct {
	buckets map[string]*bucket        // by source address
	runs    map[string][]operatingRun // by usageKey
}

// bucket is a leaky bucket.
type bucket struct {
	level float64
	at    time.Time
}

// operatingRun is one run of a method that counts towards its operating time.
type operatingRun struct {
	at       time.Time
	duration time.Duration
}

// allowLocked adds a request to the bucket of its source address. It reports false if the bucket is
// full.
func (p *Portal) allowLocked(remote string) bool {
	if p.quirks.RateBurst == 0 {
		return true
	}
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	now := p.nowLocked()
	b := p.limits.buckets[host]
	if b == nil {
		b = &bucket{at: now}
		p.limits.buckets[host] = b
	}
	b.drain(now, p.quirks.RatePerSecond)
	const rounding = 1e-6 // error of many small drains
	if b.level+1 > float64(p.quirks.RateBurst)+rounding {
		return false
	}
	b.level++
	return true
}

// operatingWindow is how long a run of a method counts towards its operating time.
const operatingWindow = 10 * time.Minute

// usageKey returns the key of an operating time: the method, and the application or the user of the
// incoming webhook.
func (c *call) usageKey() string {
	if c.caller.app == nil {
		return "|" + userKey(c.caller.user.id) + "|" + c.name
	}
	return c.caller.clientID() + "|" + c.name
}

// addOperatingTime adds a run of a method to its operating time. Runs of a tenth of a second or
// less are not counted.
func (p *Portal) addOperatingTime(c *call, took time.Duration) {
	if took > 100*time.Millisecond {
		p.limits.runs[c.usageKey()] = append(p.limits.runs[c.usageKey()], operatingRun{at: p.nowLocked(), duration: took})
	}
}

// operatingTime sums the time that the runs of the caller's method took in the last ten minutes.
func (p *Portal) operatingTime(c *call) (resetAt int64, total time.Duration) {
	now, key := p.nowLocked(), c.usageKey()
	runs := slices.DeleteFunc(p.limits.runs[key], func(s operatingRun) bool { return now.Sub(s.at) >= operatingWindow })
	if len(runs) == 0 {
		delete(p.limits.runs, key)
		return now.Add(operatingWindow).Unix(), 0
	}
	p.limits.runs[key] = runs
	for _, s := range runs {
		total += s.duration
	}
	return runs[0].at.Add(operatingWindow).Unix(), total
}

// overOperatingLimitLocked reports whether an operating time reaches the limit.
func (p *Portal) overOperatingLimitLocked(total time.Duration) bool {
	return p.quirks.OperatingLimit > 0 && !p.quirks.Box && total >= p.quirks.OperatingLimit
}

// Bucket is the state of the limit on requests of one source address.
type Bucket struct {
	Source string  // the address
	Level  float64 // how full it is; a request adds 1
	Burst  int     // its capacity
	Rate   float64 // how much it drains per second
}

// Buckets returns the buckets of the limit on requests, ordered by source address. There are none
// if there is no limit or no request has come.
func (p *Portal) Buckets() []Bucket {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.nowLocked()
	list := make([]Bucket, 0, len(p.limits.buckets))
	for _, source := range slices.Sorted(maps.Keys(p.limits.buckets)) {
		b := p.limits.buckets[source]
		b.drain(now, p.quirks.RatePerSecond)
		list = append(list, Bucket{Source: source, Level: b.level, Burst: p.quirks.RateBurst, Rate: p.quirks.RatePerSecond})
	}
	return list
}

// drain lowers the level to what it is at now.
func (b *bucket) drain(now time.Time, rate float64) {
	b.level = math.Max(0, b.level-now.Sub(b.at).Seconds()*rate)
	b.at = now
}
