//go:build !unix

package sqlitestore_test

import "time"

func cpuTime() (user, system time.Duration) { return 0, 0 }
