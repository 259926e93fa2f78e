//go:build unix

package program

import (
	"io/fs"
	"os"
	"syscall"
)

// othersWrite are the write permissions of the group and of everybody.
const othersWrite = 0o022

// guarded checks that other users can neither write to a file or folder nor change its permissions.
// A symbolic link has no permissions.
func guarded(path string, info fs.FileInfo) error {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return Usage("B24_DATA: %s belongs to another user (uid %d), who could change what is kept there; "+
			"run this as that user, name a folder of your own, or change its owner", path, stat.Uid)
	}
	mode := info.Mode()
	if mode&fs.ModeSymlink == 0 && mode&fs.ModeSticky == 0 && mode.Perm()&othersWrite != 0 {
		return Usage("B24_DATA: others may write to %s (mode %04o), and could replace what is kept there; "+
			"run chmod go-w on it, or name another folder", path, mode.Perm())
	}
	return nil
}
