package pgstore

import "time"

// WithPace sets how often the Store does background work. Zero keeps the default.
func WithPace(sweep, check, prune, grace time.Duration) Option {
	return func(c *config) error {
		for _, p := range []struct {
			to *time.Duration
			d  time.Duration
		}{{&c.pace.sweep, sweep}, {&c.pace.check, check}, {&c.pace.prune, prune}, {&c.pace.grace, grace}} {
			if p.d > 0 {
				*p.to = p.d
			}
		}
		return nil
	}
}

// WithOpenWarning sets how long a transaction may be open before the log says so.
func WithOpenWarning(d time.Duration) Option {
	return func(c *config) error {
		c.pace.open = d
		return nil
	}
}

// Low returns the ID above which looks ask for the records of a partition, or -1 without a feed.
func (s *Store) Low(part int) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	low := int64(-1)
	for _, f := range s.feeds[part] {
		low = max(low, f.low)
	}
	return low
}

// Remembered returns how many records the feeds of a partition remember.
func (s *Store) Remembered(part int) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.feeds[part] {
		n += len(f.fed)
	}
	return n
}

// Number returns the number of a record in the tables.
func Number(id string) int64 {
	k, _ := parseKey(id)
	return k.id
}
