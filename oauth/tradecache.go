package oauth

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
)

const (
	// tradeCacheTTL is how long a new pair is kept whose claim could not be decided.
	tradeCacheTTL   = 10 * time.Minute
	maxCachedTrades = 1000
)

// tradeCache keeps the pairs that the OAuth server gave for the refresh tokens of claims that could
// not be decided, for example because the portal did not respond. The refresh token is spent, so
// the claim cannot be proven again. The zero tradeCache is ready.
type tradeCache struct {
	mu      sync.Mutex
	byToken map[[sha256.Size]byte]*cachedTrade // pointers, because fmt prints what a map holds, and does not follow those
}

type cachedTrade struct {
	info  tokenInfo
	until time.Time
}

func (c *tradeCache) put(refresh event.Secret, info tokenInfo) {
	if refresh == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if len(c.byToken) >= maxCachedTrades {
		for sum, t := range c.byToken {
			if !now.Before(t.until) {
				delete(c.byToken, sum)
			}
		}
	}
	if len(c.byToken) >= maxCachedTrades {
		clear(c.byToken)
	}
	if c.byToken == nil {
		c.byToken = make(map[[sha256.Size]byte]*cachedTrade)
	}
	c.byToken[sha256.Sum256([]byte(refresh))] = &cachedTrade{info, now.Add(tradeCacheTTL)}
}

// take returns what a refresh token was traded for, and forgets it.
func (c *tradeCache) take(refresh event.Secret) (tokenInfo, bool) {
	if refresh == "" {
		return tokenInfo{}, false
	}
	sum := sha256.Sum256([]byte(refresh))
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.byToken[sum]
	delete(c.byToken, sum)
	if t == nil || !time.Now().Before(t.until) {
		return tokenInfo{}, false
	}
	return t.info, true
}
