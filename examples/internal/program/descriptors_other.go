//go:build !unix

package program

// descriptorLimit returns 0: this system has no such limit.
func descriptorLimit() int { return 0 }
