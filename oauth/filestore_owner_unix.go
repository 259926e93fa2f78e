//go:build unix

package oauth

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ownedByUs reports whether this user or root owns a file.
func ownedByUs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return !ok || stat.Uid == 0 || int(stat.Uid) == os.Geteuid()
}

// checkParents refuses a directory that others can rename or replace. It checks each directory
// above, by the name given and by the name that symbolic links lead to.
func checkParents(dir string) error {
	given, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("oauth: file store: %w", err)
	}
	target, err := filepath.EvalSymlinks(given)
	if err != nil {
		return fmt.Errorf("oauth: file store: %w", err)
	}
	for _, path := range []string{given, target} {
		for path != filepath.Dir(path) {
			path = filepath.Dir(path)
			info, err := os.Stat(path)
			if err != nil {
				return fmt.Errorf("oauth: file store: %w", err)
			}
			if err := checkParent(path, info); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkParent(path string, info fs.FileInfo) error {
	others := fs.FileMode(0o022)
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Gid) == os.Geteuid() {
		others = 0o002 // the group is this user's own
	}
	if !ownedByUs(info) || info.Mode().Perm()&others != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("oauth: file store: %w: others can write to %q and replace the directory of the store; take their right away "+
			"(chown, chmod go-w), name another directory, or see WithTrustedParents", fs.ErrPermission, path)
	}
	return nil
}
