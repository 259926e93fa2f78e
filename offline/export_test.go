package offline

import "time"

// ShardOf returns the shard of a portal.
func ShardOf(memberID string) int { return int(shardOf(memberID)) }

// WithWallClock sets the wall clock by which leases run out, besides the monotonic one.
func WithWallClock(wall func() time.Time) WorkOption {
	return workOption(func(c *config) error {
		c.wall = wall
		return nil
	})
}
