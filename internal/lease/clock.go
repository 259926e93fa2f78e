package lease

import "time"

// instant is a point in time by both clocks.
type instant struct {
	wall time.Time     // without a monotonic part
	mono time.Duration // since the clock was made
}

func (i instant) add(d time.Duration) instant {
	return instant{wall: i.wall.Add(d), mono: i.mono + d}
}

// sub returns the time from j to i, by the clock that shows less.
func (i instant) sub(j instant) time.Duration {
	return min(i.wall.Sub(j.wall), i.mono-j.mono)
}

// clock returns the current instant. It must be safe for concurrent use.
type clock func() instant

// newClock returns a clock with the given wall clock, or the system's if it is nil.
func newClock(wall func() time.Time) clock {
	start := time.Now()
	return func() instant {
		now := time.Now()
		i := instant{wall: now.Round(0), mono: now.Sub(start)}
		if wall != nil {
			i.wall = wall().Round(0)
		}
		return i
	}
}
