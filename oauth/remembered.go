package oauth

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
)

const (
	// rememberFor is how long the answer to a spent refresh token is kept whose claim could not be
	// judged.
	rememberFor   = 10 * time.Minute
	maxRemembered = 1000
)

// answers keeps what the OAuth server gave for refresh tokens of claims that could not be judged,
// because the portal did not respond. The token is spent, so the claim cannot be proven again. The
// zero answers are ready.
type answers struct {
	mu sync.Mutex
	by map[[sha256.Size]byte]*remembered // pointers, since fmt may print what the map holds
}

type remembered struct {
	answer answer
	until  time.Time
}

func (as *answers) put(refresh event.Secret, a answer) {
	if refresh == "" {
		return
	}
	as.mu.Lock()
	defer as.mu.Unlock()
	now := time.Now()
	if len(as.by) >= maxRemembered {
		for sum, r := range as.by {
			if !now.Before(r.until) {
				delete(as.by, sum)
			}
		}
	}
	if len(as.by) >= maxRemembered {
		clear(as.by)
	}
	if as.by == nil {
		as.by = make(map[[sha256.Size]byte]*remembered)
	}
	as.by[sha256.Sum256([]byte(refresh))] = &remembered{a, now.Add(rememberFor)}
}

// take returns and forgets the answer to a refresh token.
func (as *answers) take(refresh event.Secret) (answer, bool) {
	if refresh == "" {
		return answer{}, false
	}
	sum := sha256.Sum256([]byte(refresh))
	as.mu.Lock()
	defer as.mu.Unlock()
	r := as.by[sum]
	delete(as.by, sum)
	if r == nil || !time.Now().Before(r.until) {
		return answer{}, false
	}
	return r.answer, true
}
