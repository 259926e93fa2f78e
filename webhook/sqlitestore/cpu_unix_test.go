//go:build unix

package sqlitestore_test

import (
	"syscall"
	"time"
)

// cpuTime is the time that the process has spent on a processor.
func cpuTime() (user, system time.Duration) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0, 0
	}
	return time.Duration(r.Utime.Nano()), time.Duration(r.Stime.Nano())
}
