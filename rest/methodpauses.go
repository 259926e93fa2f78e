package rest

import (
	"context"
	"strings"
	"sync"
	"time"
)

const (
	// defaultPause is how long a blocked method pauses if the portal did not say for how long. The
	// portal counts by the minute.
	defaultPause = time.Minute
	// maxPause is the time over which the portal counts, so no block is longer.
	maxPause = 10 * time.Minute
	// minOperating is the operating time, in seconds, from which the reset of a method is
	// remembered. The portal blocks at 420 or more, and one request adds no more than 60.
	minOperating = 60
)

// methodPauses holds which methods of which portals are blocked because they used up their time,
// and which ones may be soon. The portal counts for each application or webhook, so each has its
// own pauses.
type methodPauses struct {
	mu      sync.Mutex
	methods map[methodOf]*usage
	swept   time.Time
}

type methodOf struct{ memberID, method string }

type usage struct {
	resetAt time.Time // when the portal's count starts to fall; responses say it, and errors do not
	until   time.Time // the end of the pause
}

func newMethodPauses() *methodPauses {
	return &methodPauses{methods: make(map[methodOf]*usage), swept: time.Now()}
}

// recordUsage records when the count of a method falls, if it is high enough to matter.
func (p *methodPauses) recordUsage(memberID, method string, t Time) {
	if t.Operating < minOperating || t.OperatingResetAt.IsZero() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.entryLocked(memberID, method).resetAt = t.OperatingResetAt
}

// block pauses a method until the time that the portal named now or in its last response, and
// returns the end of the pause. A pause that ends later stays.
func (p *methodPauses) block(memberID, method string, named time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.entryLocked(memberID, method)
	now := time.Now()
	if named.IsZero() {
		named = u.resetAt
	}
	switch {
	case !named.After(now):
		named = now.Add(defaultPause)
	case named.Sub(now) > maxPause:
		named = now.Add(maxPause)
	}
	if named.After(u.until) { // the later end counts
		u.until = named
	}
	return u.until
}

// wait returns when a method is not blocked. If the context would end before that, it returns at
// once.
func (p *methodPauses) wait(ctx context.Context, memberID, method string) error {
	for {
		until := p.until(memberID, method)
		delay := time.Until(until)
		if delay <= 0 {
			return nil
		}
		if err := pause(ctx, delay); err != nil {
			return waitFailed(ctx, err, &Error{Method: method, Code: ErrOperationTimeLimit, until: until})
		}
	}
}

// until returns the end of a method's pause, or the zero time if there is none.
func (p *methodPauses) until(memberID, method string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.methods[keyOf(memberID, method)]; u != nil {
		return u.until
	}
	return time.Time{}
}

func keyOf(memberID, method string) methodOf {
	return methodOf{memberID: memberID, method: strings.ToLower(method)}
}

// entryLocked returns the entry of a method, and makes it if there is none. From time to time it
// drops the entries whose times have passed. p.mu is held.
func (p *methodPauses) entryLocked(memberID, method string) *usage {
	if now := time.Now(); now.Sub(p.swept) >= sweepEvery {
		p.swept = now
		for key, u := range p.methods {
			if u.until.Before(now) && u.resetAt.Before(now) {
				delete(p.methods, key)
			}
		}
	}
	key := keyOf(memberID, method)
	u := p.methods[key]
	if u == nil {
		u = &usage{}
		p.methods[key] = u
	}
	return u
}
