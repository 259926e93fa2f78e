//go:build unix

package program

import (
	"math"
	"syscall"
)

// descriptorLimit returns how many descriptors the process may have, or 0 if that is unknown.
func descriptorLimit() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return int(min(uint64(limit.Cur), math.MaxInt32)) //nolint:unconvert // some systems count in int64
}
