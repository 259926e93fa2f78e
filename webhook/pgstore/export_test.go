package pgstore

import "time"

// WithPace sets how often the Store does what is not done for each record, for tests that cannot
// wait. Zero leaves a pace as it is.
func WithPace(sweep, check, house, grace time.Duration) Option {
	return func(c *config) error {
		for _, p := range []struct {
			to *time.Duration
			d  time.Duration
		}{{&c.pace.sweep, sweep}, {&c.pace.check, check}, {&c.pace.house, house}, {&c.pace.grace, grace}} {
			if p.d > 0 {
				*p.to = p.d
			}
		}
		return nil
	}
}

// WithOpenWarning sets after what time the log says that a transaction stays open.
func WithOpenWarning(d time.Duration) Option {
	return func(c *config) error {
		c.pace.open = d
		return nil
	}
}

// Low returns the ID up to which the looks of a partition do not ask any more, -1 without a feed.
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
